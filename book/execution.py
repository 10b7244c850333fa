"""A Sphinx extension: the cells of a page that runs as the book is built are shown as those of notebooks are, see `progress`.

MyST-NB calls `single_nb_execution` of jupyter-cache, which passes on what it is given to the client of the kernel, but offers no setting
for that. So the name that it calls is given here; the kernels then talk through files as well.

What a page has shown is kept in `executed`, in _build. Another edition finds it there, and shows the same without running it.
"""

import tempfile
from pathlib import Path

import kernels
import nbformat
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from myst_nb.core.execute import direct
from progress import Progress, code_cells


def setup(app) -> dict:
    pages, build = [], Path(app.outdir).parent
    app.connect("source-read", lambda app, name, source: pages.append(name))

    def execute(notebook, cwd, **options):
        kept = build / f"executed/{pages[-1]}.ipynb"
        if kept.is_file():
            before = nbformat.read(kept, as_version=4)
            notebook.metadata.update(before.metadata)  # the kernel has told its language
            for cell, shown in zip(notebook.cells, before.cells, strict=True):
                cell.update(shown)
            return ExecutionResult(notebook, cwd, 0.0)
        shown = Progress("book", pages[-1:], build / "times.json")
        with shown.running(pages[-1], code_cells(notebook)) as began, tempfile.TemporaryDirectory(prefix="dsgc-") as folder:
            result = single_nb_execution(notebook, cwd, on_cell_execute=began, config=kernels.config(Path(folder) / "kernel"), **options)
            if result.err:
                raise result.err  # all pages have `execution_raise_on_error`
        kept.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, kept)
        return result

    direct.single_nb_execution = execute
    return {"parallel_read_safe": False}
