"""Exact search of the Leech codebooks: one door, several implementations."""

from latticebench.lattices.leech_search.search import search

__all__ = ["search"]
