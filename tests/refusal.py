"""What a refusal looks like: exit code 2 and one line that names what is wrong and the remedy."""

import os
import re

import pytest

from dsgc.__main__ import main
from dsgc.errors import UserError, one_line

SAID = []  # the test and the line of each refusal, for the book
REMEDY = r";|must|needed|has blocks|did you mean|name the|longer than"


def lines_of(said):
    return [line for line in re.split(r"[\r\n]+", said) if line.strip() and "%|" not in line]  # the bar may stand above


def refused(words, capsys, *named):
    """Run a command that must end in one line naming each of `named`."""
    code, said = main([str(word) for word in words]), capsys.readouterr().err
    lines = lines_of(said)
    assert code == 2
    assert len(lines) == 1, said
    assert lines[0].startswith("dsgc: ") and re.search(REMEDY, lines[0]) and "Traceback" not in said
    for name in named:
        assert name in lines[0], lines[0]
    SAID.append((os.environ["PYTEST_CURRENT_TEST"].split(" (")[0], lines[0]))


def refused_by_both(words, call, folder, capsys, *named):
    """By the command and by the function behind it, each in such a line; what the folder holds is not touched."""
    before = tree(folder)
    refused(words, capsys, *named)
    with pytest.raises(UserError) as caught:
        call()
    assert one_line(caught.value) == str(caught.value), "a line break, or what steers a terminal"
    for name in named:
        assert name in str(caught.value)
    assert tree(folder) == before


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
