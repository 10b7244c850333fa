"""Frames of the chapters, and questions before their pictures; and how the minutes of reading are counted."""

import re

import frames
import pytest
from docutils import nodes
from sources import CHAPTERS, SOURCES, directives, glued
from sphinx_exercise.nodes import solution_node

each_chapter = pytest.mark.parametrize("name", CHAPTERS)


def of_class(name, kind):
    return [(title, body) for _, title, body in directives(SOURCES[name], "admonition") if body.startswith(f":class: {kind}\n")]


def keys(text):
    """What a chapter shows of its own numbers."""
    return re.findall(r"\{glue:text\}`(\w+)(?::[^`]*)?`", text)


# frames


@each_chapter
def test_a_chapter_begins_with_its_frame(name):
    first = next(cell.source for cell in CHAPTERS[name].cells if cell.cell_type == "markdown")
    ((title, body),) = of_class(name, "frame")
    assert body in first and first.rstrip().endswith("```"), "it ends the first cell"
    know, can, takes = re.fullmatch(
        r".*\*\*You should know\*\*\n\n(.*)\n\n\*\*Afterwards you can\*\*\n\n(.*)\n\n\*\*It takes\*\* (.*)\n", body, re.DOTALL
    ).groups()
    items = re.split(r"^- ", know, flags=re.MULTILINE)[1:]
    learnt = re.compile(r"\{doc\}`|\{cite:t\}`|\]\(https://|\bthere, chapter")
    assert len(items) >= 2 and [item for item in items if not learnt.search(item)] == [], "a page, or a named source"
    assert len(re.findall(r"^- ", can, re.MULTILINE)) >= 3
    assert f"{{reading}}`{name}`" in takes and "exercises.md#how-the-minutes-are-counted" in takes
    assert len(keys(takes)) == 1 and set(keys(takes)) <= glued(name), "the running time is the run's"


@each_chapter
def test_a_chapter_shows_only_numbers_that_it_glues(name):
    assert set(keys(SOURCES[name])) - glued(name) == set()


# questions before pictures


@each_chapter
def test_a_chapter_asks_two_or_three_times_before_it_shows(name):
    asked = of_class(name, "predict")
    assert 2 <= len(asked) <= 3
    assert [title for title, _ in asked] == [f"Predict {number}" for number in range(1, len(asked) + 1)]
    for _, body in asked:
        question, _, rest = body.partition("```{dropdown} Answer\n")
        assert "?" in question and rest.count("```") == 1 and len(rest.split()) >= 20, "a question, and one folded answer"


@each_chapter
def test_what_answers_a_question_comes_next(name):
    cells = CHAPTERS[name].cells
    for cell, after in zip(cells, cells[1:], strict=False):
        if ":class: predict" in cell.source:
            assert after.cell_type == "code" and cell.source.count(":class: predict") == 1


def test_the_answers_take_their_numbers_from_runs():
    with_numbers = [name for name in CHAPTERS if any("{glue:text}" in body for _, body in of_class(name, "predict"))]
    assert len(with_numbers) >= 7


# minutes


def node(kind, *children, **attributes):
    return kind("", *children, **attributes)


def prose(count):
    return node(nodes.paragraph, nodes.Text("word " * count))


def cell(lines, shows, *tags):
    source = node(nodes.container, nodes.literal_block("", "\n".join(lines)), nb_element="cell_code_source")
    parts = [source, node(nodes.container, prose(300), nb_element="cell_code_output")] if shows else [source]
    return node(nodes.container, *parts, nb_element="cell_code", classes=["cell", *tags])


LINES = ["a = 1", "", "b = 2"] * 25  # 50 that are not empty


@pytest.mark.parametrize(
    ("parts", "seconds"),
    [
        ([prose(1000)], 300),
        ([prose(1001)], 300.3),
        ([nodes.math("", "a b c")], 0.3),
        ([nodes.math_block("", "a = b + c")] * 3, 60),
        ([cell(LINES, False)], 150),
        ([cell(LINES, True)], 170),
        ([cell(LINES, True, "tag_hide-input")], 20),
        ([cell(LINES, False, "tag_remove-cell")], 0),
        ([cell(LINES, True, "tag_hide-cell")], 0),
        ([cell(LINES, True, "tag_hide-output")], 150),
        ([node(solution_node, prose(1000), cell(LINES, True))], 0),
        ([node(nodes.container, prose(1000), design_component="dropdown")], 0),
        ([nodes.comment("", "never shown")], 0),
    ],
)
def test_reading_time_is_that_of_what_is_shown_unasked(parts, seconds):
    page = node(nodes.section, *[part.deepcopy() for part in parts])
    counted = 60 * frames.words(page) / frames.WORDS_A_MINUTE + sum(frames.SECONDS[kind] for kind in frames.shown(page))
    assert counted == pytest.approx(seconds)
    assert frames.minutes(page) == 5 * max(1, -(-seconds // 300))


def test_the_page_of_exercises_says_how_minutes_are_counted():
    text = " ".join(SOURCES["exercises"].split())
    formula, line, output = (frames.SECONDS[kind] for kind in ("formula", "line", "output"))
    assert f"{frames.WORDS_A_MINUTE} words a minute, {formula} seconds for a displayed formula" in text
    assert f"{line} seconds for a line of code" in text and output == formula
