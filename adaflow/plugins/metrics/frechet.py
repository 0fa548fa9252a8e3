"""`fd`: Fréchet distance between the features of fakes and reals (Heusel et al. 2017, arXiv 1706.08500)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adaflow.core.metric import Metric, MetricContext
from adaflow.errors import ConfigError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """|μx − μy|² + tr(Cx + Cy − 2·(Cx·Cy)^½) of two sets of features, covariances with 1/N, in float64.

    Needs no inverse and no matrix root, so singular covariances (fewer images than features) are no special case.

    Args:
        x: features [N, D].
        y: features [M, D].
    """
    x, y = x.double(), y.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    centred_x, centred_y = (x - mean_x) / len(x) ** 0.5, (y - mean_y) / len(y) ** 0.5
    # tr((Cx·Cy)^½) is the sum of the singular values of Y·Xᵀ, whose squares are the eigenvalues of Cx·Cy. The
    # triangular factors of X and Y have the same covariances, and at most D rows.
    root_x, root_y = (torch.linalg.qr(centred, mode="r").R for centred in (centred_x, centred_y))
    root = torch.linalg.svdvals(root_y @ root_x.T).sum()
    traces = centred_x.square().sum() + centred_y.square().sum()
    return float((mean_x - mean_y).square().sum() + traces - 2 * root)


@dataclass
class FrechetDistance(Metric):
    """Fréchet distance of `num` fakes to the training images. Not an FID: that needs the Inception network.

    Args:
        num: number of generated images.
        extractor: name of the feature extractor; "" is the default one.

    Raises:
        ConfigError: `num` is no whole number of at least 2.
    """

    num: int = 500
    extractor: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.num, int) or self.num < 2:
            raise ConfigError(f"num is {self.num}", "Choose a whole number of at least 2.")

    def compute(self, context: MetricContext) -> dict[str, float]:
        """`fd<num>_<extractor>`."""
        extractor = context.extractor(self.extractor)
        fakes = extractor.all(context.fakes(self.num))
        reals = extractor.all(context.reals())
        return {f"fd{self.num}_{extractor.name}": frechet_distance(fakes, reals)}


@hookimpl
def register_metrics(register: Register[type[Metric]]) -> None:
    """Offer `fd`."""
    register("fd", FrechetDistance)
