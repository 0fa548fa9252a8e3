"""`kd`: kernel distance between the features of fakes and reals (Bińkowski et al. 2018, arXiv 1801.01401).

It has no bias: sets of any size estimate the same number. For small sets it is the one to trust. Only with the
Inception network is it the KID, and called so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from adaflow.core.measured import Measured, normal_interval
from adaflow.core.metric import FeatureMetric, Metric, MetricContext
from adaflow.errors import ConfigError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register

BLOCK = 1 << 23
"""Values of the kernel in memory at a time: 64 MB."""


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """Squared maximum mean discrepancy of two sets of features, without bias, for the kernel (x·y / D + 1)³.

    The mean over pairs of different x, plus that of y, less twice the mean over pairs of both; below 0 by chance.

    Args:
        x: features [N, D].
        y: features [M, D].
    """
    between = sum(float(block.sum()) for _, block in kernel_blocks(x, y)) / (len(x) * len(y))
    return _mean_of_pairs(x) + _mean_of_pairs(y) - 2 * between


def kernel_error(x: Tensor, y: Tensor) -> float:
    """Standard error of the distance as the images of x are drawn anew, those of y staying as they are.

    The variance of a U-statistic (Hoeffding 1948): 4·ζ₁ / n + 2·(ζ₂ − 2·ζ₁) / (n·(n − 1)), with ζ₁ the variance of what
    one image has with all others on average, ζ₂ that of pairs.

    Args:
        x: features [N, D].
        y: features [M, D].
    """
    n = len(x)
    if n < 3:
        return math.nan
    towards = torch.cat([block.mean(1) for _, block in kernel_blocks(x, y)])
    sums, squares = torch.empty_like(towards), 0.0
    for start, block in kernel_blocks(x, x):
        rows = slice(start, start + len(block))
        pairs = block - towards[rows, None] - towards
        pairs.diagonal(start).zero_()
        sums[rows] = pairs.sum(1)
        squares += float(pairs.square().sum())
    count = n * (n - 1)
    of_pairs = max(squares / count - (float(sums.sum()) / count) ** 2, 0.0)
    of_means = float((sums / (n - 1)).var(correction=1))
    single = max(((n - 1) * of_means - of_pairs) / (n - 2), 0.0)  # means of n − 1 pairs vary by the pairs, too
    return math.sqrt((4 * (n - 1) * single + 2 * max(of_pairs - 2 * single, 0.0)) / count)


def kernel_distance_of_subsets(x: Tensor, y: Tensor, size: int, count: int, seed: int) -> float:
    """The mean of the distances of `count` random subsets of `size` images each."""
    generator = torch.Generator().manual_seed(seed)

    def subset(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size].to(features.device)]

    distances = [kernel_distance(subset(x), subset(y)) for _ in range(count)]
    return math.fsum(distances) / count


def kernel_blocks(x: Tensor, y: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The kernel of x [N, D] and y [M, D], some rows at a time.

    Yields:
        The first row of a block, and its values, float64 [n, M].
    """
    y = y.double().T / y.shape[1]
    rows = max(BLOCK // max(y.shape[1], 1), 1)
    for start in range(0, len(x), rows):
        yield start, (x[start : start + rows].double() @ y).add_(1).pow_(3)


def _mean_of_pairs(x: Tensor) -> float:
    """The mean of the kernel over pairs of different rows."""
    total = sum(float(block.sum()) for _, block in kernel_blocks(x, x))
    own = (x.double().square().sum(1) / x.shape[1] + 1) ** 3
    return (total - float(own.sum())) / (len(x) * (len(x) - 1))


@dataclass
class KernelDistance(FeatureMetric):
    """Kernel distance of `num` fakes to the training images.

    Args:
        num: number of generated images.
        extractor: name of the feature extractor; "" is the default one.
        reference: the part of the data to compare with, "train" or "val".
        most_reals: a larger reference is reduced to so many images, chosen by the seed; 0 takes all.
        subset: 0 compares all with all; otherwise random subsets of so many images, at most 1000, as is customary.
        subsets: how many of them.
    """

    most_reals: int = 5000
    subset: int = 0
    subsets: int = 100

    symbol: ClassVar[str] = "kd"
    better: ClassVar[str] = "lower"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.subset, int) and (self.subset == 0 or 2 <= self.subset <= 1000)):
            raise ConfigError(f"subset is {self.subset}", "Choose 0, or 2 to 1000 images.")
        if not (isinstance(self.subsets, int) and self.subsets >= 1):
            raise ConfigError(f"subsets is {self.subsets}", "Choose a whole number of at least 1.")

    def compute(self, context: MetricContext) -> dict[str, float]:
        """`kd<num>_<extractor>`, or `kid<num>`."""
        sets = self.sets(context)
        fakes, reals = sets.fakes, sets.reals
        if self.subset:
            size = min(self.subset, len(fakes), len(reals))
            distance = kernel_distance_of_subsets(fakes, reals, size, self.subsets, context.seed)
        else:
            distance = kernel_distance(fakes, reals)
        interval = normal_interval(distance, kernel_error(fakes, reals))
        return {self.result_name(sets.extractor): Measured(distance, interval, sets.counts)}


@dataclass
class KID(KernelDistance):
    """Kernel Inception distance of `num` fakes."""

    extractor: str = field(default="inception", init=False)


@dataclass
class KID50kFull(KID):
    """Kernel Inception distance of 50,000 fakes to all training images, by 100 subsets of 1000."""

    num: int = field(default=50_000, init=False)
    reference: str = field(default="train", init=False)
    most_reals: int = field(default=0, init=False)
    subset: int = field(default=1000, init=False)
    subsets: int = field(default=100, init=False)
    given_name: ClassVar[str] = "kid50k_full"


@hookimpl
def register_metrics(register: Register[type[Metric]]) -> None:
    """Offer `kd`, `kid` and `kid50k_full`."""
    register("kd", KernelDistance)
    register("kid", KID)
    register("kid50k_full", KID50kFull)
