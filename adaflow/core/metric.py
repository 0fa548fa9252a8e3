"""What a metric is, and what it gets to see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from adaflow.core.data.dataset import Dataset
    from adaflow.core.features import FeatureExtractor


@dataclass(frozen=True)
class MetricContext:
    """A generator, the data it was trained on, and the means to compare them.

    Args:
        fakes: `fakes(count)` yields batches of generated images, uint8 [n, C, H, W], the same ones at every call.
        dataset: the training data.
        extractor: `extractor(name)` gives the feature extractor of that name, "" the default one.
        seed: of the run, for whatever a metric draws.
    """

    fakes: Callable[[int], Iterator[Tensor]]
    dataset: Dataset
    extractor: Callable[[str], FeatureExtractor]
    seed: int

    def reals(self, count: int | None = None, batch: int = 64) -> Iterator[Tensor]:
        """Training images without mirroring, uint8 [n, C, H, W], at most `count` of them, in the order of the set."""
        indices = self.dataset.train_indices[:count]
        for start in range(0, len(indices), batch):
            yield self.dataset.take(indices[start : start + batch])


class Metric(ABC):
    """Measures a generator. A subclass is a dataclass of its settings; `--metrics "name(setting=value)"` sets them."""

    @abstractmethod
    def compute(self, context: MetricContext) -> dict[str, float]:
        """The results, each under a name of its own, for example `{"fd500": 812.4}`."""
