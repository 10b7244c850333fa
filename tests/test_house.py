"""The rules of the house: one place for each equation, imports that go down only, docstrings, short files."""

import ast
import graphlib
import re
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dsgc"
FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
MATHS = {"cam", "ptc", "dskd", "gmm", "correction", "refine", "objective", "metrics"}
PLOTTING = {"matplotlib", "seaborn"}
TAG = re.compile(r"Eq\. \((\d+)\)")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def tree(name):
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def docstrings(name):
    nodes = [node for node in ast.walk(tree(name)) if isinstance(node, (ast.Module, *DEFINITIONS))]
    return [ast.get_docstring(node) or "" for node in nodes]


def imported(name):
    """Dotted names of all modules that a file imports, also inside functions and by relative imports."""
    package = ["dsgc", *Path(name).parent.parts]
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" if module == "dsgc" else module for alias in node.names}
    return found


def rooms(name):
    """The rooms of dsgc that a file imports: `cam`, `data`, ..."""
    return {module.split(".")[1] for module in imported(name) if module.startswith("dsgc.")}


def room_of(name):
    return Path(name).parts[0].removesuffix(".py")


@pytest.mark.parametrize("number", range(1, 25))
def test_each_equation_has_exactly_one_place(number):
    places = [name for name in FILES for text in docstrings(name) for tag in TAG.findall(text) if int(tag) == number]
    assert len(places) == 1, f"Eq. ({number}) stands in {places or 'no docstring'}"


def test_no_tag_names_an_equation_that_the_paper_does_not_have():
    tags = Counter(int(tag) for name in FILES for text in docstrings(name) for tag in TAG.findall(text))
    assert set(tags) <= set(range(1, 25))


# imports


def test_imports_are_read_in_every_spelling():
    """The rules below are only as good as this reader: known cases of the package."""
    assert {"dsgc.dskd", "dsgc.method"} <= imported("evaluate.py")  # from dsgc import a, b
    assert "dsgc.metrics" in imported("evaluate.py")  # from dsgc.a import b
    assert "dsgc.train" in imported("__main__.py")  # inside a function
    assert "torch" in imported("gmm.py")


@pytest.mark.parametrize("room", sorted(MATHS))
def test_maths_rooms_import_nothing_of_the_project(room):
    found = imported(f"{room}.py")
    assert not {name for name in found if name.split(".")[0] == "dsgc"}
    assert {name.split(".")[0] for name in found} <= {"torch", "math", "typing", "collections"}


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        ("data", {"data", "errors"}),
        ("network", {"errors"}),
        ("config", {"errors"}),
        ("errors", set()),
        ("method", {"config", "network", "errors", "binned"} | MATHS),
        ("parallel", {"method", "errors"}),
        ("step", {"config", "network", "method", "parallel"} | MATHS),
        ("state", {"errors"}),
    ],
)
def test_room_imports_only_what_lies_below_it(room, allowed):
    names = [name for name in FILES if room_of(name) == room]
    assert names
    for name in names:
        assert rooms(name) <= allowed, f"{name} imports {rooms(name) - allowed}"


def test_rooms_import_each_other_without_a_circle():
    graph = {}
    for name in FILES:
        graph.setdefault(room_of(name), set()).update(rooms(name) - {room_of(name)})
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("name", [name for name in FILES if name != "figures.py"])
def test_only_figures_draws_and_nobody_imports_it(name):
    assert not {module.split(".")[0] for module in imported(name)} & PLOTTING
    assert "figures" not in rooms(name)


# docstrings and size


def public_definitions(room):
    """Functions, classes and their public methods, as (name, node)."""
    for node in tree(f"{room}.py").body:
        if isinstance(node, DEFINITIONS) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
                yield from ((f"{node.name}.{n.name}", n) for n in methods)


@pytest.mark.parametrize("room", sorted(MATHS))
def test_everything_public_in_a_maths_room_has_a_docstring(room):
    definitions = dict(public_definitions(room))
    assert definitions and ast.get_docstring(tree(f"{room}.py"))
    assert not [name for name, node in definitions.items() if not ast.get_docstring(node)]


@pytest.mark.parametrize("room", sorted(MATHS - {"refine"}))
def test_equation_names_its_source_and_its_shapes(room):
    """Shapes as `(B, ...)`; a function of modules or scalars says so in that word."""
    tagged = {name: ast.get_docstring(node) for name, node in public_definitions(room)}
    tagged = {name: text for name, text in tagged.items() if text and TAG.search(text)}
    assert tagged
    for name, text in tagged.items():
        assert "Source: " in text, name
        first = text.splitlines()[0]
        assert not TAG.search(first) and first.endswith("."), f"{name}: the first line is a sentence in words"
        is_class = name[0].isupper()
        assert is_class or re.search(r"\([BCDKN],[^()]*\)|\bmodules\b|\bscalars\b|broadcast", text), name


@pytest.mark.parametrize("name", FILES)
def test_file_has_at_most_300_lines(name):
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= 300
