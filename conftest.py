"""How notebooks are shared out over test processes (`-n 2 --dist loadfile`): by file, but those that share runs together."""

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER = {"notebooks/08_comparison.ipynb": "notebooks/07_ablations.ipynb"}  # takes the runs that the other one has just made


class ByNotebook(LoadFileScheduling):
    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        return TOGETHER.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return ByNotebook(config, log) if config.getvalue("dist") == "loadfile" else None
