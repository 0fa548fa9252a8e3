"""How small a leak would have been seen: transforms are planted among the images themselves, with their artefacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from adaflow.core.leaks.search import Search, Seen, Transformed

RATES = (0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
TIMES = 60
"""Draws of the bootstrap."""
MOST = 1000
"""So many of the images are enough for trials."""


def smallest_rates(
    search: Search,
    images: Seen,
    transformed: Mapping[str, Transformed],
    planted: Mapping[str, Sequence[Seen]],
    seed: int = 0,
) -> dict[str, float | None]:
    """The smallest of `RATES` that raises the alarm, for each transform that can be told; None: none does.

    Args:
        search: with the real images.
        images: to plant among.
        transformed: some of them after each transform, by name, as known to the search.
        planted: others of them, by name, for each trial: a rate counts as seen if it is seen in every trial.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    images = images[:MOST]

    def seen(name: str, rate: float) -> bool:
        for part in planted[name]:
            mixed = plant(images, part, rate, generator)
            if name not in search.leaks(search.look(mixed, transformed, TIMES), mixed, transformed):
                return False
        return True

    # Not by bisection: what nearly half of the images show is harder to see than what a tenth shows.
    return {
        name: next((rate for rate in RATES if seen(name, rate)), None)
        if search.shows(images, transformed[name].sharp, name)
        else None
        for name in search.suspects
    }


def plant(images: Seen, transformed: Seen, rate: float, generator: torch.Generator) -> Seen:
    """A set of images of which a share is replaced by transformed ones."""
    places = torch.randperm(len(images), generator=generator)[: round(rate * len(images))]
    # Even images are seen by one probe and odd ones by the other.
    rows = torch.randint(len(transformed) // 2, (len(places),), generator=generator) * 2 + places % 2
    traces, scores = images.traces.clone(), images.scores.clone()
    traces[places], scores[places] = transformed.traces[rows], transformed.scores[rows]
    return Seen(traces, scores)
