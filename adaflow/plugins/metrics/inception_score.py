"""`is`: the Inception score, with any classifier (Salimans et al. 2016, arXiv 1606.03498). It looks at fakes alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from adaflow.core.measured import Counts, Measured, normal_interval
from adaflow.core.metric import Metric, MetricContext, check_extractor
from adaflow.errors import ConfigError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.data.dataset import Dataset
    from adaflow.plugin_manager import Register
    from adaflow.registry import Registry


def divergences(probabilities: Tensor) -> Tensor:
    """KL(p(y|x) ‖ p(y)) of each image, with p(y) their mean; float64 [N], from probabilities [N, classes]."""
    p = probabilities.double()
    result: Tensor = (torch.special.xlogy(p, p) - torch.special.xlogy(p, p.mean(0))).sum(1)
    return result


def inception_score(probabilities: Tensor, splits: int = 10) -> tuple[float, float]:
    """exp(mean KL) of class probabilities [N, classes]: mean and spread, with 1/N, over successive parts of the set."""
    parts = probabilities.tensor_split([len(probabilities) * part // splits for part in range(1, splits)])
    scores = [float(divergences(part).mean().exp()) for part in parts]
    mean = math.fsum(scores) / splits
    return mean, math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / splits)


@dataclass
class InceptionScore(Metric):
    """How sure a classifier is of each fake, and how many classes it sees among them.

    Args:
        num: number of generated images.
        extractor: a feature extractor that knows classes; "" is the default one.
        splits: the score is the mean over so many parts of the fakes.

    Raises:
        ConfigError: numbers that do not fit.
    """

    num: int = 500
    extractor: str = ""
    splits: int = 10

    better: ClassVar[str] = "higher"
    given_name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not isinstance(self.splits, int) or self.splits < 1:
            raise ConfigError(f"splits is {self.splits}", "Choose a whole number of at least 1.")
        if not isinstance(self.num, int) or self.num < 2 * self.splits:
            raise ConfigError(f"num is {self.num}", f"Choose a whole number of at least {2 * self.splits}.")

    def check(self, extractors: Registry[Any], dataset: Dataset) -> None:
        """The extractor is there with its weights."""
        check_extractor(self.extractor, extractors)

    def compute(self, context: MetricContext) -> dict[str, float]:
        """`is<num>_<extractor>`, or `is50k_mean` and `is50k_std`."""
        probabilities = context.fake_probabilities(self.num, self.extractor)
        mean, spread = inception_score(probabilities, self.splits)
        # The mean of p(y) is where their sum is least, so only the divergences themselves move the score.
        error = float(divergences(probabilities).std(correction=1)) / math.sqrt(self.num) * mean
        result = Measured(mean, normal_interval(mean, error), Counts(self.num))
        if self.given_name:
            return {f"{self.given_name}_mean": result, f"{self.given_name}_std": spread}
        return {f"is{self.num}_{context.extractor(self.extractor).name}": result}


@dataclass
class IS50k(InceptionScore):
    """The Inception score of 50,000 fakes: mean and spread over ten parts."""

    num: int = field(default=50_000, init=False)
    extractor: str = field(default="inception", init=False)
    splits: int = field(default=10, init=False)
    given_name: ClassVar[str] = "is50k"


@hookimpl
def register_metrics(register: Register[type[Metric]]) -> None:
    """Offer `is` and `is50k`."""
    register("is", InceptionScore)
    register("is50k", IS50k)
