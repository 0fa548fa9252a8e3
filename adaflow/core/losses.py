"""The losses of StyleGAN2: non-saturating logistic, R1 and path length, each per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adaflow.errors import ConfigError


@dataclass(frozen=True)
class LossConfig:
    """Weights and intervals of the losses.

    Args:
        r1_gamma: weight γ of R1, ≥ 0.
        r1_interval: R1 is taken at every so many steps, with that factor ("lazy", arXiv 1912.04958 §3.1).
        pl_weight: weight of the path length penalty; 0 turns it off.
        pl_interval: path length is taken at every so many steps.
        pl_decay: how fast the running mean of path lengths follows, in (0, 1].
        pl_batch_shrink: path length uses this fraction of the batch, to save memory.
        style_mixing: probability that an image's styles come from two latents.
    """

    r1_gamma: float = 10.0
    r1_interval: int = 16
    pl_weight: float = 2.0
    pl_interval: int = 4
    pl_decay: float = 0.01
    pl_batch_shrink: int = 2
    style_mixing: float = 0.9

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.r1_gamma < 0 or self.pl_weight < 0:
            raise ConfigError("loss.r1_gamma and loss.pl_weight cannot be negative")
        if min(self.r1_interval, self.pl_interval, self.pl_batch_shrink) < 1:
            raise ConfigError("loss.r1_interval, loss.pl_interval and loss.pl_batch_shrink start at 1")
        if not 0 <= self.style_mixing <= 1 or not 0 < self.pl_decay <= 1:
            raise ConfigError("loss.style_mixing and loss.pl_decay are shares between 0 and 1")


def real_looking(logits: Tensor) -> Tensor:
    """−log sigmoid(D): small when the discriminator takes the images for real. G's loss on fakes, D's on reals."""
    return F.softplus(-logits)


def fake_looking(logits: Tensor) -> Tensor:
    """−log(1 − sigmoid(D)): small when the discriminator takes the images for fake. D's loss on fakes."""
    return F.softplus(logits)


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Squared norm of the gradient of D with respect to its real images (Mescheder et al. 2018, arXiv 1801.04406).

    Args:
        logits: [N, 1], computed from `images` with a graph.
        images: [N, C, H, W], before augmentation, requiring grad.

    Returns:
        [N], to be weighted by γ/2.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def path_lengths(images: Tensor, ws: Tensor, unit_noise: Tensor) -> Tensor:
    """How far an image moves per step in w: |Jᵀy| with y a random image (arXiv 1912.04958, Eq. 4).

    Args:
        images: [N, C, H, W], computed from `ws` with a graph.
        ws: [N, L, W], requiring grad.
        unit_noise: N(0, 1), of the shape of `images`.

    Returns:
        [N]: root of the mean over layers of the squared norm.
    """
    noise = unit_noise / (images.shape[2] * images.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def path_length_penalty(
    lengths: Tensor, mean: Tensor, decay: float, average: Callable[[Tensor], Tensor] = lambda x: x
) -> tuple[Tensor, Tensor]:
    """Squared distance of path lengths from their running mean.

    Args:
        lengths: [N].
        mean: the running mean before, scalar.
        decay: share of the new lengths in it.
        average: differentiable mean of a scalar over all processes.

    Returns:
        Penalty [N], and the running mean after, still attached to the graph: its gradient is part of the penalty's.
    """
    mean = mean.lerp(average(lengths.mean()), decay)
    return (lengths - mean).square(), mean
