"""Are fakes copies? `authenticity` (Alaa et al. 2022, arXiv 2102.08921), `ct` (Meehan et al. 2020, 2004.05675)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from adaflow.core.measured import Counts, Measured, share_interval
from adaflow.core.metric import FeatureMetric, Metric, MetricContext, check_held_out
from adaflow.core.neighbours import nearest
from adaflow.errors import ConfigError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.data.dataset import Dataset
    from adaflow.plugin_manager import Register
    from adaflow.registry import Registry

LEAST_IN_CELL = 10
"""A cell with fewer fakes or held-out reals says nothing."""


def authentic(fakes: Tensor, reals: Tensor) -> Tensor:
    """Which fakes lie farther from their nearest real than that one does from its nearest other real.

    Args:
        fakes: features [N, D].
        reals: features [M, D], M ≥ 2.

    Returns:
        bool [N].
    """
    return authentic_of([fakes], reals)[0]


def authentic_of(sets: Sequence[Tensor], reals: Tensor) -> list[Tensor]:
    """`authentic` of several sets of fakes, for the work of one."""
    own = nearest(reals, reals, same=True)[0]
    found = [nearest(fakes, reals) for fakes in sets]
    return [distance > own[place] for distance, place in found]


def rank_z(first: Tensor, second: Tensor) -> float:
    """The Z of Mann and Whitney: below 0 where numbers of `second` [M] tend to be smaller than those of `first` [N]."""
    ordered = first.sort().values
    below = torch.searchsorted(ordered, second, right=False)
    up_to = torch.searchsorted(ordered, second, right=True)
    larger = float((below + up_to).double().sum()) / 2  # ties count half
    n, m = len(first), len(second)
    return (larger - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)


def copying_z(train: Tensor, held_out: Tensor, fakes: Tensor, cells: int = 3, seed: int = 0) -> float:
    """C_T: Z of the distances to the nearest training image, fakes against held-out reals, per cell, averaged.

    Cells come from k-means of the training images; each counts as much as the share of the held-out reals in it.

    Args:
        train: features [T, D].
        held_out: features [N, D].
        fakes: features [M, D].
        cells: how many.
        seed: of the k-means.

    Returns:
        Below −3, say: fakes lie nearer to training images than other reals do. NaN if no cell has enough images.
    """
    centres = k_means(train, cells, seed)
    places = [nearest(x, centres)[1] for x in (train, held_out, fakes)]
    total = weight = 0.0
    for cell in range(cells):
        near, others, made = (x[place == cell] for x, place in zip((train, held_out, fakes), places, strict=True))
        if len(near) and min(len(others), len(made)) >= LEAST_IN_CELL:
            total += len(others) * rank_z(nearest(others, near)[0], nearest(made, near)[0])
            weight += len(others)
    return total / weight if weight else math.nan


def k_means(x: Tensor, cells: int, seed: int, rounds: int = 30) -> Tensor:
    """Centres [cells, D] of a k-means of x [N, D]; each but the first starts far from those before (k-means++)."""
    generator = torch.Generator().manual_seed(seed)
    centres = x[torch.randint(len(x), (1,), generator=generator)].double()
    while len(centres) < cells:
        squares = nearest(x, centres)[0].square().cpu() + torch.finfo(torch.float64).tiny
        centres = torch.cat((centres, x[torch.multinomial(squares, 1, generator=generator)].double()))
    for _ in range(rounds):
        place = nearest(x, centres)[1]
        for cell in set(place.tolist()):  # one that lost all its images stays where it is
            centres[cell] = x[place == cell].double().mean(0)
    return centres


def principal(train: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Mean [D] and the `width` main directions [D, w] of features [T, D]; fewer where there are no more."""
    mean = train.double().mean(0)
    centred = train.double() - mean
    if len(train) < train.shape[1]:
        _, vectors = torch.linalg.eigh(centred @ centred.T)
        directions = torch.linalg.qr(centred.T @ vectors.flip(1)[:, : min(width, len(train) - 1)]).Q
    else:
        directions = torch.linalg.eigh(centred.T @ centred)[1].flip(1)[:, :width]
    return mean, directions


@dataclass
class Authenticity(FeatureMetric):
    """Share of the fakes that are no near copies: not nearer to a training image than its own neighbour is."""

    symbol: ClassVar[str] = "authenticity"
    better: ClassVar[str] = "higher"

    def compute(self, context: MetricContext) -> dict[str, float]:
        """`authenticity<num>_<extractor>`."""
        sets = self.sets(context)
        share = float(authentic(sets.fakes, sets.reals).double().mean())
        return {self.result_name(sets.extractor): Measured(share, share_interval(share, len(sets.fakes)), sets.counts)}


@dataclass
class DataCopying(FeatureMetric):
    """C_T: are fakes nearer to the training images than held-out reals are? Well below 0: they are copies.

    Args:
        num: number of generated images.
        extractor: name of the feature extractor; "" is the default one.
        cells: of a k-means of the training images, each judged by itself.
        pca: features are reduced to so many main directions of the training images.
    """

    cells: int = 3
    pca: int = 64

    symbol: ClassVar[str] = "ct"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reference != "train":
            raise ConfigError("ct compares with both parts of the data", "Leave reference out.")
        if not (isinstance(self.cells, int) and self.cells >= 1 and isinstance(self.pca, int) and self.pca >= 1):
            raise ConfigError(f"cells is {self.cells} and pca {self.pca}", "Choose whole numbers of at least 1.")

    def check(self, extractors: Registry[Any], dataset: Dataset) -> None:
        """The extractor is there, and images were kept out of training."""
        super().check(extractors, dataset)
        check_held_out(dataset)

    def compute(self, context: MetricContext) -> dict[str, float]:
        """`ct<num>_<extractor>`: a Z score, which needs no interval."""
        sets = self.sets(context)
        held_out = context.real_features(self.extractor, "val").to(sets.reals.device)
        if len(sets.reals) < 2 * self.cells:
            raise ConfigError(f"{len(sets.reals)} training images are too few for {self.cells} cells")
        mean, directions = principal(sets.reals, self.pca)
        train, others, fakes = ((x.double() - mean) @ directions for x in (sets.reals, held_out, sets.fakes))
        score = copying_z(train, others, fakes, self.cells, context.seed)
        if math.isnan(score):
            raise ConfigError(
                f"no cell has {LEAST_IN_CELL} held-out images and {LEAST_IN_CELL} fakes",
                "Keep more images out of training, or use fewer cells.",
            )
        counts = Counts(len(fakes), len(train) + len(others), "both")
        return {self.result_name(sets.extractor): Measured(score, None, counts)}


@hookimpl
def register_metrics(register: Register[type[Metric]]) -> None:
    """Offer `authenticity` and `ct`."""
    register("authenticity", Authenticity)
    register("ct", DataCopying)
