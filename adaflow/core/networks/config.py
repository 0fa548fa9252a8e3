"""What a generator and a discriminator are made of."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from adaflow.cuda import ACTIVATIONS, setup_filter
from adaflow.errors import ConfigError

GENERATOR_ARCHITECTURES = ("orig", "skip", "resnet")
DISCRIMINATOR_ARCHITECTURES = ("orig", "skip", "resnet")
SMALLEST_RESOLUTION = 8


@dataclass(frozen=True)
class GeneratorConfig:
    """A StyleGAN2 generator (Karras et al. 2020, arXiv 1912.04958).

    Args:
        z_dim: size of the latent z.
        c_dim: size of the label; 0 is unconditional.
        w_dim: size of the intermediate latent w.
        img_resolution: width and height of the images in pixels, a power of two from 8.
        img_channels: 1 to 4.
        mapping_layers: fully connected layers from z to w.
        embed_features: size of the embedded label; None is `w_dim`.
        layer_features: width of the hidden mapping layers; None is `w_dim`.
        lr_multiplier: learning rate of the mapping network relative to the rest.
        w_avg_beta: decay of the moving average of w, per update.
        channel_base: the width of the network: channels times resolution.
        channel_max: the largest number of channels.
        architecture: "orig", "skip" or "resnet" (fig. 7 of the paper).
        activation: a name in `adaflow.cuda.ACTIVATIONS`.
        use_noise: add noise after every convolution.
        resample_filter: taps of the low-pass filter for upsampling.
        conv_clamp: largest absolute activation, or None.

    Raises:
        ConfigError: a value is out of its range.
    """

    z_dim: int = 512
    c_dim: int = 0
    w_dim: int = 512
    img_resolution: int = 64
    img_channels: int = 3
    mapping_layers: int = 8
    embed_features: int | None = None
    layer_features: int | None = None
    lr_multiplier: float = 0.01
    w_avg_beta: float = 0.995
    channel_base: int = 32768
    channel_max: int = 512
    architecture: str = "skip"
    activation: str = "lrelu"
    use_noise: bool = True
    resample_filter: tuple[float, ...] = (1, 3, 3, 1)
    conv_clamp: float | None = None

    def __post_init__(self) -> None:
        _check_image(self.img_resolution, self.img_channels)
        _check_at_least(0, c_dim=self.c_dim)
        _check_at_least(1, z_dim=self.z_dim, w_dim=self.w_dim, mapping_layers=self.mapping_layers)
        _check_at_least(1, embed_features=self.embed_features, layer_features=self.layer_features)
        _check_at_least(1, channel_max=self.channel_max)
        _check_at_least(self.img_resolution, channel_base=self.channel_base)
        _check_positive(lr_multiplier=self.lr_multiplier, conv_clamp=self.conv_clamp)
        _check_name("architecture", self.architecture, GENERATOR_ARCHITECTURES)
        _check_name("activation", self.activation, ACTIVATIONS)
        setup_filter(self.resample_filter)
        if not 0 <= self.w_avg_beta < 1:
            raise ConfigError(f"w_avg_beta is {self.w_avg_beta}", "Choose a number from 0 up to, not including, 1.")

    def channels_at(self, resolution: int) -> int:
        """Number of channels of the activations at `resolution`."""
        return min(self.channel_base // resolution, self.channel_max)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """A StyleGAN2 discriminator (Karras et al. 2020, arXiv 1912.04958).

    Args:
        c_dim: size of the label; 0 is unconditional.
        img_resolution: width and height of the images in pixels, a power of two from 8.
        img_channels: 1 to 4.
        channel_base: the width of the network: channels times resolution.
        channel_max: the largest number of channels.
        architecture: "orig", "skip" or "resnet" (fig. 7 of the paper).
        cmap_dim: size of the mapped label; None is the number of channels at 4×4.
        mapping_layers: fully connected layers from the label to the mapped label.
        conv_clamp: largest absolute activation, or None.
        mbstd_group_size: images a minibatch standard deviation is taken over; None is the whole batch.
        mbstd_num_channels: channels that carry it, 0 for none; divides the number of channels at 4×4.
        freeze_layers: number of layers, from the highest resolution on, that are not trained (Mo et al. 2020,
            arXiv 2002.10964).
        activation: a name in `adaflow.cuda.ACTIVATIONS`.
        resample_filter: taps of the low-pass filter for downsampling.

    Raises:
        ConfigError: a value is out of its range.
    """

    c_dim: int = 0
    img_resolution: int = 64
    img_channels: int = 3
    channel_base: int = 32768
    channel_max: int = 512
    architecture: str = "resnet"
    cmap_dim: int | None = None
    mapping_layers: int = 8
    conv_clamp: float | None = None
    mbstd_group_size: int | None = 4
    mbstd_num_channels: int = 1
    freeze_layers: int = 0
    activation: str = "lrelu"
    resample_filter: tuple[float, ...] = (1, 3, 3, 1)

    def __post_init__(self) -> None:
        _check_image(self.img_resolution, self.img_channels)
        _check_at_least(0, c_dim=self.c_dim, mbstd_num_channels=self.mbstd_num_channels)
        _check_at_least(0, freeze_layers=self.freeze_layers)
        _check_at_least(1, mapping_layers=self.mapping_layers, channel_max=self.channel_max)
        _check_at_least(1, cmap_dim=self.cmap_dim, mbstd_group_size=self.mbstd_group_size)
        _check_at_least(self.img_resolution, channel_base=self.channel_base)
        _check_positive(conv_clamp=self.conv_clamp)
        _check_name("architecture", self.architecture, DISCRIMINATOR_ARCHITECTURES)
        _check_name("activation", self.activation, ACTIVATIONS)
        setup_filter(self.resample_filter)
        channels = self.channels_at(4)
        if self.mbstd_num_channels and channels % self.mbstd_num_channels:
            raise ConfigError(
                f"mbstd_num_channels is {self.mbstd_num_channels}, not a divisor of the {channels} channels at 4×4",
                "The usual choice is 1.",
            )

    def channels_at(self, resolution: int) -> int:
        """Number of channels of the activations at `resolution`."""
        return min(self.channel_base // resolution, self.channel_max)


def resolutions(img_resolution: int) -> list[int]:
    """The resolutions of the blocks from 4 to `img_resolution`, doubling."""
    return [2**exponent for exponent in range(2, img_resolution.bit_length())]


def _check_image(resolution: int, channels: int) -> None:
    if resolution < SMALLEST_RESOLUTION or resolution & (resolution - 1):
        raise ConfigError(
            f"img_resolution is {resolution}", f"Choose a power of two, {SMALLEST_RESOLUTION} or more: 32, 64, 256 …"
        )
    if not 1 <= channels <= 4:
        raise ConfigError(f"img_channels is {channels}", "Choose 1 (grey) to 4; 3 is RGB.")


def _check_at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise ConfigError(f"{name} is {value}", f"Choose {least} or more.")


def _check_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ConfigError(f"{name} is {value}", "Choose a positive number.")


def _check_name(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise ConfigError(f"{name} is {value!r}", f"Choose one of {', '.join(known)}.")
