"""A mistake in what the user gave, told in one line."""


class UserError(ValueError):
    """What is wrong, where, and the remedy, in one line. The command line prints it and exits with 2."""


def first_line(error: Exception) -> str:
    """The first line of what a library says went wrong, short enough to stand inside a message of ours."""
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
