"""Finds pictures that are copies of one another though their bytes differ: encoded again, resized, cropped, mirrored.

Three steps. A perceptual hash of 256 bits, of each image in all 8 flips and quarter turns, proposes pairs. The two
thumbnails of a pair are then aligned, for a copy may be cropped. What decides is fine texture, hair and pores, tile by
tile: images of one kind look alike as a whole, but their details do not, and a ruler or a text spoils few tiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adaflow.core.data.parallel import Progress, ordered_map

SIDE = 64
"""Of a thumbnail, in pixels."""

HASH_SIDE = 16
"""A hash has 16 × 16 bits. At a distance that finds 95 % of 5 % crops, 8 × 8 bits propose 30 times as many pairs."""

MAX_DISTANCE = 84
"""Bits in which the hashes of a proposed pair may differ. Chance gives 128."""

MAX_PROPOSED = 32
"""Pairs proposed per image, the closest ones: it bounds the time for sets in which everything looks alike."""

MIN_AGREEMENT = 0.4
"""Correlation of texture, see `agreement`, from which on a pair counts as copies."""

TILE = 8
MIN_TEXTURE = 1.0
STEPS = 5
ROWS_AT_ONCE = 32
PAIRS_AT_ONCE = 128

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Look:
    """What is kept of an image to compare it with others: 4 kB.

    Args:
        thumbnail: uint8 [64, 64], grey.
        hashes: uint64 [8, 4], for each of the 8 flips and turns the 256 bits.
    """

    thumbnail: NDArray[np.uint8]
    hashes: NDArray[np.uint64]


def look(image: Image.Image) -> Look:
    """The look of an image of mode "L" or "RGB", of any size."""
    from imagehash import phash

    # Squeezed, so that neither a resized nor a slightly cropped copy changes much.
    small = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2).convert("L")
    thumbnail = np.asarray(small)
    hashes = [phash(Image.fromarray(np.ascontiguousarray(turn(thumbnail, k))), HASH_SIDE).hash for k in range(8)]
    return Look(thumbnail, np.packbits(hashes).view(np.uint64).reshape(8, -1))


def turn(image: NDArray[np.uint8], k: int) -> NDArray[np.uint8]:
    """Flip or turn number k, 0 to 7, of [H, W]: k mod 4 quarter turns; from 4 on, after flipping left to right."""
    return np.rot90(image[:, ::-1] if k & 4 else image, k % 4)


def find_copies(looks: Sequence[Look], workers: int = 2, progress: Progress | None = None) -> list[tuple[int, int]]:
    """All pairs i < j of images of which one is taken for a copy of the other.

    Measured on 1,999 dermoscopy images (ISIC 2017, 128 px): of their 2 million pairs 12 are found; looked at, all are
    copies, with other colours or a few pixels apart. They agree by .66 or more, no other pair by more than .30. Of 400
    planted copies of each kind, these shares are found: mirrored or turned, resized by 0.5 to 1.5, JPEG of quality 95,
    blurred by 1 pixel, noise of 5 grey levels, darker, other contrast, 2 % cropped: all; brighter by 20 %, JPEG of
    quality 30, with a ruler and text: 99 %; 5 % cropped: 97 %; 10 % cropped: 26 %.

    Copies turned by other angles than 90°, or cropped by more, are mostly missed. Two photos of one lesion count as
    copies only when they show the same hairs in the same places.

    Args:
        looks: of the images; those without any contrast should not be among them.
        workers: threads.
        progress: told how many images were compared with all others.

    Returns:
        Ascending. Memory grows with the number of images, time with its square: 50,000 take a core 2 to 15 minutes, the
        longer the more they look alike.
    """
    if len(looks) < 2:
        return []
    hashes = np.stack([look.hashes for look in looks])
    thumbnails = np.stack([look.thumbnail for look in looks])
    starts = range(0, len(looks), ROWS_AT_ONCE)
    pairs: list[tuple[int, int]] = []
    with closing(ordered_map(partial(_copies_of_rows, hashes, thumbnails), starts, workers)) as results:
        for start, found in zip(starts, results, strict=True):
            pairs += found
            if progress is not None:
                progress(min(start + ROWS_AT_ONCE, len(looks)), len(looks))
    return pairs


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Groups of 2 or more of the numbers 0 … count - 1 that pairs connect, directly or over others.

    Returns:
        Each group ascending, and the groups by their first number.
    """
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for item in range(count):
        groups.setdefault(root(item), []).append(item)
    return [group for group in groups.values() if len(group) > 1]


def _copies_of_rows(hashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8], start: int) -> list[tuple[int, int]]:
    """The copies j > i of the images i from `start` on."""
    found: set[tuple[int, int]] = set()
    i, j, k = _proposals(hashes, start)
    for first in range(0, len(i), PAIRS_AT_ONCE):
        part = slice(first, first + PAIRS_AT_ONCE)
        turned = np.stack([turn(thumbnails[image], way) for image, way in zip(i[part], k[part], strict=True)])
        same = agreement(turned, thumbnails[j[part]]) >= MIN_AGREEMENT
        found.update(zip(i[part][same].tolist(), j[part][same].tolist(), strict=True))
    return sorted(found)


def _proposals(hashes: NDArray[np.uint64], start: int) -> tuple[NDArray[np.intp], ...]:
    """Pairs worth a closer look: numbers i, j > i, and by which turn of i its hash comes near that of j."""
    rows = np.arange(start, min(start + ROWS_AT_ONCE, len(hashes)))
    others = hashes[start:, 0]
    kept = []
    for k in range(8):
        distances = np.zeros((len(rows), len(others)), np.uint16)
        for word in range(others.shape[1]):
            distances += np.bitwise_count(hashes[rows, k, word][:, None] ^ others[:, word])
        row, other = np.nonzero(distances <= MAX_DISTANCE)
        later = other > row
        row, other = row[later], other[later]
        kept.append(np.stack([row, other, np.full_like(row, k), distances[row, other]]))
    row, other, way, distance = np.concatenate(kept, axis=1)
    order = np.lexsort((distance, row))
    rank = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    order = order[rank < MAX_PROPOSED]
    return row[order] + start, other[order] + start, way[order]


def agreement(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Floats:
    """How well fine texture agrees after the best shift and stretch, from -1 to 1; about 0.05 by chance, 1 for copies.

    It is the median of the correlation of details within tiles of 8 × 8 pixels, of those with any texture; all over the
    image or in its middle, whichever is less, for the rim of a round field of view is the same in all images.

    Args:
        a: thumbnails uint8 [n, 64, 64].
        b: as many others.

    Returns:
        float32 [n].
    """
    from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]

    left, right = a.astype(np.float32), b.astype(np.float32)
    moved, inside = _sample(right, *_grid(SIDE, _align(_halved(left), _halved(right))))
    left, right = (
        (image - gaussian_filter(image, (0, 2, 2))) * inside.reshape(left.shape)
        for image in (left, moved.reshape(left.shape))
    )
    both, of_left, of_right = (_tile_means(x * y) for x, y in ((left, right), (left, left), (right, right)))
    correlation = both / np.sqrt(of_left * of_right + 1e-6)
    texture = np.maximum(of_left, of_right)
    middle = (slice(None), *(slice(SIDE // TILE // 4, -SIDE // TILE // 4),) * 2)
    return np.minimum(_median(correlation, texture), _median(correlation[middle], texture[middle]))


def _median(correlation: Floats, texture: Floats) -> Floats:
    """Medians [n] over tiles [n, T, T]; without those that are plain, for they say nothing, but of 4 at least."""
    correlation, texture = (values.reshape(len(values), -1) for values in (correlation, texture))
    enough = np.minimum(np.sort(texture, axis=1)[:, -4:-3], MIN_TEXTURE**2)
    medians: Floats = np.nanmedian(np.where(texture >= enough, correlation, np.float32(np.nan)), axis=1)
    return medians


def _align(a: Floats, b: Floats) -> Floats:
    """The stretch and shift that lay b over a: [n, 4], along x and then y, in units of half a side.

    Lucas and Kanade's method with the derivatives of a only (Baker and Matthews 2004, "inverse compositional").
    """
    n, side, _ = a.shape
    half = (side - 1) / 2
    x, y = _coordinates(side)
    target = _standardised(a.reshape(n, -1))
    down, right = np.gradient(target.reshape(a.shape), half**-1, axis=(1, 2))
    down, right = down.reshape(n, -1), right.reshape(n, -1)
    slopes = np.stack([right * x, right, down * y, down], axis=1)
    # The small ridge keeps plain images, which could be shifted at will, where they are.
    ridge = 0.0025 * side**2 * np.eye(4, dtype=np.float32)
    inverse = np.linalg.inv(slopes @ slopes.transpose(0, 2, 1) + ridge)
    motion = np.tile(np.array([1, 0, 1, 0], np.float32), (n, 1))
    for _ in range(STEPS):
        values, inside = _sample(b, *_grid(side, motion))
        error = (_standardised(values) - target) * inside
        step = (inverse @ (slopes @ error[..., None]))[..., 0]
        stretch = motion[:, ::2] / (1 + np.clip(step[:, ::2], -0.5, 0.5))
        motion[:, 1::2] = np.clip(motion[:, 1::2] - stretch * step[:, 1::2], -0.25, 0.25)
        motion[:, ::2] = np.clip(stretch, 0.8, 1.25)
    return motion


def _grid(side: int, motion: Floats) -> tuple[Floats, Floats]:
    """Where in the other image each pixel lies, in pixels: x and y [n, side²]."""
    x, y = _coordinates(side)
    half = np.float32((side - 1) / 2)
    return (motion[:, :1] * x + motion[:, 1:2] + 1) * half, (motion[:, 2:3] * y + motion[:, 3:] + 1) * half


def _coordinates(side: int) -> tuple[Floats, Floats]:
    """x and y of all pixels, row by row, from -1 to 1."""
    line = np.linspace(-1, 1, side, dtype=np.float32)
    return np.tile(line, side), np.repeat(line, side)


def _sample(images: Floats, x: Floats, y: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Bilinear values at x, y [n, P] of images [n, S, S], and whether they lie inside."""
    n, side, _ = images.shape
    inside = (x >= 0) & (x <= side - 1) & (y >= 0) & (y <= side - 1)
    column = np.clip(x, 0, side - 1).astype(np.int32).clip(max=side - 2)
    row = np.clip(y, 0, side - 1).astype(np.int32).clip(max=side - 2)
    x, y = np.clip(x - column, 0, 1), np.clip(y - row, 0, 1)
    flat = images.reshape(-1)
    at = row * side + column + np.arange(n, dtype=np.int32)[:, None] * side**2
    above = flat[at] * (1 - x) + flat[at + 1] * x
    below = flat[at + side] * (1 - x) + flat[at + side + 1] * x
    return above * (1 - y) + below * y, inside


def _halved(images: Floats) -> Floats:
    n, side, _ = images.shape
    halved: Floats = images.reshape(n, side // 2, 2, side // 2, 2).mean((2, 4))
    return halved


def _standardised(values: Floats) -> Floats:
    """Rows [n, P] with mean 0 and variance 1."""
    values = values - values.mean(axis=1, keepdims=True)
    standardised: Floats = values / (values.std(axis=1, keepdims=True) + np.float32(1e-3))
    return standardised


def _tile_means(images: Floats) -> Floats:
    """[n, S, S] → [n, S / 8, S / 8]."""
    n, side, _ = images.shape
    means: Floats = images.reshape(n, side // TILE, TILE, side // TILE, TILE).mean((2, 4))
    return means
