"""Images from a trained generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from adaflow.core.graphs import CudaRecorder, Graphs
from adaflow.core.images import to_uint8
from adaflow.core.networks import Generator
from adaflow.core.networks.generator import Noise
from adaflow.core.random import normal, stream_key
from adaflow.errors import UsageError

NOISES = ("const", "random", "none")


def generate_images(
    G: Generator,
    seeds: Sequence[int],
    label: int | None = None,
    psi: float = 1.0,
    noise: str = "const",
    batch: int = 16,
) -> Tensor:
    """One image a seed; a seed gives the same image whatever the others are.

    Args:
        G, label, psi, noise: as for `Painter`.
        seeds: non-negative integers.
        batch: images drawn at a time.

    Returns:
        uint8 [N, C, H, W] on the CPU.

    Raises:
        UsageError: as for `Painter`.
    """
    paint = Painter(G, label, psi, noise)
    return torch.cat([paint(seeds[start : start + batch]).cpu() for start in range(0, len(seeds), batch)])


class Painter:
    """Draws images of a generator by their seeds. On a GPU, single images come from a CUDA graph.

    Args:
        G: the generator, which draws in the precision that it is set to.
        label: the class, for a conditional network.
        psi: truncation (arXiv 1812.04948, appendix B): styles move towards their average below 1.
        noise: "const", "random" (a function of the seed) or "none".
        say: told when there can be no graph.

    Raises:
        UsageError: a class where the network has none, no class where it needs one, or one out of range; a truncation
            that is no finite number; unknown noise.
    """

    def __init__(
        self,
        G: Generator,
        label: int | None = None,
        psi: float = 1.0,
        noise: str = "const",
        say: Callable[[str], None] = print,
    ) -> None:
        config, device = G.config, next(G.parameters()).device
        if noise not in NOISES:
            raise UsageError(f"there is no noise {noise!r}", f"Known: {', '.join(NOISES)}.")
        if not math.isfinite(psi):
            raise UsageError(f"a truncation of {psi} cannot be drawn", "The usual values lie between 0 and 1.")
        if config.c_dim and label is None:
            raise UsageError(
                "this network was trained with labels", f"Choose one with --class 0 to {config.c_dim - 1}."
            )
        if label is not None and not config.c_dim:
            raise UsageError("this network was trained without labels", "Leave --class out.")
        if label is not None and not 0 <= label < config.c_dim:
            raise UsageError(f"there is no class {label}", f"The network knows 0 to {config.c_dim - 1}.")
        self.G, self.label, self.psi, self.noise = G, label, psi, noise
        size = config.img_resolution
        self._seed = torch.zeros(1, dtype=torch.int64, device=device)
        self._image = torch.zeros(1, config.img_channels, size, size, dtype=torch.uint8, device=device)
        self.graphs = Graphs(CudaRecorder() if device.type == "cuda" else None, say)

    @torch.no_grad()
    def __call__(self, seeds: Sequence[int]) -> Tensor:
        """One image for each of the non-negative seeds, all at a time: uint8 [N, C, H, W] on the generator's device."""
        if len(seeds) != 1:
            return self._draw(torch.tensor(seeds, device=self._seed.device))
        self._seed.fill_(seeds[0])
        self.graphs.run("image", lambda: self._image.copy_(self._draw(self._seed)))
        return self._image.clone()

    def _draw(self, seeds: Tensor) -> Tensor:
        z = normal(stream_key(0, "generate", "z"), seeds, (self.G.config.z_dim,))
        c = torch.zeros(len(seeds), self.G.config.c_dim, device=seeds.device)
        if self.label is not None:
            c[:, self.label] = 1
        ws = self.G.mapping(z, c, psi=self.psi)
        return to_uint8(self.G.synthesis(ws, noise=_noise(self.noise, seeds)))


def _noise(kind: str, seeds: Tensor) -> Noise:
    if kind != "random":
        return cast(Noise, kind)
    key = stream_key(0, "generate", "noise")
    return lambda layer, shape: normal(key, seeds, tuple(shape[1:]), call=layer)
