"""Shares of a mixture: how many of the images came from each of several known sources, from the cells they fell in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
        images: which of the real images each was made from, [M_j] int64; sources made from the same images share what
            is odd about these.
        owners: which answer each source belongs to, [J] int64; 0 is "none".
        answers: how many there are, K.
        count: of cells, C; those of an answer lie together, so many for each.
        alike: answers that are hard to tell from each other; the sum of each such group counts as one more answer,
            after the others.
    """

    cells: Sequence[Tensor]
    images: Sequence[Tensor]
    owners: Tensor
    answers: int
    count: int
    alike: Sequence[Sequence[int]] = ()

    @property
    def total(self) -> int:
        """How many real images there are."""
        return 1 + max(int(images.max()) for images in self.images)

    def frequencies(self) -> Tensor:
        """Of cells, [J, C]."""
        return torch.stack([frequencies(cells, self.count) for cells in self.cells])

    def resampled(self, times: int, generator: torch.Generator) -> Tensor:
        """The same of random draws of the real images with replacement, one for all sources, [times, J, C]."""
        drawn = torch.randint(self.total, (times, self.total), generator=generator)
        often = torch.zeros(times, self.total).scatter_add_(1, drawn, torch.ones(drawn.shape))
        found = []
        for cells, images in zip(self.cells, self.images, strict=True):
            counts = torch.zeros(times, self.count).index_add_(1, cells, often[:, images]) + SMOOTHING
            found.append(counts / counts.sum(1, keepdim=True))
        return torch.stack(found, 1)

    def joined(self, cells: Sequence[Tensor], owners: Sequence[int]) -> Sources:
        """These and more sources, made from other images, which all of the new ones share."""
        images = [torch.arange(len(part)) + self.total for part in cells]
        return replace(
            self,
            cells=[*self.cells, *cells],
            images=[*self.images, *images],
            owners=torch.cat([self.owners, torch.tensor(owners, dtype=torch.int64)]),
        )

    def harmless(self, shares: Tensor) -> Tensor:
        """Shares of sources [J] without those that belong to a transform; all alike if nothing is left."""
        kept = (shares + 1e-6) * (self.owners == 0)
        return kept / kept.sum()

    def by_answer(self, shares: Tensor) -> Tensor:
        """Shares of sources [..., J] → of answers and sums of those alike [..., K + S]."""
        total = torch.zeros(*shares.shape[:-1], self.answers)
        return self.with_sums(total.index_add_(-1, self.owners, shares))

    def with_sums(self, values: Tensor) -> Tensor:
        """Values of answers [..., K] and, after them, sums of those alike, [..., K + S]."""
        sums = [values[..., list(answers)].sum(-1, keepdim=True) for answers in self.alike]
        return torch.cat([values, *sums], -1)


@dataclass(frozen=True)
class Shares:
    """What was found, at K + S places: of K answers, and of S sums of answers that are alike.

    Args:
        value: share of each, [K + S].
        low, high: bounds of the 95 % interval by the bootstrap of images and sources, [K + S], if the mixture is right.
        by_chance: the share that 97.5 of 100 such sets do not exceed in which no transform has a share, [K + S].
        misfit: share of all images that are in cells of an answer and not explained by the mixture, or the other way
            round, [K + S]. Artefacts that are like none of the sources raise it, mostly for what they resemble.
    """

    value: Tensor
    low: Tensor
    high: Tensor
    by_chance: Tensor
    misfit: Tensor

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Of the interval, wider by the misfit, [K + S] each."""
        return (self.low - self.misfit).clamp(min=0), (self.high + self.misfit).clamp(max=1)


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
    misfit = sources.with_sums((observed - by_source @ known).abs().view(sources.answers, -1).sum(1))
    resampled = sources.resampled(times, generator)
    drawn = frequencies(cells[torch.randint(n, (times, n), generator=generator)], sources.count)
    low, high = _quantiles(sources.by_answer(expectation_maximisation(drawn, resampled)), LEVELS)

    # Fakes do not show more different things than there are real images.
    independent = min(n, sources.total)
    innocent = simulate(sources.harmless(by_source), known, independent, times, generator)
    by_chance = _quantiles(sources.by_answer(expectation_maximisation(innocent, resampled)), LEVELS[1:])[0]
    return Shares(sources.by_answer(by_source), low, high, by_chance, misfit)


def simulate(shares: Tensor, known: Tensor, images: int, times: int, generator: torch.Generator) -> Tensor:
    """Frequencies [times, C] of sets of images that come from sources [J, C] with given shares [J]."""
    cells = torch.multinomial(shares @ known, times * images, replacement=True, generator=generator)
    return frequencies(cells.view(times, images), known.shape[1])


def _quantiles(values: Tensor, levels: Sequence[float]) -> Tensor:
    return torch.quantile(values, torch.tensor(levels), dim=0)
