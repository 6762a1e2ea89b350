"""Exact search of the Leech codebooks: one door, several implementations."""

from latticebench.lattices.leech_search.door import search

__all__ = ["search"]
