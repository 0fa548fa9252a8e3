"""The layers of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958).

All weights have equalised learning rates (Karras et al. 2018, arXiv 1710.10196): they are stored with unit variance
and scaled by 1 / sqrt(fan-in) when used.

Convolutions compute in the dtype of their activations, whatever that of the weights; styles, demodulation, noise and
biases stay in that of the weights. Activations and filters lie in memory channels last, as convolutions like it best.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adaflow.cuda import ACTIVATIONS, bias_act, conv2d_resample, modulated_conv2d, setup_filter
from adaflow.errors import ConfigError

SMOOTH = (1.0, 3.0, 3.0, 1.0)


class FullyConnected(nn.Module):
    """Fully connected layer, bias and activation.

    Args:
        in_features: size of the input.
        out_features: size of the output.
        activation: a name in `adaflow.cuda.ACTIVATIONS`.
        lr_multiplier: learning rate relative to that of the optimizer.
        bias_init: first value of the bias.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], bias_init))
        self.weight_gain = lr_multiplier / in_features**0.5
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_features] → [N, out_features]."""
        y = torch.addmm(self.bias, x, self.weight.T, beta=self.bias_gain, alpha=self.weight_gain)
        return bias_act(y, act=self.activation)


class ConvLayer(nn.Module):
    """Convolution with up- or downsampling, bias and activation; odd kernel, size kept.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: width and height of the kernel, odd.
        bias: add a bias.
        activation: a name in `adaflow.cuda.ACTIVATIONS`.
        up: upsampling factor.
        down: downsampling factor.
        resample_filter: taps of the low-pass filter.
        conv_clamp: largest absolute output, or None.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        resample_filter: Sequence[float] = SMOOTH,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.up = up
        self.down = down
        self.activation = activation
        self.act_gain = ACTIVATIONS[activation].default_gain
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.weight = new_filters(out_channels, in_channels, kernel_size)
        self.weight_gain = 1 / (in_channels * kernel_size**2) ** 0.5
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.register_buffer("resample_filter", setup_filter(resample_filter))

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """[N, in_channels, H, W] → [N, out_channels, H·up / down, W·up / down], multiplied by `gain`."""
        weight = self.weight * self.weight_gain
        return conv2d_resample(
            x,
            weight,
            self.resample_filter,
            up=self.up,
            down=self.down,
            padding=self.padding,
            bias=self.bias,
            act=self.activation,
            gain=self.act_gain * gain,
            clamp=None if self.conv_clamp is None else self.conv_clamp * gain,
        )


class SynthesisLayer(nn.Module):
    """3×3 modulated convolution, noise, bias and activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        w_dim: size of w.
        resolution: width and height of the output in pixels.
        up: upsampling factor, 1 or 2.
        use_noise: add noise.
        activation: a name in `adaflow.cuda.ACTIVATIONS`.
        resample_filter: taps of the low-pass filter.
        conv_clamp: largest absolute output, or None.
    """

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        up: int = 1,
        use_noise: bool = True,
        activation: str = "lrelu",
        resample_filter: Sequence[float] = SMOOTH,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.up = up
        self.use_noise = use_noise
        self.activation = activation
        self.act_gain = ACTIVATIONS[activation].default_gain
        self.conv_clamp = conv_clamp
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1.0)
        self.weight = new_filters(out_channels, in_channels, 3)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        if use_noise:
            self.noise_strength = nn.Parameter(torch.zeros([]))
            self.register_buffer("noise_const", torch.randn(resolution, resolution))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, gain: float = 1.0) -> Tensor:
        """Run the layer.

        Args:
            x: activations, [N, in_channels, H, W].
            w: intermediate latents, [N, w_dim].
            noise: unit normal noise that broadcasts to [N, 1, H·up, W·up], or None.
            gain: factor on the output.

        Returns:
            activations, [N, out_channels, H·up, W·up].
        """
        return modulated_conv2d(
            x,
            self.weight,
            styles=self.affine(w),
            noise=None if noise is None else noise * self.noise_strength,
            up=self.up,
            padding=1,
            f=self.resample_filter,
            flip_weight=self.up == 1,
            bias=self.bias,
            act=self.activation,
            gain=self.act_gain * gain,
            clamp=None if self.conv_clamp is None else self.conv_clamp * gain,
        )


class ToRGB(nn.Module):
    """1×1 modulated convolution, without demodulation, from activations to image channels.

    Args:
        in_channels: channels of the input.
        img_channels: channels of the image.
        w_dim: size of w.
        conv_clamp: largest absolute output, or None.
    """

    def __init__(self, in_channels: int, img_channels: int, w_dim: int, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1.0)
        self.weight = new_filters(img_channels, in_channels, 1)
        self.bias = nn.Parameter(torch.zeros(img_channels))
        self.weight_gain = 1 / in_channels**0.5

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[N, in_channels, H, W] and [N, w_dim] → [N, img_channels, H, W], in the dtype of the weights."""
        styles = self.affine(w) * self.weight_gain
        x = modulated_conv2d(x, self.weight, styles=styles, demodulate=False)
        return bias_act(x.to(self.bias.dtype), self.bias, clamp=self.conv_clamp)


class MinibatchStd(nn.Module):
    """Append the standard deviation over groups of images as extra channels (Karras et al. 2018, section 3).

    Args:
        group_size: images in a group; None is the whole batch. A smaller batch is one group.
        num_channels: channels to append; divides the channels of the input.
    """

    def __init__(self, group_size: int | None, num_channels: int) -> None:
        super().__init__()
        self.group_size = group_size
        self.num_channels = num_channels

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C + num_channels, H, W]; image n is in group n mod (N / group size).

        Raises:
            ConfigError: the batch does not divide into groups.
        """
        batch, channels, height, width = x.shape
        size = batch if self.group_size is None else min(self.group_size, batch)
        if batch % size:
            raise ConfigError(
                f"a batch of {batch} images does not divide into groups of {size} for the minibatch standard deviation",
                "Choose a batch size per device that is a multiple of mbstd_group_size, or another mbstd_group_size.",
            )
        groups = x.reshape(size, batch // size, self.num_channels, channels // self.num_channels, height, width)
        variance = (groups - groups.mean(dim=0)).square().mean(dim=0)
        std = (variance + 1e-8).sqrt().mean(dim=[2, 3, 4])
        std = std.reshape(-1, self.num_channels, 1, 1).repeat(size, 1, height, width)
        return torch.cat([x, std], dim=1)


def new_filters(out_channels: int, in_channels: int, kernel_size: int) -> nn.Parameter:
    """Weights of a convolution, [out_channels, in_channels, kernel_size, kernel_size], unit normal."""
    weight = torch.randn(out_channels, in_channels, kernel_size, kernel_size)
    return nn.Parameter(weight.contiguous(memory_format=torch.channels_last))


def as_activations(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    """[N, C, H, W] in the dtype a block computes in (None: its own) and in the layout that convolutions like best."""
    return x.to(x.dtype if dtype is None else dtype, memory_format=torch.channels_last)


def normalize_second_moment(x: Tensor) -> Tensor:
    """Scale each row of [N, features] to a mean square of 1."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
