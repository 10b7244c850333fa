"""Pictures without a layout, for the tests of commands on them."""

import pytest
from unlaid import fields_of, mine_of


@pytest.fixture(scope="module")
def mine(shapes_folder, tmp_path_factory):
    """Pictures of the embedded set in folders, their tags in a file, their masks in another folder."""
    return mine_of(shapes_folder, tmp_path_factory.mktemp("mine"))


@pytest.fixture(scope="module")
def fields(mine):
    """What a configuration says of them."""
    return fields_of(mine)
