"""Paints a `Lesion` at any resolution: optical densities of melanin and blood in continuous coordinates."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from adaflow.plugins.datasets.lesion_grid import Field, Grid, smoothstep
from adaflow.plugins.datasets.lesion_truth import Lesion, draw_lesion, generator

MIN_RESOLUTION, MAX_RESOLUTION = 16, 1024
# An image with fewer samples a side than this is painted larger and averaged: its details would alias.
MIN_SAMPLES = 128

# Optical densities of red, green and blue per unit of pigment, as seen through a camera's display curve.
MELANIN = (0.31, 0.70, 1.0)
BLOOD = (0.1, 0.8, 0.66)
BLACK = (1.0, 1.05, 1.08)
# Colours that scatter rather than absorb, as brightness under neutral light.
VEIL = (0.40, 0.42, 0.47)
SCAR = (0.86, 0.75, 0.71)


def paint_lesion(seed: int, index: int, resolution: int) -> tuple[NDArray[np.uint8], Lesion]:
    """Image `index` of the data set with this seed, and its ground truth.

    Args:
        seed: the data set's seed, any whole number.
        index: number of the image, 0 or more.
        resolution: side of the image in pixels, 16 to 1024.

    Returns:
        The image, uint8 `[3, resolution, resolution]`, and the `Lesion`. The same lesion at another resolution is the
        same picture, sampled more or less finely.
    """
    lesion = draw_lesion(seed, index)
    return paint(lesion, resolution), lesion


def paint(lesion: Lesion, resolution: int) -> NDArray[np.uint8]:
    """Paint a lesion, uint8 `[3, resolution, resolution]`.

    Args:
        lesion: what to paint; what it leaves open follows from its `seed` and `index`.
        resolution: side of the image in pixels, 16 to 1024.
    """
    factor = max(1, math.ceil(MIN_SAMPLES / resolution))
    grid = Grid(resolution * factor)
    melanin, blood, black, veil, scar = _pigments(lesion, grid)
    light = _light(lesion, grid)
    image = np.empty((3, grid.samples, grid.samples), np.float32)
    for channel in range(3):
        density = MELANIN[channel] * melanin + BLOOD[channel] * blood
        density += BLACK[channel] * black
        colour = np.exp(-density)
        colour += veil * (VEIL[channel] - colour)
        colour += scar * (SCAR[channel] - colour)
        cast = math.exp(lesion.warmth * (1.0, 0.0, -0.7)[channel])
        np.multiply(colour, light * cast, out=image[channel])
    _add_hairs(lesion, grid, image)
    _add_ruler(lesion, grid, image)
    _add_bubbles(lesion, grid, image)
    _add_vignette(lesion, grid, image)
    np.clip(image, 0.0, 1.0, out=image)
    if factor > 1:
        image = image.reshape(3, resolution, factor, resolution, factor).mean(axis=(2, 4), dtype=np.float32)
    return (image * 255.0 + 0.5).astype(np.uint8)


def _light(lesion: Lesion, grid: Grid) -> Field:
    """Brightness of the light: a gradient, a slight fall towards the corners, fine grain of the skin's relief."""
    rng = generator(lesion.seed, lesion.index, "light")
    falloff = rng.uniform(0.0, 0.45)
    relief = rng.uniform(0.006, 0.016)
    angle = math.radians(lesion.light_direction)
    x, y = grid.x - 0.5, grid.y - 0.5
    slope = lesion.light_gradient * (math.cos(angle) * x - math.sin(angle) * y)
    grain = grid.noise(rng, {37: relief, 61: relief, 118: relief, 231: relief, 402: relief})
    light: Field = (1.0 + slope - falloff * (x * x + y * y)) * math.exp(lesion.exposure) * (1.0 + grain)
    return light.astype(np.float32)


def _pigments(lesion: Lesion, grid: Grid) -> tuple[Field, Field, Field, Field, Field]:
    """Maps of melanin, blood and black (densities), veil and scar (shares in 0 to 1)."""
    melanin, blood = _skin(lesion, grid)
    u, v, inside = _lesion_coordinates(lesion, grid)
    rng = generator(lesion.seed, lesion.index, "pigment")
    soft = lesion.softness
    cover = smoothstep(-0.5 * soft, 0.5 * soft, inside)
    # Darker towards the middle by some share, with blotches.
    dome = rng.uniform(0.0, 0.45)
    blotch = rng.uniform(0.1, 0.26) + 0.12 * lesion.asymmetry
    body = 1.0 - dome + dome * np.clip(inside * 1.4, 0.0, 1.0)
    body *= np.exp(
        grid.noise(rng, {7: 0.6 * blotch, 15: 0.7 * blotch, 33: 0.5 * blotch, 58: 0.35 * blotch, 131: 0.25 * blotch})
    )
    # One side is darker where the lesion is asymmetric.
    side = rng.uniform(0.0, 2.0 * math.pi)
    body *= np.exp(0.45 * lesion.asymmetry * np.clip(math.cos(side) * u + math.sin(side) * v, -1.5, 1.5))
    added = lesion.depth * cover * body
    redness = 0.2 * rng.random() ** 2 * cover + rng.uniform(0.0, 0.12) * np.exp(-2.5 * np.clip(-inside, 0.0, None))
    black = np.zeros_like(melanin)
    veil = np.zeros_like(melanin)
    scar = np.zeros_like(melanin)
    for colour in lesion.colours[1:]:
        patch = cover * _patch(lesion, grid, u, v, rng)
        if colour == "tan":
            added *= 1.0 - 0.6 * patch
        elif colour == "dark brown":
            added += patch * (0.25 + 0.5 * lesion.depth)
        elif colour == "black":
            black += patch * rng.uniform(0.7, 1.3)
        elif colour == "red":
            redness += patch * rng.uniform(0.3, 0.6)
            added *= 1.0 - 0.5 * patch
        elif colour == "blue-grey":
            veil = np.maximum(veil, patch * rng.uniform(0.3, 0.7))
        elif colour == "white":
            added *= 1.0 - 0.75 * patch
            scar = np.maximum(scar, patch * rng.uniform(0.15, 0.4))
    if lesion.network > 0:
        added *= _network(lesion, grid, inside)
    if lesion.globules > 0:
        added += cover * _globules(lesion, grid)
    # Very dense pigment looks black rather than ever deeper orange.
    black += rng.uniform(0.0, 0.22) * added + 0.25 * np.clip(added - 1.0, 0.0, None)
    return melanin + added, blood + redness, black, veil, scar


def _skin(lesion: Lesion, grid: Grid) -> tuple[Field, Field]:
    """Melanin and blood of the bare skin: mottled, with a few freckles."""
    rng = generator(lesion.seed, lesion.index, "skin")
    base = 0.12 + 0.25 * lesion.skin_tone + 0.75 * lesion.skin_tone**2
    mottling = rng.uniform(0.04, 0.12)
    melanin = grid.noise(rng, {4: 0.5 * mottling, 9: 0.6 * mottling, 21: 0.6 * mottling, 44: 0.5 * mottling})
    melanin = base * (1.0 + melanin)
    flush = 0.02 + 0.24 * lesion.redness
    blotch = rng.uniform(0.05, 0.2)
    blood = flush * (1.0 + grid.noise(rng, {3: 0.8 * blotch, 8: blotch, 19: blotch, 41: 0.8 * blotch}))
    count = int(min(rng.geometric(0.12), 30)) if rng.random() < 0.35 else 0
    if count:
        radius = rng.uniform(0.006, 0.025, count)
        freckles = grid.dots(rng.random(count), rng.random(count), radius)
        melanin += rng.uniform(0.08, 0.25) * np.minimum(freckles, 1.2)
    return np.clip(melanin, 0.02, None), np.clip(blood, 0.02, None)


def _lesion_coordinates(lesion: Lesion, grid: Grid) -> tuple[Field, Field, Field]:
    """Coordinates along the lesion's axes in units of its radii, and depth inside: 1 in the middle, 0 at the border."""
    rng = generator(lesion.seed, lesion.index, "border")
    table = _border(lesion, rng)
    # y runs down: an angle counter-clockwise on the screen is a negative one here.
    angle = -math.radians(lesion.orientation)
    along, across = grid.turned(*lesion.centre, angle)
    u = along * (math.sqrt(lesion.aspect) / lesion.size)
    v = across * (1.0 / (math.sqrt(lesion.aspect) * lesion.size))
    theta = np.arctan2(v, u)
    border = np.interp(theta.ravel(), np.linspace(-math.pi, math.pi, table.size), table).reshape(theta.shape)
    inside = 1.0 - np.hypot(u, v) / border.astype(np.float32)
    # Ragged detail has the scale of the image's skin, not of the lesion: small lesions are raggeder relative to size.
    ragged = (0.04 + 0.19 * lesion.irregularity) * min(0.2 / lesion.size, 1.4)
    inside += grid.noise(
        rng, {8: 0.5 * ragged, 17: 0.7 * ragged, 31: 0.55 * ragged, 59: 0.4 * ragged, 124: 0.3 * ragged}
    )
    return u, v, inside


def _border(lesion: Lesion, rng: np.random.Generator) -> NDArray[np.float64]:
    """Radius of the border over the angle from −π to π, relative to the ellipse; its mean square is 1."""
    theta = np.linspace(-math.pi, math.pi, 721)
    radius = np.ones_like(theta)
    for order in range(2, 13):
        if order < 4:
            strength = 0.18 * lesion.asymmetry / (order - 1)
        else:
            strength = 0.09 * lesion.irregularity**1.3 / math.sqrt(order - 3)
        radius += strength * rng.uniform(0.5, 1.5) * np.cos(order * theta + rng.uniform(0.0, 2.0 * math.pi))
    # A lobe on one side, then notches and teeth.
    radius += 0.65 * lesion.asymmetry**1.5 * _bump(theta, rng.uniform(-math.pi, math.pi), rng.uniform(0.4, 0.8))
    for _ in range(int(rng.poisson(1.0 + 6.0 * lesion.irregularity))):
        depth = lesion.irregularity**1.3 * rng.uniform(-0.45, 0.2)
        radius += depth * _bump(theta, rng.uniform(-math.pi, math.pi), rng.uniform(0.08, 0.25))
    radius = np.clip(radius, 0.35, None)
    normalised: NDArray[np.float64] = radius / np.sqrt(np.mean(radius[:-1] ** 2))
    return normalised


def _bump(theta: NDArray[np.float64], centre: float, width: float) -> NDArray[np.float64]:
    """A smooth bump of height 1 on the circle."""
    bump: NDArray[np.float64] = np.exp((np.cos(theta - centre) - 1.0) / width**2)
    return bump


def _patch(lesion: Lesion, grid: Grid, u: Field, v: Field, rng: np.random.Generator) -> Field:
    """A patch of another colour, 0 to 1: near the middle in symmetric lesions, off it in others."""
    distance = min(0.75, rng.uniform(0.1, 1.0) * (0.15 + 0.9 * lesion.asymmetry))
    direction = rng.uniform(0.0, 2.0 * math.pi)
    radius = rng.uniform(0.3, 0.62)
    du = u - distance * math.cos(direction)
    dv = v - distance * math.sin(direction)
    edge = 1.0 - np.hypot(du, dv) / radius
    edge += grid.noise(rng, {6: 0.25, 13: 0.3, 29: 0.25, 53: 0.15})
    return smoothstep(-0.7, 0.9, edge)


def _network(lesion: Lesion, grid: Grid, inside: Field) -> Field:
    """Factor on the pigment: a honeycomb of dark lines, bent and broken by noise, clearest away from the middle."""
    rng = generator(lesion.seed, lesion.index, "network")
    turn = rng.uniform(0.0, math.pi)
    x = grid.x + grid.noise(rng, {6: 0.02, 14: 0.012, 27: 0.006, 47: 0.002})
    y = grid.y + grid.noise(rng, {6: 0.02, 14: 0.012, 27: 0.006, 47: 0.002})
    frequency = 2.0 * math.pi / lesion.network_cell
    waves = np.zeros_like(x)
    for third in range(3):
        angle = turn + third * math.pi / 3.0
        waves += np.cos(frequency * (math.cos(angle) * x + math.sin(angle) * y))
    lines = 1.0 - smoothstep(-1.5, 1.8, waves)
    presence = np.clip(0.6 + grid.noise(rng, {5: 0.35, 12: 0.35}), 0.0, 1.0) * (1.0 - 0.5 * np.clip(inside, 0.0, 1.0))
    factor: Field = 1.0 + lesion.network * presence * (1.4 * lines - 0.75)
    return np.clip(factor, 0.1, None)


def _globules(lesion: Lesion, grid: Grid) -> Field:
    """Melanin of dark round dots, scattered over the lesion's disc."""
    rng = generator(lesion.seed, lesion.index, "globules")
    distance = lesion.size * np.sqrt(rng.random(lesion.globules)) * 1.05
    direction = rng.uniform(0.0, 2.0 * math.pi, lesion.globules)
    x = lesion.centre[0] + distance * np.cos(direction)
    y = lesion.centre[1] + distance * np.sin(direction)
    radius = rng.uniform(0.003, 0.009, lesion.globules)
    darkness = rng.uniform(0.35, 0.9)
    melanin: Field = darkness * (1.0 - np.exp(-1.5 * grid.dots(x, y, radius)))
    return melanin


def _add_hairs(lesion: Lesion, grid: Grid, image: Field) -> None:
    """Curved dark strokes that taper to their tip, mostly combed one way."""
    if not lesion.hairs:
        return
    rng = generator(lesion.seed, lesion.index, "hairs")
    combed = rng.uniform(0.0, 2.0 * math.pi)
    shade = rng.uniform(0.4, 2.4)
    colour = (0.16 * shade, 0.11 * shade, 0.08 * shade)
    thickness = rng.uniform(0.002, 0.0042)
    for _ in range(lesion.hairs):
        angle = combed + rng.normal(0.0, 0.5)
        x, y = rng.uniform(0.05, 0.95), rng.uniform(0.05, 0.95)
        length = rng.uniform(0.25, 0.9)
        bend, curl = rng.normal(0.0, 0.5), rng.normal(0.0, 0.6)
        half_width = thickness * rng.uniform(0.7, 1.3)
        opacity = rng.uniform(0.55, 0.95)
        along, across = grid.turned(x, y, angle)
        curve: Field = along * along * (bend + curl * along)
        slope: Field = along * (2.0 * bend + 3.0 * curl * along)
        distance: Field = (across - curve) / np.sqrt(1.0 + slope * slope)
        from_root = along / length + 0.5
        taper = np.clip((1.0 - from_root) * 2.5, 0.0, 1.0) * np.clip(from_root * 25.0, 0.0, 1.0)
        cover = opacity * grid.stripe(distance, half_width * taper)
        _blend(image, cover, colour)


def _add_ruler(lesion: Lesion, grid: Grid, image: Field) -> None:
    """A scale printed along one border: a line with ticks, every fifth longer."""
    if lesion.ruler is None:
        return
    rng = generator(lesion.seed, lesion.index, "ruler")
    margin = rng.uniform(0.06, 0.12)
    tilt = rng.normal(0.0, 0.06)
    start, length = rng.uniform(0.1, 0.2), rng.uniform(0.5, 0.7)
    spacing = rng.uniform(0.025, 0.045)
    half_width = rng.uniform(0.0018, 0.003)
    sideways, inward = {
        "bottom": (grid.x, 1.0 - grid.y),
        "top": (grid.x, grid.y),
        "left": (grid.y, grid.x),
        "right": (grid.y, 1.0 - grid.x),
    }[lesion.ruler]
    along = (sideways + tilt * (inward - margin) - start).astype(np.float32)
    height = (inward - margin - tilt * along).astype(np.float32)
    within = grid.ramp(along) * grid.ramp(length - along)
    line = within * grid.stripe(height, half_width)
    number = np.rint(along / spacing)
    tick_height = np.where(number % 5 == 0, 0.032, 0.018).astype(np.float32)
    ticks = grid.stripe(along - number * spacing, half_width)
    ticks = ticks * within * grid.ramp(height) * grid.ramp(tick_height - height)
    _blend(image, 0.85 * np.maximum(line, ticks), (0.13, 0.1, 0.1))


def _add_bubbles(lesion: Lesion, grid: Grid, image: Field) -> None:
    """Gas bubbles in the gel: a thin bright ring, a dark one inside it and a highlight."""
    if not lesion.bubbles:
        return
    rng = generator(lesion.seed, lesion.index, "bubbles")
    for _ in range(lesion.bubbles):
        x, y = rng.uniform(0.08, 0.92), rng.uniform(0.08, 0.92)
        radius = rng.uniform(0.015, 0.06)
        distance = np.hypot(grid.x - x, grid.y - y)
        _blend(image, 0.30 * grid.stripe(distance - 0.86 * radius, 0.10 * radius), (0.3, 0.24, 0.22))
        _blend(image, 0.45 * grid.stripe(distance - radius, 0.08 * radius), (0.98, 0.96, 0.93))
        highlight = grid.dots(np.array([x - 0.45 * radius]), np.array([y - 0.45 * radius]), np.array([0.14 * radius]))
        _blend(image, 0.9 * highlight, (1.0, 1.0, 0.98))


def _add_vignette(lesion: Lesion, grid: Grid, image: Field) -> None:
    """Black outside a round field of view."""
    if not lesion.vignette:
        return
    rng = generator(lesion.seed, lesion.index, "vignette")
    x, y = rng.normal(0.5, 0.015), rng.normal(0.5, 0.015)
    blur = rng.uniform(0.01, 0.1)
    distance = np.hypot(grid.x - x, grid.y - y) - lesion.vignette
    _blend(image, smoothstep(-blur, blur, distance), (0.02, 0.015, 0.015))


def _blend(image: Field, cover: Field, colour: tuple[float, float, float]) -> None:
    """Paint `colour` over the image where `cover` is 1, in place."""
    for channel in range(3):
        image[channel] += cover * (colour[channel] - image[channel])
