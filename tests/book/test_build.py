"""What book/build.py does by itself: its arguments, and what it takes out of an executed notebook. Its pages: test_pages."""

import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import execution
import nbformat
import pytest
import yaml
from myst_nb.core.execute import direct

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("book_build", ROOT / "book/build.py")
build = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build)
progress = sys.modules["progress"]


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
    monkeypatch.setattr(build, "execute", lambda source, target, given, _: ran.append((source.name, given)) or executed(target))
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


def test_another_edition_is_built_from_a_stage_of_its_own_and_each_knows_the_other(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(build.subprocess, "run", lambda command, **_: given.append(command) or type("Done", (), {"returncode": 0}))
    monkeypatch.setattr(build.shown, "speak", lambda languages, path: None)  # it asks the system for fonts
    monkeypatch.setattr(sys, "argv", ["build.py", "--stored", "--language", "zh_CN", "--to", str(tmp_path)])
    build.main()
    english, chinese = (dict(zip(command[3::2], command[4::2], strict=False)) | {"stage": command[2]} for command in given)
    settings = [yaml.safe_load(edition["--config"].read_text(encoding="utf-8"))["sphinx"]["config"] for edition in (english, chinese)]
    assert [each["editions"] for each in settings] == [["zh_CN"], ["zh_CN"]] and settings[1]["language"] == "zh_CN"
    assert settings[1]["english_edition"] == str(tmp_path / "_build/html")
    stage = chinese["stage"]
    assert stage != english["stage"] and (stage / "locale/zh_CN/LC_MESSAGES/book/intro.mo").is_file()
    contents = yaml.safe_load(chinese["--toc"].read_text(encoding="utf-8"))
    assert contents["root"] == "book/intro" and contents["parts"][0]["caption"]
    reference = (stage / "book/reference.md").read_text(encoding="utf-8")
    assert "automodule" not in reference and 'href="../../book/reference.html"' in reference
    assert 'href="../../book/reference.html#dsgc.' in (stage / "book/framework.svg").read_text(encoding="utf-8")


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


# progress


class Clock:
    """A clock that a test sets, in the place of `time` of the module."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(progress, "time", self)

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def run_through(shown, clock, name, seconds):
    """A notebook whose cells take so long."""
    with shown.running(name, len(seconds)) as began:
        for value in seconds:
            began(cell=None, cell_index=0)
            clock.now += value


def test_the_first_time_nothing_is_known_of_the_time_left(clock, tmp_path):
    shown = progress.Progress("book", ["a", "b"], tmp_path / "_build/times.json")
    with shown.running("a", 2) as began:
        assert shown.line(clock.now) == "book: a (1 of 2), starting, 0 s in all"
        began()
        assert shown.line(40) == "book: a (1 of 2), cell 1 of 2 for 40 s, 40 s in all"


def test_the_time_left_is_that_of_the_last_time_at_the_pace_of_this_one(clock, tmp_path):
    path = tmp_path / "_build/times.json"
    first = progress.Progress("book", ["a", "b"], path)
    run_through(first, clock, "a", [10, 20, 30])
    run_through(first, clock, "b", [100])
    clock.now = 0
    again = progress.Progress("book", ["a", "b"], path, after=["b"])
    with again.running("a", 3) as began:
        assert again.left(0) == 10 + 20 + 30 + 100 + 100
        began()
        assert again.left(4) == 6 + 20 + 30 + 200 and again.left(500) == 20 + 30 + 200
        clock.now = 20  # it took 10
        began()
        assert again.left(25) == 2 * (20 + 30 + 200) - 5
        assert again.line(25) == "book: a (1 of 2), cell 2 of 3 for 5 s, 25 s in all; about 8 min left"


def test_another_number_of_cells_or_a_notebook_that_never_ran_has_no_time_left(clock, tmp_path):
    path = tmp_path / "times.json"
    run_through(progress.Progress("book", ["a"], path), clock, "a", [10, 20])
    for names, cells in [(["a"], 3), (["a", "new"], 2), (["new"], 1)]:
        shown = progress.Progress("book", names, path)
        with shown.running(names[0], cells):
            assert shown.left(clock.now) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": ["x"]}', '{"a": [1'])
def test_times_that_are_damaged_are_no_times(clock, tmp_path, text):
    (tmp_path / "times.json").write_text(text)
    shown = progress.Progress("book", ["a"], tmp_path / "times.json")
    run_through(shown, clock, "a", [1])
    assert progress.Progress("book", ["a"], tmp_path / "times.json").times == {"a": [1.0]}


def test_a_notebook_that_failed_leaves_the_times_of_the_last_one_that_did_not(clock, tmp_path):
    shown = progress.Progress("book", ["a"], tmp_path / "times.json")
    run_through(shown, clock, "a", [10])
    with pytest.raises(KeyError), shown.running("a", 1):
        raise KeyError
    assert progress.Progress("book", ["a"], tmp_path / "times.json").times == {"a": [10.0]}


def seen(clock, tmp_path, seconds):
    """Show a cell that runs for so long; the thread that shows it is asked once a second."""
    shown = progress.Progress("book", ["a"], tmp_path / "times.json")

    class Ended:
        def wait(self, _):
            clock.now += 1
            return clock.now > seconds

    shown.name, shown.cells, shown.marks = "a", 1, [0.0]
    shown._show(Ended(), terminal=sys.stderr.isatty())


def test_in_a_pipe_a_long_cell_has_few_lines(clock, tmp_path, capsys):
    seen(clock, tmp_path, 300)
    out, err = capsys.readouterr()
    assert [line.split(" for ")[1].split(",")[0] for line in out.splitlines()] == ["30 s", "60 s", "2 min", "4 min"] and err == ""
    assert "\r" not in out and "\x1b" not in out


def test_on_a_terminal_one_line_is_written_again_and_gone_at_the_end(monkeypatch, clock, tmp_path, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    seen(clock, tmp_path, 3)
    out, err = capsys.readouterr()
    assert err.split("\r\x1b[K")[1:] == [f"book: a, cell 1 of 1 for {n} s, {n} s in all" for n in (1, 2, 3)] + [""] and out == ""


# kernels


def client_of(monkeypatch, module, name):
    """What a builder gives to what runs notebooks."""
    given = {}
    monkeypatch.setattr(module, name, lambda *_, **options: given.update(options))
    return given


def test_notebooks_run_without_tcp_and_are_shown(monkeypatch, tmp_path, capsys):
    """ipykernel warns of TCP."""
    given = client_of(monkeypatch, build.papermill, "execute_notebook")
    shown = progress.Progress("book", ["notebooks/01_ptc"], tmp_path / "times.json")
    build.execute(ROOT / "notebooks/01_ptc.ipynb", tmp_path / "out.ipynb", {}, shown)
    assert given["config"].KernelManager.transport == "ipc" and given["on_cell_execute"] == shown._begin
    assert capsys.readouterr().out.splitlines() == ["book: running notebooks/01_ptc", "book: notebooks/01_ptc done in 0 s"]


def test_a_page_that_sphinx_runs_is_shown_cell_by_cell_and_says_nothing_of_tcp(tmp_path):
    """In a process of its own, as Sphinx is, whose errors are those of the kernel too."""
    page = "import nbformat, sys; sys.path.insert(0, 'book'); import execution; from types import SimpleNamespace as N; on = []\n"
    page += f"execution.setup(N(outdir={str(tmp_path / '_build/html')!r}, connect=lambda event, call: on.append(call)))\n"
    page += "on[0](None, 'book/page', ['']); new = nbformat.v4; cells = [new.new_code_cell(text) for text in ('1', '', '2 + 2')]\n"
    page += "result = execution.direct.single_nb_execution(new.new_notebook(cells=cells), cwd='book', timeout=60, allow_errors=False)\n"
    page += "print(result.nb.cells[-1].outputs[0].data['text/plain'], result.err)"
    done = subprocess.run([sys.executable, "-c", page], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    first, last, result = done.stdout.splitlines()
    assert first == "book: running book/page" and last.startswith("book: book/page done in") and result == "4 None"
    assert len(json.loads((tmp_path / "_build/times.json").read_text())["book/page"]) == 2


def test_a_page_runs_once_for_all_editions(monkeypatch, tmp_path):
    ran, on = [], []

    def run(notebook, cwd, **_):
        ran.append(cwd)
        notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text="4")]
        notebook.metadata.language_info = {"name": "python"}
        return execution.ExecutionResult(notebook, cwd, 1.0)

    monkeypatch.setattr(direct, "single_nb_execution", None)  # to be what it was afterwards
    monkeypatch.setattr(execution, "single_nb_execution", run)
    execution.setup(SimpleNamespace(outdir=str(tmp_path / "_build/html"), connect=lambda event, call: on.append(call)))
    on[0](None, "book/page", [""])
    pages = [nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("2 + 2")]) for _ in range(2)]
    done = [direct.single_nb_execution(page, cwd="book", timeout=60, allow_errors=False) for page in pages]
    assert ran == ["book"] and [one.nb.cells[0].outputs[0].text for one in done] == ["4", "4"] and done[1].err is None
    assert done[1].nb.metadata.language_info.name == "python"


def test_the_pages_that_sphinx_runs_call_what_is_put_in_their_way():
    """Another version of MyST-NB may call another function."""
    source = inspect.getsource(direct.NotebookClientDirect.start_client)
    assert "single_nb_execution(" in source and direct.single_nb_execution
    assert "execution" in yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]["extensions"]
