"""`fd`: Fréchet distance between the features of fakes and reals (Heusel et al. 2017, arXiv 1706.08500).

Only with the Inception network is it the FID, and called so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from adaflow.core.measured import Measured, normal_interval
from adaflow.core.metric import FeatureMetric, Metric, MetricContext
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register

PRECISION = 1e-7
"""Of the quick route, relative to the distance; a rougher result is computed again by the exact one."""


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """|μx − μy|² + tr(Cx + Cy − 2·(Cx·Cy)^½) of two sets of features, covariances with 1/N, in float64.

    Singular covariances, of fewer images than features or of features that never change, are no special case.

    Args:
        x: features [N, D].
        y: features [M, D].
    """
    x, y = x.double(), y.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = (x - mean_x) / len(x) ** 0.5, (y - mean_y) / len(y) ** 0.5
    without_root = float((mean_x - mean_y).square().sum() + x.square().sum() + y.square().sum())
    changing = (x != 0).any(0) & (y != 0).any(0)  # the others add nothing to the root
    x, y = x[:, changing], y[:, changing]
    root, error = quick_trace_of_root(x, y)
    distance = without_root - 2 * root
    return distance if 2 * error <= PRECISION * distance else without_root - 2 * exact_trace_of_root(x, y)


def quick_trace_of_root(x: Tensor, y: Tensor) -> tuple[float, float]:
    """tr((Cx·Cy)^½) of Cx = Xᵀ·X and Cy = Yᵀ·Y: the eigenvalues of Cx·Cy are those of X·Cy·Xᵀ, which is symmetric.

    In place of the set with fewer images, if they are more than D, comes the triangular factor of its covariance.

    Args:
        x: centred features over √N, [N, D].
        y: centred features over √M, [M, D].

    Returns:
        The trace, and an estimate of what rounding cost; infinite where this way leads to nothing.
    """
    few, many = (x, y) if len(x) <= len(y) else (y, x)
    length = x.shape[1]
    gram_few, gram_many = gram(few), gram(many)
    if len(few) > length:
        roots = roots_of_product(gram_few, gram_many)
        if roots is None:
            return 0.0, math.inf
    elif len(many) > length:
        roots = symmetric_roots(few @ (gram_many @ few.T))[1:]  # they are centred, so one is 0
    else:
        roots = symmetric_roots(gram((few @ many.T).T))[1:]
    # Rounding moves each eigenvalue by about this much, and its root by that divided by twice the root; roots of what
    # should be 0 only add up.
    shift = torch.finfo(x.dtype).eps * torch.linalg.matrix_norm(gram_few) * torch.linalg.matrix_norm(gram_many)
    lost = roots.square() <= 10 * shift
    error = lost.sum() * shift.sqrt() + (shift / (2 * roots[~lost])).square().sum().sqrt()
    return float(roots.sum()), float(error)


def roots_of_product(a: Tensor, b: Tensor) -> Tensor | None:
    """Roots of the eigenvalues of A·B, two covariances [D, D]: those of Lᵀ·B·L with A = L·Lᵀ; None if A is singular."""
    factor, failed = torch.linalg.cholesky_ex(a)
    return None if failed else symmetric_roots(factor.T @ (b @ factor))


def symmetric_roots(a: Tensor) -> Tensor:
    """Roots of the eigenvalues of a symmetric matrix [D, D] that has none below 0 but by rounding."""
    values: Tensor = torch.linalg.eigvalsh(a)
    return values.clamp(min=0).sqrt()


def gram(rows: Tensor) -> Tensor:
    """Xᵀ·X or X·Xᵀ of X [N, D], whichever is smaller; their norms and eigenvalues are the same but for zeros."""
    return rows.T @ rows if len(rows) > rows.shape[1] else rows @ rows.T


def exact_trace_of_root(x: Tensor, y: Tensor) -> float:
    """tr((Cx·Cy)^½) of Cx = Xᵀ·X and Cy = Yᵀ·Y: the sum of the singular values of Y·Xᵀ.

    The triangular factors of X and Y have the same covariances, and at most D rows. No digits are lost to squares.
    """
    root_x, root_y = (torch.linalg.qr(rows, mode="r").R for rows in (x, y))
    return float(torch.linalg.svdvals(root_y @ root_x.T).sum())


def frechet_error(x: Tensor, y: Tensor) -> float:
    """Standard error of the distance as the images of x are drawn anew, those of y staying as they are.

    It is what a bootstrap over x tends to, from derivatives (the infinitesimal jackknife): resampling itself would
    say too much, for a set with repeated images has a smaller covariance.

    Args:
        x: features [N, D].
        y: features [M, D].
    """
    x, y = x.double(), y.double()
    shift = x.mean(0) - y.mean(0)
    x, y = x - x.mean(0), y - y.mean(0)
    # Image i has the share (S^½)_ii of tr((Cx·Cy)^½), S = X·Cy·Xᵀ / N: the derivative for its weight, twice.
    between = x @ (torch.linalg.qr(y, mode="r").R / len(y) ** 0.5).T
    if len(x) <= between.shape[1]:
        values, vectors = torch.linalg.eigh(between @ between.T)
        shares = vectors.square() @ values.clamp(min=0).sqrt()
    else:
        values, vectors = torch.linalg.eigh(between.T @ between)
        kept = values > values[-1] * 1e-12
        shares = (between @ vectors[:, kept]).square() @ values[kept].rsqrt()
    influence = 2 * x @ shift + x.square().sum(1) - shares * len(x) ** 0.5
    return float(influence.std(correction=1)) / math.sqrt(len(x)) if len(x) > 1 else math.nan


@dataclass
class FrechetDistance(FeatureMetric):
    """Fréchet distance of `num` fakes to the training images."""

    symbol: ClassVar[str] = "fd"
    better: ClassVar[str] = "lower"

    def compute(self, context: MetricContext) -> dict[str, float]:
        """`fd<num>_<extractor>`, or `fid<num>`."""
        sets = self.sets(context)
        distance = frechet_distance(sets.fakes, sets.reals)
        interval = normal_interval(distance, frechet_error(sets.fakes, sets.reals))
        return {self.result_name(sets.extractor): Measured(distance, interval, sets.counts)}


@dataclass
class FID(FrechetDistance):
    """Fréchet Inception distance of `num` fakes."""

    extractor: str = field(default="inception", init=False)


@dataclass
class FID50kFull(FID):
    """Fréchet Inception distance of 50,000 fakes to all training images."""

    num: int = field(default=50_000, init=False)
    reference: str = field(default="train", init=False)
    most_reals: int = field(default=0, init=False)
    given_name: ClassVar[str] = "fid50k_full"


@hookimpl
def register_metrics(register: Register[type[Metric]]) -> None:
    """Offer `fd`, `fid` and `fid50k_full`."""
    register("fd", FrechetDistance)
    register("fid", FID)
    register("fid50k_full", FID50kFull)
