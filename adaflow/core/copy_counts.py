"""How many copies there are, and whether fakes are nearer to training images on the whole, beyond chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adaflow.core.leak_detector import Verdict

LIKELY = 1e-3
"""So many of the held-out reals, at most, would be taken for likely copies."""

CERTAIN = 0.01
"""So many checks of clean fakes would show one copy that counts as certain."""

CHANCE = 0.01
"""So many checks of clean fakes would have too many likely copies."""

NEARER = 4.0
"""A Z of Mann and Whitney; clean fakes pass it once in 30,000 checks."""

MISSED = 1.645
"""So many standard deviations above `NEARER`, a true difference is missed in one of 20 checks."""

LARGEST_UNSEEN = 0.5
"""Where as many fakes could be copies without being nearer on the whole, nothing can be told."""

FEWEST_SOURCES = 50
"""Fakes that are nearest to fewer training images, in effect, are the same few images again and again."""


@dataclass(frozen=True)
class Tail:
    """How close held-out reals come to training images, beyond the ninth tenth: an exponential law.

    Args:
        start: where the last tenth begins.
        scale: mean excess over it, one standard error more than estimated.
    """

    start: float
    scale: float

    @staticmethod
    def of(closeness: Tensor) -> Tail:
        """Fit it; by the median, which a few twins do not move."""
        start = closeness.quantile(0.9)
        beyond = closeness[closeness > start] - start
        scale = float(beyond.median()) / math.log(2) if len(beyond) else 0.0
        return Tail(float(start), max(scale, 0.05) * (1 + 1 / (math.log(2) * math.sqrt(max(len(beyond), 1)))))

    def threshold(self, rate: float) -> float:
        """The closeness that so many of the held-out reals reach, rate ≤ 0.1."""
        return self.start + self.scale * math.log(0.1 / rate)


@dataclass(frozen=True)
class CopyCount:
    """How many of some fakes are copies.

    Args:
        limits: the closeness of likely and of certain copies.
        likely: fakes at least as close as the first.
        certain: fakes at least as close as the second.
        enough: so many likely ones are no chance.
    """

    limits: tuple[float, float]
    likely: int
    certain: int
    enough: int

    @staticmethod
    def of(scores: Tensor, tail: Tail) -> CopyCount:
        """Count fakes by their scores [N]."""
        n = len(scores)
        limits = tail.threshold(LIKELY), tail.threshold(CERTAIN / n)
        likely, certain = (int((scores >= limit).sum()) for limit in limits)
        return CopyCount(limits, likely, certain, least_count(n, LIKELY, CHANCE))

    @property
    def leak(self) -> bool:
        """Whether this is no chance."""
        return self.certain > 0 or self.likely >= self.enough


@dataclass(frozen=True)
class Nearness:
    """Whether fakes are nearer to training images, on the whole, than held-out reals are.

    Args:
        share: of the pairs of a fake and a held-out real, those whose fake is the nearer one.
        deviation: of that share, by chance.
        sources: number of training images that fakes are nearest to, in effect.
    """

    share: float
    deviation: float
    sources: float

    @staticmethod
    def of(reals: Tensor, fakes: Tensor, sources: Tensor) -> Nearness:
        """Compare by ranks, as Mann and Whitney do; fakes of one source say the same, and count as one.

        Args:
            reals: closeness of the held-out reals, [M].
            fakes: that of the fakes, [N].
            sources: places of the training images they are nearest to, int64 [N].
        """
        n, m = len(fakes), len(reals)
        ordered = reals.sort().values
        first, last = (torch.searchsorted(ordered, fakes, right=right).double() for right in (False, True))
        below = (first + last) / 2 / m  # ties count half
        off, sizes = (
            torch.zeros(int(sources.max()) + 1, dtype=torch.float64).index_add_(0, sources, values)
            for values in (below - below.mean(), torch.ones(n, dtype=torch.float64))
        )
        of_fakes = max(float(off.square().sum()) / n**2, 1 / 12 / n)
        deviation = math.sqrt(of_fakes + 1 / 12 / m)
        return Nearness(float(below.mean()), deviation, n**2 / float(sizes.square().sum()))

    @property
    def z(self) -> float:
        """By how many standard deviations the share is more than a half."""
        return (self.share - 0.5) / self.deviation

    @property
    def smallest_seen(self) -> float:
        """The share of copies among the fakes that would have been seen."""
        return min(2 * ((NEARER + MISSED) * self.deviation + max(0.5 - self.share, 0)), 1.0)

    @property
    def verdict(self) -> Verdict:
        """What this says."""
        if self.sources < FEWEST_SOURCES:
            return "cannot tell"
        return "leak" if self.z > NEARER else "clean" if self.smallest_seen <= LARGEST_UNSEEN else "cannot tell"


def least_count(n: int, rate: float, chance: float) -> int:
    """The smallest count that n images of which each counts with probability `rate` reach with at most that chance."""
    from scipy.special import bdtrc  # type: ignore[import-untyped]

    return next(count for count in range(1, n + 2) if count > n or bdtrc(count - 1, n, rate) <= chance)
