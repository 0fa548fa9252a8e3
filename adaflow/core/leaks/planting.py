"""How small a leak would have been seen: transforms planted among real images, distorted as the fakes seem to be."""

from __future__ import annotations

import torch
from torch import Tensor

from adaflow.core.leaks.mixture import Shares, expectation_maximisation, simulate
from adaflow.core.leaks.search import ALIGNED_MARGIN, MARGIN, Look, Search, alarm

RATES = (0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)
SURE = 0.9
"""How often a rate must be found to count as one that would have been seen."""
TIMES = 40
PLANTED = 1000
"""Images in a set in which something is planted, at most."""


def smallest_rates(search: Search, look: Look, images: int) -> dict[str, float | None]:
    """The smallest of `RATES` that would have been called a leak, for each transform that can be told; None: none.

    Args:
        search: with the real images.
        look: at the fakes, which says how they are distorted.
        images: how many fakes there are.
    """
    generator = torch.Generator().manual_seed(search.seed + 1)
    harmless = look.raw.sources * (search.sources.owners == 0)
    harmless = harmless / harmless.sum()
    found: dict[str, float | None] = {}
    for answer, name in enumerate(search.suspects, start=1):
        seen = _seen_by_counts(search, look.raw, harmless, answer, images, generator)
        rates = [rate for rate, often in zip(RATES, seen, strict=True) if often >= SURE]
        found[name] = next((rate for rate in rates if _seen_aligned(search, harmless, answer, rate, generator)), None)
    return found


def _seen_by_counts(
    search: Search, raw: Shares, harmless: Tensor, answer: int, images: int, generator: torch.Generator
) -> list[float]:
    """How often traces as they are raise the alarm at each of `RATES`."""
    known = search.sources.frequencies()
    own = (search.sources.owners == answer).float()
    often = []
    for rate in RATES:
        planted = harmless * (1 - rate) + own / own.sum() * rate
        observed = simulate(planted, known, images, TIMES, generator)
        resampled = search.sources.resampled(TIMES, generator)
        shares = search.sources.by_answer(expectation_maximisation(observed, resampled))[:, answer]
        low = shares - 1.96 * shares.std()
        often.append(float(((low > MARGIN) & (shares > raw.by_chance[answer] + MARGIN)).float().mean()))
        if often[-1] == 1:
            return often + [1.0] * (len(RATES) - len(often))
    return often


def _seen_aligned(search: Search, harmless: Tensor, answer: int, rate: float, generator: torch.Generator) -> bool:
    """Whether traces that were aligned raise the alarm, too."""
    name = search.suspects[answer - 1]
    transformed = search.reference.transformed[name]
    count = min(PLANTED, len(transformed) // 2 * 2)
    sets = search.innocent_sets()
    weights = torch.stack([harmless[search.keys.index(key)] for key in sets])
    which = torch.multinomial(weights, count, replacement=True, generator=generator)
    rows = torch.empty(count, transformed.shape[1])
    for place, traces in enumerate(sets.values()):
        chosen = (which == place).nonzero().flatten()
        rows[chosen] = traces[_same_fold(chosen, len(traces), generator)]
    planted = torch.randperm(count, generator=generator)[: round(rate * count)]
    rows[planted] = transformed[_same_fold(planted, len(transformed), generator)]
    shares = search.look_aligned(rows, TIMES, cross=True)
    return bool(alarm(shares, ALIGNED_MARGIN)[answer])


def _same_fold(places: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Random rows below `count`, each even where its place is, for the same probe looks at both."""
    return torch.randint(count // 2, (len(places),), generator=generator) * 2 + places % 2
