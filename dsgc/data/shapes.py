"""The embedded data set: textured objects over cluttered backgrounds, written to disk in the PASCAL VOC layout.

A class is a *kind*: a silhouette, a colour range and a texture. Tags name the kinds in an image; masks are exact.
`scene` draws one picture from a random generator, `write` a whole data set from a seed (the same bytes every time).
`KINDS` are the data set's classes; `pretraining_kinds` lists others, none of them in `KINDS`, for the small
backbone that stands in for ImageNet weights.
"""

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from dsgc.data.palette import voc_palette
from dsgc.errors import UserError

SIDE = 128  # pixels, width and height of an image
SPLITS = {"train": 1000, "dev": 200, "val": 200}  # images in each; choices are made on dev, results are reported on val


class Kind(NamedTuple):
    name: str
    outline: str
    hue: float  # degrees on the colour wheel
    texture: str


KINDS = (
    Kind("melon", "ellipse", 120, "stripes"),
    Kind("brick", "box", 15, "bricks"),
    Kind("star", "star", 50, "speckle"),
    Kind("ring", "ring", 215, "dots"),
    Kind("cross", "cross", 300, "checks"),
    Kind("moon", "crescent", 180, "waves"),
)

# Each outline maps object coordinates (u, v), the object inside the unit disc, to True where the object is.
OUTLINES = {
    "ellipse": lambda u, v: u**2 + (v / 0.7) ** 2 < 1,
    "box": lambda u, v: (abs(u) < 0.85) & (abs(v) < 0.5),
    "star": lambda u, v: np.hypot(u, v) < 0.72 + 0.28 * np.cos(5 * np.arctan2(v, u)),
    "ring": lambda u, v: (np.hypot(u, v) < 1) & (np.hypot(u, v) > 0.45),
    "cross": lambda u, v: ((abs(u) < 0.3) & (abs(v) < 0.95)) | ((abs(v) < 0.3) & (abs(u) < 0.95)),
    "crescent": lambda u, v: (np.hypot(u, v) < 1) & (np.hypot(u - 0.5, v) > 0.75),
    "triangle": lambda u, v: (v < 0.6) & (v > 1.8 * abs(u) - 0.95),
    "hexagon": lambda u, v: np.maximum(abs(u) * 0.866 + abs(v) * 0.5, abs(v)) < 0.8,
    "heart": lambda u, v: (u / 0.85) ** 2 + (0.95 * v + 0.75 * np.sqrt(abs(u)) - 0.35) ** 2 < 0.7,
    "bar": lambda u, v: (abs(u) < 0.97) & (abs(v) < 0.22),
}

# Each texture maps (u, v) and a fixed-seed noise field to a brightness pattern in [0, 1].
TEXTURES = {
    "stripes": lambda u, v, noise: 0.5 + 0.5 * np.sin(14 * u),
    "bricks": lambda u, v, noise: (((v * 5) % 1 > 0.2) & ((u * 2.5 + 0.5 * (np.floor(v * 5) % 2)) % 1 > 0.1)) * 1.0,
    "speckle": lambda u, v, noise: noise,
    "dots": lambda u, v, noise: (np.hypot((u * 4) % 1 - 0.5, (v * 4) % 1 - 0.5) > 0.3) * 1.0,
    "checks": lambda u, v, noise: ((np.floor(u * 4) + np.floor(v * 4)) % 2) * 1.0,
    "waves": lambda u, v, noise: 0.5 + 0.5 * np.sin(12 * v + 3 * np.sin(5 * u)),
    "rings": lambda u, v, noise: 0.5 + 0.5 * np.sin(18 * np.hypot(u, v)),
    "plain": lambda u, v, noise: np.full_like(u, 0.7),
}


def pretraining_kinds(count: int = 48) -> tuple[Kind, ...]:
    """Kinds for pre-training: spread over outlines, hues and textures, and no two of the three as in any of `KINDS`."""
    grid = itertools.product(OUTLINES, np.arange(0, 360, 30), TEXTURES)
    free = [
        Kind(f"{outline}-{hue}-{texture}", outline, float(hue), texture)
        for outline, hue, texture in grid
        if not any(
            (outline == k.outline) + (texture == k.texture) + (abs((hue - k.hue + 180) % 360 - 180) < 25) >= 2
            for k in KINDS
        )
    ]
    order = np.random.default_rng(0).permutation(len(free))
    return tuple(free[i] for i in order[:count])


def scene(
    rng: np.random.Generator, kinds: Sequence[Kind], objects: int, side: int = SIDE
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Draw one picture with up to `objects` objects, later ones in front of earlier ones.

    Returns the image (side, side, 3) uint8, the instances (side, side) int16 with 0 for background and 1 + i for
    object i, and the index into `kinds` of each object.
    """
    fine = 2 * side  # drawn at twice the size, averaged down: soft edges in the image
    canvas = _background(rng, fine)
    instances = np.zeros((fine, fine), np.int16)
    placed: list[int] = []
    for _ in range(20 * objects):  # a placement that would hide an object is drawn anew
        if len(placed) == objects:
            break
        kind = int(rng.integers(len(kinds)))
        window, u, v, radius = _pose(rng, fine)
        inside = OUTLINES[kinds[kind].outline](u, v)
        hidden = np.bincount(instances[window][inside], minlength=len(placed) + 1)
        area = np.bincount(instances.ravel(), minlength=len(placed) + 1)
        if inside.sum() < 0.45 * radius**2 or (hidden[1:] > 0.3 * area[1:]).any():
            continue
        placed.append(kind)
        instances[window][inside] = len(placed)
        canvas[window][inside] = _colour(rng, kinds[kind], u, v)[inside]
    image = canvas.reshape(side, 2, side, 2, 3).mean((1, 3))
    image += rng.normal(0, 2, image.shape)
    return image.clip(0, 255).astype(np.uint8), np.ascontiguousarray(instances[::2, ::2]), placed


def _pose(rng: np.random.Generator, side: int) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray, float]:
    """A random place, size and rotation: the window it touches, object coordinates (u, v) there, the radius in pixels."""
    radius = side * rng.uniform(0.15, 0.32)
    x, y = rng.uniform(0.6 * radius, side - 0.6 * radius, 2)
    angle = rng.uniform(0, 2 * np.pi)
    left, top = max(0, int(x - 1.1 * radius)), max(0, int(y - 1.1 * radius))
    window = (slice(top, int(y + 1.1 * radius) + 1), slice(left, int(x + 1.1 * radius) + 1))
    rows, columns = np.ogrid[:side, :side]
    dx, dy = (columns[:, window[1]] - x) / radius, (rows[window[0]] - y) / radius
    return window, np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx, radius


def _colour(rng: np.random.Generator, kind: Kind, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The object's surface (side, side, 3): its hue, jittered, its texture in brightness, light from one side."""
    hue = kind.hue + rng.uniform(-15, 15)
    pattern = TEXTURES[kind.texture](u, v, _noise(rng, u.shape, 6))
    light = 1 + 0.15 * (np.cos(a := rng.uniform(0, 2 * np.pi)) * u + np.sin(a) * v)
    value = (0.5 + 0.45 * pattern) * light * rng.uniform(0.85, 1.05)
    return 255 * _hsv(hue, rng.uniform(0.55, 0.85), value)


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """Cluttered but of low saturation: a soft two-tone field, under it grain, over it grey strokes and blots."""
    low, high = _hsv(rng.uniform(0, 360), rng.uniform(0, 0.25), 0.35), _hsv(rng.uniform(0, 360), rng.uniform(0, 0.25), 0.8)
    mix = 0.7 * _noise(rng, (side, side), side // 3) + 0.3 * _noise(rng, (side, side), side // 20)
    canvas = 255 * (low + (high - low) * mix[..., None])
    for _ in range(rng.integers(4, 9)):
        window, u, v, _ = _pose(rng, side)
        blot = OUTLINES[("triangle", "hexagon", "bar", "bar")[rng.integers(4)]](u, v)
        grey = 255 * _hsv(rng.uniform(0, 360), rng.uniform(0, 0.2), rng.uniform(0.25, 0.85))
        canvas[window][blot] = 0.5 * canvas[window][blot] + 0.5 * grey
    return canvas


def _noise(rng: np.random.Generator, shape: tuple[int, int], cell: int) -> np.ndarray:
    """Smooth noise of `shape` in [0, 1] whose features are `cell` pixels wide."""
    height, width = shape
    coarse = Image.fromarray(rng.random((height // cell + 2, width // cell + 2), np.float32))
    fine = coarse.resize((width + 2 * cell, height + 2 * cell), Image.Resampling.BICUBIC)
    return np.asarray(fine)[cell : cell + height, cell : cell + width].clip(0, 1)


def _hsv(hue: float, saturation: float, value: np.ndarray | float) -> np.ndarray:
    """Colour (..., 3) in [0, 1] from a hue in degrees, a saturation and a brightness (...,)."""
    ramp = np.abs((hue / 60 + np.array([0, 4, 2])) % 6 - 3) - 1
    return np.asarray(value)[..., None] * (1 - saturation * (1 - ramp.clip(0, 1)))


@contextlib.contextmanager
def new_folder(out: Path | str) -> Iterator[Path]:
    """A folder to fill that gets its name only once all is written, so that nothing half-written is left.

    Raises `UserError` if `out` exists and is not empty, or cannot be written.
    """
    out = Path(out)
    if not out.name:
        raise UserError(f"{out}: has no name of its own; name a new folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: already there and not an empty folder; choose another folder or delete it first")
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")  # its own, where several processes write the same at once
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        if out.exists():
            out.rmdir()
        os.replace(partial, out)
    except OSError as error:
        raise UserError(f"{out}: cannot write here ({error.strerror}); choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def checked(seed: int, sizes: dict[str, int]) -> None:
    """Refuse a negative seed or size of a split."""
    for name, value in {"seed": seed, **sizes}.items():
        if value < 0:
            raise UserError(f"{name} {value}: must not be negative")


def write(out: Path | str, *, seed: int = 0, sizes: dict[str, int] | None = None) -> Path:
    """Write the data set to `out` in the VOC layout; the same seed gives the same files.

    Raises `UserError` if `out` exists and is not empty, or cannot be written, and for a negative seed or size.
    """
    sizes = SPLITS if sizes is None else sizes
    checked(seed, sizes)
    with new_folder(out) as partial:
        _write_all(partial, seed, sizes)
    return Path(out)


def ensure(folder: Path | str) -> None:
    """Write the data set to `folder` unless there is something of that name, also if another process is just about to."""
    if Path(folder).exists():
        return
    try:
        write(folder)
    except UserError:
        if not Path(folder).exists():  # else the other one was sooner
            raise


def _write_all(partial: Path, seed: int, sizes: dict[str, int]) -> None:
    for folder in ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Segmentation"):
        (partial / folder).mkdir(parents=True)
    (partial / "classes.txt").write_text("\n".join(kind.name for kind in KINDS) + "\n", encoding="utf-8")
    tasks = []
    for split, (name, count) in enumerate(sizes.items()):
        ids = [f"{name}_{i:05d}" for i in range(count)]
        tasks += [(partial, image_id, (seed, split, i)) for i, image_id in enumerate(ids)]
        (partial / "ImageSets/Segmentation" / f"{name}.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    with Pool() as pool:
        pool.starmap(_write_one, tasks, chunksize=25)


def picture(seed: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """One picture of the data set, as `scene` gives it; its seed is that of the set, its split and its number."""
    rng = np.random.default_rng(seed)
    return scene(rng, KINDS, int(rng.integers(1, 5)))


def _write_one(root: Path, image_id: str, seed: tuple[int, int, int]) -> None:
    image, instances, placed = picture(seed)
    Image.fromarray(image).save(root / "JPEGImages" / f"{image_id}.jpg", quality=95)
    mask = np.array([0, *(kind + 1 for kind in placed)], np.uint8)[instances]
    palette_image = Image.fromarray(mask, mode="P")
    palette_image.putpalette(voc_palette().ravel().tolist())
    palette_image.save(root / "SegmentationClass" / f"{image_id}.png")

    annotation = ElementTree.Element("annotation")
    ElementTree.SubElement(annotation, "filename").text = f"{image_id}.jpg"
    size = ElementTree.SubElement(annotation, "size")
    for tag, value in zip(("width", "height", "depth"), (image.shape[1], image.shape[0], 3), strict=True):
        ElementTree.SubElement(size, tag).text = str(value)
    for i, kind in enumerate(placed):
        rows, columns = np.nonzero(instances == i + 1)
        item = ElementTree.SubElement(annotation, "object")
        ElementTree.SubElement(item, "name").text = KINDS[kind].name
        box = ElementTree.SubElement(item, "bndbox")  # 1-based and inclusive, as in VOC
        corners = (columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1)
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            ElementTree.SubElement(box, tag).text = str(int(value))
    ElementTree.indent(annotation)
    ElementTree.ElementTree(annotation).write(root / "Annotations" / f"{image_id}.xml", encoding="utf-8")
