"""The sample points of a painted image, and the shapes and smooth noise that are evaluated on them."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


class Grid:
    """Sample points in image coordinates: x runs right and y down, both from 0 to 1.

    Args:
        samples: points a side.
    """

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.step = 1.0 / samples
        points = ((np.arange(samples) + 0.5) / samples).astype(np.float32)
        self.x: Field = points[None, :]
        self.y: Field = points[:, None]

    def turned(self, x: float, y: float, angle: float) -> tuple[Field, Field]:
        """Coordinates `[samples, samples]` along and across a direction, from the origin (x, y), in units of the image.

        Args:
            x: origin, from the left.
            y: origin, from the top.
            angle: the direction in radians, from the x axis towards the y axis.
        """
        dx, dy = self.x - x, self.y - y
        cos, sin = math.cos(angle), math.sin(angle)
        return cos * dx + sin * dy, cos * dy - sin * dx

    def noise(self, rng: np.random.Generator, octaves: dict[int, float]) -> Field:
        """Smooth random field `[samples, samples]` of mean 0: cubic B-splines over lattices of normal numbers.

        Args:
            rng: gives one number, the key of the lattices: what is drawn after it does not depend on their sizes.
            octaves: lattice cells a side → standard deviation, coarse to fine. Those that the sample points cannot
                resolve are left out.
        """
        field = np.zeros((self.samples, self.samples), np.float32)
        lattices = np.random.Generator(np.random.Philox(key=int(rng.integers(2**63))))
        for cells, deviation in octaves.items():
            if 2 * cells > self.samples:
                break
            lattice = lattices.standard_normal((cells + 3, cells + 3), dtype=np.float32)
            weights = _spline_weights(self.samples, cells)
            field += _product(weights, _product(deviation * lattice, weights.T))
        return field

    def dots(self, x: NDArray[np.float64], y: NDArray[np.float64], radius: NDArray[np.float64]) -> Field:
        """Sum of round bumps of height 1 at the given centres, `[samples, samples]`."""
        # A Gaussian is a product of its two profiles. Narrow ones are widened to the sample step and lowered to match.
        width = np.hypot(radius, 0.5 * self.step)
        across = np.exp(-0.5 * ((self.x - x[:, None]) / width[:, None]) ** 2)
        down = np.exp(-0.5 * ((self.y.T - y[:, None]) / width[:, None]) ** 2)
        heights = (radius / width) ** 2
        return _product((down * heights[:, None]).T.astype(np.float32), across.astype(np.float32))

    def stripe(self, distance: Field, half_width: float | Field) -> Field:
        """Share of each sample point's square that a stripe covers.

        Args:
            distance: signed distance from the stripe's middle line.
            half_width: half the stripe's width.
        """
        half = 0.5 * self.step
        upper = np.clip(distance + half, -half_width, half_width)
        lower = np.clip(distance - half, -half_width, half_width)
        covered: Field = (upper - lower) * self.samples
        return covered

    def ramp(self, distance: Field) -> Field:
        """Share of each sample point's square on the positive side of an edge, from the signed distance to it."""
        covered: Field = np.clip(distance * self.samples + 0.5, 0.0, 1.0)
        return covered


def smoothstep(low: float, high: float, value: Field) -> Field:
    """0 below `low`, 1 above `high`, a smooth cubic between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    risen: Field = t * t * (3.0 - 2.0 * t)
    return risen


def _product(left: Field, right: Field) -> Field:
    """Matrix product in square blocks, each too small for the BLAS to share out among threads.

    Waiting for one another would take those threads longer than the product itself, above all while other work runs.
    """
    side = math.isqrt(2**18 // len(right))
    product = np.empty((left.shape[0], right.shape[1]), np.float32)
    for row in range(0, left.shape[0], side):
        for column in range(0, right.shape[1], side):
            block = np.s_[row : row + side, column : column + side]
            product[block] = left[row : row + side] @ right[:, column : column + side]
    return product


@lru_cache(maxsize=64)
def _spline_weights(samples: int, cells: int) -> Field:
    """Cubic B-spline weights `[samples, cells + 3]`, scaled so that unit normals on the lattice give a unit field."""
    points = (np.arange(samples) + 0.5) / samples * cells + 1.0
    distance = np.abs(points[:, None] - np.arange(cells + 3)[None, :])
    near = 2.0 / 3.0 - distance**2 + 0.5 * distance**3
    far = np.clip(2.0 - distance, 0.0, None) ** 3 / 6.0
    weights = np.where(distance < 1.0, near, far)
    norm = np.sqrt(np.mean(np.sum(weights**2, axis=1)))
    scaled: Field = (weights / norm).astype(np.float32)
    return scaled
