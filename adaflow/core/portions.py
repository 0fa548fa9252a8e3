"""The batch on the device, in portions, in tensors that stay where they are: CUDA graphs find the next batch there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adaflow.core.data.dataset import Dataset
from adaflow.core.images import to_float


@dataclass(frozen=True)
class Portion:
    """As many images of the batch as go through the networks at a time.

    Portion s of S takes every S-th image, so that each group of the minibatch standard deviation has the same members
    however many processes share the batch.

    Args:
        first: which image of the batch it begins with, s.
        stride: the number of portions, S.
        counters: numbers of its images in the run, int64 [n].
        splits: "train", and with validation images "val": uint8 images [n, C, H, W] and labels [n, c_dim].
    """

    first: int
    stride: int
    counters: Tensor
    splits: dict[str, tuple[Tensor, Tensor]]

    @classmethod
    def empty(
        cls, first: int, stride: int, size: int, dataset: Dataset, splits: tuple[str, ...], device: torch.device
    ) -> Portion:
        """Room for `size` images."""
        shape = (size, dataset.channels, dataset.resolution, dataset.resolution)
        pixels = {split: torch.zeros(shape, dtype=torch.uint8, device=device) for split in splits}
        labels = {split: torch.zeros(size, dataset.c_dim, device=device) for split in splits}
        counters = torch.zeros(size, dtype=torch.int64, device=device)
        return cls(first, stride, counters, {split: (pixels[split], labels[split]) for split in splits})

    def load(self, dataset: Dataset, seen: int) -> None:
        """Fill it from a data set, after `seen` images of the run."""
        begin, end = seen + self.first, seen + self.stride * len(self.counters)
        torch.arange(begin, end, self.stride, out=self.counters)
        numbers = torch.arange(begin, end, self.stride)  # for the host, which would have to wait for the device's
        for split, (pixels, labels) in self.splits.items():
            new_pixels, new_labels = dataset.batch(numbers, split, self.counters.device)
            pixels.copy_(new_pixels)
            labels.copy_(new_labels)

    def reals(self, split: str = "train") -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W] in [−1, 1], and labels [n, c_dim]."""
        pixels, labels = self.splits[split]
        return to_float(pixels), labels
