"""The figure of the framework: it says of the losses what the program does, names what exists, and nothing overlaps."""

import importlib
import itertools
from xml.etree import ElementTree

import framework
import pytest
from framework import ARROWS, BOXES

from dsgc.objective import stage_weights

LOSSES = ["cls", "ptc", "sim", "punc", "seg"]


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_stands_in_the_stage_in_which_the_program_weighs_it(name):
    present = [stage for stage in ("warm-up", "expansion") if name in stage_weights(stage, 1, 1, 1, 1)]
    assert BOXES[name].stage == ("both" if len(present) == 2 else present[0])
    assert BOXES[name].kind == "loss"


def test_every_equation_is_in_the_figure():
    """5 is the cosine within 4, 6 stands on an arrow."""
    shown = set()
    for box in BOXES.values():
        if box.equation:
            first, _, last = box.equation.partition("–")
            shown |= set(range(int(first), int(last or first) + 1))
    shown |= {int(arrow.page.partition("#eq-")[2]) for arrow in ARROWS if arrow.page}
    assert shown == set(range(1, 25)) - {5}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_a_box_names_code_that_exists(box):
    """The module, in it the name, and of a field its class."""
    parts = f"dsgc.{box.code}".split(".")
    place = next(i for i, part in enumerate(parts) if part[0].isupper() or i == len(parts) - 1)
    found = importlib.import_module(".".join(parts[:place]))
    for part in parts[place:]:
        found = getattr(found, part)


def test_no_two_boxes_overlap():
    for (name, one), (other, two) in itertools.combinations(BOXES.items(), 2):
        (l0, t0, r0, b0), (l1, t1, r1, b1) = framework.frame(one), framework.frame(two)
        assert r0 < l1 or r1 < l0 or b0 < t1 or b1 < t0, f"{name} and {other}"


@pytest.mark.parametrize("arrow", ARROWS, ids=lambda arrow: f"{arrow.start} to {arrow.end}")
def test_an_arrow_runs_from_its_start_to_its_end_and_through_no_other_box(arrow):
    points = framework.route(arrow)
    for box, (x, y) in ((BOXES[arrow.start], points[0]), (BOXES[arrow.end], points[-1])):
        left, top, right, bottom = framework.frame(box)
        on_side = x in (left, right) and top < y < bottom
        assert on_side or (y in (top, bottom) and left < x < right)
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        assert x0 == x1 or y0 == y1
        for name, box in BOXES.items():
            left, top, right, bottom = framework.frame(box)
            apart = max(x0, x1) <= left or min(x0, x1) >= right or max(y0, y1) <= top or min(y0, y1) >= bottom
            assert apart, f"crosses {name}"


def test_every_box_is_reached_or_leads_on():
    ends = {arrow.start for arrow in ARROWS} | {arrow.end for arrow in ARROWS}
    assert set(BOXES) - ends == {"all"}  # the sum: its terms are the losses


def test_the_drawing_is_well_formed_and_its_links_have_names():
    drawing = ElementTree.fromstring(framework.svg())
    tag = "{http://www.w3.org/2000/svg}"
    assert drawing.find(f"{tag}svg/{tag}title").text and drawing.find(f"{tag}svg/{tag}desc").text
    links = list(drawing.iter(f"{tag}a"))
    assert len(links) == 2 * len(BOXES) + 1
    assert all(link.get("href") and link.get("aria-label") for link in links)
