"""Mapping networks: latents and labels to intermediate latents, labels to projection vectors."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from adaflow.core.networks.config import GeneratorConfig
from adaflow.core.networks.layers import FullyConnected, normalize_second_moment
from adaflow.errors import ConfigError


class MappingNetwork(nn.Module):
    """Fully connected layers from z and c to w.

    Args:
        z_dim: size of z; 0 for none.
        c_dim: size of the label c; 0 for none.
        w_dim: size of the result.
        num_layers: number of layers.
        embed_features: size of the embedded label; None is `w_dim`.
        layer_features: width of the hidden layers; None is `w_dim`.
        lr_multiplier: learning rate of the layers relative to that of the optimizer.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_layers: int,
        embed_features: int | None = None,
        layer_features: int | None = None,
        lr_multiplier: float = 0.01,
    ) -> None:
        super().__init__()
        self.c_dim = c_dim
        self.num_layers = num_layers
        embedded = (embed_features or w_dim) if c_dim else 0
        if c_dim:
            self.embed = FullyConnected(c_dim, embedded)
        widths = [z_dim + embedded] + [layer_features or w_dim] * (num_layers - 1) + [w_dim]
        for index, (width, next_width) in enumerate(pairwise(widths)):
            layer = FullyConnected(width, next_width, activation="lrelu", lr_multiplier=lr_multiplier)
            self.add_module(f"fc{index}", layer)

    def forward(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        """Map latents and labels.

        Args:
            z: [N, z_dim]; None where z_dim is 0.
            c: [N, c_dim], one-hot or any vectors; None where c_dim is 0.

        Returns:
            [N, w_dim].

        Raises:
            ConfigError: the network is conditional and `c` is missing or of the wrong size.
        """
        parts = []
        if z is not None:
            parts.append(normalize_second_moment(z))
        if self.c_dim:
            parts.append(normalize_second_moment(self.embed(self._checked(c))))
        x = torch.cat(parts, dim=1)
        for index in range(self.num_layers):
            x = self.get_submodule(f"fc{index}")(x)
        return x

    def _checked(self, c: Tensor | None) -> Tensor:
        if c is None or c.ndim != 2 or c.shape[1] != self.c_dim:
            given = "no label" if c is None else f"labels of shape {tuple(c.shape)}"
            raise ConfigError(
                f"the network is conditional on {self.c_dim} values and got {given}",
                f"Give a label for every image, shape [N, {self.c_dim}].",
            )
        return c


class GeneratorMapping(MappingNetwork):
    """The mapping network of the generator: one w for every synthesis layer, with the truncation trick.

    Args:
        config: the generator's configuration.
        num_ws: number of copies of w.
    """

    w_avg: Tensor

    def __init__(self, config: GeneratorConfig, num_ws: int) -> None:
        super().__init__(
            z_dim=config.z_dim,
            c_dim=config.c_dim,
            w_dim=config.w_dim,
            num_layers=config.mapping_layers,
            embed_features=config.embed_features,
            layer_features=config.layer_features,
            lr_multiplier=config.lr_multiplier,
        )
        self.num_ws = num_ws
        self.w_avg_beta = config.w_avg_beta
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None = None,
        psi: float = 1.0,
        cutoff: int | None = None,
    ) -> Tensor:
        """Map latents and labels, and truncate: w_avg + psi · (w - w_avg).

        Args:
            z: [N, z_dim], unit normal.
            c: [N, c_dim], one-hot or any vectors; None where c_dim is 0.
            psi: truncation: 1 keeps w, 0 gives the average w.
            cutoff: truncate only the first so many ws; None for all.

        Returns:
            ws, [N, num_ws, w_dim].

        Raises:
            ConfigError: the network is conditional and `c` is missing or of the wrong size.
        """
        w = super().forward(z, c)
        ws = w[:, None].repeat(1, self.num_ws, 1)
        if psi == 1:
            return ws
        truncated = self.w_avg.lerp(ws[:, :cutoff], psi)
        return truncated if cutoff is None else torch.cat([truncated, ws[:, cutoff:]], dim=1)

    @torch.no_grad()
    def track(self, w_mean: Tensor) -> None:
        """Let the moving average of w follow the mean of a batch, [w_dim]."""
        self.w_avg.lerp_(w_mean, 1 - self.w_avg_beta)
