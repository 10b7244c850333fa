"""Runs whose process ends in the middle, as far as a test can have that: an exception that nothing in the package catches."""


class Killed(BaseException):
    """Stands for the end of the process."""


def dying(patch, owner, name, call, when="before", half=None):
    """Let the given call of a function be the process's last moment: `before` it, `after` it, or `amid` it, `half` its work done."""
    genuine, calls = getattr(owner, name), []

    def deadly(*given, **named):
        calls.append(1)
        if len(calls) != call:
            return genuine(*given, **named)
        if when == "amid":
            assert half, name
            half(*given, **named)
        if when == "after":
            genuine(*given, **named)
        raise Killed

    patch.setattr(owner, name, deadly)
