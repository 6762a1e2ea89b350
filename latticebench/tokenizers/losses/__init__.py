"""Losses of tokenizers: one file each, put together by `objective.Objective` as a recipe says."""
