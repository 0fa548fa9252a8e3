"""The order in which training sees a data set: a function of the seed and the count of images seen, without state."""

from __future__ import annotations

import hashlib
from typing import Protocol

import torch
from torch import Tensor

from adaflow.core.random import stream_key, uniform


class Sampler(Protocol):
    """Maps the n-th image of a run to an entry of the data set."""

    def indices(self, counters: int | Tensor) -> Tensor:
        """The entries seen at the given moments.

        Args:
            counters: how many images the run had seen before each one, from 0; one number or int64 [n].

        Returns:
            int64 [n], each from 0 to the number of entries - 1; [1] for one number.
        """
        ...


def permutation(length: int, seed: int, stream: str, epoch: int = 0) -> Tensor:
    """A random order of 0 … length - 1 that depends on the arguments only, int64 [length]."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{epoch}".encode(), digest_size=8).digest()
    # Positive and below 2^63, the range every release of torch accepts.
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    return torch.randperm(length, generator=generator)


class EpochSampler:
    """Every epoch is a fresh order of all entries.

    Args:
        length: entries in the set, at least 1.
        seed: of the run.
        stream: tells apart samplers of one run.
    """

    def __init__(self, length: int, seed: int, stream: str = "train") -> None:
        self.length = length
        self.seed = seed
        self.stream = stream
        self._cached = (-1, torch.empty(0, dtype=torch.int64))

    def indices(self, counters: int | Tensor) -> Tensor:
        """See `Sampler`."""
        counters = torch.as_tensor(counters, dtype=torch.int64).reshape(-1)
        epochs = counters // self.length
        entries = torch.empty_like(counters)
        for epoch in set(epochs.tolist()):
            inside = epochs == epoch
            entries[inside] = self._order(epoch)[counters[inside] % self.length]
        return entries

    def _order(self, epoch: int) -> Tensor:
        cached_epoch, order = self._cached
        if cached_epoch != epoch:
            order = permutation(self.length, self.seed, self.stream, epoch)
            self._cached = (epoch, order)
        return order


class BalancedSampler:
    """Every class equally often: of K classes, each K images from a multiple of K on are one of each, in random order.

    Each class goes through epochs of its own: all its entries come once, in a fresh order, before one comes again.

    Args:
        classes: class of each entry, int64 [entries], at least one.
        seed: of the run.
        stream: tells apart samplers of one run.
    """

    def __init__(self, classes: Tensor, seed: int, stream: str = "train") -> None:
        sizes = torch.unique(classes, return_counts=True)[1].tolist()
        self._members = torch.split(classes.argsort(stable=True), sizes)
        self._samplers = [EpochSampler(size, seed, f"{stream}/class {k}") for k, size in enumerate(sizes)]
        self._key = stream_key(seed, "balance", stream)

    def indices(self, counters: int | Tensor) -> Tensor:
        """See `Sampler`."""
        counters = torch.as_tensor(counters, dtype=torch.int64).reshape(-1)
        count = len(self._members)
        # In each block of K images a class has its turn once, so the block's number counts the class's images.
        blocks, turn = counters // count, counters % count
        distinct, place = torch.unique(blocks, return_inverse=True)
        classes = uniform(self._key, distinct, (count,)).argsort(dim=1, stable=True)[place, turn]
        entries = torch.empty_like(counters)
        for k in torch.unique(classes).tolist():
            here = classes == k
            entries[here] = self._members[k][self._samplers[k].indices(blocks[here])]
        return entries
