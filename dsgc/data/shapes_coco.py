"""The drawn data set in COCO's layout, with what makes the real one awkward.

Category ids have gaps, some pictures are grey, some instances are crowd regions, and some images have no instance. The
pictures are those of `shapes.write`, so a network can be trained on either layout and must come out alike.
"""

import itertools
import json
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dsgc.data import shapes
from dsgc.data.scenes import DIALS, Dials

SPLITS = {"train2014": 1000, "val2014": 200}  # images with instances in each
SOURCES = ("train2014", "dev2014", "val2014")  # the number of a split in the seeds of `shapes`
EMPTY, GREY, CROWD = 50, 40, 25  # one image in so many is without instance, grey, or has an instance as a crowd region


def write(out: Path | str, *, seed: int = 0, sizes: dict[str, int] | None = None, dials: Dials = DIALS) -> Path:
    """Write `annotations/instances_SPLIT.json` and the images in `SPLIT/`; the same seed gives the same files.

    Raises `UserError` if `out` exists and is not empty, or cannot be written, for a negative seed or size, and for a dial
    beyond its end.
    """
    sizes = SPLITS if sizes is None else sizes
    shapes.checked(seed, sizes, dials)
    with shapes.new_folder(out) as partial:
        (partial / "annotations").mkdir(parents=True)
        categories = [{"id": 2 * i + 1, "name": kind.name} for i, kind in enumerate(shapes.KINDS)]
        for split, count in sizes.items():
            (partial / split).mkdir()
            tasks = [(partial / split, split, seed, number) for number in range(count + count // EMPTY)]
            with Pool() as pool:
                found = pool.imap(_write_task, [(*task, count, dials) for task in tasks], chunksize=5)
                written = [*tqdm(found, total=len(tasks), unit="picture", desc=split, disable=None)]  # on a terminal alone
            annotations = list(itertools.chain.from_iterable(instances for _, instances in written))
            for number, annotation in enumerate(annotations):
                annotation["id"] = number + 1
            content = {
                "info": {"year": 2014, "description": "drawn shapes in COCO's layout"},
                "images": [image for image, _ in written],
                "annotations": annotations,
                "categories": categories,
            }
            (partial / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return Path(out)


def _write_task(task: tuple[Path, str, int, int, int, Dials]) -> tuple[dict, list[dict]]:
    return _write_one(*task)


def _write_one(folder: Path, split: str, seed: int, number: int, count: int, dials: Dials) -> tuple[dict, list[dict]]:
    """Write one image; returns its entry and those of its instances. From `count` on they have none."""
    pixels, instances, _, placed = shapes.picture(drawn := (seed, SOURCES.index(split), number), dials)
    said = shapes.tags(drawn, placed, dials)
    if number >= count:  # a background of its own: the mean colour of a picture
        pixels, placed, said = np.broadcast_to(pixels.mean((0, 1)).astype(np.uint8), pixels.shape), [], []
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if number % GREY == GREY - 1:
        picture = picture.convert("L")
    image = {"id": number + 1, "file_name": f"COCO_{split}_{number + 1:012d}.jpg", "width": pixels.shape[1], "height": pixels.shape[0]}
    picture.save(folder / image["file_name"], quality=95)
    found = []
    shown = [(kind, instances == i + 1) for i, kind in enumerate(placed) if kind in said]
    shown += [(kind, np.zeros(instances.shape, bool)) for kind in said[len(placed) :]]  # an instance that is not there has no pixel
    for i, (kind, region) in enumerate(shown):
        found.append(
            {
                "image_id": image["id"],
                "category_id": 2 * kind + 1,
                "iscrowd": int(number % CROWD == CROWD - 1 and i == 0),
                "area": int(region.sum()),
                "segmentation": {"size": list(region.shape), "counts": _runs(region)},
            }
        )
    return image, found


def _runs(region: np.ndarray) -> list[int]:
    """Lengths of the runs of 0 and 1 in turn, column by column, as COCO's uncompressed code has them; the first is of 0."""
    flat = np.concatenate([[False], region.ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [region.size]])).tolist()
