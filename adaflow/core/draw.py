"""Draws: what an augmentation takes its random parameters from.

A `Draw` hands out numbers for a batch of images: at random, or all of them at one percentile of their distribution. An
augmentation cannot tell which. Every distribution is a function of uniform numbers, its quantile function, so both
kinds of draw share the arithmetic.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from adaflow.core import random
from adaflow.errors import ConfigError

# The first numbers of every stream come from one call, those of all streams of a pipeline in one go.
FIRST_NUMBERS = 8


class Draw(ABC):
    """Random numbers for `n` images. All methods give one number, or one array of `shape`, for each image.

    Args:
        n: how many images.
        device: where the numbers live.
    """

    def __init__(self, n: int, device: torch.device) -> None:
        self.n = n
        self.device = device

    @abstractmethod
    def unit(self, shape: tuple[int, ...] = ()) -> Tensor:
        """[n, *shape] float32, uniform in the open interval (0, 1)."""

    @abstractmethod
    def select(self, index: Tensor) -> Draw:
        """The draw of some of the images.

        Args:
            index: [m] int64 positions, or [n] bool.
        """

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> Tensor:
        """[n, *shape], uniform between `low` and `high`."""
        return self.unit(shape).mul_(high - low).add_(low)

    def normal(self, std: float = 1.0, mean: float = 0.0, shape: tuple[int, ...] = ()) -> Tensor:
        """[n, *shape], normal."""
        return self.unit(shape).mul_(2.0).sub_(1.0).erfinv_().mul_(math.sqrt(2.0) * std).add_(mean)

    def lognormal2(self, std: float) -> Tensor:
        """[n], 2 to the power of a normal number of mean 0: a factor whose binary logarithm has this deviation."""
        return self.normal(std).exp2_()

    def half_normal(self, std: float) -> Tensor:
        """[n], the absolute value of a normal number of mean 0."""
        return self.unit().erfinv_().mul_(math.sqrt(2.0) * std)

    def integers(self, count: int) -> Tensor:
        """[n] int64, uniform in 0 … count - 1."""
        return self.unit().mul_(count).long().clamp_(max=count - 1)

    def fires(self, p: float | Tensor) -> Tensor:
        """[n] bool, true with probability `p` (0 to 1; a number or a 0-d tensor)."""
        return self.unit() < p


class RandomDraw(Draw):
    """Numbers at random, a function of the key, the image and the place in the sequence of requests.

    Args:
        key: the 64-bit key of the stream, see `adaflow.core.random.stream_key`.
        images: [n] int64, the number of each image in the run.
        first: [n, 8], the first numbers of the stream where they are known already.
    """

    def __init__(self, key: int, images: Tensor, first: Tensor | None = None) -> None:
        super().__init__(len(images), images.device)
        self.key = key
        self.images = images
        self.first = first
        self.used = 0
        self.calls = 1

    def unit(self, shape: tuple[int, ...] = ()) -> Tensor:
        """[n, *shape] float32: from the stream's first numbers while they last, after that from a call of its own."""
        wanted = math.prod(shape)
        if self.used + wanted > FIRST_NUMBERS:
            self.calls += 1
            return random.uniform(self.key, self.images, shape, call=self.calls - 1)
        if self.first is None:
            self.first = random.uniform(self.key, self.images, (FIRST_NUMBERS,))
        self.used += wanted
        return self.first[:, self.used - wanted : self.used].clone().view(self.n, *shape)

    def select(self, index: Tensor) -> RandomDraw:
        """The draw of some of the images; it goes on with the numbers that this one would give them next."""
        chosen = RandomDraw(self.key, self.images[index], None if self.first is None else self.first[index])
        chosen.used, chosen.calls = self.used, self.calls
        return chosen


class PercentileDraw(Draw):
    """Every number at the same percentile of its distribution; a gate fires when its probability is not 0.

    Args:
        q: the percentile, between 0 and 1, both excluded.
        n: how many images.
        device: where the numbers live.

    Raises:
        ConfigError: `q` is out of range.
    """

    def __init__(self, q: float, n: int, device: torch.device | str = "cpu") -> None:
        if not 0.0 < q < 1.0:
            raise ConfigError(f"the percentile {q} is out of range", "It lies between 0 and 1, both excluded.")
        super().__init__(n, torch.device(device))
        self.q = q

    def unit(self, shape: tuple[int, ...] = ()) -> Tensor:
        """[n, *shape] float32, all of them `q`."""
        return torch.full((self.n, *shape), self.q, device=self.device)

    def select(self, index: Tensor) -> PercentileDraw:
        """The draw of some of the images."""
        n = int(index.sum()) if index.dtype == torch.bool else len(index)
        return type(self)(self.q, n, self.device)

    def fires(self, p: float | Tensor) -> Tensor:
        """[n] bool, true where `p` is greater than 0."""
        return (torch.as_tensor(p, device=self.device) > 0).expand(self.n)


class Draws(ABC):
    """What a pipeline takes: one `Draw` for every place where a transform acts."""

    @abstractmethod
    def draw(self, name: str, place: int = 0) -> Draw:
        """The draw of the transform `name` at its place number `place`, from the beginning."""

    def open(
        self, places: Sequence[tuple[str, int]], probabilities: Sequence[float | Tensor]
    ) -> tuple[list[Draw], Tensor]:
        """The draws of K places with their first number used for a gate, and the gates.

        Args:
            places: (name, place) of each.
            probabilities: of each gate, as for `Draw.fires`.

        Returns:
            K draws; [K, N] bool.
        """
        draws = [self.draw(*place) for place in places]
        return draws, torch.stack([draw.fires(p) for draw, p in zip(draws, probabilities, strict=True)])

    def prefetch(self, places: Sequence[tuple[str, int]]) -> None:  # noqa: B027
        """Announce the (name, place) of draws that will be wanted, so that their numbers can be made in one go."""


class RandomDraws(Draws):
    """Independent random draws for every transform.

    Args:
        seed: the seed of the run.
        stream: what the images are for, such as "D-real": other streams give other numbers.
        images: [N] int64, the number of each image in the run.

    Raises:
        TypeError: `images` is something else.
    """

    def __init__(self, seed: int, stream: str, images: Tensor) -> None:
        if images.dtype != torch.int64 or images.dim() != 1:
            raise TypeError(f"images must be int64 [N], not {images.dtype} {list(images.shape)}")
        self.seed = seed
        self.stream = stream
        self.images = images
        self.rows: dict[tuple[str, int], int] = {}
        self.first: Tensor | None = None

    def keys(self, places: tuple[tuple[str, int], ...]) -> tuple[int, ...]:
        """The keys of the streams of (name, place)."""
        return _transform_keys(self.seed, self.stream, places)

    def draw(self, name: str, place: int = 0) -> RandomDraw:
        """The random draw of one transform at one place."""
        key = _transform_key(self.seed, self.stream, name, place)
        row = self.rows.get((name, place))
        return RandomDraw(key, self.images, None if self.first is None or row is None else self.first[row])

    def open(
        self, places: Sequence[tuple[str, int]], probabilities: Sequence[float | Tensor]
    ) -> tuple[list[Draw], Tensor]:
        """As in the base class; the gates are compared in one go."""
        if self.first is None or any(place not in self.rows for place in places):
            self.prefetch(places)
        assert self.first is not None
        rows = [self.rows[place] for place in places]
        consecutive = rows == list(range(rows[0], rows[0] + len(rows)))
        first = self.first[rows[0] : rows[0] + len(rows)] if consecutive else self.first[rows]
        thresholds = _stacked(probabilities, first.device)
        draws: list[Draw] = []
        for place, numbers in zip(places, first.unbind(), strict=True):
            draw = RandomDraw(_transform_key(self.seed, self.stream, *place), self.images, numbers)
            draw.used = 1
            draws.append(draw)
        return draws, first[:, :, 0] < thresholds[:, None]

    def prefetch(self, places: Sequence[tuple[str, int]]) -> None:
        """Make the first numbers of all these draws in one call. They are the same numbers without it."""
        keys = [_transform_key(self.seed, self.stream, name, place) for name, place in places]
        self.first = random.uniform(keys, self.images, (FIRST_NUMBERS,))
        self.rows = {place: row for row, place in enumerate(places)}


class PercentileDraws(Draws):
    """All transforms at the same percentile. Arguments as for `PercentileDraw`."""

    def __init__(self, q: float, n: int, device: torch.device | str = "cpu") -> None:
        self.single = PercentileDraw(q, n, device)

    def draw(self, name: str, place: int = 0) -> PercentileDraw:
        """The draw of one transform at one place: the same for all."""
        return self.single


@lru_cache(maxsize=64)
def _transform_keys(seed: int, stream: str, places: tuple[tuple[str, int], ...]) -> tuple[int, ...]:
    return tuple(_transform_key(seed, stream, *place) for place in places)


@lru_cache(maxsize=4096)
def _transform_key(seed: int, stream: str, name: str, place: int) -> int:
    return random.stream_key(seed, "augment", stream, name, place)


def _stacked(numbers: Sequence[float | Tensor], device: torch.device) -> Tensor:
    """Numbers, or 0-d tensors, as one float32 tensor."""
    if any(isinstance(number, Tensor) for number in numbers):
        # A number is filled in, for to bring it to a GPU would take waiting.
        tensors = [n if isinstance(n, Tensor) else torch.full((), n, device=device) for n in numbers]
        return torch.stack([tensor.to(device, torch.float32) for tensor in tensors])
    return torch.tensor(numbers, dtype=torch.float32, device=device)
