"""How small a leak would have been seen: transforms are planted among the images themselves, with their artefacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from adaflow.core.leaks.search import Search, Seen, Transformed

RATES = (0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
TIMES = 60
"""Draws of the bootstrap."""
MOST = 1000
"""So many of the images are enough for trials."""


def smallest_rate(
    search: Search,
    images: Seen,
    transformed: Mapping[str, Transformed],
    planted: Sequence[Seen],
    name: str,
    seed: int = 0,
) -> float | None:
    """The smallest of `RATES` that raises the alarm, as does the next larger one; None: none does.

    Args:
        search: with the real images.
        images: to plant among.
        transformed: some of them after each transform, by name, as known to the search.
        planted: others of them after the transform, for each trial: a rate is seen if it is in every trial.
        name: of the transform, one that can be told.
        seed: of the draws.
    """
    if not search.shows(images, transformed[name].sharp, name):
        return None
    images = images[:MOST]
    odds = search.odds(images, name)
    generator = torch.Generator().manual_seed(seed)

    def seen(rate: float) -> bool:
        for part in planted:
            mixed = plant(images, part, rate, odds, generator)
            if name not in search.leaks(search.look(mixed, transformed, TIMES), mixed, transformed):
                return False
        return True

    # Not by bisection: what nearly half of the images show is harder to see than what a tenth shows.
    smaller = None
    for rate in RATES:
        if not seen(rate):
            smaller = None
        elif smaller is not None:
            return smaller
        else:
            smaller = rate
    return smaller


def plant(images: Seen, transformed: Seen, rate: float, odds: Tensor, generator: torch.Generator) -> Seen:
    """A set of images of which those with the largest odds, a share, are replaced by transformed ones.

    For what shows the transform already, unnoticed, would add to what is planted.
    """
    places = odds.topk(round(rate * len(images))).indices
    # Even images are seen by one probe and odd ones by the other.
    rows = torch.randint(len(transformed) // 2, (len(places),), generator=generator) * 2 + places % 2
    traces, scores = images.traces.clone(), images.scores.clone()
    traces[places], scores[places] = transformed.traces[rows], transformed.scores[rows]
    return Seen(traces, scores)
