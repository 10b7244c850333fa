"""Notebooks where there is no repository and no Sphinx: the wheel in an empty environment, and of each notebook all imports, and all
statements that read data or results, with those that they need. What trains or draws is left out."""

import ast
import json
import subprocess
from pathlib import Path

import bare
import jupytext
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.py"))}
READ = {
    "chapter.embedded_data", "shapes.ensure", "shapes_coco.write", "open_data",
    "chapter.results_of", "tables.read_some", "tables.read_scales", "ladder.read", "costs.read",
}  # fmt: skip
RUN = """
import contextlib, importlib.util, io, json, sys
from functools import partial
from pathlib import Path
from dsgc.data import shapes, shapes_coco
from dsgc.experiments import grids
grids.SEEDS |= {name: seeds[:1] for name, seeds in grids.SEEDS.items()}  # one result of each kind, and pictures for a batch
shapes.write = partial(shapes.write, sizes={"train": 16, "dev": 2, "val": 2})
shapes_coco.write = partial(shapes_coco.write, sizes={"train2014": 16, "val2014": 2})
found = {"sphinx": importlib.util.find_spec("sphinx") is not None}
for path in map(Path, sys.argv[1:]):
    space = {"__name__": path.stem}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)
    found[path.stem] = {name: len(value) for name, value in space.items() if isinstance(value, (dict, tuple)) and name[:1] != "_"}
print(json.dumps(found | {"package": grids.__file__}))
"""


def names(tree: ast.AST, kind: type[ast.expr_context]) -> set[str]:
    """The names that a part of a program uses (`ast.Load`) or makes (`ast.Store`)."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, kind)}


def reading(source: str) -> str:
    """The statements that read, all imports, and what either needs."""
    kept, wanted = [], set()
    for statement in reversed(ast.parse(source).body):
        nodes = list(ast.walk(statement))
        called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
        within = set().union(*(names(node.target, ast.Store) for node in nodes if isinstance(node, ast.comprehension)))
        made = {statement.name} if isinstance(statement, ast.FunctionDef) else names(statement, ast.Store) - within
        if called & READ or made & wanted or isinstance(statement, (ast.Import, ast.ImportFrom)):
            kept.append(statement)
            own = names(statement.target, ast.Store) if isinstance(statement, ast.For) else set()
            added_to = set().union(*(names(node.target, ast.Store) for node in nodes if isinstance(node, ast.AugAssign)))
            wanted = (wanted - made) | (names(statement, ast.Load) - within - own) | added_to
    return ast.unparse(ast.Module(kept[::-1], []))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the notebooks found, each in a folder without anything else, one after the other in one process."""
    folder = tmp_path_factory.mktemp("bare")
    python = bare.environment(folder / "environment", "notebooks")
    files = []
    for name, path in NOTEBOOKS.items():
        code = "\n".join(cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code")
        files.append(folder / f"{name}.py")
        files[-1].write_text(reading(code), encoding="utf-8")
    (folder / "empty").mkdir()
    done = subprocess.run([python, "-I", "-c", RUN, *files], cwd=folder / "empty", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_environment_has_the_installed_package_and_no_sphinx(found):
    assert not found["sphinx"] and "site-packages/dsgc/" in found["package"]


@pytest.mark.parametrize(
    ("name", "results"),
    [("02_dskd", "results"), ("07_ablations", "by_scale"), ("08_comparison", "found"), ("09_peers", "found_runs")],
)
def test_results_are_found(found, name, results):
    assert found[name][results] > 0


def test_every_notebook_reads_what_it_needs(found):
    assert set(found) >= set(NOTEBOOKS)


def test_statements_that_read_are_kept_with_what_they_need_and_others_are_not():
    kept = ["import a", "x = 1"]
    kept += ["x = [x for y in z]", "for i in x:\n    data = open_data(i)", "i = 3", "for y in z:\n    i |= costs.read()"]
    assert reading("\n".join([*kept[:2], "y = 2", "train(y)", *kept[2:], "print(y)"])) == "\n".join(kept)
