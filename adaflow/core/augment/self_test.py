"""Whether the native path of the augmentations agrees with the reference path, for `adaflow doctor`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adaflow.core.augment.matrices import color_matrix, rotation, scaling, translation
from adaflow.core.augment.pipeline import ActiveTransform, AugmentPipeline
from adaflow.core.augment.transform import ColorTransform, FilterTransform, GeometryTransform, ImageTransform, Transform
from adaflow.core.draw import Draw, RandomDraws
from adaflow.cuda.library import register_self_test
from adaflow.cuda.self_test import compare, some

# As contributed ones are, drawn by their own code.


class _Turn(GeometryTransform):
    def matrix(self, draw: Draw, height: int, width: int) -> Tensor:
        return rotation(draw.uniform(-3.0, 3.0))


class _Shift(GeometryTransform):
    pixel_copy = True

    def matrix(self, draw: Draw, height: int, width: int) -> Tensor:
        return translation(draw.uniform(-9.0, 9.0, (2,)).round())


class _Mix(ColorTransform):
    def matrix(self, draw: Draw) -> Tensor:
        matrix = torch.eye(4, device=draw.device).repeat(draw.n, 1, 1)
        matrix[:, :3] = draw.normal(shape=(3, 4))
        return matrix


# As built-in ones are, drawn by native code.


@dataclass
class _Scale(GeometryTransform):
    formula = "scale"
    std: float = 0.2

    def matrix(self, draw: Draw, height: int, width: int) -> Tensor:
        factor = draw.lognormal2(self.std)
        return scaling(factor, factor)


@dataclass
class _Contrast(ColorTransform):
    formula = "contrast"
    std: float = 0.5

    def matrix(self, draw: Draw) -> Tensor:
        return color_matrix(draw.lognormal2(self.std)[:, None, None] * torch.eye(3, device=draw.device))


@dataclass
class _Band(FilterTransform):
    formula = "band3"
    band = 2
    std: float = 1.0

    def gain(self, draw: Draw) -> Tensor:
        return draw.lognormal2(self.std)


@dataclass
class _Noise(ImageTransform):
    formula = "noise"
    std: float = 0.1

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        return images + draw.half_normal(self.std).view(-1, 1, 1, 1) * draw.normal(shape=tuple(images.shape[1:]))


def _compare(device: torch.device, *transforms: Transform) -> None:
    pipeline = AugmentPipeline([ActiveTransform(type(transform).__name__, transform) for transform in transforms])
    draws = RandomDraws(0, "self-test", torch.arange(12, device=device))
    for channels in (3, 1):
        compare(lambda x: pipeline(x, 0.5, draws), some(12, channels, 20, 17, device=device), tolerance=1e-3)


def _contributed(device: torch.device) -> None:
    _compare(device, _Turn(), _Shift(), _Mix(), _Band())


def _built_in(device: torch.device) -> None:
    _compare(device, _Scale(), _Contrast(), _Band(), _Noise())


register_self_test("augment", _built_in)
register_self_test("augment, contributed", _contributed)
