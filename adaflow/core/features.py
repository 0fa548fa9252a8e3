"""What a feature extractor is: a network that turns images into vectors for metrics to compare."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor


class FeatureExtractor(ABC):
    """Images in, features out. Constructing one loads its weights from this machine, never from the network."""

    name: str
    """Carried beside every number it takes part in."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: uint8 [N, C, H, W], 1 or 3 channels, any size.

        Returns:
            float32 [N, D].
        """

    def all(self, batches: Iterable[Tensor]) -> Tensor:
        """Features of many batches, [sum of N, D], on the CPU."""
        with torch.no_grad():
            return torch.cat([self(batch).cpu() for batch in batches])
