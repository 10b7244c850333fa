"""How the book's builders talk to the kernels that run notebooks: through files of this user, not over TCP, which others could read."""

import json
import os
from pathlib import Path

from traitlets.config import Config

CONFIG = Config(KernelManager={"transport": "tcp" if os.name == "nt" else "ipc"})  # Windows has no sockets that are files


def quiet(folder: Path) -> dict[str, str]:
    """The environment for a program that cannot be told of `CONFIG`, with a profile in a folder: its kernels do not warn of TCP."""
    profile = folder / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.json").write_text(json.dumps({"IPKernelApp": {"log_level": "ERROR"}}))
    return os.environ | {"IPYTHONDIR": str(folder)}
