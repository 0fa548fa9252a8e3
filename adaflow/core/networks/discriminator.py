"""The StyleGAN2 discriminator (Karras et al. 2020, arXiv 1912.04958)."""

from __future__ import annotations

import math
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from adaflow.core.networks.config import DiscriminatorConfig, resolutions
from adaflow.core.networks.layers import ConvLayer, FullyConnected, MinibatchStd, as_activations
from adaflow.core.networks.mapping import MappingNetwork
from adaflow.cuda import downsample2d, setup_filter
from adaflow.errors import ConfigError


class DiscriminatorBlock(nn.Module):
    """The layers at one resolution; halves it.

    Args:
        config: the discriminator's configuration.
        resolution: width and height of the input in pixels.

    `dtype` is what its activations are computed in, set by `adaflow.core.precision`; None is that of what comes in.
    """

    resample_filter: Tensor
    dtype: torch.dtype | None = None

    def __init__(self, config: DiscriminatorConfig, resolution: int) -> None:
        super().__init__()
        self.architecture = config.architecture
        self.resolution = resolution
        channels = config.channels_at(resolution)
        below = config.channels_at(resolution // 2)
        taps = config.resample_filter
        layer = partial(ConvLayer, activation=config.activation, conv_clamp=config.conv_clamp)
        self.register_buffer("resample_filter", setup_filter(taps))
        self.has_fromrgb = config.architecture == "skip" or resolution == config.img_resolution
        if self.has_fromrgb:
            self.fromrgb = layer(config.img_channels, channels, 1)
        self.conv0 = layer(channels, channels, 3)
        self.conv1 = layer(channels, below, 3, down=2, resample_filter=taps)
        if config.architecture == "resnet":
            self.skip = ConvLayer(channels, below, 1, bias=False, down=2, resample_filter=taps)

    def forward(self, x: Tensor | None, img: Tensor) -> tuple[Tensor, Tensor]:
        """Run the block.

        Args:
            x: activations of the block above, [N, C, H, W]; None for the first block.
            img: the image, [N, img_channels, H, W]; unused by blocks without a from-RGB layer.

        Returns:
            activations [N, C', H / 2, W / 2], and the image for the next block.
        """
        if x is not None:
            x = as_activations(x, self.dtype)
        if self.has_fromrgb:
            features = self.fromrgb(as_activations(img, self.dtype))
            x = features if x is None else x + features
        if self.architecture == "skip":
            img = downsample2d(img, self.resample_filter)
        if self.architecture == "resnet":
            shortcut = self.skip(x, gain=0.5**0.5)
            return shortcut + self.conv1(self.conv0(x), gain=0.5**0.5), img
        return self.conv1(self.conv0(x)), img

    def layers(self) -> list[nn.Module]:
        """The layers in the order in which they are frozen."""
        return [module for module in self.children() if isinstance(module, ConvLayer)]


class DiscriminatorEpilogue(nn.Module):
    """The last layers, at 4×4: minibatch standard deviation, convolution, fully connected layers, projection.

    Args:
        config: the discriminator's configuration.
        cmap_dim: size of the mapped label; 0 is unconditional.

    `dtype` is what its activations are computed in, set by `adaflow.core.precision`; None is that of what comes in.
    """

    resolution = 4
    dtype: torch.dtype | None = None

    def __init__(self, config: DiscriminatorConfig, cmap_dim: int) -> None:
        super().__init__()
        self.cmap_dim = cmap_dim
        channels = config.channels_at(4)
        layer = partial(ConvLayer, activation=config.activation, conv_clamp=config.conv_clamp)
        self.has_fromrgb = config.architecture == "skip"
        if self.has_fromrgb:
            self.fromrgb = layer(config.img_channels, channels, 1)
        extra = config.mbstd_num_channels
        self.mbstd = MinibatchStd(config.mbstd_group_size, extra) if extra else None
        self.conv = layer(channels + extra, channels, 3)
        self.fc = FullyConnected(channels * 16, channels, activation=config.activation)
        self.out = FullyConnected(channels, cmap_dim or 1)

    def forward(self, x: Tensor, img: Tensor, cmap: Tensor | None, parts: int = 1) -> Tensor:
        """[N, C, 4, 4], image [N, img_channels, 4, 4] and mapped labels [N, cmap_dim] → logits [N, 1].

        Minibatch statistics are taken over each of so many equal `parts` of the batch by itself.
        """
        x = as_activations(x, self.dtype)
        if self.has_fromrgb:
            x = x + self.fromrgb(as_activations(img, self.dtype))
        if self.mbstd is not None:
            x = torch.cat([self.mbstd(part) for part in x.chunk(parts)])
        x = self.conv(x)
        logits: Tensor = self.out(self.fc(x.flatten(1)))
        if cmap is None:
            return logits
        # projection discriminator, Miyato and Koyama 2018, arXiv 1802.05637
        return (logits * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)


class Discriminator(nn.Module):
    """Tells real from generated images.

    Args:
        config: what it is made of. The first `config.freeze_layers` layers get no gradients.

    Raises:
        ConfigError: there are not so many layers before the last block.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.resolutions = resolutions(config.img_resolution)[:0:-1]
        blocks = [DiscriminatorBlock(config, resolution) for resolution in self.resolutions]
        for resolution, block in zip(self.resolutions, blocks, strict=True):
            self.add_module(f"b{resolution}", block)
        cmap_dim = 0
        if config.c_dim:
            cmap_dim = config.cmap_dim or config.channels_at(4)
            self.mapping = MappingNetwork(0, config.c_dim, cmap_dim, config.mapping_layers)
        self.b4 = DiscriminatorEpilogue(config, cmap_dim)
        layers = list(chain.from_iterable(block.layers() for block in blocks))
        if config.freeze_layers > len(layers):
            raise ConfigError(f"{config.freeze_layers} layers are to be frozen, and only {len(layers)} can be")
        for layer in layers[: config.freeze_layers]:
            layer.requires_grad_(False)

    def forward(self, img: Tensor, c: Tensor | None = None, parts: int = 1) -> Tensor:
        """Judge images.

        Args:
            img: [N, img_channels, img_resolution, img_resolution], nominal range [-1, 1].
            c: labels, [N, c_dim]; None where c_dim is 0.
            parts: how many batches of equal size `img` is made of, one after another. Their logits are those that each
                would get by itself: an image is compared with others of its own part only.

        Returns:
            logits, [N, 1]; positive for real.

        Raises:
            ConfigError: labels are missing, or the batch does not divide into groups for the minibatch standard
                deviation.
        """
        x = None
        for resolution in self.resolutions:
            x, img = self.get_submodule(f"b{resolution}")(x, img)
        cmap = self.mapping(None, c) if self.config.c_dim else None
        logits: Tensor = self.b4(x, img, cmap, parts)
        return logits
