"""Run notebooks and store what they give in the sources: what readers of the repository see, and what the tests compare with.

    python book/store.py [NAME ...]     for example 03_gmm_em; all of them without a name

Each .ipynb is first brought into step with its .py pair. A notebook that fails is left as it was.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import kernels
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]


def store(path: Path) -> None:
    """Execute one notebook from the root of the repository and write it back with its outputs and without timings."""
    subprocess.run([Path(sys.executable).with_name("jupytext"), "--quiet", "--sync", path.with_suffix(".py")], check=True)
    notebook = nbformat.read(path, as_version=4)
    started = time.monotonic()
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(ROOT)}},
        config=kernels.CONFIG,
    )  # fmt: skip
    try:
        client.execute()
    except CellExecutionError as error:
        sys.exit(f"{error}\nstore: {path.name} failed, its stored outputs are as they were")
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, path)
    print(f"store: {path.name} in {time.monotonic() - started:.0f} s", flush=True)


def main() -> None:
    os.environ["TQDM_DISABLE"] = "1"  # stored outputs have no progress bars
    names = sys.argv[1:] or sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))
    for name in names:
        path = ROOT / "notebooks" / f"{name}.ipynb"
        if not path.with_suffix(".py").is_file():
            sys.exit(f"store: no notebook {name}; there are {', '.join(sorted(p.stem for p in path.parent.glob('*.py')))}")
        store(path)


if __name__ == "__main__":
    main()
