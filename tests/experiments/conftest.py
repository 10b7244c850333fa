"""One result of a tiny run, for the tests of what results are and of how they are made."""

import shutil
from pathlib import Path

import pytest

from dsgc.experiments import apart, stored


@pytest.fixture(scope="session")
def made(tiny, tmp_path_factory):
    """A folder with the result of one tiny run, and its configuration."""
    folder = tmp_path_factory.mktemp("made")
    config = tiny(seed=3, pictures=2)
    apart.make(config, folder, tmp_path_factory.mktemp("scratch"))
    return folder, config


@pytest.fixture
def copy(made, tmp_path):
    """The same in a folder that a test may damage: (folder, config, path of the result)."""
    folder, config = made
    return tmp_path, config, Path(shutil.copy(stored.path_of(config, folder), tmp_path))
