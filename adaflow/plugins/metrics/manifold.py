"""`pr`: precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991); `dc`: density and coverage.

(Naeem et al. 2020, arXiv 2002.09797.) Both take balls around images, out to the k-th neighbour of the same set, for
where that set is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from adaflow.core.measured import Measured, normal_interval, share_interval
from adaflow.core.metric import FeatureMetric, FeatureSets, Metric, MetricContext
from adaflow.core.neighbours import balls_around, nearest, radii
from adaflow.errors import ConfigError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register


def precision_recall(fakes: Tensor, reals: Tensor, k: int = 3) -> tuple[float, float]:
    """Share of the fakes that lie in a ball around a real, and of the reals that lie in a ball around a fake.

    Args:
        fakes: features [N, D].
        reals: features [M, D].
        k: a ball reaches to the k-th nearest other image of its own set, which is counted in.
    """
    inside_reals = balls_around(fakes, reals, radii(reals, k)) > 0
    inside_fakes = balls_around(reals, fakes, radii(fakes, k)) > 0
    return float(inside_reals.double().mean()), float(inside_fakes.double().mean())


def densities(fakes: Tensor, reals: Tensor, k: int = 5) -> Tensor:
    """For each fake, in how many balls around reals it lies, by k, float64 [N]; their mean is the density."""
    return balls_around(fakes, reals, radii(reals, k)).double() / k


def coverage(fakes: Tensor, reals: Tensor, k: int = 5) -> float:
    """Share of the reals whose ball holds a fake."""
    return float((nearest(reals, fakes)[0] <= radii(reals, k)).double().mean())


@dataclass
class BallMetric(FeatureMetric):
    """What both have in common.

    Args:
        num: number of generated images.
        extractor: name of the feature extractor; "" is the default one.
        reference: the part of the data to compare with, "train" or "val".
        k: balls reach to the k-th neighbour.
    """

    k: int = 3

    better: ClassVar[str] = "higher"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.k, int) or not 1 <= self.k < self.num:
            raise ConfigError(f"k is {self.k}", f"Choose a whole number from 1 to {self.num - 1}.")

    def sets(self, context: MetricContext) -> FeatureSets:
        """Features of both sets, each of more than k images."""
        sets = super().sets(context)
        if len(sets.reals) <= self.k:
            raise ConfigError(f"{len(sets.reals)} real images have no {self.k} neighbours each", "Choose a smaller k.")
        return sets


@dataclass
class PrecisionRecall(BallMetric):
    """How many fakes look real (precision), and how much of the data the fakes reach (recall)."""

    symbol: ClassVar[str] = "precision"

    def compute(self, context: MetricContext) -> dict[str, float]:
        """`precision<num>_<extractor>` and `recall<num>_<extractor>`."""
        sets = self.sets(context)
        precision, recall = precision_recall(sets.fakes, sets.reals, self.k)
        return {
            self.result_name(sets.extractor, name): Measured(share, share_interval(share, count), sets.counts)
            for name, share, count in (("precision", precision, len(sets.fakes)), ("recall", recall, len(sets.reals)))
        }


@dataclass
class PR50k3Full(PrecisionRecall):
    """Precision and recall of 50,000 fakes and all training images, k = 3."""

    num: int = field(default=50_000, init=False)
    extractor: str = field(default="inception", init=False)
    reference: str = field(default="train", init=False)
    most_reals: int = field(default=0, init=False)
    k: int = field(default=3, init=False)

    def result_name(self, extractor: str, symbol: str = "") -> str:
        """`pr50k3_full_precision`, `pr50k3_full_recall`."""
        return f"pr50k3_full_{symbol}"


@dataclass
class DensityCoverage(BallMetric):
    """Precision and recall that single odd images do not spoil."""

    k: int = 5

    symbol: ClassVar[str] = "density"

    def compute(self, context: MetricContext) -> dict[str, float]:
        """`density<num>_<extractor>` and `coverage<num>_<extractor>`."""
        sets = self.sets(context)
        each = densities(sets.fakes, sets.reals, self.k)
        density, error = float(each.mean()), float(each.std(correction=1)) / math.sqrt(len(each))
        covered = coverage(sets.fakes, sets.reals, self.k)
        return {
            self.result_name(sets.extractor, "density"): Measured(
                density, normal_interval(density, error), sets.counts
            ),
            self.result_name(sets.extractor, "coverage"): Measured(
                covered, share_interval(covered, len(sets.reals)), sets.counts
            ),
        }


@hookimpl
def register_metrics(register: Register[type[Metric]]) -> None:
    """Offer `pr`, `pr50k3_full` and `dc`."""
    register("pr", PrecisionRecall)
    register("pr50k3_full", PR50k3Full)
    register("dc", DensityCoverage)
