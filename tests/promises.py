"""What the package promises when things go wrong: a test names the promise that it holds, and the book lists both."""

import pytest

SUBJECTS = ("Bad input", "Faults during training", "Odd numbers", "Untrusted files", "Determinism")


def promise(subject, words):
    """Mark a test, or all of a file as its `pytestmark`, with what it holds."""
    assert subject in SUBJECTS, subject
    return pytest.mark.promise(subject, words)
