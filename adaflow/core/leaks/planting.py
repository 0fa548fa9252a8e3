"""How small a leak would have been seen: transforms are planted among the images themselves, with their artefacts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from adaflow.core.leaks.search import Search

RATES = (0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
TRIALS = 2
"""A rate counts as seen if it is seen each time."""
TIMES = 30
"""Draws of the bootstrap."""
MOST = 1000
"""So many of the images are enough for trials."""


def smallest_rates(
    search: Search, traces: Tensor, transformed: Mapping[str, Tensor], seed: int = 0
) -> dict[str, float | None]:
    """The smallest of `RATES` that raises the alarm, for each transform that can be told; None: none does.

    Args:
        search: with the real images.
        traces: of the images, [N, D].
        transformed: of some of them after each transform, [T, D] by name; row i is from image i.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    traces = traces[:MOST]
    half = len(next(iter(transformed.values()), traces)) // 4 * 2
    known = {name: rows[:half] for name, rows in transformed.items()}

    def seen(name: str, rate: float) -> bool:
        return all(_seen(search, traces, known, transformed[name][half:], name, rate, generator) for _ in range(TRIALS))

    found: dict[str, float | None] = {}
    for name in search.suspects:
        if not search.shows(traces, known[name], name):
            found[name] = None
            continue
        low, high = 0, len(RATES)  # of the first rate that is seen, at least and at most
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if seen(name, RATES[middle]) else (middle + 1, high)
        found[name] = RATES[low] if low < len(RATES) else None
    return found


def _seen(
    search: Search,
    traces: Tensor,
    known: Mapping[str, Tensor],
    transformed: Tensor,
    name: str,
    rate: float,
    generator: torch.Generator,
) -> bool:
    """Whether a share of the images raises the alarm once it is replaced by transformed ones."""
    planted = traces.clone()
    places = torch.randperm(len(traces), generator=generator)[: round(rate * len(traces))]
    # Even images are seen by one probe and odd ones by the other.
    rows = torch.randint(len(transformed) // 2, (len(places),), generator=generator) * 2 + places % 2
    planted[places] = transformed[rows]
    return search.leak(search.look(planted, known, TIMES), planted, known[name], name)
