"""StyleGAN2 as one writes it first: plain torch operations on the parameters of adaflow's networks.

Each image gets convolution weights of its own, a FIR filter is a depthwise convolution, bias, activation and gain are
operations of their own, memory is NCHW, everything is float32, and torch's autograd finds all derivatives. Generator
with skip connections, discriminator with residual ones, no labels (arXiv 1912.04958).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaflow.core.networks import Discriminator, Generator

Modulation = Literal["grouped", "scaled"]


class PlainNetwork:
    """Parameters of a network of adaflow, copied, by name.

    Args:
        network: where they come from.
    """

    def __init__(self, network: nn.Module) -> None:
        trainable = dict(network.named_parameters())
        tensors = {**trainable, **dict(network.named_buffers())}
        self.weights = {
            name: tensor.detach().float().clone(memory_format=torch.contiguous_format).requires_grad_(name in trainable)
            for name, tensor in tensors.items()
        }
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=next(iter(trainable.values())).device)
        self.smooth = torch.outer(taps, taps) / 64
        self.trainable = [self.weights[name] for name in trainable]

    def parameters(self) -> list[Tensor]:
        """What is trained."""
        return self.trainable

    def requires_grad_(self, on: bool = True) -> PlainNetwork:
        """Whether gradients reach the parameters."""
        for parameter in self.trainable:
            parameter.requires_grad_(on)
        return self

    def fully_connected(self, x: Tensor, name: str, rate: float = 1.0, bias_rate: float = 1.0) -> Tensor:
        """[N, features] → [N, features], with equalised learning rate."""
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.linear(x, weight * (rate / weight.shape[1] ** 0.5), bias * bias_rate)

    def filter(self, x: Tensor, padding: int, stride: int = 1) -> Tensor:
        """[1, 3, 3, 1] along both axes of every channel."""
        channels = x.shape[1]
        kernel = self.smooth[None, None].repeat(channels, 1, 1, 1)
        return F.conv2d(x, kernel, stride=stride, padding=padding, groups=channels)


class PlainGenerator(PlainNetwork):
    """Args:
    network: whose parameters to copy.
    modulation: "grouped" convolves with the weights of each image, as one convolution with a group for each;
        "scaled" uses these weights for demodulation only and scales activations.
    """

    def __init__(self, network: Generator, modulation: Modulation = "grouped") -> None:
        super().__init__(network)
        self.config = network.config
        self.modulation = modulation
        self.num_ws = network.synthesis.num_ws
        self.layers = range(network.config.mapping_layers)
        self.resolutions = network.synthesis.resolutions

    def mapping(self, z: Tensor) -> Tensor:
        """[N, z_dim] → ws [N, num_ws, w_dim]."""
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        rate = self.config.lr_multiplier
        for layer in self.layers:
            x = activate(self.fully_connected(x, f"mapping.fc{layer}", rate, rate))
        return x[:, None].repeat(1, self.num_ws, 1)

    def synthesis(self, ws: Tensor, noise: Literal["random", "const"] = "random") -> Tensor:
        """ws → images [N, C, H, W]."""
        n = len(ws)
        x = self.weights["synthesis.b4.const"][None].repeat(n, 1, 1, 1)
        image = None
        number = 0
        for size in self.resolutions:
            block = f"synthesis.b{size}"
            for layer in ("conv1",) if size == 4 else ("conv0", "conv1"):
                x = self.layer(x, ws[:, number], f"{block}.{layer}", noise, up=layer == "conv0")
                number += 1
            color = self.to_rgb(x, ws[:, number], f"{block}.torgb")
            image = color if image is None else color + self.double(image)
        assert image is not None
        return image

    def __call__(self, z: Tensor, noise: Literal["random", "const"] = "random") -> Tensor:
        """z → images."""
        return self.synthesis(self.mapping(z), noise)

    def layer(self, x: Tensor, w: Tensor, name: str, noise: str, up: bool) -> Tensor:
        """Modulated convolution, noise, bias, activation."""
        style = self.fully_connected(w, f"{name}.affine")
        x = self.modulated(x, self.weights[f"{name}.weight"], style, up=up)
        constant = self.weights[f"{name}.noise_const"]
        field = constant if noise == "const" else torch.randn(len(x), 1, *constant.shape, device=x.device)
        x = x + field * self.weights[f"{name}.noise_strength"]
        return activate(x + self.weights[f"{name}.bias"].view(1, -1, 1, 1))

    def to_rgb(self, x: Tensor, w: Tensor, name: str) -> Tensor:
        """1×1 convolution to colours, modulated and not demodulated."""
        style = self.fully_connected(w, f"{name}.affine") / x.shape[1] ** 0.5
        x = self.modulated(x, self.weights[f"{name}.weight"], style, demodulate=False)
        return x + self.weights[f"{name}.bias"].view(1, -1, 1, 1)

    def modulated(self, x: Tensor, weight: Tensor, style: Tensor, up: bool = False, demodulate: bool = True) -> Tensor:
        """Convolve each image with the weights scaled by its own style and normalised, doubling it where `up`."""
        n, channels, height, width = x.shape
        own = weight[None] * style[:, None, :, None, None]
        scale = (own.square().sum(dim=(2, 3, 4)) + 1e-8).rsqrt() if demodulate else None
        if self.modulation == "scaled":
            x = self.convolve(x * style[:, :, None, None], weight, 1, up)
            return x if scale is None else x * scale[:, :, None, None]
        if scale is not None:
            own = own * scale[:, :, None, None, None]
        x = self.convolve(x.reshape(1, n * channels, height, width), own.flatten(0, 1), n, up)
        return x.reshape(n, -1, *x.shape[2:])

    def convolve(self, x: Tensor, weight: Tensor, groups: int, up: bool) -> Tensor:
        """3×3 or 1×1 convolution; where `up`, one that doubles the size, and the filter after it."""
        if not up:
            return F.conv2d(x, weight, padding=weight.shape[2] // 2, groups=groups)
        outputs, inputs, *size = weight.shape
        turned = weight.reshape(groups, outputs // groups, inputs, *size).transpose(1, 2).flatten(0, 1)
        return self.filter(4 * F.conv_transpose2d(x, turned, stride=2, groups=groups), padding=1)

    def double(self, image: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C, 2H, 2W]: zeros between the pixels, then the filter."""
        n, channels, height, width = image.shape
        spread = F.pad(image.view(n, channels, height, 1, width, 1), (0, 1, 0, 0, 0, 1))
        spread = spread.reshape(n, channels, 2 * height, 2 * width)
        return self.filter(4 * F.pad(spread, (2, 1, 2, 1)), padding=0)


class PlainDiscriminator(PlainNetwork):
    """Args:
    network: whose parameters to copy.
    """

    def __init__(self, network: Discriminator) -> None:
        super().__init__(network)
        self.group = network.config.mbstd_group_size
        self.resolutions = network.resolutions

    def __call__(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] → logits [N, 1]."""
        x = self.convolution(images, f"b{self.resolutions[0]}.fromrgb")
        for size in self.resolutions:
            shortcut = self.convolution(self.filter(x, padding=1, stride=2), f"b{size}.skip", linear=True)
            x = self.convolution(x, f"b{size}.conv0")
            x = self.convolution(self.filter(x, padding=2), f"b{size}.conv1", stride=2)
            x = (x + shortcut) * 0.5**0.5
        x = self.convolution(self.with_deviation(x), "b4.conv")
        x = activate(self.fully_connected(x.flatten(1), "b4.fc"))
        return self.fully_connected(x, "b4.out")

    def convolution(self, x: Tensor, name: str, stride: int = 1, linear: bool = False) -> Tensor:
        """Convolution with equalised learning rate, then bias and activation unless `linear`."""
        weight = self.weights[f"{name}.weight"]
        weight = weight / (weight.shape[1] * weight.shape[2] * weight.shape[3]) ** 0.5
        padding = weight.shape[2] // 2 if stride == 1 else 0
        x = F.conv2d(x, weight, stride=stride, padding=padding)
        return x if linear else activate(x + self.weights[f"{name}.bias"].view(1, -1, 1, 1))

    def with_deviation(self, x: Tensor) -> Tensor:
        """One more channel: the standard deviation over groups of images."""
        n, channels, height, width = x.shape
        size = min(self.group or n, n)
        groups = x.view(size, n // size, channels, height, width)
        deviation = (groups.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
        return torch.cat((x, deviation.view(-1, 1, 1, 1).repeat(size, 1, height, width)), dim=1)


def activate(x: Tensor) -> Tensor:
    """Leaky rectifier, then the gain that keeps the variance."""
    return F.leaky_relu(x, 0.2) * 2**0.5
