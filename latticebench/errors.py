"""The errors that end a command with a message instead of a traceback.

Exit codes (docs/configuration.md): 0 done, 2 bad input, 3 missing weights or data, 1 anything else.
"""


class LatticebenchError(Exception):
    """An error whose text tells the user what is wrong, where, and what to do."""

    exit_code = 1


class BadInput(LatticebenchError):
    """A configuration, file or argument that cannot be used. Names the file or key and the cure."""

    exit_code = 2


class Missing(LatticebenchError):
    """Weights or data that are not there. Names the path and the command that would fetch them."""

    exit_code = 3
