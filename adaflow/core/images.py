"""Between bytes and the range networks work in."""

from __future__ import annotations

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """uint8 0 … 255 → float32 [−1, 1]."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """[−1, 1] → uint8 0 … 255, rounded and clipped."""
    return images.mul(127.5).add_(127.5).round_().clamp_(0, 255).to(torch.uint8)
