"""Shares of a mixture: how many of the images came from each of several known sources, from the cells they fell in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 150
SMOOTHING = 0.02
"""Added to every count, for a cell that no image of a source fell in is not impossible."""
LEVELS = (0.025, 0.975)


@dataclass(frozen=True)
class Sources:
    """Where images may come from.

    Args:
        cells: of the images of each of J sources, [M_j] int64.
        owners: which answer each source belongs to, [J] int64; 0 is "none".
        answers: how many there are, K.
        count: of cells, C.
    """

    cells: Sequence[Tensor]
    owners: Tensor
    answers: int
    count: int

    def frequencies(self) -> Tensor:
        """Of cells, [J, C]."""
        return torch.stack([frequencies(cells, self.count) for cells in self.cells])

    def resampled(self, times: int, generator: torch.Generator) -> Tensor:
        """The same of random draws of the images with replacement, [times, J, C]."""
        drawn = [cells[torch.randint(len(cells), (times, len(cells)), generator=generator)] for cells in self.cells]
        return torch.stack([frequencies(cells, self.count) for cells in drawn], 1)

    def by_answer(self, shares: Tensor) -> Tensor:
        """Shares of sources [..., J] → of answers [..., K]."""
        total = torch.zeros(*shares.shape[:-1], self.answers)
        return total.index_add_(-1, self.owners, shares)


@dataclass(frozen=True)
class Shares:
    """What was found.

    Args:
        value: share of each answer, [K].
        low, high: bounds of the 95 % interval by the bootstrap of images and sources, [K].
        by_chance: the share that is not exceeded in 97.5 of 100 such sets in which no transform has a share, [K].
        sources: share of each source, [J].
        misfit: χ² over its expectation: 1 where a mixture of these sources explains the cells.
    """

    value: Tensor
    low: Tensor
    high: Tensor
    by_chance: Tensor
    sources: Tensor
    misfit: float


def frequencies(cells: Tensor, count: int) -> Tensor:
    """How often each cell occurs, smoothed. [..., M] int64 → [..., C]."""
    counts = torch.zeros(*cells.shape[:-1], count).scatter_add_(-1, cells, torch.ones(cells.shape))
    counts += SMOOTHING
    return counts / counts.sum(-1, keepdim=True)


def expectation_maximisation(observed: Tensor, sources: Tensor) -> Tensor:
    """Maximum-likelihood shares [B, J], by EM from equal ones, of sources [B, J, C] in observed frequencies [B, C]."""
    shares = torch.full(sources.shape[:2], 1 / sources.shape[1])
    transposed = sources.transpose(1, 2).contiguous()
    for _ in range(STEPS):
        mixture = torch.bmm(shares[:, None], sources) + 1e-12
        shares = shares * torch.bmm(observed[:, None] / mixture, transposed)[:, 0]
    return shares


def find_shares(cells: Tensor, sources: Sources, generator: torch.Generator, times: int = 200) -> Shares:
    """Shares of the answers among images.

    Args:
        cells: of the images, [N] int64.
        sources: where they may come from.
        generator: for the bootstrap.
        times: how often images and sources are drawn.
    """
    n = len(cells)
    observed, known = frequencies(cells, sources.count), sources.frequencies()
    by_source = expectation_maximisation(observed[None], known[None])[0]
    resampled = sources.resampled(times, generator)
    drawn = frequencies(cells[torch.randint(n, (times, n), generator=generator)], sources.count)
    low, high = _quantiles(sources.by_answer(expectation_maximisation(drawn, resampled)), LEVELS)

    harmless = by_source * (sources.owners == 0)
    innocent = simulate(harmless / harmless.sum(), known, n, times, generator)
    by_chance = _quantiles(sources.by_answer(expectation_maximisation(innocent, resampled)), LEVELS[1:])[0]
    return Shares(
        sources.by_answer(by_source), low, high, by_chance, by_source, misfit(observed, by_source, known, n, sources)
    )


def simulate(shares: Tensor, known: Tensor, images: int, times: int, generator: torch.Generator) -> Tensor:
    """Frequencies [times, C] of sets of images that come from sources [J, C] with given shares [J]."""
    cells = torch.multinomial(shares @ known, times * images, replacement=True, generator=generator)
    return frequencies(cells.view(times, images), known.shape[1])


def misfit(observed: Tensor, shares: Tensor, known: Tensor, images: int, sources: Sources) -> float:
    """Pearson's χ² of the cells over its expectation; the sources are not exactly known, either."""
    fitted = shares @ known
    sizes = torch.tensor([len(cells) for cells in sources.cells])
    variance = fitted / images + (shares**2 / sizes) @ known
    common = fitted * images >= 1
    terms = (observed - fitted)[common].square() / variance[common]
    rare = (observed - fitted)[~common].sum().square() / variance[~common].sum().clamp(min=1e-9)
    return float(terms.sum() + rare) / max(int(common.sum()) + 1, 1)


def _quantiles(values: Tensor, levels: Sequence[float]) -> Tensor:
    return torch.quantile(values, torch.tensor(levels), dim=0)
