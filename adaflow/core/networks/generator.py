"""The StyleGAN2 generator (Karras et al. 2020, arXiv 1912.04958)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from adaflow.core.networks.config import GeneratorConfig, resolutions
from adaflow.core.networks.layers import ConvLayer, SynthesisLayer, ToRGB, as_activations
from adaflow.core.networks.mapping import GeneratorMapping
from adaflow.cuda import setup_filter, upsample2d

Noise = Literal["const", "none"] | Callable[[int, tuple[int, int, int, int]], Tensor]
"""Where a synthesis network takes its noise from: its own constant images, nowhere, or a function that gets the
running number of the noise layer and the shape wanted, [N, 1, H, W], and returns unit normal numbers."""


class SynthesisBlock(nn.Module):
    """The layers at one resolution.

    Args:
        config: the generator's configuration.
        resolution: width and height of the output in pixels; at 4 the block starts from a learned constant.
        first_layer: running number of the first synthesis layer, from 0.

    `dtype` is what its activations are computed in, set by `adaflow.core.precision`; None is that of what comes in.
    """

    resample_filter: Tensor
    dtype: torch.dtype | None = None

    def __init__(self, config: GeneratorConfig, resolution: int, first_layer: int) -> None:
        super().__init__()
        self.config = config
        self.resolution = resolution
        self.first_layer = first_layer
        self.is_first = resolution == 4
        self.num_convs = 1 if self.is_first else 2
        channels = config.channels_at(resolution)
        self.register_buffer("resample_filter", setup_filter(config.resample_filter))
        layer = partial(
            SynthesisLayer,
            out_channels=channels,
            w_dim=config.w_dim,
            resolution=resolution,
            use_noise=config.use_noise,
            activation=config.activation,
            conv_clamp=config.conv_clamp,
        )
        if self.is_first:
            self.const = nn.Parameter(torch.randn(channels, 4, 4))
        else:
            below = config.channels_at(resolution // 2)
            self.conv0 = layer(below, up=2, resample_filter=config.resample_filter)
            if config.architecture == "resnet":
                self.skip = ConvLayer(below, channels, 1, bias=False, up=2, resample_filter=config.resample_filter)
        self.conv1 = layer(channels)
        self.has_torgb = config.architecture == "skip" or resolution == config.img_resolution
        if self.has_torgb:
            self.torgb = ToRGB(channels, config.img_channels, config.w_dim, conv_clamp=config.conv_clamp)

    def forward(self, x: Tensor | None, img: Tensor | None, ws: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None]:
        """Run the block.

        Args:
            x: activations of the block below, [N, C, H / 2, W / 2]; None for the first block.
            img: the image so far, [N, img_channels, H / 2, W / 2], or None.
            ws: latents of the convolutions and of the to-RGB layer, [N, num_convs + 1, w_dim].
            noise: where noise comes from.

        Returns:
            activations [N, C', H, W], and image [N, img_channels, H, W], in the dtype of the weights whatever that of
            the activations (None as long as there is no to-RGB layer).
        """
        x = as_activations(self.const.expand(ws.shape[0], -1, -1, -1) if x is None else x, self.dtype)
        if self.is_first:
            x = self._layer(self.conv1, x, ws, 0, noise)
        elif self.config.architecture == "resnet":
            shortcut = self.skip(x, gain=0.5**0.5)
            x = self._layer(self.conv0, x, ws, 0, noise)
            x = shortcut + self._layer(self.conv1, x, ws, 1, noise, gain=0.5**0.5)
        else:
            x = self._layer(self.conv0, x, ws, 0, noise)
            x = self._layer(self.conv1, x, ws, 1, noise)

        if img is not None:
            img = upsample2d(img, self.resample_filter)
        if self.has_torgb:
            rgb = self.torgb(x, ws[:, self.num_convs])
            img = rgb if img is None else img + rgb
        return x, img

    def _layer(
        self, layer: SynthesisLayer, x: Tensor, ws: Tensor, index: int, noise: Noise, gain: float = 1.0
    ) -> Tensor:
        size = layer.resolution
        if not layer.use_noise or noise == "none":
            sample = None
        elif noise == "const":
            sample = layer.noise_const
        else:
            sample = noise(self.first_layer + index, (ws.shape[0], 1, size, size))
        result: Tensor = layer(x, ws[:, index], sample, gain=gain)
        return result


class SynthesisNetwork(nn.Module):
    """From intermediate latents to images, one block a resolution: b4, b8, b16 …

    Args:
        config: the generator's configuration.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.resolutions = resolutions(config.img_resolution)
        num_layers = 0
        for resolution in self.resolutions:
            block = SynthesisBlock(config, resolution, first_layer=num_layers)
            self.add_module(f"b{resolution}", block)
            num_layers += block.num_convs
        self.num_ws = num_layers + 1

    def forward(self, ws: Tensor, noise: Noise) -> Tensor:
        """Make images.

        Args:
            ws: [N, num_ws, w_dim], one for every synthesis layer and one for the last to-RGB layer; the others
                share the w of the convolution that follows them.
            noise: "const", "none", or a function (layer number, shape [N, 1, H, W]) → unit normal noise.

        Returns:
            images, [N, img_channels, img_resolution, img_resolution], nominal range [-1, 1].
        """
        x = img = None
        for resolution in self.resolutions:
            block = self.get_submodule(f"b{resolution}")
            assert isinstance(block, SynthesisBlock)
            first = block.first_layer
            x, img = block(x, img, ws[:, first : first + block.num_convs + 1], noise)
        assert img is not None
        image: Tensor = img
        return image


class Generator(nn.Module):
    """A mapping and a synthesis network.

    Args:
        config: what it is made of.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.synthesis = SynthesisNetwork(config)
        self.mapping = GeneratorMapping(config, self.synthesis.num_ws)

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise: Literal["random", "const", "none"] = "random",
    ) -> Tensor:
        """Make images.

        Args:
            z: latents, [N, z_dim], unit normal.
            c: labels, [N, c_dim], one-hot or any vectors; None where c_dim is 0.
            psi: truncation: 1 keeps the variety, 0 gives the average image.
            cutoff: truncate only the first so many ws; None for all.
            noise: fresh for every call, the network's constant images, or none.

        Returns:
            images, [N, img_channels, img_resolution, img_resolution], nominal range [-1, 1].
        """
        ws = self.mapping(z, c, psi=psi, cutoff=cutoff)
        if noise == "random":
            images: Tensor = self.synthesis(ws, lambda _, shape: torch.randn(shape, dtype=ws.dtype, device=ws.device))
        else:
            images = self.synthesis(ws, noise)
        return images
