"""How long does it take to open the instances of a data set of COCO's size, and how much memory?

A file like `instances_train2014.json` is made up: as many images, instances and categories, outlines of 27 corners on average. It is
read as Python's objects, which is what pycocotools does, opened by the package, and opened again, each in a process of its own.
Then masks are painted from it. Writes `benchmarks/annotations.json`; the file that it reads takes 0.4 GB for as long.

    python benchmarks/annotations.py
    python benchmarks/annotations.py --instances 20000
"""

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
import tyro
from measure import grown, write

from dsgc.data import coco, index

IMAGES, CATEGORIES, CORNERS = 82_783, 80, 27  # of train2014; corners of an outline on average
SIZES = ((640, 480), (480, 640), (640, 427), (500, 375))
PAINTED = 200  # masks


def made_up(path: Path, instances: int) -> None:
    """Write an instances file, a row at a time."""
    rng = np.random.default_rng(0)
    url = "http://farm4.staticflickr.com/3153/2970773875_164f0c0b83_z.jpg"
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {"year": 2014}, "images": [')
        for i in range(IMAGES):
            width, height = SIZES[i % len(SIZES)]
            row = {"license": 1, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": height, "width": width, "flickr_url": url, "id": i}
            file.write(", " * (i > 0) + json.dumps(row))
        file.write('], "annotations": [')
        for number in range(instances):
            file.write(", " * (number > 0) + json.dumps(instance(rng, number, int(rng.integers(IMAGES)))))
        rows = [{"supercategory": "thing", "id": i + 1, "name": f"class {i}"} for i in range(CATEGORIES)]
        file.write('], "categories": ' + json.dumps(rows) + "}")


def instance(rng: np.random.Generator, number: int, image: int) -> dict:
    """An outline like a star, of any size; every hundredth is a crowd region, in runs."""
    width, height = SIZES[image % len(SIZES)]
    radius = min(rng.lognormal(3.5, 0.8), 0.45 * min(width, height))
    x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
    angles = np.sort(rng.uniform(0, 2 * np.pi, max(3, int(rng.gamma(2.2, CORNERS / 2.2)))))
    rim = radius * rng.uniform(0.7, 1, len(angles))
    outline = np.stack([x + rim * np.cos(angles), y + rim * np.sin(angles)], 1).round(2).ravel().tolist()
    runs = np.diff(np.r_[0, np.sort(rng.integers(1, width * height, 200)), width * height]).tolist()
    crowd = number % 100 == 99
    return {
        "segmentation": {"counts": runs, "size": [height, width]} if crowd else [outline],
        "area": round(3 * radius**2, 4),
        "iscrowd": int(crowd),
        "image_id": image,
        "bbox": [round(value, 2) for value in (x - radius, y - radius, 2 * radius, 2 * radius)],
        "category_id": int(rng.integers(CATEGORIES)) + 1,
        "id": number,
    }


def opened(path: Path) -> index.Index:
    """What `coco.open_split` does before it looks for the pictures."""
    return index.kept(path, index.stamp_of(path), lambda: coco.build(path, "train2014"))


WAYS: dict[str, Callable[[Path], object]] = {
    "all as Python's objects": lambda path: json.loads(path.read_bytes()),
    "the package, for the first time": opened,
    "the package, again": opened,
}


def report(way: str, path: Path) -> None:
    """Print seconds of the clock and of the processor that a way takes, and by how much the process grows at its largest."""
    clock, processor = time.perf_counter(), time.process_time()
    memory = grown(lambda: WAYS[way](path))
    took = {"seconds": time.perf_counter() - clock, "processor": time.process_time() - processor}
    print(json.dumps({"way": way} | took | {"MiB": memory}))


def painting(path: Path) -> float:
    """Milliseconds of the processor for a mask, read from the file and painted, without the picture."""
    found = opened(path)
    split = coco.Instances(path.parent, (), (), str(path), path.parent, found, index.stamp_of(path), {}, {})
    begun = time.process_time()
    for row in np.linspace(0, len(found.files) - 1, PAINTED).astype(int):
        split.painted(row)
    return 1000 * (time.process_time() - begun) / PAINTED


def main(instances: int = 604_907) -> None:
    """Measure with so many instances."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dsgc-annotations-") as scratch:
        path = Path(scratch) / "instances_train2014.json"
        made_up(path, instances)
        os.environ["XDG_CACHE_HOME"] = scratch
        words = [[sys.executable, __file__, way, str(path)] for way in WAYS]
        cases = [json.loads(subprocess.run(word, stdout=subprocess.PIPE, text=True, check=True).stdout) for word in words]
        kept = sum(place.stat().st_size for place in index.folder().iterdir())
        facts = {"images": IMAGES, "instances": instances, "MB": path.stat().st_size / 1e6, "cache_MB": kept / 1e6}
        result = {"question": "Opening annotations of COCO's size"} | facts | {"cases": cases, "mask_ms": painting(path)}
    write(__file__, result, begun, packages=("msgspec", "pycocotools"))


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in WAYS:  # a process of `main`
        report(sys.argv[1], Path(sys.argv[2]))
    else:
        tyro.cli(main, description=__doc__)
