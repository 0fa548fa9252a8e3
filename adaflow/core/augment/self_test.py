"""Whether the native path of the augmentations agrees with the reference path, for `adaflow doctor`."""

from __future__ import annotations

import torch
from torch import Tensor

from adaflow.core.augment.matrices import rotation, translation
from adaflow.core.augment.pipeline import ActiveTransform, AugmentPipeline
from adaflow.core.augment.transform import ColorTransform, FilterTransform, GeometryTransform
from adaflow.core.draw import Draw, RandomDraws
from adaflow.cuda.library import register_self_test
from adaflow.cuda.self_test import compare, some


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


class _Band(FilterTransform):
    band = 2

    def gain(self, draw: Draw) -> Tensor:
        return draw.lognormal2(1.0)


def _augment(device: torch.device) -> None:
    transforms = (_Turn(), _Shift(), _Mix(), _Band())
    pipeline = AugmentPipeline([ActiveTransform(type(transform).__name__, transform) for transform in transforms])
    draws = RandomDraws(0, "self-test", torch.arange(12, device=device))
    for channels in (3, 1):
        compare(lambda x: pipeline(x, 0.5, draws), some(12, channels, 20, 17, device=device), tolerance=1e-3)


register_self_test("augment", _augment)
