"""Files from strangers: damaged, invented or meant to harm."""
