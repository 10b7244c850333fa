"""How the book's builders talk to the kernels that run notebooks, and what is settled before, so that no kernel has to speak of it."""

import os
from pathlib import Path

from traitlets.config import Config

# Through files of this user, not over TCP, which others could read and a kernel warns of. Windows has no sockets that are files.
CONFIG = Config(KernelManager={"transport": "tcp" if os.name == "nt" else "ipc"})


def config(path: Path) -> Config:
    """The same for a kernel that works in another folder than the builder: what its files' names begin with, from the root on."""
    return CONFIG if os.name == "nt" else Config(KernelManager={"transport": "ipc", "ip": str(path)})


def prepare() -> None:
    """No progress bars on a page; and matplotlib's list of fonts is made here, not in a cell, whose output would tell of it."""
    os.environ["TQDM_DISABLE"] = "1"
    import matplotlib.font_manager  # noqa: F401
