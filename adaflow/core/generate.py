"""Images from a trained generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from adaflow.core.images import to_uint8
from adaflow.core.networks import Generator
from adaflow.core.random import normal, stream_key
from adaflow.errors import UsageError

NOISES = ("const", "random", "none")


@torch.no_grad()
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
        G: the generator.
        seeds: non-negative integers.
        label: the class, for a conditional network.
        psi: truncation (arXiv 1812.04948, appendix B): styles move towards their average below 1.
        noise: "const", "random" (a function of the seed) or "none".
        batch: images drawn at a time.

    Returns:
        uint8 [N, C, H, W] on the CPU.

    Raises:
        UsageError: a class where the network has none, no class where it needs one, or one out of range; a truncation
            that is no finite number; unknown noise.
    """
    config, device = G.config, next(G.parameters()).device
    if noise not in NOISES:
        raise UsageError(f"there is no noise {noise!r}", f"Known: {', '.join(NOISES)}.")
    if not math.isfinite(psi):
        raise UsageError(f"a truncation of {psi} cannot be drawn", "The usual values lie between 0 and 1.")
    if config.c_dim and label is None:
        raise UsageError("this network was trained with labels", f"Choose one with --class 0 to {config.c_dim - 1}.")
    if label is not None and not config.c_dim:
        raise UsageError("this network was trained without labels", "Leave --class out.")
    if label is not None and not 0 <= label < config.c_dim:
        raise UsageError(f"there is no class {label}", f"The network knows 0 to {config.c_dim - 1}.")
    images = []
    for start in range(0, len(seeds), batch):
        chunk = torch.tensor(seeds[start : start + batch], device=device)
        z = normal(stream_key(0, "generate", "z"), chunk, (config.z_dim,))
        c = torch.zeros(len(chunk), config.c_dim, device=device)
        if label is not None:
            c[:, label] = 1
        ws = G.mapping(z, c, psi=psi)
        images.append(to_uint8(G.synthesis(ws, noise=_noise(noise, chunk))).cpu())
    return torch.cat(images)


def _noise(kind: str, seeds: Tensor) -> object:
    if kind != "random":
        return kind
    key = stream_key(0, "generate", "noise")
    return lambda layer, shape: normal(key, seeds, tuple(shape[1:]), call=layer)
