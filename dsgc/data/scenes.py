"""Drawn scenes: things on cluttered backgrounds, with the difficulties of the field, each by a dial that can be turned to 0.

A class is a *kind*: the silhouette, hue and texture of the head that tells it. A thing is a head on a body whose look other kinds
share, so that no body tells its class for sure. What a kind stands on, its ground, belongs to the picture's background.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dsgc.data import drawing
from dsgc.data.drawing import OUTLINES, TEXTURES, Pose

SIDE = 128  # pixels, width and height of an image
NECK = 0.15  # how far a head covers its body, as a share of the thing's length
HEAD, BODY, GROUND = 1, 2, 3  # in `Scene.parts`; 0 is the rest of the background


class Kind(NamedTuple):
    """What tells a class."""

    name: str
    outline: str
    hue: float  # degrees on the colour wheel
    texture: str
    look: int  # of its body, in LOOKS
    ground: int  # what it stands on, in GROUNDS


LOOKS = ((30.0, "plain"), (260.0, "waves"), (90.0, "rings"))  # hue and texture of bodies
GROUNDS = (  # likewise
    (100.0, "speckle"), (200.0, "waves"), (40.0, "bricks"), (280.0, "rings"), (160.0, "checks"), (340.0, "stripes"),
)  # fmt: skip

KINDS = (
    Kind("melon", "ellipse", 120, "stripes", 0, 0),
    Kind("brick", "box", 15, "bricks", 1, 1),
    Kind("star", "star", 50, "speckle", 2, 2),
    Kind("ring", "ring", 215, "dots", 0, 3),
    Kind("cross", "cross", 300, "checks", 1, 4),
    Kind("moon", "crescent", 180, "waves", 2, 5),
)


class Dials(NamedTuple):
    """How hard a picture is; 0 turns a difficulty off."""

    body: float  # share of a thing's length that is body
    grounds: float  # share of things that stand on the ground of their class; a quarter as often a ground lies elsewhere
    touching: float  # share of things, after a picture's first, that are put beside another; the rest may meet it by chance
    small: float  # share of things that are half as large
    wrong_tags: float  # share of training pictures with one tag missing or too many
    radius: tuple[float, float] = (0.28, 0.42)  # of a thing, smallest and largest, as a share of the picture
    small_radius: tuple[float, float] = (0.13, 0.19)


DIALS = Dials(body=0.4, grounds=0.2, touching=0.4, small=0.1, wrong_tags=0.05)  # of the data set
OBJECTS = (1, 2)  # in a picture

EASY = Dials(0, 0, 0, 0, 0)


class Scene(NamedTuple):
    """A picture and what is true of it."""

    image: np.ndarray  # (side, side, 3) uint8
    instances: np.ndarray  # (side, side) int16, 0 for background, 1 + i for object i
    parts: np.ndarray  # (side, side) uint8: 0, HEAD, BODY or GROUND
    placed: list[int]  # the kind of each object


def pretraining_kinds(count: int = 48) -> tuple[Kind, ...]:
    """Kinds for pre-training: spread over outlines, hues and textures, and no two of the three as in any of `KINDS`."""
    grid = itertools.product(OUTLINES, np.arange(0, 360, 30), TEXTURES)
    free = [
        (outline, hue, texture)
        for outline, hue, texture in grid
        if not any(
            (outline == k.outline) + (texture == k.texture) + (abs((hue - k.hue + 180) % 360 - 180) < 25) >= 2
            for k in KINDS
        )
    ]
    order = np.random.default_rng(0).permutation(len(free))[:count]
    chosen = (free[i] for i in order)
    return tuple(
        Kind(f"{outline}-{hue}-{texture}", outline, float(hue), texture, number % len(LOOKS), number % len(GROUNDS))
        for number, (outline, hue, texture) in enumerate(chosen)
    )


def scene(rng: np.random.Generator, kinds: Sequence[Kind], objects: int, dials: Dials = DIALS, side: int = SIDE) -> Scene:
    """Draw one picture with up to `objects` objects, later ones in front of earlier ones."""
    fine = 2 * side  # drawn at twice the size, averaged down: soft edges in the image
    canvas = Canvas(drawing.background(rng, fine), np.zeros((fine, fine), np.int16), np.zeros((fine, fine), np.uint8))
    placed: list[int] = []
    poses: list[Pose] = []
    for _ in range(objects):
        kind, small, beside, grounded, elsewhere = int(rng.integers(len(kinds))), *(rng.random(4) < _chances(dials))
        neighbour = poses[rng.integers(len(poses))] if beside and poses else None
        found = _place(rng, canvas, kinds[kind], dials.small_radius if small else dials.radius, neighbour, dials.body)
        if found is None:
            continue
        where, parts = found
        if elsewhere:
            _put_ground(rng, canvas, kinds[rng.integers(len(kinds))], drawing.pose(rng, fine, dials.radius))
        if grounded:
            _put_ground(rng, canvas, kinds[kind], where)
        placed.append(kind)
        poses.append(where)
        _put(rng, canvas, kinds[kind], parts, len(placed))
    image = canvas.pixels.reshape(side, 2, side, 2, 3).mean((1, 3))
    image += rng.normal(0, 2, image.shape)
    return Scene(image.clip(0, 255).astype(np.uint8), canvas.instances[::2, ::2].copy(), canvas.parts[::2, ::2].copy(), placed)


class Canvas(NamedTuple):
    """A picture while it is drawn; its arrays are drawn into."""

    pixels: np.ndarray  # (side, side, 3) in [0, 255]
    instances: np.ndarray  # (side, side)
    parts: np.ndarray  # (side, side)


class Part(NamedTuple):
    """A head or a body at its place."""

    name: int  # HEAD or BODY
    window: tuple[slice, slice]  # of the picture
    u: np.ndarray  # object coordinates in the window
    v: np.ndarray
    inside: np.ndarray  # where it is


def _chances(dials: Dials) -> tuple[float, ...]:
    """Of being small, beside another thing, on the ground of its class, and of such a ground elsewhere."""
    return dials.small, dials.touching, dials.grounds, dials.grounds / 4


def _place(
    rng: np.random.Generator, canvas: Canvas, kind: Kind, sizes: tuple[float, float], neighbour: Pose | None, body: float
) -> tuple[Pose, list[Part]] | None:
    """A pose where a thing is seen and hides no other, and the thing's parts there, body first; None where none was found."""
    side = len(canvas.pixels)
    for _ in range(20):
        where = drawing.pose(rng, side, sizes)
        if neighbour is not None:
            away, towards = 0.75 * (neighbour.radius + where.radius), rng.uniform(0, 2 * np.pi)
            where = where._replace(x=neighbour.x + away * np.cos(towards), y=neighbour.y + away * np.sin(towards))
        parts = [_part(where.part(body, 1 - body), kind.outline, HEAD, side)]  # of the thing's length; together they span it
        if body:
            parts.insert(0, _part(where.part(body + NECK - 1, body + NECK), "ellipse", BODY, side))
        covered = np.zeros(canvas.instances.shape, bool)
        for part in parts:
            covered[part.window] |= part.inside
        area, hidden = np.bincount(canvas.instances.ravel()), np.bincount(canvas.instances[covered])
        if covered.sum() >= 0.4 * where.radius**2 and not (hidden[1:] > 0.3 * area[1 : len(hidden)]).any():
            return where, parts
    return None


def _part(where: Pose, outline: str, name: int, side: int) -> Part:
    window, u, v = where.window(side)
    return Part(name, window, u, v, OUTLINES[outline](u, v))


def _put(rng: np.random.Generator, canvas: Canvas, kind: Kind, parts: Sequence[Part], number: int) -> None:
    """Draw a thing as object `number`."""
    for part in parts:
        look = (kind.hue, kind.texture) if part.name == HEAD else LOOKS[kind.look]
        canvas.pixels[part.window][part.inside] = drawing.surface(rng, *look, (0.55, 0.85), part.u, part.v)[part.inside]
        canvas.instances[part.window][part.inside] = number
        canvas.parts[part.window][part.inside] = part.name


def _put_ground(rng: np.random.Generator, canvas: Canvas, kind: Kind, where: Pose) -> None:
    """Draw a blotch of the kind's ground under a pose, paler than things, and behind those that stand already."""
    window, u, v = where._replace(radius=1.4 * where.radius, angle=rng.uniform(0, 2 * np.pi)).window(len(canvas.pixels))
    rough = 0.5 * (drawing.noise(rng, u.shape, len(canvas.pixels) // 12) - 0.5)
    inside = (np.hypot(u, v) < 0.85 + rough) & (canvas.instances[window] == 0)
    canvas.pixels[window][inside] = drawing.surface(rng, *GROUNDS[kind.ground], (0.3, 0.5), u, v)[inside]
    canvas.parts[window][inside] = GROUND
