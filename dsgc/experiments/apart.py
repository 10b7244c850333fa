"""One run made, or the warm-up of several, in a process of its own that ends with the one that began it."""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from dsgc.config import Config
from dsgc.errors import UserError, printable
from dsgc.experiments import forks
from dsgc.experiments.provenance import provenance
from dsgc.experiments.stored import Result, described, digest, path_of
from dsgc.methods import configured


def make(config: Config, folder: Path, scratch: Path, trunk: Path | None = None) -> Path:
    """Train in `scratch` and write the result to the folder; from the trunk that a folder has, if one is given."""
    from dsgc.runs.parallel import accelerator_of
    from dsgc.runs.record import write_json
    from dsgc.runs.restore import load_networks
    from dsgc.scoring import diagnosis  # torch and timm are loaded by the process that trains
    from dsgc.scoring.pictures import encoded
    from dsgc.training.loop import train
    from dsgc.training.splits import open_data

    begun, about = time.monotonic(), provenance(config, 0)  # of the code that was loaded: files may change while it trains
    here, warm_up = dataclasses.replace(config, out=str(scratch / "run")), {}
    if trunk is None:
        run = train(here)
    else:
        run, grown = forks.go_on(trunk, here)
        warm_up = {"id": grown.id, "seconds": grown.seconds}
    scores = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    device = accelerator_of(config).device
    network, dataset = load_networks(run)[0][config.method.networks[0]].to(device), open_data(config).val
    counts = diagnosis.count(network, dataset, config, device)
    samples = encoded(network, dataset, config, device)
    about |= {"seconds": round(time.monotonic() - begun), "warm_up": warm_up}
    result = Result(described(config), scores, counts, samples, about)
    path = path_of(config, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result._asdict() | {"digest": digest(result)})
    return path


def apart(
    config: Config, folder: Path, scratch: Path, place: dict[str, str], stop: threading.Event, trunk: Path | None, *, grows: bool
) -> str | None:
    """`make`, or `forks.grow` of a trunk, in a process of its own; returns what went wrong, on one line, if it did.

    It is killed once `stop` is set. Of a run nothing but its result stays: the checkpoints of all together would fill a disk.
    """
    scratch.mkdir()
    words = ["grow" if grows else "make", str(scratch), str(folder), *([] if trunk is None else [str(trunk)])]
    with (scratch / "stderr").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "dsgc.experiments.apart", *words],
            env=os.environ | {"TQDM_DISABLE": "1"} | place,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, text=True,
        )  # fmt: skip
    with contextlib.suppress(BrokenPipeError):  # it has ended already; its exit code says why
        process.stdin.write(json.dumps(config.flat()) + "\n")
        process.stdin.flush()  # and stays open: its end tells the process that this one is gone
    while (code := process.poll()) is None:
        if stop.wait(0.2):
            process.kill()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    lines = (scratch / "stderr").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    shutil.rmtree(scratch, ignore_errors=True)
    if code == 0:
        return None
    return f"killed by signal {-code}" if code < 0 else (printable(lines[-1]) if lines else f"exit code {code}")


def _child(what: str, *places: str) -> int:
    """What a process of `make_all` does: a configuration comes in on standard input."""
    values = json.loads(sys.stdin.readline())
    scratch, folder, *trunk = map(Path, places)
    # This process ends with its parent. Not sys.stdin.read(): its lock, held, would stop the loading processes that fork.
    threading.Thread(target=_end_with_parent, args=[[scratch.parent, *trunk * (what == "grow")]], daemon=True).start()
    try:
        config = configured(values)
        if what == "grow":
            forks.grow(config, *trunk)
        else:
            make(config, folder, scratch, *trunk)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _end_with_parent(places: Iterable[Path]) -> None:
    os.read(0, 1)
    for place in places:
        shutil.rmtree(place, ignore_errors=True)  # nobody else is left to do it
    os._exit(1)


if __name__ == "__main__":
    sys.exit(_child(*sys.argv[1:]))
