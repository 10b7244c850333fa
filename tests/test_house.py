"""The rules of the house: one place for each equation, imports that go down only, docstrings, short files."""

import ast
import graphlib
import re
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dsgc"
FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {".".join(["dsgc", *Path(name).with_suffix("").parts]).removesuffix(".__init__") for name in FILES} - {"dsgc"}
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
            below = {f"{module}.{alias.name}" for alias in node.names}
            found |= {other for other in below if other in MODULES} or {module}
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
    assert {"dsgc.methods", "dsgc.experiments.paper"} <= imported("experiments/grids.py")  # from dsgc.a import b
    assert {"dsgc.methods", "dsgc.methods.base"} <= imported("methods/dsgc.py") | {"dsgc.methods"}
    assert "dsgc.metrics" in imported("scoring/evaluate.py")  # from dsgc.a import c, where c is no module
    assert "dsgc.training.loop" in imported("__main__.py")  # inside a function
    assert "torch" in imported("gmm.py")


@pytest.mark.parametrize("room", sorted(MATHS))
def test_maths_rooms_import_nothing_of_the_project(room):
    found = imported(f"{room}.py")
    assert not {name for name in found if name.split(".")[0] == "dsgc"}
    assert {name.split(".")[0] for name in found} <= {"torch", "math", "typing", "collections"}


FLOORS = (  # from the ground up; what stands on one line stands side by side
    {"errors"},
    MATHS | {"binned", "settings", "data"},
    {"config"},
    {"network"},
    {"methods"},
    {"runs"},
    {"scoring"},
    {"training"},
    {"experiments"},
    {"teaching", "command"},
    {"__main__"},
)
BESIDE = {("binned", "gmm")}  # the fast mixture, and the exact one whose type it gives


def test_every_room_has_its_floor_and_says_what_lives_there():
    assert {room_of(name) for name in FILES} - {"__init__"} == set().union(*FLOORS)
    for name in FILES:
        if Path(name).name == "__init__.py":
            assert re.search(r"\w", ast.get_docstring(tree(name)) or ""), f"{name} does not say what lives there"


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down(name):
    room = room_of(name)
    floor = next((number for number, floor in enumerate(FLOORS) if room in floor), len(FLOORS))
    above = {other for other in rooms(name) - {room} if not any(other in below for below in FLOORS[:floor])}
    assert not above - {other for mine, other in BESIDE if mine == room}, f"{name} imports {above}"


@pytest.mark.parametrize("room", ["data", "network", "settings", "runs"])
def test_the_lower_floors_know_little(room):
    allowed = {"data": {"errors"}, "network": {"cam", "errors", "config"}, "settings": {"errors"}}
    allowed |= {"runs": {"errors", "config", "data", "methods", "network"}}
    for name in FILES:
        assert room_of(name) != room or rooms(name) - {room} <= allowed[room], name


def test_files_import_each_other_without_a_circle():
    graph = {}
    for name in FILES:
        module = ".".join(["dsgc", *Path(name).with_suffix("").parts]).removesuffix(".__init__")
        graph[module] = {other for other in imported(name) if other in MODULES and other != module}
    known = {("dsgc.methods", "dsgc.methods.contract")}  # for the type checker alone
    graph["dsgc.methods"] -= {other for one, other in known}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


DRAWING = {"dsgc.teaching.figures", "dsgc.teaching.panels"}


KNOWING = {"teaching/figures.py", "teaching/panels.py", "teaching/worded.py"}


@pytest.mark.parametrize("name", [name for name in FILES if name not in KNOWING])
def test_only_two_modules_draw_and_nobody_imports_them(name):
    """A third, `worded`, knows texts and fonts of figures that are drawn already."""
    assert not {module.split(".")[0] for module in imported(name)} & PLOTTING
    assert not DRAWING & imported(name)


# methods: the modules above them know what every method is, and none by its name or by what it has

CONTRACT = "methods/contract.py"
MAKING = ("stored", "forks", "schedule", "plan", "claims", "trunks", "apart", "runner", "slurm", "provenance")
ABOVE = [
    name for name in FILES
    if room_of(name) in {"runs", "scoring", "training", "command", "__main__"}
    or name in {"network/build.py", *(f"experiments/{name}.py" for name in MAKING)}
    # grids and tables are of methods
]  # fmt: skip
OWN = re.compile(r"teacher|student|distillation|dskd|(?<![^\W_])gc(?![^\W_])", re.IGNORECASE)  # GC as a word, or a part of a name
NAMES = {ast.literal_eval(node.value) for name in FILES if name.startswith("methods/") for node in ast.walk(tree(name))
         if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "name" and node.value is not None}  # fmt: skip
PEERS = {Path(name).stem for name in FILES if name.startswith("methods/peers/")} - {"__init__"}
NOT_OF_A_METHOD = {  # what only looks like it
    ("runs/record.py", "masks"),  # those that scores are of
    ("experiments/provenance.py", "dsgc"),  # the package
    ("experiments/stored.py", "masks"),  # a folder of them
}


def texts(name):
    """Every string of a file, docstrings too, and every name that it uses or gives; without comments."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        for field in ("id", "attr", "arg", "name", "asname", "module"):
            if isinstance(found := getattr(node, field, None), str):
                yield found


def of_a_method(name):
    """What in a file is one method's own: a word of its, or its name as a whole string."""
    words = {node.value for node in ast.walk(tree(name)) if isinstance(node, ast.Constant) and isinstance(node.value, str)} & NAMES
    return (words | {text for text in texts(name) if OWN.search(text)}) - {text for file, text in NOT_OF_A_METHOD if file == name}


def test_words_of_a_method_are_found_wherever_they_stand():
    """The rule below is only as good as this reader."""
    assert NAMES == {"base", "dsgc", "masks"} | PEERS
    assert {"student", "dsgc.methods.dsgc"} & {text.lower() for text in texts("methods/dsgc.py")} == {"student"}
    found = of_a_method("methods/dsgc.py")
    assert {"dsgc", "teacher", "student", "student_lr", "distillation", "dskd"} <= found
    assert any("(DSKD)" in text and "GC" in text for text in found), "its docstring"
    assert of_a_method("methods/base.py") >= {"base", "dskd"} and "masks" in of_a_method("methods/masks.py")
    for text in ("GC", "the GC rules", "gc", "with_gc", "Student", "dskd.ema"):
        assert OWN.search(text), text
    for text in ("gcd", "magic", "base_rate"):
        assert not OWN.search(text), text


@pytest.mark.parametrize("name", [CONTRACT, *ABOVE])
def test_nothing_above_the_methods_names_one_or_what_is_its_own(name):
    assert not of_a_method(name)


@pytest.mark.parametrize("name", ABOVE)
def test_nothing_above_the_methods_imports_one(name):
    allowed = {"dsgc.methods.contract", "dsgc.methods.labels"}
    assert not {module for module in imported(name) if module.startswith("dsgc.methods.")} - allowed


def test_the_contract_knows_no_method_and_no_loss():
    assert rooms(CONTRACT) == {"network", "settings"}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("methods/")])
def test_a_method_imports_only_what_it_inherits_from(name):
    """`dsgc` is the baseline and more, by the paper, and so is each peer; no other method needs another."""
    others = {module for module in imported(name) if module.split(".")[-1] in NAMES and module.startswith("dsgc.methods.")}
    heirs = {"methods/dsgc.py", *(f"methods/peers/{peer}.py" for peer in PEERS)}
    assert others == ({"dsgc.methods.base"} if name in heirs else set())


def test_exceptions_are_still_needed():
    for file, text in NOT_OF_A_METHOD:
        assert text in set(texts(file)), f"{file} has no {text} any more"


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
