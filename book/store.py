"""Run notebooks and store what they give in the sources: what readers of the repository see, and what the tests compare with.

    python book/store.py [NAME ...]     for example 03_gmm_em; all of them without a name

Each .ipynb is first brought into step with its .py pair. A figure is stored with its picture in other languages too. A notebook that fails
is left as it was.
"""

import subprocess
import sys
from pathlib import Path

import kernels
import nbformat
import shown
from catalogues import LANGUAGES
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from progress import Progress, code_cells

ROOT = Path(__file__).resolve().parents[1]


def store(path: Path, progress: Progress) -> None:
    """Execute one notebook from the root of the repository and write it back with its outputs and without timings."""
    subprocess.run([Path(sys.executable).with_name("jupytext"), "--quiet", "--sync", path.with_suffix(".py")], check=True)
    notebook = nbformat.read(path, as_version=4)
    try:
        with progress.running(f"notebooks/{path.stem}", code_cells(notebook)) as began:
            NotebookClient(
                notebook, timeout=None, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(ROOT)}},
                config=kernels.CONFIG, on_cell_execute=began,
            ).execute()  # fmt: skip
    except CellExecutionError as error:
        sys.exit(f"{error}\nstore: {path.name} failed, its stored outputs are as they were")
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, path)


def main() -> None:
    kernels.prepare()
    shown.speak(LANGUAGES, ROOT / "_build/words.json")
    there = sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))
    names = sys.argv[1:] or there
    for name in names:
        if name not in there:
            sys.exit(f"store: no notebook {name}; there are {', '.join(there)}")
    progress = Progress("store", [f"notebooks/{name}" for name in names], ROOT / "_build/times.json")
    for name in names:
        store(ROOT / "notebooks" / f"{name}.ipynb", progress)


if __name__ == "__main__":
    main()
