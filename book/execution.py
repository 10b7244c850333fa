"""A Sphinx extension: the cells of a page that runs as the book is built are shown as those of notebooks are, see `progress`.

MyST-NB calls `single_nb_execution` of jupyter-cache, which passes on what it is given to the client of the kernel, but offers no setting
for that. So the name that it calls is given here; the kernels then talk through files as well.
"""

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
        with shown.running(pages[-1], code_cells(notebook)) as began:
            return single_nb_execution(notebook, on_cell_execute=began, config=kernels.CONFIG, **options)

    direct.single_nb_execution = execute
    return {"parallel_read_safe": False}
