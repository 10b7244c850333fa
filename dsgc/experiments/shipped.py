"""The trained weights that come with the package, and how they are made again (`make weights`).

Rows of the grids are trained on the drawn pictures under one seed. The best on `dev` becomes `shapes`, the paper's method
`shapes-` and its name. `val` is scored only once they are chosen, with the files as they are shipped.
"""

import json
import sys
from pathlib import Path

import torch

from dsgc.config import Config
from dsgc.data import shapes
from dsgc.experiments import grids
from dsgc.experiments.forks import ended
from dsgc.experiments.provenance import provenance
from dsgc.runs import exported
from dsgc.runs.record import say, write_json
from dsgc.scoring.looks import opened
from dsgc.scoring.predict import score
from dsgc.scoring.protocols import TestTime
from dsgc.scoring.segmenter import export

FILE = grids.RESULTS / "shipped.json"
SCALE, SEED = "shapes", 0
CANDIDATES = {  # the rows of the paper's own comparison, and the peer with the best mean in results/shapes
    row: (grids.GRIDS["modules"] | grids.PEERS)[row] for row in ("baseline", "+ DSKD", grids.METHOD, "DuPL")
}


def config_of(row: str, folder: Path, data: str) -> Config:
    """The configuration of a candidate: its row's in the grids, without pictures."""
    return grids.config_of(SCALE, CANDIDATES[row], SEED, data).changed(pictures=0, out=str(folder_of(row, folder)))


def folder_of(row: str, folder: Path) -> Path:
    """Where a candidate's run lies."""
    return folder / "-".join("".join(letter if letter.isalnum() else " " for letter in row.lower()).split())


def names(best: str) -> dict[str, str]:
    """Which rows are shipped, by the names of their files."""
    method = grids.config_of(SCALE, CANDIDATES[grids.METHOD], SEED).method.name
    return {SCALE: best} | ({f"{SCALE}-{method}": grids.METHOD} if best != grids.METHOD else {})


def on(split: str, run: Path, data: str) -> dict:
    """Scores of what `predict` writes for a split, of the network that is reported."""
    name = opened(run).name
    return score(run, data, split, TestTime(), {"workers": 0}, (name,))[name]["seg"]


def ship(name: str, row: str, folder: Path, data: str, into: Path) -> dict:
    """Write a candidate to a file in float16, and score the file; what is to be known of it."""
    run, path = folder_of(row, folder), into / f"{name}.safetensors"
    path.unlink(missing_ok=True)
    export(run, path, half=True)
    saved = exported.read(path)
    (network, digest), *_ = saved.files.items()
    return {
        "row": row, "method": saved.config.method.name, "network": Path(network).stem, "digest": digest, "bytes": path.stat().st_size,
        "dev": on("dev", path, data), "val": on("val", path, data), "val_float32": on("val", run, data)["miou"],
    }  # fmt: skip


def read(file: Path = FILE) -> dict:
    """What is known of the shipped weights: `candidates` with their mIoU on `dev`, `weights` by name, `about`."""
    return json.loads(file.read_text(encoding="utf-8"))


def main(folder: Path, data: str, file: Path = FILE, into: Path = exported.SHIPPED) -> None:
    """Train what the folder lacks, choose, write the files and what is known of them."""
    torch.set_num_threads(1)
    shapes.ensure(data)
    into.mkdir(exist_ok=True)
    candidates = {}
    for row in CANDIDATES:
        candidates[row] = on("dev", ended(config_of(row, folder, data)), data)["miou"]
        say(f"{row}: mIoU {100 * candidates[row]:.1f} on dev")
    best = max(candidates, key=candidates.__getitem__)
    weights = {name: ship(name, row, folder, data, into) for name, row in names(best).items()}
    config = config_of(best, folder, data)
    write_json(file, {"about": provenance(config, 0), "seed": SEED, "candidates": candidates, "weights": weights})
    for name, found in weights.items():
        say(f"{name}: {found['row']}, mIoU {100 * found['val']['miou']:.1f} on val, {found['bytes']} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
