"""What is said of how long it will take: after the first images, only where it is long, and of the CRF too."""

import re

import numpy as np
import pytest

from dsgc.__main__ import main
from dsgc.scoring import crf, estimate
from dsgc.scoring.predict import TestTime, segmented

TestTime.__test__ = False  # no test, though its name begins like one


class Clock:
    """A clock that work sets forward."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now

    def work(self, seconds, result=None):
        self.now += seconds
        return result


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(estimate, "time", found)
    return found


def worked(clock, number, seconds, first=0.0, images=1):
    """Items that take so long each, the first so much longer."""
    for i in range(number):
        clock.work(seconds + (first if i == 0 else 0))
        yield list(range(images))


def said(capsys):
    out, err = capsys.readouterr()
    assert not out
    return err.splitlines()


def test_the_time_is_told_once_and_the_first_image_does_not_count(clock, capsys):
    stream = estimate.announced(worked(clock, 10, 2.0, first=60.0), 40_000, main=True)
    assert [next(stream) for _ in range(3)] and not said(capsys)
    next(stream)
    assert said(capsys) == ["40000 images, 2 s each: about 22 h 13 min"]
    assert len(list(stream)) == 6 and not said(capsys)


def test_images_are_counted_and_not_batches(clock, capsys):
    assert len(list(estimate.announced(worked(clock, 10, 4.0, images=8), 8_000, True, len))) == 10
    assert said(capsys) == ["8000 images, 0.5 s each: about 1 h 7 min"]


@pytest.mark.parametrize(("total", "main"), [(30, True), (40_000, False)], ids=["short", "another process"])
def test_nothing_is_said_where_it_is_short_or_another_process_says_it(total, main, clock, capsys):
    assert len(list(estimate.announced(worked(clock, 10, 1.5), total, main))) == 10
    assert not said(capsys)


def test_the_crf_is_timed_on_an_image_before_it_starts(clock, capsys, monkeypatch):
    monkeypatch.setattr(crf, "sharpen", lambda *_: clock.work(6.0))
    images = ((str(i), np.zeros((4, 4, 3)), np.zeros((2, 4, 4))) for i in range(5) if clock.work(0.5, result=True))
    stream = estimate.announced_of_crf(images, 40_000, True, processes=8)
    next(stream)
    clock.work(1000.0)  # of whoever takes them
    next(stream)
    assert said(capsys) == ["40000 images, 0.5 s each, and 6 s for the CRF in 8 processes: about 13 h 53 min"]
    assert len(list(stream)) == 3 and not said(capsys)


def test_of_a_few_images_none_is_sharpened_twice(monkeypatch):
    monkeypatch.setattr(crf, "sharpen", lambda *_: pytest.fail("timed"))
    image = np.zeros((4, 4, 3))
    assert len(list(estimate.announced_of_crf(((str(i), image, image) for i in range(4)), estimate.MANY - 1, True, 1))) == 4


def test_the_commands_tell_it(one_step, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(estimate, "TIMED", 0.0)
    monkeypatch.setattr(estimate, "LONG", 0.0)
    for command, *words in (["predict", tmp_path / "out", "--split", "val"], ["evaluate", "--eval-batch", "1"], ["evaluate", "--mirror"]):
        assert main([command, str(one_step), "--network", "student", *map(str, words)]) == 0
        assert re.findall("4 images, .* s each: about 0 min", capsys.readouterr().err), words


def test_the_crf_tells_it_of_the_stream_that_it_is_given(one_step, monkeypatch, capsys):
    from dsgc.data.loading import Images
    from dsgc.data.split import open_images
    from dsgc.runs.restore import load_networks

    networks, saved = load_networks(one_step)
    monkeypatch.setattr(estimate, "MANY", 4)
    monkeypatch.setattr(estimate, "LONG", 0.0)
    monkeypatch.setattr(crf, "sharpen", lambda image, found: found.argmax(0))
    monkeypatch.setattr(crf, "sharpened", lambda stream, workers: ((name, crf.sharpen(*both)) for name, *both in stream))
    dataset = Images(open_images(saved.config.data, "val"))
    found = dict(segmented(networks["teacher"], dataset, TestTime(crf=True, workers=3), workers=0, device="cpu"))
    plain = dict(segmented(networks["teacher"], dataset, TestTime(), workers=0, device="cpu"))
    assert all((found[name] == plain[name]).all() for name in plain) and len(found) == 4
    assert "s for the CRF in 3 processes" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "words"), [(61, "1 min"), (3599, "1 h 0 min"), (12_000, "3 h 20 min"), (190_800, "2 d 5 h")])
def test_a_span_of_time_in_words(seconds, words):
    assert estimate.lasting(seconds) == words
