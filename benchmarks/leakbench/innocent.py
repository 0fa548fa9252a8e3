"""What generators do to images although nothing leaks: the conditions under which LeakBench plants leaks.

Most are of kinds that the detector knows, at strengths of their own. The autoencoder, the median and the sharp low-pass
are of none that it learns from; its rules were settled on tables that have them, too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaflow.core.leaks import distortions

Condition = Callable[[Tensor], Tensor]
"""uint8 [N, C, H, W] → the same."""


def conditions(reals: Tensor, seed: int = 0) -> dict[str, Condition]:
    """All of them that change images, by name. "clean", "tenth smooth" and "class mix" are made of these or of none.

    Args:
        reals: uint8 [N, C, H, W], to fit the principal components and the autoencoder to.
        seed: of noise and training.
    """
    generator = torch.Generator().manual_seed(seed)

    def at(name: str, strength: float) -> Condition:
        function = distortions.KINDS[name]

        def apply(images: Tensor) -> Tensor:
            numbers = torch.randint(1 << 40, (len(images),), generator=generator)
            return to_bytes(function(to_unit(images), torch.full((len(images),), strength), numbers))

        return apply

    def combined(images: Tensor) -> Tensor:
        return at("jpeg", 0.25)(at("checkerboard", 0.6)(tinted(at("smooth", 0.4)(images))))

    return {
        "smooth": at("smooth", 0.4),
        "very smooth": at("smooth", 0.75),
        "jpeg": at("jpeg", 0.5),
        "resized": at("resize", 0.6),
        "checkerboard": at("checkerboard", 0.67),
        "cast": tinted,
        "grain": at("grain", 0.5),
        "low-pass": low_pass,
        "median": median,
        "principal components": when_first_used(lambda: Components(reals)),
        "autoencoder": when_first_used(lambda: train_autoencoder(reals, seed)),
        "combined": combined,
    }


def when_first_used(make: Callable[[], Condition]) -> Condition:
    """A condition that takes a while to make."""
    made = cache(make)
    return lambda images: made()(images)


def to_unit(images: Tensor) -> Tensor:
    return images.float() / 255


def to_bytes(images: Tensor) -> Tensor:
    return images.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def tinted(images: Tensor) -> Tensor:
    """A colour cast over all."""
    return to_bytes(to_unit(images) + torch.tensor([0.03, 0.01, -0.03]).view(-1, 1, 1))


def low_pass(images: Tensor) -> Tensor:
    """Nothing above 60 % of the highest frequency, sharply."""
    spectrum = torch.fft.rfft2(to_unit(images))
    y, x = torch.fft.fftfreq(images.shape[2])[:, None], torch.fft.rfftfreq(images.shape[3])
    return to_bytes(torch.fft.irfft2(spectrum * ((y * y + x * x).sqrt() < 0.3), s=images.shape[2:]))


def median(images: Tensor) -> Tensor:
    """The median of 3 × 3 pixels."""
    n, c, h, w = images.shape
    padded = F.pad(to_unit(images), (1, 1, 1, 1), mode="reflect").flatten(0, 1)[:, None]
    return to_bytes(F.unfold(padded, 3).median(1).values.view(n, c, h, w))


class Components:
    """Images rebuilt from 200 principal components."""

    def __init__(self, reals: Tensor, count: int = 200) -> None:
        x = to_unit(reals).flatten(1)
        self.mean = x.mean(0)
        torch.manual_seed(0)
        self.basis = torch.pca_lowrank(x - self.mean, count, niter=3)[2]

    def __call__(self, images: Tensor) -> Tensor:
        x = to_unit(images).flatten(1) - self.mean
        return to_bytes((x @ self.basis @ self.basis.T + self.mean).view(images.shape))


class Autoencoder(nn.Module):
    """A small convolutional autoencoder, with the checkerboards of its transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()

        def down(a: int, b: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2))

        def up(a: int, b: int) -> nn.Module:
            return nn.Sequential(nn.ConvTranspose2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2))

        self.layers = nn.Sequential(down(3, 32), down(32, 48), down(48, 48), up(48, 48), up(48, 32), up(32, 16))
        self.last = nn.Conv2d(16, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.layers(x))
        return result

    @torch.inference_mode()
    def rebuild(self, images: Tensor) -> Tensor:
        """uint8 → uint8."""
        parts = [to_bytes(self(to_unit(part) * 2 - 1) / 2 + 0.5) for part in images.split(100)]
        return torch.cat(parts)


def train_autoencoder(reals: Tensor, seed: int, steps: int = 1500) -> Condition:
    """Its condition, after a minute of training."""
    torch.manual_seed(seed)
    network = Autoencoder()
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(steps):
        x = to_unit(reals[torch.randint(len(reals), (32,))]) * 2 - 1
        loss = (network(x) - x).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.rebuild
