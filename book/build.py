"""Build the book: run every notebook, put the results beside the prose, hand both to Jupyter Book.

    python book/build.py [--stored] [--language LANGUAGE] [--to FOLDER] [-p NAME VALUE]...

1. papermill runs notebooks/*.ipynb in the order of their names, from the root of the repository, and writes the executed
   copies to _build/stage/notebooks/. The sources are not touched. `-p` sets a parameter of every notebook, as in papermill.
   With `--stored` none runs: the copies are the notebooks as they are, with the outputs they hold.
2. What says nothing to a reader is taken out of the copies: timings, and the cell in which papermill sets parameters.
3. book/ is copied to _build/stage/book/, so that every page has the path it has in the repository, and the figure of the
   framework is drawn there.
4. jupyter-book builds _build/html from the stage. It runs those pages itself that have code: the first shows a picture on its way through
   the method, some train small networks, draw pictures or show what the files of measurements hold. A warning is an error.
5. With `--language`, zh_CN say, the same is built once more from the translated text (`stage.translate`), into _build/html/zh_CN. Nothing
   runs again: notebooks and pages show the outputs that the English edition shows, with their words translated (`shown`).

`_build` stands in the repository, or in the folder that `--to` names. A notebook that fails ends the build with the
traceback of its cell and, as the last line, where it stands; exit code 1.
"""

import argparse
import ast
import shutil
import subprocess
import sys
from pathlib import Path

import kernels
import nbformat
import papermill
import shown
import stage as stages
from catalogues import LANGUAGES
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from progress import Progress, code_cells

ROOT = Path(__file__).resolve().parents[1]


def execute(source: Path, target: Path, parameters: dict, progress: Progress) -> None:
    """Run one notebook; end the build with the cell's traceback if it fails."""
    name = source.relative_to(ROOT)
    cells = code_cells(nbformat.read(source, as_version=4)) + bool(parameters)  # papermill sets them in a cell of its own
    try:
        with progress.running(named(source), cells) as began:
            papermill.execute_notebook(
                source, target, parameters, kernel_name="python3", cwd=str(ROOT), progress_bar=False, config=kernels.CONFIG,
                on_cell_execute=began,
            )  # fmt: skip
    except PapermillExecutionError as error:
        print(error, file=sys.stderr)  # the cell's number and its traceback
        where = f"{name}, cell In [{error.exec_count}]"
        sys.exit(f"book: {where} failed: {error.ename}: {error.evalue}; the copy so far is {target}")
    except (DeadKernelError, CellTimeoutError) as error:
        sys.exit(f"book: {name} failed: {str(error).splitlines()[0]}")


def named(source: Path) -> str:
    """A page as Sphinx calls it: notebooks/01_ptc, book/parts."""
    return source.relative_to(ROOT).with_suffix("").as_posix()


def clean(path: Path) -> None:
    """Take timings, widget states and the injected cell out of an executed notebook."""
    notebook = nbformat.read(path, as_version=4)
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")
    nbformat.write(notebook, path)


def literal(text: str) -> object:
    """A parameter's value: what Python reads in it, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Run every notebook and build the book into _build/html.")
    parser.add_argument("--stored", action="store_true", help="run nothing: show the outputs that the notebooks hold")
    parser.add_argument("--to", type=Path, default=ROOT, metavar="FOLDER", help="make _build there; else in the repository")
    parser.add_argument("--language", action="append", default=[], choices=LANGUAGES, help="build the edition in it as well")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a notebook parameter")
    given = parser.parse_args()
    if given.stored and given.p:
        parser.error("-p sets parameters of a run, and --stored runs nothing; leave one out")
    parameters = {name: literal(value) for name, value in given.p}
    kernels.prepare()

    to = given.to.resolve()
    build, stage = to / "_build", to / "_build/stage"
    sources = sorted((ROOT / "notebooks").glob("*.ipynb"))
    pages = [named(page) for page in sorted((ROOT / "book").glob("*.md")) if "execution_mode: force" in page.read_text("utf-8")]
    progress = Progress("book", [named(source) for source in sources], build / "times.json", after=pages)
    shutil.rmtree(build, ignore_errors=True)  # a page that is gone must not stay, a warning must come again
    progress.keep()
    shown.speak(given.language, build / "words.json")
    stages.lay(stage)
    for source in sources:
        target = stage / "notebooks" / source.name
        if given.stored:
            shutil.copyfile(source, target)
        else:
            execute(source, target, parameters, progress)
        clean(target)

    config = stages.config(build / "_config.yml", editions=given.language)
    made = jupyter_book(stage, to, config, stages.CONTENTS)
    for language in given.language:
        add_edition(language, given.language, stage, made)
    print(f"book: {made / 'index.html'}")


def jupyter_book(stage: Path, to: Path, config: Path, contents: Path) -> Path:
    """Build one edition below a folder; its HTML."""
    program = Path(sys.executable).with_name("jupyter-book")  # it has no `python -m`
    options = ["--config", config, "--toc", contents, "--path-output", to]  # --toc must be absolute
    if subprocess.run([program, "build", stage, *options, "--all", "-W", "-n", "--keep-going"], cwd=ROOT).returncode:
        sys.exit("book: jupyter-book failed; a warning above counts as an error")
    return to / "_build/html"


def add_edition(language: str, languages: list[str], stage: Path, english: Path) -> None:
    """Build the edition in another language, with the outputs of the English one, into a folder of that one."""
    there = stages.translate(stage, language)
    here, executed = there.parent, stage.parent / "executed"
    if executed.is_dir():
        shutil.copytree(executed, here / "_build/executed")
    shown.translate_all(here, language)
    config = stages.config_in(language, here / "_config.yml", english, languages)
    made = jupyter_book(there, here, config, stages.contents_in(language, here / "_toc.yml"))
    if made.is_dir():
        shutil.move(made, english / language)


if __name__ == "__main__":
    main()
