"""`ppl`: how far images move for a small step of w (Karras et al. 2019, arXiv 1812.04948), at the ends of paths.

Only with the network of LPIPS is it the customary number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from adaflow.core.measured import Counts, Measured, normal_interval
from adaflow.core.metric import Metric, MetricContext, check_extractor
from adaflow.core.random import normal, stream_key, uniform
from adaflow.errors import ConfigError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.data.dataset import Dataset
    from adaflow.plugin_manager import Register
    from adaflow.registry import Registry

BATCH = 16
LARGEST = 256
"""Pixels along each side that larger images are reduced to, by averaging."""


def trimmed(lengths: Tensor) -> Tensor:
    """Lengths without the lowest and the highest percent, as the metric is defined."""
    low = torch.quantile(lengths, 0.01, interpolation="lower")
    high = torch.quantile(lengths, 0.99, interpolation="higher")
    return lengths[(lengths >= low) & (lengths <= high)]


@dataclass
class PathLength(Metric):
    """Squared distance of features for a step from w towards another one, over the step squared.

    Args:
        num: number of paths.
        extractor: name of the feature extractor; "" is the default one.
        step: as a share of the way.

    Raises:
        ConfigError: numbers out of range.
    """

    num: int = 500
    extractor: str = ""
    step: float = 1e-4

    better: ClassVar[str] = "lower"
    given_name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not isinstance(self.num, int) or self.num < 2:
            raise ConfigError(f"num is {self.num}", "Choose a whole number of at least 2.")
        if not 0 < self.step <= 0.1:
            raise ConfigError(f"step is {self.step}", "Choose a number above 0, up to 0.1.")

    def check(self, extractors: Registry[Any], dataset: Dataset) -> None:
        """The extractor is there with its weights."""
        check_extractor(self.extractor, extractors)

    def compute(self, context: MetricContext) -> dict[str, float]:
        """`ppl<num>_<extractor>`, or `ppl2_wend`."""
        lengths = trimmed(self.lengths(context))
        mean, error = float(lengths.mean()), float(lengths.std(correction=1)) / math.sqrt(len(lengths))
        name = self.given_name or f"ppl{self.num}_{context.extractor(self.extractor).name}"
        return {name: Measured(mean, normal_interval(mean, error), Counts(self.num))}

    @torch.no_grad()
    def lengths(self, context: MetricContext) -> Tensor:
        """Of all paths, float64 [num], each a function of the seed and its number.

        Raises:
            ConfigError: the fakes are no network's.
        """
        G = context.generator
        if G is None:
            raise ConfigError("path length needs a network, not images", "Leave ppl out.")
        extractor, device = context.extractor(self.extractor), next(G.parameters()).device
        pool = context.dataset.labels[context.dataset.train_indices].to(device)
        keys = [stream_key(context.seed, "path length", end) for end in ("from", "to")]
        lengths = []
        for start in range(0, self.num, BATCH):
            count = torch.arange(start, min(start + BATCH, self.num), device=device)
            u = uniform(stream_key(context.seed, "path length", "label"), count)
            labels = pool[(u.double() * len(pool)).long().clamp_(max=len(pool) - 1)]
            begin, end = (G.mapping(normal(key, count, (G.config.z_dim,)), labels) for key in keys)
            near, far = (
                extractor(_as_pixels(G.synthesis(ws, noise="const"))).double()
                for ws in (begin, begin.lerp(end, self.step))
            )
            lengths.append((near - far).square().sum(1).cpu() / self.step**2)
        return torch.cat(lengths)


def _as_pixels(images: Tensor) -> Tensor:
    """[−1, 1] → 0 … 255, not rounded, and at most 256 pixels along each side."""
    if images.shape[-1] > LARGEST:
        images = F.avg_pool2d(images, images.shape[-1] // LARGEST)
    return (images + 1) * 127.5


@dataclass
class PPL2WEnd(PathLength):
    """The perceptual path length in w, at the ends of 50,000 paths, by LPIPS."""

    num: int = field(default=50_000, init=False)
    extractor: str = field(default="vgg16-lpips", init=False)
    step: float = field(default=1e-4, init=False)
    given_name: ClassVar[str] = "ppl2_wend"


@hookimpl
def register_metrics(register: Register[type[Metric]]) -> None:
    """Offer `ppl` and `ppl2_wend`."""
    register("ppl", PathLength)
    register("ppl2_wend", PPL2WEnd)
