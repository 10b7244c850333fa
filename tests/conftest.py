"""What several test files need: a tiny data set, a tiny configuration, one thread; and what the tests promise, for the book."""

import copy
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import apart
import pdf
import pytest
import refusal
import timm
import torch
from steps import CLASSES, TAGS

from dsgc.config import Config
from dsgc.data import shapes, shapes_coco
from dsgc.methods import DEFAULT, preset
from dsgc.network.build import build_network
from dsgc.training.loop import train

SIZES = {"train": 12, "dev": 4, "val": 4}
TINY = {  # a method without such a number goes without it
    "crop_size": 32,
    "weights": "none",
    "decoder_channels": 16,
    "projector": (32, 16, 32),
    "steps": 4,
    "warmup_steps": 2,
    "lr_ramp_steps": 1,
    "batch_size": 4,
    "workers": 0,
    "device": "cpu",
    "eval_every": 0,
    "eval_batch": 4,
    "log_every": 1,
    "pictures": 1,
}
FIXED = {  # how labels are made, so that tests of it do not move with the preset
    "tag_pool": 0.0,
    "subtract_minimum": True,
    "ptc_low": 0.25,
    "ptc_high": 0.7,
    "label_network": "teacher",
    "label_low": 0.25,
    "label_high": 0.7,
    "label_stride": 2,
    "mixture_pixels": "foreground",
    "mixture_grid": "patch",
    "mixture_map": "refined",
    "tau": 0.5,
    "confident": 0.0,  # networks with random weights are sure of nothing
}


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _looked_at_once():
    """What kind of encoder a name stands for is found out by making one without memory, which takes longer than to make it; here
    that happens once for each name and its options."""
    genuine, found = timm.create_model, {}

    def create_model(*given, **options):
        if torch.get_default_device().type != "meta":
            return genuine(*given, **options)
        key = repr((given, sorted(options.items())))
        if key not in found:
            found[key] = genuine(*given, **options)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", create_model)
        yield


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory):
    """A small `shapes` data set, seed 0. Shared: a test that changes it takes `shapes_copy`."""
    return shapes.write(tmp_path_factory.mktemp("data") / "shapes", sizes=SIZES)


@pytest.fixture
def shapes_copy(shapes_folder, tmp_path):
    """A copy of the data set that a test may damage."""
    return shutil.copytree(shapes_folder, tmp_path / "shapes")


def had(values: dict, config: Config) -> dict:
    """Those of the values that are a run's, or that its method has."""
    return {name: value for name, value in values.items() if name in config.flat()}


@pytest.fixture(scope="session")
def coco_folder(tmp_path_factory):
    """The same in COCO's layout. Shared: a test that changes it takes a copy."""
    return shapes_coco.write(tmp_path_factory.mktemp("data") / "coco", sizes={"train2014": 12, "val2014": 4})


@pytest.fixture(scope="session")
def tiny(shapes_folder):
    """`tiny(name=value, ..., method="base")`: the `shapes` preset made small, a run of four steps on the shared data set."""

    def build(method=DEFAULT, **changes):
        config = preset("shapes", method)
        return config.changed(**had(TINY, config) | {"data": str(shapes_folder)} | changes)

    return build


@pytest.fixture(scope="session")
def arguments(tiny):
    """`arguments(name=value, ..., method="base")`: the command line that trains as `tiny(...)` does."""

    def build(method=DEFAULT, **changes):
        config, words = tiny(method, **changes), ["train", "shapes"] + ["--method", method] * (method != DEFAULT)
        values = config.flat()
        for name in ("data", "out", *had(TINY, config), *changes):
            value = values[name]
            words += ["--" + name.replace("_", "-"), *map(str, value if isinstance(value, tuple) else [value])]
        return words

    return build


@pytest.fixture(scope="session")
def one_step(tiny, tmp_path_factory):
    """A run of one step that has ended. Shared: a test that changes it takes `run`."""
    return train(tiny(out=str(tmp_path_factory.mktemp("one_step") / "run"), steps=1, warmup_steps=0, pictures=0))


@pytest.fixture
def run(one_step, tmp_path):
    """A copy of it that a test may damage."""
    return shutil.copytree(one_step, tmp_path / "run")


@pytest.fixture(scope="session")
def whole(tiny, tmp_path_factory):
    """What a run with the values of `apart.SMALL` shows to which nothing happens."""
    return apart.outcome(train(tiny(out=str(tmp_path_factory.mktemp("whole") / "run"), **apart.SMALL)))


@pytest.fixture
def at_call(monkeypatch):
    """`at_call(owner, name, call, what)`: something happens as a function is called for the so many-th time."""

    def prepare(owner, name, call, what):
        genuine, calls = getattr(owner, name), []

        def called(*given, **named):
            calls.append(1)
            if len(calls) == call:
                what()
            return genuine(*given, **named)

        monkeypatch.setattr(owner, name, called)

    return prepare


@pytest.fixture(scope="session")
def fixed(tiny):
    """`fixed(name=value, ..., method="base")`: as `tiny`, with labels made in one known way."""
    return lambda method=DEFAULT, **changes: tiny(method, **(had(FIXED, tiny(method)) | changes))


@pytest.fixture(scope="session")
def built(fixed):
    torch.manual_seed(0)
    return [build_network(fixed(), CLASSES)[0] for _ in range(2)]


@pytest.fixture
def pair(built):
    """Two networks of different weights: teacher and student, or the one of a method that has one, and another."""
    return copy.deepcopy(built)


@pytest.fixture(scope="session")
def images():
    """Smooth pictures, one for each row of `TAGS`, so that refinement and mixture have something to see."""
    coarse = torch.rand(len(TAGS), 3, 5, 5, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear")


@pytest.fixture
def marker(tmp_path):
    """What an attack leaves behind when its code runs."""
    yield tmp_path / "marker"
    assert not (tmp_path / "marker").exists(), "code of a stranger's file has run"


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk(megabytes)`: a file system of that size in memory."""
    mounted = []

    def make(megabytes):
        folder = tmp_path / "disk"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


CATALOGUE = ("test_bad_input.py", "test_bad_tags.py", "test_bad_checkpoint.py")
PROMISES = pytest.StashKey[list]()


def pytest_addoption(parser):
    words = "run the catalogue of bad input, and write its lines, and what all tests collected promise, to FILE"
    parser.addoption("--promises", type=Path, metavar="FILE", help=words)


def pytest_collection_modifyitems(config, items):
    if config.getoption("--promises"):
        held = Counter(
            (*mark.args, item.module.__name__, item.originalname) for item in items for mark in item.iter_markers("promise")
        )
        names = ("subject", "words", "file", "test", "cases")
        config.stash[PROMISES] = [dict(zip(names, (*promise, cases), strict=True)) for promise, cases in held.items()]
        items[:] = [item for item in items if item.path.name in CATALOGUE]


def pytest_sessionfinish(session):
    path = session.config.getoption("--promises")
    if path:
        path.write_text(json.dumps({"promises": session.config.stash.get(PROMISES, []), "said": refusal.SAID}))


def pytest_terminal_summary(terminalreporter):
    """Tests that had no browser say so in one line, with the remedy; a row of `s` would be overlooked."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if pdf.REMEDY in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests of the book's pages skipped: {pdf.REMEDY}", yellow=True)
