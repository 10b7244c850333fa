"""Several processes that a launcher started: what all of them would say alike is said once, and where the launcher looks for it."""

import contextlib
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

FIRST = os.environ.get("RANK", "0") == "0"  # of the processes
SEVERAL = os.environ.get("WORLD_SIZE", "1") not in ("", "1")
BROKEN = re.compile(r"gloo|NCCL|connection (closed|reset)|broken pipe|socket", re.IGNORECASE)


def loading() -> None:
    """A sign of life on a terminal: where nothing is in memory yet, torch takes a minute to load."""
    if FIRST and sys.stderr.isatty():
        print("dsgc: loading torch ...", file=sys.stderr)


def fail(line: str) -> None:
    """Say on standard error why a process ends, unless another one on this machine said the same; torch's launcher quotes it."""
    place = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if place:
        with contextlib.suppress(OSError):
            reason = {"message": {"message": line, "extraInfo": {"timestamp": str(int(time.time()))}}}
            Path(place).write_text(json.dumps(reason), encoding="utf-8")
        try:
            (Path(place).parents[1] / f"said_{hashlib.sha256(line.encode()).hexdigest()[:16]}").touch(exist_ok=False)
        except FileExistsError:
            return
        except OSError:
            pass  # rather twice than never
    print(line, file=sys.stderr)


def left_alone(error: BaseException) -> bool:
    """Whether an exception says that another process of this run has ended, so that nothing can be summed any more."""
    return SEVERAL and isinstance(error, RuntimeError) and bool(BROKEN.search(str(error)))


def another_spoke() -> bool:
    """Whether another process on this machine has said why it ends."""
    place = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return bool(place) and any(Path(place).parents[1].glob("said_*"))
