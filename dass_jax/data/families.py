"""Families of generated classes: each draws its classes from a seed and paints images of them.

What makes the class is fixed when the class is drawn. Place, size, rotation, contrast, colour,
clutter and noise are drawn again for every image.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from dass_jax.data import painting
from dass_jax.data.painting import Field, PerImage, Points, uniform
from dass_jax.errors import UserError

Painter = Callable[[np.random.Generator, int, int], UInt8[np.ndarray, "N H W 3"]]
Texture = Callable[[Field, Field], Field]


class GeneratedClass(NamedTuple):
    """A class: its name, and a function of (rng, count, image_size) that paints images of it."""

    name: str
    paint: Painter


SHAPES: dict[str, painting.Shape] = {
    **{f"{n}-gon": painting.polygon(n) for n in (3, 4, 5, 6)},
    **{f"{n}-star": painting.star(n, 0.45) for n in (4, 5, 6, 8)},
    "needle": painting.star(2, 0.3),
    "trefoil": painting.star(3, 0.25),
    "disc": painting.ellipse(1.0),
    "oval": painting.ellipse(0.6),
    "cigar": painting.ellipse(0.3),
    "thin cross": painting.cross(0.18),
    "thick cross": painting.cross(0.4),
    "thin ring": painting.ring(0.15),
    "thick ring": painting.ring(0.32),
    "thin crescent": painting.crescent(0.5),
    "thick crescent": painting.crescent(0.9),
}

TEXTURES: dict[str, Texture] = {
    "plain": lambda x, y: 0 * x,
    "wide stripes": lambda x, y: np.sin(5 * x),
    "narrow stripes": lambda x, y: np.sin(12 * x),
    "checks": lambda x, y: np.tanh(6 * np.sin(6 * x) * np.sin(6 * y)),
    "dots": lambda x, y: np.tanh(4 * (np.cos(9 * x) + np.cos(9 * y) - 0.8)),
    "grid": lambda x, y: np.tanh(4 * (np.maximum(np.cos(8 * x), np.cos(8 * y)) - 0.75)),
    "circles": lambda x, y: np.sin(10 * np.hypot(x, y)),
    "zigzag": lambda x, y: np.sin(8 * (x + 0.5 * np.abs(np.mod(2 * y, 2) - 1))),
    "waves": lambda x, y: np.sin(9 * x + 1.5 * np.sin(6 * y)),
    "rays": lambda x, y: np.sin(7 * np.arctan2(y, x)),
}


def strokes(rng: np.random.Generator, num_classes: int) -> list[GeneratedClass]:
    """Glyphs of a few straight strokes in gray, slanted and thickened like handwriting."""

    def draw(index: int) -> GeneratedClass:
        # Nodes of a 3 x 3 lattice, moved a little: strokes that fill the canvas as letters do.
        nodes = rng.choice(9, 5, replace=False)
        places = np.stack([nodes % 3 - 1, nodes // 3 - 1], axis=-1) * 0.65
        corners = list(places + rng.uniform(-0.15, 0.15, places.shape))
        return GeneratedClass(f"glyph {index}", lambda *args: _paint_glyph(corners, *args))

    return [draw(index) for index in range(num_classes)]


def gratings(rng: np.random.Generator, num_classes: int) -> list[GeneratedClass]:
    """Textures of two superposed gratings; the class is their orientations and frequencies."""
    orientations = 6
    while math.comb(3 * orientations, 2) < num_classes:
        orientations += 1
    offset = rng.uniform(0, np.pi)
    waves = [
        (offset + np.pi * turn / orientations, frequency)
        for turn in range(orientations)
        for frequency in (4.5, 7.0, 10.0)
    ]
    pairs = list(itertools.combinations(range(len(waves)), 2))

    def draw(first: int, second: int) -> GeneratedClass:
        pair = (waves[first], waves[second])
        name = " + ".join(f"{math.degrees(angle) % 180:.0f} deg x {f:.0f}" for angle, f in pair)
        return GeneratedClass(name, lambda *args: _paint_gratings(pair, *args))

    chosen = rng.choice(len(pairs), num_classes, replace=False)
    return [draw(*pairs[position]) for position in chosen]


def shapes(rng: np.random.Generator, num_classes: int) -> list[GeneratedClass]:
    """Polygons, stars, ellipses, crosses, rings and crescents, filled or as outlines."""
    every = list(itertools.product(SHAPES, (True, False)))
    _check_catalogue("shapes", num_classes, len(every))

    def draw(kind: str, filled: bool) -> GeneratedClass:
        name = f"{kind}, {'filled' if filled else 'outline'}"
        return GeneratedClass(name, lambda *args: _paint_shape(kind, filled, *args))

    chosen = rng.choice(len(every), num_classes, replace=False)
    return [draw(*every[position]) for position in chosen]


def blobs(rng: np.random.Generator, num_classes: int) -> list[GeneratedClass]:
    """Constellations of three or four coloured blobs; the class is where they are."""

    def draw(index: int) -> GeneratedClass:
        count = int(rng.integers(3, 5))
        places = rng.uniform(-0.65, 0.65, (count, 2))
        widths = rng.uniform(0.15, 0.3, count)
        # Few hues, so that colours alone do not tell the classes apart.
        tints = np.eye(3)[rng.integers(0, 3, count)] * 1.1 - 0.35
        stars = list(zip(places, widths, tints, strict=True))
        return GeneratedClass(f"constellation {index}", lambda *args: _paint_blobs(stars, *args))

    return [draw(index) for index in range(num_classes)]


def mixtures(rng: np.random.Generator, num_classes: int) -> list[GeneratedClass]:
    """A shape before a texture; classes share shapes and textures, so that both matter."""
    _check_catalogue("mixtures", num_classes, len(SHAPES) * len(TEXTURES))
    num_textures = min(len(TEXTURES), math.ceil(math.sqrt(1.5 * num_classes)))
    num_shapes = min(len(SHAPES), max(2, math.ceil(1.5 * num_classes / num_textures)))
    kinds = [list(SHAPES)[i] for i in rng.choice(len(SHAPES), num_shapes, replace=False)]
    textures = [list(TEXTURES)[i] for i in rng.choice(len(TEXTURES), num_textures, replace=False)]
    every = list(itertools.product(kinds, textures))

    def draw(kind: str, texture: str) -> GeneratedClass:
        name = f"{kind} on {texture}"
        return GeneratedClass(name, lambda *args: _paint_mixture(kind, texture, *args))

    chosen = rng.choice(len(every), num_classes, replace=False)
    return [draw(*every[position]) for position in chosen]


def _check_catalogue(family: str, num_classes: int, available: int) -> None:
    if num_classes > available:
        raise UserError(
            f"generated:{family} has {available} classes, fewer than {num_classes}; ask for "
            "fewer or take another family"
        )


def _paint_glyph(
    corners: list[np.ndarray], rng: np.random.Generator, count: int, size: int
) -> UInt8[np.ndarray, "N H W 3"]:
    x, y, scale = painting.place(
        rng, painting.canvas(count, size), shift=0.2, scale=(0.7, 1.0), turn=0.35, shear=0.35
    )
    # The hand trembles: every image has its own corners.
    trembling: list[list[PerImage]] = [
        [value + uniform(rng, -0.12, 0.12, count) for value in corner.astype(np.float32)]
        for corner in corners
    ]
    nearest = np.full_like(x, np.inf)
    for start, end in itertools.pairwise(trembling):
        nearest = np.minimum(nearest, painting.segment(x, y, start, end))
    ink = painting.coverage((nearest - uniform(rng, 0.06, 0.16, count)) * scale, 2 / size)
    ink *= uniform(rng, 0.4, 0.9, count)
    return painting.finish(rng, ink[..., None] + np.float32(0.05), 0.1)


def _paint_gratings(
    waves: tuple[tuple[float, float], ...], rng: np.random.Generator, count: int, size: int
) -> UInt8[np.ndarray, "N H W 3"]:
    points = painting.canvas(count, size)
    x, y, _ = painting.place(rng, points, shift=1.0, scale=(0.85, 1.15), turn=0.2)
    share = uniform(rng, 0.35, 0.65, count)
    pattern = np.zeros_like(x)
    for (angle, frequency), weight in zip(waves, (share, 1 - share), strict=True):
        phase = frequency * (np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y)
        pattern += weight * np.sin(phase + uniform(rng, 0.0, 2 * np.pi, count))
    return _blend(rng, points, 0.5 + 0.5 * pattern, noise=0.2)


def _paint_shape(
    kind: str, filled: bool, rng: np.random.Generator, count: int, size: int
) -> UInt8[np.ndarray, "N H W 3"]:
    points = painting.canvas(count, size)
    inside = _silhouette(kind, filled, rng, points)
    inside = np.maximum(inside, painting.distractors(rng, points, 2 / size, 2))
    return _blend(rng, points, inside, noise=0.07)


def _paint_blobs(
    stars: list[tuple[np.ndarray, float, np.ndarray]],
    rng: np.random.Generator,
    count: int,
    size: int,
) -> UInt8[np.ndarray, "N H W 3"]:
    points = painting.canvas(count, size)
    x, y, _ = painting.place(rng, points, shift=0.35, scale=(0.7, 1.1), turn=0.6)
    # Three strangers in each image, of any colour, hide the constellation.
    strangers = [
        (rng.uniform(-0.9, 0.9, (2, count)), 0.2, rng.uniform(-0.3, 0.7, (count, 1, 1, 3)))
        for _ in range(3)
    ]
    painted = np.float32(0.35) + painting.clutter(rng, points, 0.15)[..., None]
    painted = np.repeat(painted, 3, axis=-1)
    for place, width, tint in [*stars, *strangers]:
        centre = np.broadcast_to(place.reshape(2, -1), (2, count))[..., None, None]
        dx = x - centre[0].astype(np.float32) - uniform(rng, -0.15, 0.15, count)
        dy = y - centre[1].astype(np.float32) - uniform(rng, -0.15, 0.15, count)
        spread = (uniform(rng, 0.8, 1.2, count) * np.float32(width)) ** 2
        glow = np.exp(-(dx**2 + dy**2) / (2 * spread)) * uniform(rng, 0.4, 1.0, count)
        tints = tint + rng.uniform(-0.15, 0.15, (count, 1, 1, 3))
        painted += glow[..., None] * tints.astype(np.float32)
    return painting.finish(rng, painted, 0.08)


def _paint_mixture(
    kind: str, texture: str, rng: np.random.Generator, count: int, size: int
) -> UInt8[np.ndarray, "N H W 3"]:
    points = painting.canvas(count, size)
    x, y, _ = painting.place(rng, points, shift=0.4, scale=(0.9, 1.2), turn=0.5)
    ground = 0.5 + 0.5 * TEXTURES[texture](x, y)
    inside = _silhouette(kind, True, rng, points)
    return _blend(rng, points, ground, noise=0.07, cover=inside)


def _silhouette(kind: str, filled: bool, rng: np.random.Generator, points: Points) -> Field:
    pixel = 2 / points[0].shape[-1]
    x, y, scale = painting.place(rng, points, shift=0.2, scale=(0.55, 0.85), turn=0.3)
    distance = SHAPES[kind](x, y) * scale
    if not filled:
        # The line lies inside the outline, so that size does not tell it from a filled shape.
        half = np.maximum(uniform(rng, 0.04, 0.08, len(x)), np.float32(pixel / 2))
        distance = np.abs(distance + half) - half
    return painting.coverage(distance, pixel)


def _blend(
    rng: np.random.Generator,
    points: Points,
    pattern: Field,
    *,
    noise: float,
    cover: Field | None = None,
) -> UInt8[np.ndarray, "N H W 3"]:
    """Two random colours where the pattern is 1 and 0, and a third one over both."""
    light, dark = painting.colours(rng, len(pattern))
    painted = dark + (light - dark) * pattern[..., None]
    if cover is not None:
        over = rng.uniform(0, 1, (len(pattern), 1, 1, 3)).astype(np.float32)
        painted += cover[..., None] * (over - painted)
    painted = painted + painting.clutter(rng, points, 0.15)[..., None]
    return painting.finish(rng, painted, noise)
