"""Checks of metrics: on a few hundred drawn images, with a feature extractor that costs nothing.

Metrics that have a setting `num`, of fakes or paths, are asked for few.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from adaflow.conformance import samples
from adaflow.conformance.check import (
    CheckSkipped,
    Subject,
    advanced_generators,
    generator_states,
    require,
    same_generators,
)
from adaflow.core.metric import Metric, MetricContext
from adaflow.errors import AdaflowError

NUM = 64
BETTER = ("", "lower", "higher")


def constructs(subject: Subject) -> None:
    """It can be made from its name, with its default settings or those given, is a `Metric`, and says whether lower or
    higher results are better, or neither."""
    made = subject.make()
    require(isinstance(made, Metric), f"it is a {type(made).__name__}, not an adaflow.Metric")
    require(made.better in BETTER, f'better is {made.better!r}, which is none of "lower", "higher" and ""')


def named_numbers(subject: Subject) -> str:
    """It gives at least one result, each a finite number under a name of its own."""
    results = _results(subject)
    for name, value in results.items():
        require(isinstance(name, str) and name.isprintable() and bool(name), f"a result has the name {name!r}")
        require(isinstance(value, float | int), f"{name} is a {type(value).__name__}, not a number")
        require(math.isfinite(value), f"{name} is {value}")
    require(bool(results), "it gives no result")
    return ", ".join(results)


def reproducible(subject: Subject) -> None:
    """It gives the same numbers for the same images and seed, and leaves the global random numbers alone."""
    ways = []
    for seed in (1, 2):
        with same_generators(seed):
            before = generator_states()
            ways.append(_results(subject))
            used = advanced_generators(before)
        require(not used, f"it uses the global generator of {', '.join(used)}: draw from context.seed")
    require(ways[0] == ways[1], "the same images give other numbers the second time")


def grey_images(subject: Subject) -> None:
    """It measures grey images, too."""
    results = _results(subject, channels=1)
    bad = [name for name, value in results.items() if not math.isfinite(value)]
    require(not bad, f"of grey images, {', '.join(bad)} is not finite")


def leaves_things_alone(subject: Subject) -> None:
    """The generator and the data are afterwards what they were."""
    context = _context(3)
    assert context.generator is not None
    network = {name: value.clone() for name, value in context.generator.state_dict().items()}
    pixels = context.dataset.pixels.clone()
    _results(subject, context=context)
    same = all(torch.equal(value, network[name]) for name, value in context.generator.state_dict().items())
    require(same, "it changes the generator's weights")
    require(not context.generator.training, "it leaves the generator in training mode")
    require(torch.equal(context.dataset.pixels, pixels), "it changes the images of the data set")


def _results(subject: Subject, channels: int = 3, context: MetricContext | None = None) -> dict[str, float]:
    """What it measures.

    Raises:
        CheckSkipped: its `check` says that something it needs is not here.
    """
    metric, context = cast(Metric, subject.make()), context or _context(channels)
    few: Any = metric
    if getattr(metric, "num", 0) > NUM:
        few.num = NUM
    try:
        metric.check(samples.StandIns(), context.dataset)
    except AdaflowError as error:
        raise CheckSkipped(error.message) from error
    results = metric.compute(context)
    require(isinstance(results, dict), f"compute() gives a {type(results).__name__}, not a dictionary")
    return results


def _context(channels: int) -> MetricContext:
    def fakes(count: int) -> Iterator[Tensor]:
        some = samples.fakes(channels)
        for start in range(0, count, NUM):
            yield some[torch.arange(start, min(start + NUM, count)) % len(some)]

    extractor, data = samples.StandIn(), samples.dataset(channels)
    # A copy, to be written into without harm for others.
    data = replace(data, pixels=data.pixels.clone())
    return MetricContext(fakes, data, lambda name: extractor, 0, samples.generator(channels))
