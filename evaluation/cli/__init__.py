"""The `latticebench` command."""
