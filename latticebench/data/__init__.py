"""Prepared arrays and their manifests: what training and the judge read."""
