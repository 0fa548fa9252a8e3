"""Which family of maps a transform draws from, found out from what it draws.

The maps of many transforms add up: two shifts are a shift by the sum, two scalings one by the sum of the logarithms.
Then what the transform draws is a number or two, on a line or on a circle, and the characters of that line or circle
are the eigenvectors of what it does to distributions of images (arXiv 2006.06676, App. C). Nothing here knows a
transform by its name: the numbers are read off the matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg  # type: ignore[import-untyped]
from torch import Tensor

from adaflow.core.augment.bands import BANDS, normalised_gains
from adaflow.core.augment.transform import ColorTransform, FilterTransform, GeometryTransform, ImageTransform, Transform
from adaflow.core.draw import Draw
from adaflow.errors import AdaflowError

Floats = NDArray[np.float64]
SAMPLES = 1 << 14
"""Draws of a map."""
IMAGE_SAMPLES = 1 << 12
"""Draws of a transform of pixels."""
IMAGE_SIZE = 16
TOLERANCE = 1e-3
"""Relative size of what counts as nothing, for matrices of float32."""
GEOMETRY_NAMES = {(0, 2): "x shift", (1, 2): "y shift", (0, 1): "x shear", (1, 0): "y shear"}
TURN = 2 * math.pi


class EvenDraw(Draw):
    """Numbers that fill the distributions evenly: `n` quasi-random points (Sobol'), a coordinate for each number.

    Each number by itself runs over n equally spaced quantiles.

    Args:
        n: how many images, a power of 2.
    """

    def __init__(self, n: int) -> None:
        super().__init__(n, torch.device("cpu"))
        self.used = 0
        self.points = n
        self.chosen = torch.arange(n)

    def unit(self, shape: tuple[int, ...] = ()) -> Tensor:
        """[n, *shape] float32, the next coordinates of the points."""
        end = self.used + math.prod(shape)
        engine = torch.quasirandom.SobolEngine(end)  # type: ignore[no-untyped-call]
        points = engine.draw(self.points, dtype=torch.float64)[self.chosen, self.used :]
        self.used = end
        return (points + 0.5 / self.points).float().reshape(self.n, *shape)

    def select(self, index: Tensor) -> EvenDraw:
        """The draw of some of the images."""
        draw = EvenDraw(self.points)
        draw.used, draw.chosen = self.used, self.chosen[index]
        draw.n = len(draw.chosen)
        return draw


@dataclass(frozen=True)
class Axis:
    """A number that adds up when a transform acts twice.

    Args:
        name: what it is: "x shift" (a share of the size), "factor" (its natural logarithm), "angle" (radians) …
        values: [n], as drawn.
        period: of a circle; `math.inf` for a line.
    """

    name: str
    values: Floats
    period: float = math.inf

    @property
    def order(self) -> int | None:
        """Of how many turns it has, where it is a cyclic group of at most 24; otherwise None."""
        turns = self.values / self.period
        multiples = (m for m in range(2, 25) if np.abs(turns * m - (turns * m).round()).max() < TOLERANCE)
        return None if self.period == math.inf else next(multiples, None)


@dataclass(frozen=True)
class Family:
    """Maps that add up, as points on lines and circles.

    Args:
        axes: their coordinates; none when the maps do nothing.
        numbers: how many numbers a draw of one map takes.
        joint: whether the axes are all there is; otherwise they are some of the many directions of a larger space.
    """

    axes: tuple[Axis, ...]
    numbers: int
    joint: bool = True


@dataclass(frozen=True)
class Erasure:
    """Pixels are replaced by something that does not depend on the image.

    Args:
        untouched: the share of draws that replace nothing.
    """

    untouched: float


class UnknownFamilyError(Exception):
    """What a transform draws is no family that can be analysed. The text is the reason, to follow "because"."""


def find_family(transform: Transform, resolution: int) -> Family | Erasure:
    """The family that a transform draws from.

    Args:
        transform: any.
        resolution: height and width of the images, in pixels.

    Raises:
        UnknownFamilyError: it is none that can be analysed, or the transform's own code raised.
    """
    with torch.no_grad():
        draw = EvenDraw(SAMPLES)
        with _reported():
            declared = transform.group_parameter(draw)
        if declared is not None:
            values = _checked(declared[0], (draw.n,))
            axis = Axis("parameter", values.double().numpy(), declared[1])
            return Family((axis,) if values.any() else (), draw.used)
        if isinstance(transform, ImageTransform):
            return _of_images(transform)
        draw = EvenDraw(SAMPLES)
        if isinstance(transform, GeometryTransform):
            # In units of the size, so that shifts and turns are of comparable size.
            units = torch.tensor([resolution, resolution, 1.0], dtype=torch.float64)
            with _reported():
                maps = transform.matrix(draw, resolution, resolution)
            maps = _checked(maps, (draw.n, 3, 3)).double() / units[:, None] * units
            return Family(_axes(maps.numpy(), GEOMETRY_NAMES), draw.used)
        if isinstance(transform, ColorTransform):
            with _reported():
                maps = transform.matrix(draw)
            maps = _checked(maps, (draw.n, 4, 4)).double()
            return Family(_axes(maps.numpy(), {(row, 3): "offset" for row in range(3)}), draw.used)
        assert isinstance(transform, FilterTransform)
        return Family(_band_axes(transform, draw), draw.used)


@contextmanager
def _reported() -> Iterator[None]:
    """What a plugin raises within it is the reason why nothing is known. Errors of adaflow's own kind pass."""
    try:
        yield
    except AdaflowError:
        raise
    except Exception as error:
        raise UnknownFamilyError(f"it raised {type(error).__name__}: {' '.join(str(error).split())}") from error


def _checked(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What a plugin returned, if it is of the right shape and finite."""
    if tuple(value.shape) != shape:
        raise UnknownFamilyError(f"it returned {list(value.shape)} where {list(shape)} was wanted")
    if not value.isfinite().all():
        raise UnknownFamilyError("some of its numbers are not finite")
    return value


def _band_axes(transform: FilterTransform, draw: Draw) -> tuple[Axis, ...]:
    """Logarithms of what a band and the other bands are multiplied by: the filter's power is normalised."""
    with _reported():
        gain = transform.gain(draw)
    gain = _checked(gain, (draw.n,))
    if not (gain > 0).all():
        raise UnknownFamilyError("some of its gains are not above 0, which cannot be undone")
    factors = normalised_gains(transform.band, gain)[:, [transform.band, (transform.band + 1) % BANDS]]
    return _lines(factors.double().log().numpy(), ["factor of the band", "factor of the others"])


def _axes(maps: Floats, names: dict[tuple[int, int], str]) -> tuple[Axis, ...]:
    """The coordinates of matrices [n, k, k] that add up.

    Args:
        maps: the matrices.
        names: of coordinates that are an entry of the matrix.

    Raises:
        UnknownFamilyError: they do not add up.
    """
    size = maps.shape[-1]
    change = maps - np.eye(size)
    largest = np.abs(change).max()
    if largest < 1e-6:
        return ()
    # Some pairs of maps, those of the greatest changes among them.
    some = change[np.r_[0:64, np.argsort(np.abs(change).max((1, 2)))[-64:]]]
    products = some[:, None] @ some[None]
    if np.abs(products).max() < TOLERANCE * largest**2:
        # I + A times I + B is I + A + B: shifts, shears, offsets.
        return _lines(change.reshape(-1, size * size), [names.get(divmod(i, size), "entry") for i in range(size**2)])
    if np.abs(products - products.swapaxes(0, 1)).max() > TOLERANCE * largest**2:
        raise UnknownFamilyError("the order of two of its maps matters, so that they have no common eigenvectors")
    return _diagonal_axes(maps, some)


def _diagonal_axes(maps: Floats, some: Floats) -> tuple[Axis, ...]:
    """The coordinates of matrices that commute: logarithms and angles of their eigenvalues."""
    # A mixture tells apart what any of the maps tells apart.
    weights = np.random.default_rng(0).standard_normal(len(some))
    _, vectors = np.linalg.eig((weights[:, None, None] * some).sum(0))
    if np.linalg.cond(vectors) > 1e4:
        raise UnknownFamilyError("its maps are neither shifts nor stretchings and turns along common axes")
    diagonal = np.linalg.inv(vectors) @ maps @ vectors
    eigenvalues = np.einsum("nii->ni", diagonal)
    rest = diagonal - eigenvalues[:, None, :] * np.eye(maps.shape[-1])
    if np.abs(rest).max() > TOLERANCE * np.abs(diagonal - np.eye(maps.shape[-1])).max():
        raise UnknownFamilyError("its maps have no common axes")
    if np.abs(eigenvalues).min() < 1e-9:
        raise UnknownFamilyError("some of its maps flatten what they act on, which cannot be undone")
    logarithms = np.log(np.abs(eigenvalues))
    lines = _lines(logarithms, ["factor"] * logarithms.shape[1])
    circles: list[Axis] = []
    for angle in np.angle(eigenvalues).T:
        turn = np.exp(1j * angle)
        known = [np.ones_like(turn), *(np.exp(sign * 1j * c.values) for c in circles for sign in (1, -1))]
        if all(np.abs(turn - other).max() > TOLERANCE for other in known):
            circles.append(Axis("angle", angle, TURN))
    return (*circles, *lines)


def _lines(columns: Floats, names: list[str]) -> tuple[Axis, ...]:
    """Those columns [n, k], in order, of which the others are combinations."""
    if np.abs(columns).max() < 1e-6:
        return ()
    triangle, pivots = linalg.qr(columns, mode="r", pivoting=True)
    rank = int((np.abs(np.diag(triangle)) > TOLERANCE * abs(triangle[0, 0])).sum())
    return tuple(Axis(names[column], columns[:, column]) for column in sorted(pivots[:rank]))


def _of_images(transform: ImageTransform) -> Family | Erasure:
    """The family of a transform of pixels, from what it does to two images with the same numbers."""
    shape = (3, IMAGE_SIZE, IMAGE_SIZE)
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand((2, 1, *shape), generator=generator).mul(1.8).sub(0.9)
    for samples in (64, IMAGE_SAMPLES):  # a few are enough to see that nothing can be known
        draw = EvenDraw(samples)
        with _reported():
            of_first = transform.apply(first.repeat(draw.n, 1, 1, 1), draw)
            of_second = transform.apply(second.repeat(draw.n, 1, 1, 1), EvenDraw(samples))
        of_first, of_second = (_checked(images, (draw.n, *shape)) for images in (of_first, of_second))
        added = of_first - first
        is_added = bool((added - (of_second - second)).abs().max() < 1e-5)
        erased = (of_first != first) | (of_second != second)
        if not is_added and not (of_first == of_second)[erased].all():
            raise UnknownFamilyError(
                "what it does to the pixels depends on the image, and from the pixels alone it cannot be seen what "
                "adds up; if something does, its class can say so with group_parameter"
            )
    if is_added:
        return Family(_directions(added.flatten(1).double()), draw.used, joint=False)
    return Erasure(float((~erased).flatten(1).all(1).double().mean()))


def _directions(added: Tensor) -> tuple[Axis, ...]:
    """What is added to images [n, k], seen along some directions of the space of images."""
    if added.abs().max() < 1e-6:
        return ()
    middle = added.shape[1] // 2
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (4, added.shape[1]), generator=generator).mul(2).sub(1).double()
    patterns = added @ signs.T / math.sqrt(added.shape[1])
    seen = {"a pixel": added[:, middle], "the mean": added.mean(1)}
    seen |= {f"pattern {number + 1}": pattern for number, pattern in enumerate(patterns.T)}
    return tuple(Axis(name, values.numpy()) for name, values in seen.items() if values.abs().max() > 1e-6)
