"""What drawn pictures are made of: outlines, textures, colours, poses, cluttered backgrounds.

Everything works on coordinates (u, v) of an object, in which it fills about the unit disc, and on arrays of float64.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

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


class Pose(NamedTuple):
    """Where an object lies and how it is turned; pixels, and radians."""

    x: float
    y: float
    radius: float
    angle: float

    def part(self, along: float, size: float) -> "Pose":
        """The pose of a part: `along` the object's axis in its radii, of `size` times its radius."""
        x, y = self.x + along * self.radius * np.cos(self.angle), self.y + along * self.radius * np.sin(self.angle)
        return Pose(x, y, size * self.radius, self.angle)

    def window(self, side: int) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
        """The part of a square picture that it touches, and object coordinates (u, v) there."""
        reach = 1.1 * self.radius
        columns = slice(max(0, int(self.x - reach)), min(side, max(0, int(self.x + reach) + 1)))
        rows = slice(max(0, int(self.y - reach)), min(side, max(0, int(self.y + reach) + 1)))
        y, x = np.ogrid[rows, columns]
        dx, dy = (x - self.x) / self.radius, (y - self.y) / self.radius
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return (rows, columns), cos * dx + sin * dy, cos * dy - sin * dx


def pose(rng: np.random.Generator, side: int, sizes: tuple[float, float]) -> Pose:
    """A random place, turn and size; `sizes` of the radius as shares of the side."""
    radius = side * rng.uniform(*sizes)
    x, y = rng.uniform(0.6 * radius, side - 0.6 * radius, 2)
    return Pose(x, y, radius, rng.uniform(0, 2 * np.pi))


def surface(
    rng: np.random.Generator, hue: float, texture: str, saturation: tuple[float, float], u: np.ndarray, v: np.ndarray
) -> np.ndarray:
    """A surface (h, w, 3) in [0, 255] over (u, v): a hue, jittered, a texture in brightness, light from one side."""
    hue += rng.uniform(-15, 15)
    pattern = TEXTURES[texture](u, v, noise(rng, u.shape, 6))
    light = 1 + 0.15 * (np.cos(a := rng.uniform(0, 2 * np.pi)) * u + np.sin(a) * v)
    value = (0.5 + 0.45 * pattern) * light * rng.uniform(0.85, 1.05)
    return 255 * hsv(hue, rng.uniform(*saturation), value)


def background(rng: np.random.Generator, side: int) -> np.ndarray:
    """Cluttered but of low saturation (side, side, 3): a soft two-tone field, under it grain, over it grey strokes and blots."""
    low, high = hsv(rng.uniform(0, 360), rng.uniform(0, 0.25), 0.35), hsv(rng.uniform(0, 360), rng.uniform(0, 0.25), 0.8)
    mix = 0.7 * noise(rng, (side, side), side // 3) + 0.3 * noise(rng, (side, side), side // 20)
    canvas = 255 * (low + (high - low) * mix[..., None])
    for _ in range(rng.integers(4, 9)):
        window, u, v = pose(rng, side, (0.15, 0.32)).window(side)
        blot = OUTLINES[("triangle", "hexagon", "bar", "bar")[rng.integers(4)]](u, v)
        grey = 255 * hsv(rng.uniform(0, 360), rng.uniform(0, 0.2), rng.uniform(0.25, 0.85))
        canvas[window][blot] = 0.5 * canvas[window][blot] + 0.5 * grey
    return canvas


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: int) -> np.ndarray:
    """Smooth noise of `shape` in [0, 1] whose features are `cell` pixels wide."""
    height, width = shape
    coarse = Image.fromarray(rng.random((height // cell + 2, width // cell + 2), np.float32))
    fine = coarse.resize((width + 2 * cell, height + 2 * cell), Image.Resampling.BICUBIC)
    return np.asarray(fine)[cell : cell + height, cell : cell + width].clip(0, 1)


def hsv(hue: float, saturation: float, value: np.ndarray | float) -> np.ndarray:
    """Colour (..., 3) in [0, 1] from a hue in degrees, a saturation and a brightness (...,)."""
    ramp = np.abs((hue / 60 + np.array([0, 4, 2])) % 6 - 3) - 1
    return np.asarray(value)[..., None] * (1 - saturation * (1 - ramp.clip(0, 1)))
