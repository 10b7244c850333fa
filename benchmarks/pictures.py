"""Does the memory of prediction and evaluation grow with the number of pictures?

Small pictures of 289 sizes, 40,000 in all, are predicted and scored by a network of the `shapes` preset, each way in a process of its
own, and the size of the process is noted on the way. Writes `benchmarks/pictures.json`. With `--crf` the prediction by the CRF
is noted too.

    python benchmarks/pictures.py
    python benchmarks/pictures.py --images 2000 --crf
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
import numpy as np
import torch
import tyro
from measure import resident, write
from PIL import Image

from dsgc.data import shapes
from dsgc.data.loading import EvalImages, Images
from dsgc.methods import preset
from dsgc.scoring.evaluate import score_run
from dsgc.scoring.predict import TestTime, predict
from dsgc.training.loop import train

SIDES = range(24, 41)  # of a picture, either one
POINTS = 40  # at which the size is noted

USES: dict[str, Callable[[Path, Path], object]] = {
    "predict": lambda run, data: predict(run, run / "out", str(data), "many", TestTime(), changes={"workers": 0}),
    "evaluate": lambda run, data: score_run(run, str(data), "many", {"workers": 0, "eval_batch": 8}),
}
WITH_CRF = {"predict with CRF": lambda run, data: predict(run, run / "crf", str(data), "many", TestTime(crf=True), changes={"workers": 0})}


def pictures(root: Path, number: int) -> Path:
    """A data set of small pictures in VOC's layout: one of each size, under as many names as are needed."""
    ids = [f"val_{i:05d}" for i in range(len(SIDES) ** 2)]
    shapes.write(root, sizes={"train": 16, "dev": 1, "val": len(ids)})
    for i, name in enumerate(ids):
        for path in (root / f"JPEGImages/{name}.jpg", root / f"SegmentationClass/{name}.png"):
            with Image.open(path) as image:
                small = image.resize((SIDES[i % len(SIDES)], SIDES[i // len(SIDES)]), Image.Resampling.NEAREST)
            small.save(path)
    names = [f"many_{i:06d}" for i in range(number)]
    for i, name in enumerate(names):
        for folder, ending in (("JPEGImages", "jpg"), ("SegmentationClass", "png"), ("Annotations", "xml")):
            os.link(root / folder / f"{ids[i % len(ids)]}.{ending}", root / folder / f"{name}.{ending}")
    in_any_order = np.random.default_rng(0).permutation(names).tolist()
    (root / "ImageSets/Segmentation/many.txt").write_text("\n".join(in_any_order) + "\n")
    return root


def report(use: str, run: Path, data: Path) -> None:
    """Print the MiB of the process by the number of pictures that it has taken, on the way."""
    number, taken, noted = len((data / "ImageSets/Segmentation/many.txt").read_text().split()), 0, []
    for kind in (Images, EvalImages):

        def watched(dataset: Images | EvalImages, at: int, genuine: Callable = kind.__getitem__) -> object:
            nonlocal taken
            if taken % max(1, number // POINTS) == 0:
                noted.append((taken, resident()))
            taken += 1
            return genuine(dataset, at)

        kind.__getitem__ = watched
    (USES | WITH_CRF)[use](run, data)
    print(json.dumps({"use": use, "taken": [at for at, _ in noted], "MiB": [size for _, size in noted]}))


def main(images: int = 40_000, crf: bool = False) -> None:
    """Measure with so many pictures."""
    torch.set_num_threads(1)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dsgc-pictures-") as scratch:
        data, run = pictures(Path(scratch) / "data", images), Path(scratch) / "run"
        few = {"steps": 1, "warmup_steps": 0, "pictures": 0, "workers": 0, "eval_every": 0, "eval_images": 1}
        with contextlib.redirect_stdout(io.StringIO()):
            train(preset("shapes", "base").changed(data=str(data), out=str(run), **few))
        words = [[sys.executable, __file__, use, str(run), str(data)] for use in USES | (WITH_CRF if crf else {})]
        processes = [subprocess.Popen(word, stdout=subprocess.PIPE, text=True) for word in words]  # at once: nothing here is timed
        cases = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    write(__file__, {"question": "Memory along many pictures", "images": images, "sizes": len(SIDES) ** 2, "cases": cases}, begun)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in USES | WITH_CRF:  # a process of `main`
        report(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        tyro.cli(main, description=__doc__)
