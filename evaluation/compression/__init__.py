"""Token bitstreams that are written, read back and weighed, and the classical codecs beside them."""
