"""What book/build.py does by itself: its arguments, and what it takes out of an executed notebook. Its pages: test_pages."""

import importlib.util
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("book_build", ROOT / "book/build.py")
build = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build)


def executed(path, *cells, **metadata):
    """A notebook on disk."""
    notebook = nbformat.v4.new_notebook(cells=list(cells), metadata=metadata)
    nbformat.write(notebook, path)
    return path


def test_parameters_of_a_run_that_does_not_happen_are_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["build.py", "--stored", "--to", str(tmp_path), "-p", "seed", "1"])
    with pytest.raises(SystemExit) as stop:
        build.main()
    assert stop.value.code == 2 and "--stored runs nothing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def stage(monkeypatch, tmp_path, *arguments):
    """Run the builder with jupyter-book replaced by a note of what it was given; its stage and that note."""
    given = []
    monkeypatch.setattr(build.subprocess, "run", lambda command, **_: given.append(command) or type("Done", (), {"returncode": 0}))
    monkeypatch.setattr(sys, "argv", ["build.py", "--to", str(tmp_path), *arguments])
    build.main()
    return tmp_path / "_build/stage", given[0]


def test_stored_runs_nothing_and_copies_the_notebooks_with_their_outputs(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "execute", lambda *_: pytest.fail("a notebook was run"))
    folder, _ = stage(monkeypatch, tmp_path, "--stored")
    sources = {path.name: nbformat.read(path, as_version=4) for path in (ROOT / "notebooks").glob("*.ipynb")}
    copies = {path.name: nbformat.read(path, as_version=4) for path in (folder / "notebooks").iterdir()}
    assert sources and copies.keys() == sources.keys()
    for name, copy in copies.items():
        counts = [len(cell.get("outputs", [])) for cell in sources[name].cells]
        assert [len(cell.get("outputs", [])) for cell in copy.cells] == counts and sum(counts)


def test_without_stored_every_notebook_is_run_in_order_with_its_parameters(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(build, "execute", lambda source, target, given: ran.append((source.name, given)) or executed(target))
    stage(monkeypatch, tmp_path, "-p", "seed", "1", "-p", "data", "some folder")
    names = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert ran == [(name, {"seed": 1, "data": "some folder"}) for name in names]


def test_pages_keep_their_paths_and_the_figure_is_drawn_beside_them(monkeypatch, tmp_path):
    folder, command = stage(monkeypatch, tmp_path, "--stored")
    pages = {path.relative_to(folder) for path in (folder / "book").rglob("*") if path.is_file()}
    sources = {path.relative_to(ROOT) for path in (ROOT / "book").rglob("*") if path.is_file()}
    code = {path for path in sources if path.suffix in (".py", ".pyc")}
    assert pages == sources - code | {Path("book/framework.svg")}
    assert {"-W", "-n", "--all"} <= set(command) and command[2] == folder


def test_what_says_nothing_to_a_reader_is_taken_out(tmp_path):
    injected = nbformat.v4.new_code_cell("seed = 1", metadata={"tags": ["injected-parameters"], "papermill": {"duration": 1}})
    shown = nbformat.v4.new_code_cell("1", metadata={"execution": {"time": "now"}})
    shown.outputs = [nbformat.v4.new_output("display_data", data={"text/html": "<b>kept</b>"})]
    path = executed(tmp_path / "a.ipynb", injected, shown, papermill={"duration": 2}, widgets={})
    build.clean(path)
    notebook = nbformat.read(path, as_version=4)
    assert not {"papermill", "widgets"} & notebook.metadata.keys()
    assert not any({"papermill", "execution"} & cell.metadata.keys() for cell in notebook.cells)
    assert "remove-cell" in notebook.cells[0].metadata.tags
    assert notebook.cells[1].outputs[0].data["text/html"] == "<b>kept</b>"


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("{'a': (2, 3)}", {"a": (2, 3)}), ("voc", "voc"), ("a b", "a b")])
def test_a_parameter_is_read_as_python_or_else_as_text(text, value):
    assert build.literal(text) == value


def test_the_address_of_the_repository_stands_in_one_place():
    address = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"].split("//")[1]
    names = ["README.md", "CITATION.cff", "pyproject.toml", "Makefile", "_toc.yml", ".github/workflows/book.yml"]
    texts = [ROOT / name for name in names] + [*ROOT.glob("book/*.md"), *ROOT.glob("book/*.py"), *ROOT.glob("notebooks/*.py")]
    assert [path.name for path in texts if address in path.read_text(encoding="utf-8")] == []
    assert (ROOT / "_config.yml").read_text(encoding="utf-8").count(address) == 1


def test_kernels_do_not_talk_over_tcp(monkeypatch, tmp_path):
    """Which ipykernel warns of; a program that cannot be told so has kernels that do not."""
    given = {}
    monkeypatch.setattr(build.papermill, "execute_notebook", lambda *_, **options: given.update(options))
    build.execute(ROOT / "notebooks/01_ptc.ipynb", tmp_path / "out.ipynb", {})
    assert given["config"].KernelManager.transport == "ipc"
    environment = build.kernels.quiet(tmp_path / "ipython")
    assert "ERROR" in (Path(environment["IPYTHONDIR"]) / "profile_default/ipython_kernel_config.json").read_text()
