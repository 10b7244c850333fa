"""Exercises with their solutions: in the sources, and as pages made of them, with the list of all."""

import re
import subprocess
import sys
from collections import Counter

import explored
import pages
import pytest
import yaml
from sources import ROOT, SOURCES, directives

KINDS = ("By hand: ", "In code: ", "What breaks: ", "Open-ended: ")

# in the sources


def exercises():
    """(source, label, title) of each."""
    for name, text in SOURCES.items():
        for _, title, body in directives(text, "exercise"):
            yield name, re.match(r":label: (\S+)\n\n", body)[1], title


def solutions():
    for text in SOURCES.values():
        yield from (argument for _, argument, _ in directives(text, "solution", "solution-start"))


def test_every_exercise_has_a_label_of_its_own_and_exactly_one_solution():
    labels = [label for _, label, _ in exercises()]
    assert len(labels) >= 20 and max(Counter(labels).values()) == 1
    assert all(re.fullmatch(r"ex-[a-z]+(-[a-z]+)+", label) for label in labels)
    assert Counter(solutions()) == Counter(labels)


def test_every_exercise_says_of_what_kind_it_is():
    titles = [title for _, _, title in exercises()]
    assert len(set(titles)) == len(titles) and [title for title in titles if not title.startswith(KINDS)] == []


@pytest.mark.parametrize("name", [name for name, text in SOURCES.items() if "{exercise}" in text and name != "contribute"])
def test_a_solution_follows_its_exercise_and_ends(name):
    expected = None
    for kind, argument, body in directives(SOURCES[name], "exercise", "solution", "solution-start", "solution-end"):
        if kind == "exercise":
            assert expected is None
            expected = re.match(r":label: (\S+)", body)[1]
        elif kind == "solution-end":
            assert expected == "end"
            expected = None
        else:
            assert argument == expected
            expected = "end" if kind == "solution-start" else None
    assert expected is None


def test_text_leads_to_exercises_instead_of_counting_them():
    whole = {path.name: path.read_text(encoding="utf-8") for path in [*ROOT.glob("book/*.md"), *ROOT.glob("notebooks/*.py")]}
    assert {name: found for name, text in whole.items() if (found := re.findall(r"[Ee]xercise \d+", text))} == {}
    labels = {label for _, label, _ in exercises()}
    named = re.findall(r"\{ref\}`(ex-[\w-]+)`", "".join(text for name, text in SOURCES.items() if name != "contribute"))
    assert len(named) >= 3 and set(named) <= labels


# pages made of them

CONF = """
import sys
sys.path.insert(0, {book!r})
extensions = ["{parser}", "sphinx_design", "sphinx_togglebutton", "sphinx_exercise", "frames"]
html_theme, html_static_path, nb_execution_mode, numfig = "sphinx_book_theme", [{static!r}], "off", True
"""
INDEX = "# Start\n\n{reading}`first` minutes; {ref}`ex-second` is one.\n\n```{exercise-list}\n```\n\n```{toctree}\nsecond\nfirst\n```\n"
FIRST = """# First

````{admonition} Predict 1
:class: predict
Which?

```{dropdown} Answer
This one.
```
````

```{exercise} By hand: one
:label: ex-first

What is $1+1$?
```

```{solution} ex-first
Two, in [words](https://example.org).
```

```{exercise} Open-ended: three
:label: ex-third

And then?
```

```{solution} ex-third
Many directions.
```
"""
SECOND = """---
file_format: mystnb
kernelspec: {name: python3, display_name: Python 3, language: python}
---
# Second

```{exercise} In code: two (or more)
:label: ex-second

Compute it.
```

```{solution-start} ex-second
```

```{code-cell} ipython3
answer = 1 + 1
```

```{solution-end}
```
"""


def sphinx(folder, texts, builder="html", parser="myst_nb"):
    """What Sphinx says while it makes pages of these texts."""
    folder.mkdir(exist_ok=True)
    (folder / "conf.py").write_text(CONF.format(book=str(ROOT / "book"), static=str(ROOT / "book/static"), parser=parser))
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text)
    command = [sys.executable, "-m", "sphinx", "-q", "-b", builder, folder, folder / "out"]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exercises") / "book"
    assert sphinx(folder, {"index": INDEX, "first": FIRST, "second": SECOND}) == ""
    return folder / "out"


def test_the_list_has_every_exercise_in_the_order_of_the_pages(built):
    index = (built / "index.html").read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0]
    listed = re.findall(r'href="(\w+\.html#ex-\w+)">(?:<[^>]*>)*([^<]*)', index)
    assert listed == [
        ("second.html#ex-second", "Exercise 1"),  # the reference in the text
        ("second.html#ex-second", "Exercise 1 (In code: two (or more))"),
        ("first.html#ex-first", "Exercise 2 (By hand: one)"),
        ("first.html#ex-third", "Exercise 3 (Open-ended: three)"),
    ]
    assert "<p>5 minutes;" in index


@pytest.mark.parametrize(("page", "number"), [("first", 2), ("second", 1)])
def test_a_solution_is_folded_without_a_script_and_no_id_stands_twice(built, page, number):
    html = (built / f"{page}.html").read_text(encoding="utf-8")
    assert f'id="ex-{page}-solution"' in html and re.search(rf"<summary[^>]*>\s*Solution to Exercise {number}</summary>", html)
    inside = html.partition("<details class=")[2] if page == "second" else html.partition(f'id="ex-{page}-solution"')[2]
    assert ("answer" if page == "second" else "Two, in") in inside.partition("</details>")[0]
    ids = Counter(re.findall(r'\sid="([^"]+)"', html))
    assert [name for name, times in ids.items() if times > 1] == []


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"first": FIRST.replace(" By hand: one", "")}, "first: exercise ex-first has no title"),
        ({"first": FIRST + "\n{reading}`nowhere`\n"}, "no page nowhere, whose minutes are asked for"),
        ({"first": FIRST, "second": FIRST.replace("First", "Second")}, "duplicate label: ex-first"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, texts, said):
    start = "# Start\n\n```{exercise-list}\n```\n\n```{toctree}\n" + "\n".join(texts) + "\n```\n"
    assert said in sphinx(tmp_path / "book", {"index": start} | texts, builder="dummy", parser="myst_parser")


@pytest.fixture(scope="module")
def browser():
    with explored.chromium() as browser:
        yield browser


@pytest.mark.parametrize("mode", pages.MODES)
def test_axe_finds_nothing_in_exercises_open_or_closed(browser, built, mode):
    window = browser.new_context(color_scheme=mode, viewport=pages.SIZES["narrow"]).new_page()
    window.goto((built / "first.html").as_uri())
    for _ in range(2):
        window.evaluate(pages.axe())
        found = [(item["id"], piece["html"][:80]) for item in window.evaluate(pages.AXE, mode) for piece in item["nodes"]]
        assert [(rule, piece) for rule, piece in found if rule != "region"] == []
        window.evaluate("document.querySelectorAll('article details').forEach((one) => { one.open = true; })")
    window.close()


def test_a_key_opens_a_solution_and_its_focus_is_seen(browser, built):
    window = browser.new_page()
    window.goto((built / "first.html").as_uri())
    mark = window.locator("#ex-first-solution > summary")
    mark.focus()
    window.keyboard.press("Tab")
    window.keyboard.press("Shift+Tab")
    assert mark.evaluate("(one) => getComputedStyle(one).outlineStyle") == "solid"
    window.keyboard.press("Enter")
    assert window.locator("#ex-first-solution").evaluate("(one) => one.open")
    window.close()


def test_solutions_and_answers_are_printed_though_closed(browser, built):
    window = browser.new_context(java_script_enabled=True).new_page()
    window.goto((built / "first.html").as_uri())
    heights = "() => [...document.querySelectorAll('article details')].map((one) => one.getBoundingClientRect().height)"
    closed = window.evaluate(heights)
    window.emulate_media(media="print")
    printed = window.evaluate(heights)
    assert len(closed) == 3 and all(after > before + 20 for before, after in zip(closed, printed, strict=True))
    window.close()


def test_the_list_stands_in_the_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert {"file": "book/exercises"} in toc["parts"][-1]["chapters"]
