"""A Sphinx extension: the cells of a page that runs as the book is built are shown as those of notebooks are, see `progress`.

MyST-NB calls `single_nb_execution` of jupyter-cache, which passes on what it is given to the client of the kernel, but offers no setting
for that. So the name that it calls is given here; the kernels then talk through files as well.
"""

import tempfile
from pathlib import Path

import kernels
from jupyter_cache.executors.utils import single_nb_execution
from myst_nb.core.execute import direct
from progress import Progress, code_cells


def setup(app) -> dict:
    pages, times = [], Path(app.outdir).parent / "times.json"  # in _build
    app.connect("source-read", lambda app, name, source: pages.append(name))

    def execute(notebook, **options):
        shown = Progress("book", pages[-1:], times)
        with shown.running(pages[-1], code_cells(notebook)) as began, tempfile.TemporaryDirectory(prefix="dsgc-") as folder:
            result = single_nb_execution(notebook, on_cell_execute=began, config=kernels.config(Path(folder) / "kernel"), **options)
            if result.err:
                raise result.err  # all pages have `execution_raise_on_error`
            return result

    direct.single_nb_execution = execute
    return {"parallel_read_safe": False}
