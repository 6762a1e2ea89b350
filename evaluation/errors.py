"""Errors that empty a cell: the judge writes their text as the cell's reason and goes on."""

from latticebench.errors import BadInput


class TooFew(BadInput):
    """Too few images for a metric; the text says how many it needs."""
