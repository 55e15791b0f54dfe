"""Brushes for generated images: coordinates, signed distances, textures, colours, clutter.

Everything works on a stack of N images at once. The canvas is the square [-1, 1] x [-1, 1];
distances are in these units. ``N 1 1`` arguments hold one number per image.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, UInt8

Field = Float32[np.ndarray, "N H W"]
PerImage = Float32[np.ndarray, "N 1 1"]
Points = tuple[Field, Field]
Shape = Callable[[Field, Field], Field]


def uniform(rng: np.random.Generator, low: float, high: float, count: int) -> PerImage:
    """One number per image, uniform in [low, high)."""
    return rng.uniform(low, high, (count, 1, 1)).astype(np.float32)


def canvas(count: int, size: int) -> Points:
    """The x (rightwards) and y (downwards) coordinates of the pixel centres."""
    line = ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)
    x, y = np.meshgrid(line, line)
    shape = (count, size, size)
    return np.broadcast_to(x, shape), np.broadcast_to(y, shape)


def place(
    rng: np.random.Generator,
    points: Points,
    *,
    shift: float,
    scale: tuple[float, float],
    turn: float,
    shear: float = 0.0,
) -> tuple[Field, Field, PerImage]:
    """Coordinates in which an object is the unit object, placed at random in each image.

    Args:
      rng: of the placing.
      points: canvas coordinates.
      shift: largest move along each axis.
      scale: range of the object's size, as its share of the canvas.
      turn: largest rotation either way, in radians.
      shear: largest slant either way.

    Returns:
      x and y relative to the object, and its size in each image, which turns distances in
      these coordinates back into distances on the canvas.
    """
    count = len(points[0])
    size = uniform(rng, *scale, count)
    angle = uniform(rng, -turn, turn, count)
    cos, sin = np.cos(angle) / size, np.sin(angle) / size
    x = points[0] - uniform(rng, -shift, shift, count)
    y = points[1] - uniform(rng, -shift, shift, count)
    x, y = cos * x + sin * y, cos * y - sin * x
    return x + uniform(rng, -shear, shear, count) * y, y, size


def coverage(distance: Field, pixel: float) -> Field:
    """Share of each pixel inside an outline, from the signed distance (negative inside)."""
    return np.clip(0.5 - distance / pixel, 0, 1)


def star(points: int, ratio: float) -> Shape:
    """A star with its tips on the unit circle and its notches at ``ratio`` of that."""
    half = np.pi / points
    notch = np.array([np.cos(half), np.sin(half)]) * ratio
    along = notch - (1, 0)
    normal = np.array([along[1], -along[0]]) / np.hypot(*along)

    def distance(x: Field, y: Field) -> Field:
        # Every edge is a mirror image of the one between the angles 0 and half.
        angle = np.abs(np.mod(np.arctan2(x, -y) + half, 2 * half) - half)
        radius = np.hypot(x, y)
        edge = (radius * np.cos(angle) - 1) * normal[0] + radius * np.sin(angle) * normal[1]
        return edge.astype(np.float32)

    return distance


def polygon(corners: int) -> Shape:
    """A regular polygon inscribed in the unit circle."""
    return star(corners, float(np.cos(np.pi / corners)))


def ellipse(aspect: float) -> Shape:
    """An ellipse of half axes 1 and ``aspect``."""

    def distance(x: Field, y: Field) -> Field:
        radius = np.hypot(x, y / np.float32(aspect))
        slope = np.hypot(x, y / np.float32(aspect**2))
        return radius * (radius - 1) / np.maximum(slope, np.float32(1e-6))

    return distance


def cross(arm: float) -> Shape:
    """A cross with arms of length 1 and half width ``arm``."""

    def distance(x: Field, y: Field) -> Field:
        far = np.maximum(np.abs(x), np.abs(y))
        near = np.minimum(np.abs(x), np.abs(y))
        return np.maximum(far - 1, near - np.float32(arm))

    return distance


def ring(width: float) -> Shape:
    """The unit disc with a hole; ``width`` is half the width of what is left."""

    def distance(x: Field, y: Field) -> Field:
        return np.abs(np.hypot(x, y) - np.float32(1 - width)) - np.float32(width)

    return distance


def crescent(bite: float) -> Shape:
    """The unit disc less a disc of the same size moved right by ``bite``."""

    def distance(x: Field, y: Field) -> Field:
        return np.maximum(np.hypot(x, y) - 1, 1 - np.hypot(x - np.float32(bite), y))

    return distance


def segment(x: Field, y: Field, start: Sequence[PerImage], end: Sequence[PerImage]) -> Field:
    """Distance to the segment between two points, each given as x and y per image."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    from_x, from_y = x - start[0], y - start[1]
    length = np.maximum(along_x**2 + along_y**2, np.float32(1e-6))
    where = np.clip((from_x * along_x + from_y * along_y) / length, 0, 1)
    return np.hypot(from_x - where * along_x, from_y - where * along_y)


def colours(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two random colours per image, the first one brighter.

    Returns:
      Foreground and background, float32 [count, 1, 1, 3], values around 0..1.
    """
    middle = rng.uniform(0.35, 0.65, (count, 1, 1, 1))
    contrast = rng.uniform(0.25, 0.6, (count, 1, 1, 1))
    tints = rng.uniform(-0.15, 0.15, (2, count, 1, 1, 3))
    pair = middle + tints + contrast * np.array([0.5, -0.5])[:, None, None, None, None]
    return pair[0].astype(np.float32), pair[1].astype(np.float32)


def clutter(rng: np.random.Generator, points: Points, strength: float) -> Field:
    """Smooth random shading around 0: a few waves of low frequency."""
    x, y = points
    shading = np.zeros_like(x)
    for _ in range(3):
        fx, fy, phase = (uniform(rng, -high, high, len(x)) for high in (4.0, 4.0, np.pi))
        shading += np.sin(fx * x + fy * y + phase)
    return shading * np.float32(strength / 3)


def distractors(rng: np.random.Generator, points: Points, pixel: float, number: int) -> Field:
    """Coverage of small discs strewn over the canvas, at most ``number`` in an image."""
    x, y = points
    covered = np.zeros_like(x)
    for _ in range(number):
        centre = [uniform(rng, -1.0, 1.0, len(x)) for _ in range(2)]
        # A negative radius is no disc.
        radius = uniform(rng, -0.1, 0.16, len(x))
        distance = np.hypot(x - centre[0], y - centre[1]) - radius
        covered = np.maximum(covered, coverage(distance, pixel))
    return covered


def finish(
    rng: np.random.Generator,
    painted: Float32[np.ndarray, "N H W 1"] | Float32[np.ndarray, "N H W 3"],
    noise: float,
) -> UInt8[np.ndarray, "N H W 3"]:
    """Adds pixel noise to gray or RGB images in 0..1 and rounds them to bytes."""
    noisy = painted + np.float32(noise) * rng.standard_normal(painted.shape, np.float32)
    rounded = np.round(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
    return np.broadcast_to(rounded, (*rounded.shape[:3], 3))
