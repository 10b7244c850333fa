"""Build the book: run every notebook, put the results beside the prose, hand both to Jupyter Book.

    python book/build.py [-p NAME VALUE]...

1. papermill runs notebooks/*.ipynb in the order of their names, from the root of the repository, and writes the executed
   copies to _build/stage/notebooks/. The sources are not touched. `-p` sets a parameter of every notebook, as in papermill.
2. What says nothing to a reader is taken out of the copies: timings, and the cell in which papermill sets parameters.
3. book/ is copied to _build/stage/book/, so that every page has the path it has in the repository.
4. jupyter-book builds _build/html from the stage. A warning is an error.

A notebook that fails ends the build with the traceback of its cell and, as the last line, where it stands; exit code 1.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
STAGE = BUILD / "stage"
FONT_AWESOME = re.compile(r"<link[^>]*font-?awesome[^>]*>", re.IGNORECASE)  # in matplotlib's to_jshtml(); another host


def execute(source: Path, target: Path, parameters: dict) -> None:
    """Run one notebook; end the build with the cell's traceback if it fails."""
    name = source.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            source, target, parameters, kernel_name="python3", cwd=str(ROOT), progress_bar=sys.stderr.isatty()
        )
    except PapermillExecutionError as error:
        print(error, file=sys.stderr)  # the cell's number and its traceback
        where = f"{name}, cell In [{error.exec_count}]"
        sys.exit(f"book: {where} failed: {error.ename}: {error.evalue}; the copy so far is {target.relative_to(ROOT)}")
    except (DeadKernelError, CellTimeoutError) as error:
        sys.exit(f"book: {name} failed: {str(error).splitlines()[0]}")


def clean(path: Path) -> None:
    """Take timings, widget states, the injected cell and links to another host out of an executed notebook."""
    notebook = nbformat.read(path, as_version=4)
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = FONT_AWESOME.sub("", output.data["text/html"])
    nbformat.write(notebook, path)


def literal(text: str) -> object:
    """A parameter's value: what Python reads in it, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Run every notebook and build the book into _build/html.")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a notebook parameter")
    parameters = {name: literal(value) for name, value in parser.parse_args().p}
    os.environ["TQDM_DISABLE"] = "1"  # a page shows no progress bars
    shutil.rmtree(BUILD, ignore_errors=True)  # a page that is gone must not stay, a warning must come again
    shutil.copytree(ROOT / "book", STAGE / "book", ignore=shutil.ignore_patterns("*.py", "__pycache__"))

    for source in sorted((ROOT / "notebooks").glob("*.ipynb")):
        print(f"book: running {source.relative_to(ROOT)}", flush=True)
        started = time.monotonic()
        target = STAGE / "notebooks" / source.name
        execute(source, target, parameters)
        clean(target)
        print(f"book: done in {time.monotonic() - started:.0f} s", flush=True)

    jupyter_book = Path(sys.executable).with_name("jupyter-book")  # it has no `python -m`
    options = ["--config", ROOT / "_config.yml", "--toc", ROOT / "_toc.yml", "--path-output", ROOT]  # --toc must be absolute
    if subprocess.run([jupyter_book, "build", STAGE, *options, "--all", "-W", "-n", "--keep-going"], cwd=ROOT).returncode:
        sys.exit("book: jupyter-book failed; a warning above counts as an error")
    print(f"book: {BUILD / 'html' / 'index.html'}")


if __name__ == "__main__":
    main()
