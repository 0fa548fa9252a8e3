"""A StyleGAN2 training step as one writes it first: four phases, an Adam over all parameters of each network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Augment = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StepSettings:
    """Intervals, weights and rates, as `adaflow.core.losses.LossConfig` and the optimizer have them."""

    r1_gamma: float = 1.0
    r1_interval: int = 16
    pl_weight: float = 2.0
    pl_interval: int = 4
    pl_decay: float = 0.01
    pl_shrink: int = 2
    style_mixing: float = 0.9
    lr: float = 0.0025
    beta2: float = 0.99
    ema: float = 0.999


class PlainStep:
    """Trains two networks.

    Args:
        G: has `mapping(z)`, [N, z_dim] → ws, `synthesis(ws)` → images, and `parameters()`.
        G_ema: another one, which follows G.
        D: gives logits [N, 1] of images, and has `parameters()`.
        z_dim: size of the latents.
        augment: of the images that D sees.
        settings: intervals, weights and rates.
    """

    def __init__(
        self, G: Any, G_ema: Any, D: Any, z_dim: int, augment: Augment, settings: StepSettings | None = None
    ) -> None:
        self.G, self.G_ema, self.D = G, G_ema, D
        self.z_dim, self.augment = z_dim, augment
        self.settings = s = settings or StepSettings()
        self.G_opt = adam(G, s.lr, s.beta2, s.pl_interval)
        self.D_opt = adam(D, s.lr, s.beta2, s.r1_interval)
        G_ema.requires_grad_(False)
        self.pl_mean = torch.zeros((), device=next(iter(G.parameters())).device)

    def __call__(self, reals: Tensor, number: int) -> None:
        """One step on reals [N, C, H, W] in [-1, 1], with the regularisers that are due at this number."""
        self.d_main(reals)
        if number % self.settings.r1_interval == 0:
            self.d_r1(reals)
        self.g_main(len(reals))
        if number % self.settings.pl_interval == 0:
            self.g_pl(len(reals))
        self.average()

    def d_main(self, reals: Tensor) -> None:
        """D should tell fakes from reals."""
        with torch.no_grad():
            fakes = self.G.synthesis(self.latents(len(reals)))
        with updating(self.D, self.D_opt, self.G):
            F.softplus(self.D(self.augment(fakes))).mean().backward()
            F.softplus(-self.D(self.augment(reals))).mean().backward()

    def d_r1(self, reals: Tensor) -> None:
        """R1: gradients with respect to the reals before augmentation."""
        reals = reals.detach().requires_grad_()
        with updating(self.D, self.D_opt, self.G):
            logits = self.D(self.augment(reals))
            (gradient,) = torch.autograd.grad(logits.sum(), reals, create_graph=True)
            penalty = gradient.square().sum(dim=(1, 2, 3)) * (self.settings.r1_gamma / 2)
            (penalty.mean() * self.settings.r1_interval).backward()

    def g_main(self, n: int) -> None:
        """G should make D take its fakes for reals."""
        with updating(self.G, self.G_opt, self.D):
            fakes = self.G.synthesis(self.latents(n))
            F.softplus(-self.D(self.augment(fakes))).mean().backward()

    def g_pl(self, n: int) -> None:
        """Path length: a step in w should change the image by about the same amount everywhere."""
        s = self.settings
        with updating(self.G, self.G_opt, self.D):
            ws = self.latents(max(n // s.pl_shrink, 1))
            images = self.G.synthesis(ws)
            noise = torch.randn_like(images) / (images.shape[2] * images.shape[3]) ** 0.5
            (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
            lengths = gradient.square().sum(2).mean(1).sqrt()
            mean = self.pl_mean.lerp(lengths.mean(), s.pl_decay)
            self.pl_mean = mean.detach()
            ((lengths - mean).square().mean() * s.pl_weight * s.pl_interval).backward()

    def latents(self, n: int) -> Tensor:
        """Styles of random latents, two of them mixed in most batches."""
        device = self.pl_mean.device
        ws = self.G.mapping(torch.randn(n, self.z_dim, device=device))
        if torch.rand(()) < self.settings.style_mixing:
            cut = int(torch.randint(1, ws.shape[1], ()))
            other = self.G.mapping(torch.randn(n, self.z_dim, device=device))
            ws = torch.cat((ws[:, :cut], other[:, cut:]), dim=1)
        return ws

    @torch.no_grad()
    def average(self) -> None:
        """Let the averaged generator follow."""
        for mine, theirs in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
            mine.copy_(theirs.lerp(mine, self.settings.ema))


class updating:  # noqa: N801
    """A context that takes one step of an optimizer on the gradients made in it, with the other network at rest."""

    def __init__(self, network: Any, optimizer: torch.optim.Optimizer, resting: Any) -> None:
        self.network, self.optimizer, self.resting = network, optimizer, resting

    def __enter__(self) -> None:
        self.network.requires_grad_(True)
        self.resting.requires_grad_(False)
        self.optimizer.zero_grad(set_to_none=True)

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            for parameter in self.network.parameters():
                if parameter.grad is not None:
                    torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
            self.optimizer.step()


def adam(network: Any, lr: float, beta2: float, interval: int) -> torch.optim.Adam:
    """Adam with the rate and beta that make up for lazy regularisation."""
    c = interval / (interval + 1)
    return torch.optim.Adam(list(network.parameters()), lr=lr * c, betas=(0.0, beta2**c), eps=1e-8)
