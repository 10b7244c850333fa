"""The one exception of the package: a mistake in what the user gave, told in one line."""


class UserError(ValueError):
    """What is wrong, where, and the remedy, in one line. The command line prints it and exits with 2."""
