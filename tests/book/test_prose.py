"""What the prose pages say can be checked: names in the notation, terms of the glossary, commands, the citation."""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import yaml
from pybtex.database import parse_file, parse_string
from sources import glued
from test_readme import README, bash_lines, targets

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in [*ROOT.glob("book/*.md"), *ROOT.glob("notebooks/*.py")]}
ROLE = re.compile(r"\{py:\w+\}`(?:[^`<]*<)?([\w.]+)>?`")
LITERAL = re.compile(r"(?<!\})`([^`]+)`")


@pytest.mark.parametrize("page", PAGES)
def test_no_line_of_text_begins_with_a_per_cent_sign(page):
    """MyST takes it for a comment, and what the line says is not on the page; those that are meant so tell the tests what is there."""
    lines = re.findall(r"(?m)^#?[ \t]*(%(?!%|\w).*)$", PAGES[page])
    assert all(re.fullmatch(r"% each of \S+", line) for line in lines), lines


# notation


class Row(NamedTuple):
    symbol: str
    code: str  # the cell that names it in the package
    equations: str


def rows() -> list[Row]:
    """The rows of every table of the notation whose third column is `in the code`."""
    found, inside = [], False
    for line in PAGES["notation"].splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if "in the code" in cells:
            assert cells == ["symbol", "meaning", "in the code", "shape or range", "Eq."]
            inside = True
        elif not cells:
            inside = False
        elif inside and not set(line) <= set("|-: "):
            assert len(cells) == 5, f"a bar inside a cell? {line}"
            found.append(Row(cells[0], cells[2], cells[4]))
    return found


def find(name: str) -> Any:
    """What a dotted name below `dsgc` stands for; a field of a dataclass or named tuple stands for itself."""
    parts = name.removeprefix("dsgc.").split(".")
    thing: Any = importlib.import_module("dsgc")
    for part in parts:
        if isinstance(thing, ModuleType) and not hasattr(thing, part):
            thing = importlib.import_module(f"{thing.__name__}.{part}")
        elif dataclasses.is_dataclass(thing) and part in {field.name for field in dataclasses.fields(thing)}:
            return part
        else:
            thing = getattr(thing, part)
    return thing


def knows(owner: Any, name: str) -> bool:
    """Is it an argument or local name of a function, or an argument or attribute that a class sets up?"""
    function = inspect.unwrap(owner.__init__ if inspect.isclass(owner) else owner)
    names = set(function.__code__.co_varnames)
    return name in names | set(function.__code__.co_names) if inspect.isclass(owner) else name in names


def test_names_are_found_and_missing_ones_are_missed():
    assert find("methods.dsgc.Dsgc.tau") == "tau" and callable(find("dsgc.gmm.fit"))
    assert knows(find("gmm.fit"), "x") and knows(find("network.vit.Network"), "patch_classifier")
    assert not knows(find("gmm.fit"), "tau")
    for wrong in ("gmm.nothing", "config.Config.nothing"):
        with pytest.raises((AttributeError, ImportError)):
            find(wrong)


def classes() -> dict[str, str]:
    """The classes that the page names in full, by their bare names."""
    targets = ROLE.findall(PAGES["notation"].split("\n## ")[0])
    return {target.split(".")[-1]: target for target in targets}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.symbol)
def test_symbol_has_a_name_in_the_package(row):
    owners = [find(target) for target in ROLE.findall(row.code)]
    literals = LITERAL.findall(row.code)
    assert owners or literals
    for name in literals:
        if "." in name:
            owner, _, attribute = name.partition(".")
            find(f"{classes()[owner]}.{attribute}")
        else:
            assert len(owners) == 1 and knows(owners[0], name), name


def test_every_equation_explains_a_symbol():
    assert {int(number) for row in rows() for number in re.findall(r"<eq-(\d+)>", row.equations)} == set(range(1, 25))


# glossary


def terms() -> list[str]:
    """Every term of the glossary, synonyms too: the lines of the directive that are not indented."""
    body = PAGES["glossary"].split(":::{glossary}\n")[1].split("\n:::")[0]
    return [line for line in body.splitlines() if line and not line.startswith(" ")]


def test_terms_are_in_order_and_none_is_there_twice():
    body = PAGES["glossary"].split(":::{glossary}\n")[1].split("\n:::")[0]
    first = re.findall(r"(?:^|\n\n)(\S.*)\n", "\n\n" + body)
    assert first == sorted(first, key=str.lower)
    assert len(terms()) == len({term.lower() for term in terms()}) >= 35


@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if "{term}" in text])
def test_terms_that_a_page_uses_are_in_the_glossary(name):
    used = [re.sub(r".*<([^>]*)>$", r"\1", term) for term in re.findall(r"\{term\}`([^`]+)`", PAGES[name])]
    assert {term.lower() for term in used} <= {term.lower() for term in terms()}


# commands


@pytest.mark.parametrize("name", ["reproduce", "contribute"])
def test_commands_of_the_page_are_those_of_the_readme(name):
    assert bash_lines(PAGES[name]) and set(bash_lines(PAGES[name])) <= set(bash_lines(README))


@pytest.mark.parametrize("name", ["reproduce", "contribute"])
def test_make_targets_and_paths_of_the_page_exist(name):
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", PAGES[name], flags=re.MULTILINE)) <= targets()
    paths = set(re.findall(r"(?<![\w/])(?:notebooks|book|dsgc|tests|benchmarks|results)/[\w./]*", PAGES[name]))
    placeholders = {path for path in paths if re.search(r"/NN?[A-Z_]", path)}
    assert {path for path in paths - placeholders if not (ROOT / path).exists()} == set()


def test_contributing_leads_to_the_page():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 8 and all((ROOT / path).is_file() for path in re.findall(r"\]\(([^)]+)\)", text))
    assert "(book/contribute.md)" in text


# citation


def bibtex(page: str) -> dict[str, Any]:
    """The entries of every ```bibtex block of a page."""
    blocks = re.findall(r"^```bibtex\n(.*?)^```", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    return dict(parse_string("\n".join(blocks), "bibtex").entries)


def test_the_package_is_cited_as_the_citation_file_says():
    file = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    entry = bibtex("cite")["dsgc"]
    assert " ".join(entry.fields["title"].split()) == file["title"]
    assert entry.fields["version"] == str(file["version"])
    assert [str(person).strip("{}") for person in entry.persons["author"]] == [author["name"] for author in file["authors"]]


def test_the_paper_is_cited_as_bibliography_and_citation_file_say():
    entry = bibtex("cite")["bai2025dsgc"]
    assert entry == parse_file(ROOT / "book" / "references.bib", bib_format="bibtex").entries["bai2025dsgc"]
    (paper,) = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    assert entry.fields["doi"] == paper["doi"] and entry.fields["year"] == str(paper["year"])
    assert entry.fields["title"].replace("{", "").replace("}", "") == paper["title"]
    assert [person.last_names for person in entry.persons["author"]] == [[author["family-names"]] for author in paper["authors"]]


def test_every_number_that_a_page_takes_from_a_notebook_is_glued_there():
    for name, text in PAGES.items():
        for path, key in re.findall(r"\{glue:text\}`\.\./(notebooks/\w+)\.ipynb::(\w+)", text):
            assert key in glued(Path(path).name), f"{name}: {path} glues no {key}"
