"""`vendi`: how many different images there are, in effect (Friedman & Dieng 2022, arXiv 2210.02410)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from adaflow.core.measured import Counts, Measured
from adaflow.core.metric import FeatureMetric, Metric, MetricContext
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register


def vendi_score(x: Tensor) -> float:
    """exp(entropy of the eigenvalues of K / N), K the cosines between features [N, D]: 1 for copies, at most N."""
    unit = F.normalize(x.double(), dim=1)
    # Unit·Unitᵀ and Unitᵀ·Unit have the same eigenvalues but for zeros.
    small = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    shares = torch.linalg.eigvalsh(small / len(unit)).clamp(min=0)
    return float(torch.special.entr(shares).sum().exp())


def some(features: Tensor, most: int, seed: int) -> Tensor:
    """At most so many of the features [N, D], chosen by the seed."""
    if len(features) <= most:
        return features
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    return features[order[:most].to(features.device)]


@dataclass
class Vendi(FeatureMetric):
    """The number of different fakes, and for comparison that of as many reals: the score grows with their number.

    With fewer reals than `num`, both are taken of so many.
    """

    symbol: ClassVar[str] = "vendi"
    better: ClassVar[str] = "higher"

    def compute(self, context: MetricContext) -> dict[str, float]:
        """`vendi<n>_<extractor>` of n fakes and `vendi<n>_reals_<extractor>` of n reals.

        There is no interval: resampling repeats images, which is just what the score counts.
        """
        sets = self.sets(context)
        n = min(len(sets.fakes), len(sets.reals))
        counts = Counts(n, n, self.reference)
        scores = {"vendi": sets.fakes[:n], "vendi_reals": some(sets.reals, n, context.seed)}
        part = f"_{self.reference}" if self.reference != "train" else ""
        return {
            f"vendi{n}{kind.removeprefix('vendi')}{part}_{sets.extractor}": Measured(vendi_score(x), None, counts)
            for kind, x in scores.items()
        }


@hookimpl
def register_metrics(register: Register[type[Metric]]) -> None:
    """Offer `vendi`."""
    register("vendi", Vendi)
