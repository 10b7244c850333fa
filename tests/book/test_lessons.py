"""The two pages that train a small network: every line of a step has its equation, its function and its chapter; parts are measured.

That their cells run, and that what they assert is so, shows the build of the book (test_pages).
"""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = {name: (ROOT / f"book/{name}.md").read_text(encoding="utf-8") for name in ("parts", "step")}
NUMBERS = re.compile(r"Eq\. \(?(\d+)(?:\)?(?:-| to | and )\(?(\d+))?((?:, \d+)*)")


def cells(name):
    """The code of each cell, without its options."""
    blocks = re.findall(r"^```\{code-cell\} ipython3\n(.*?)^```", PAGES[name], flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"\A(?:---\n.*?^---\n|(?::[^\n]*\n)+)", "", block, flags=re.MULTILINE | re.DOTALL) for block in blocks]


def equations(text):
    """The numbers of the equations that a text names: `Eq. 4, 5`, `Eq. 11 to 16`, `Eq. (18)`."""
    found = set()
    for first, last, others in NUMBERS.findall(text):
        found |= set(range(int(first), int(last or first) + 1)) | {int(number) for number in re.findall(r"\d+", others)}
    return found


def steps():
    """The cells of the step page that make a step's losses or its weights, by what they begin with."""
    return {cell.split("\n")[0]: cell for cell in cells("step") if "L_all" in cell and "advance(" not in cell}


def rows():
    """(names, equations, functions, page) of each row of the table of lines."""
    for line in PAGES["step"].splitlines():
        fields = [field.strip() for field in line.strip("|").split("|")]
        if line.startswith("| `") and len(fields) == 5:
            names = re.findall(r"`(\w+)`", fields[0])
            numbers = [int(number) for number in re.findall(r"\(#eq-(\d+)\)", fields[1])]
            if " to " in fields[1]:
                numbers = list(range(numbers[0], numbers[1] + 1))
            functions = re.findall(r"(dsgc\.[\w.]+)", fields[3])
            yield names, set(numbers), functions, re.findall(r"\{doc\}`([^`]+)`", fields[4])


def test_cells_are_whole_and_without_their_options():
    for name, text in PAGES.items():
        assert len(cells(name)) == text.count("```{code-cell}") > 10
        assert "figures.style()" in cells(name)[0]
        for cell in cells(name):
            ast.parse(cell)


def test_equations_are_read_in_every_spelling():
    assert equations("# Eq. 1, 2: a map; Eq. 11 to 16; Eq. (18) and Eq. (20)") == {1, 2, *range(11, 17), 18, 20}
    assert equations("as in Eq. (11-17) and Eq. 19 and 21") >= set(range(11, 18)) | {19, 21}


def test_the_lines_of_both_steps_name_every_equation_of_training():
    assert len(steps()) == 3
    assert equations("\n".join(steps().values())) == set(range(1, 24))


def test_a_step_is_about_thirty_lines():
    """Statements, of the step that has most losses."""
    losses, pulled = (cell for cell in steps().values() if "L_punc" in cell or "ema_update" in cell)
    inside = [node for cell in (losses, pulled) for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.stmt)]
    assert 25 <= len([node for node in inside if not isinstance(node, ast.With | ast.For)]) <= 45


def test_every_row_is_of_a_name_in_the_code_and_of_the_function_that_makes_it():
    code = "\n".join(cells("step"))
    assert len(list(rows())) >= 18
    for names, numbers, functions, _ in rows():
        for name in names:
            assert re.search(rf"\b{name}\b(?:, \w+)* = |[(]{name}, teacher", code), name
        for function in functions:
            module, _, attribute = function.rpartition(".")
            owner, _, kind = module.rpartition(".")
            called = f".{attribute}(" if kind[:1].isupper() else f"{kind}.{attribute}"
            assert attribute == "forward" or called in code, function
            room = importlib.import_module(owner if kind[:1].isupper() else module)
            found = getattr(getattr(room, kind) if kind[:1].isupper() else room, attribute)
            text = f"{inspect.getdoc(found)} {room.__doc__}"
            assert not numbers or numbers & equations(text), f"{function} holds none of {numbers}"


def test_the_rows_have_every_equation_of_training_and_lead_to_pages_of_the_book():
    assert set().union(*(numbers for _, numbers, _, _ in rows())) == set(range(1, 24))
    for _, _, _, (page,) in rows():
        assert any((ROOT / "book" / f"{page}{ending}").is_file() for ending in (".md", ".py"))


def test_the_package_s_step_is_compared_in_either_stage():
    compared = [cell for cell in cells("step") if "advance(for_package" in cell]
    assert len(compared) == 2 and all("compared(losses | " in cell for cell in compared)
    (check,) = (node for node in ast.walk(ast.parse(compared[0])) if isinstance(node, ast.FunctionDef))
    assert "1e-5" in ast.unparse(check).replace("1e-05", "1e-5") and "parameters()" in ast.unparse(check)


@pytest.mark.parametrize(("name", "least"), [("parts", 9), ("step", 5)])
def test_a_page_asserts_what_it_says(name, least):
    text = "\n".join(cells(name))
    assert len(re.findall(r"^\s*(?:assert|torch\.testing\.assert_close)\b", text, flags=re.MULTILINE)) >= least


def test_the_pages_stand_where_a_reader_meets_them():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    pages = ("book/framework", "book/parts", "notebooks/01_ptc", "notebooks/04_gc_rules", "book/step")
    assert [page for page in files if page in pages] == list(pages)
    framework = (ROOT / "book/framework.md").read_text(encoding="utf-8")
    assert "{doc}`parts`" in framework and "{doc}`step`" in framework
