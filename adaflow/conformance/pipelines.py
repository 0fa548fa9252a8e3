"""What the checks of augmentations share: pipelines as users build them, images, draws, and transforms for company."""

from __future__ import annotations

import torch
from torch import Tensor

from adaflow.conformance.check import Subject, same_generators
from adaflow.core.augment import AugmentPipeline, build_pipeline
from adaflow.core.augment.transform import ColorTransform, FilterTransform, GeometryTransform, ImageTransform
from adaflow.core.draw import Draw, Draws, RandomDraws

STREAM = "conformance"
SIZE = 16
"""Height and width of images, in pixels, where nothing else is said."""


def build(subject: Subject, spec: str = "") -> AugmentPipeline:
    """A new pipeline of the subject alone, or of what a spec says, in which it may have company.

    Raises:
        AdaflowError: that is not possible.
    """
    registry = subject.registry()
    for name, companion in COMPANY.items():
        registry.add(name, companion, "adaflow.conformance")
    return build_pipeline(spec or subject.item, registry)


def noise(
    n: int, channels: int = 3, height: int = SIZE, width: int = SIZE, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Images [n, channels, height, width], uniform in [-1, 1], always the same."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand((n, channels, height, width), generator=generator, dtype=torch.float64) * 2 - 1).to(dtype)


def flat(dtype: torch.dtype = torch.float32) -> Tensor:
    """Black, grey and white images, [3, 3, SIZE, SIZE]."""
    return torch.tensor([-1.0, 0.0, 1.0], dtype=dtype).view(3, 1, 1, 1).repeat(1, 3, SIZE, SIZE)


def draws(n: int, first: int = 0) -> RandomDraws:
    """The draws of images number `first` and those that follow."""
    return RandomDraws(0, STREAM, torch.arange(first, first + n))


def augmented(pipeline: AugmentPipeline, images: Tensor, p: float | Tensor = 1.0, drawn: Draws | None = None) -> Tensor:
    """Augmented images; without `drawn`, the draws are those of images number 0 and those that follow.

    The global generators always start alike, so that what a transform takes from them is told by the check of that, and
    not by all.
    """
    with same_generators():
        return pipeline(images, p, drawn or draws(len(images)))


class Slant(GeometryTransform):
    """An affine map that goes with no other."""

    def matrix(self, draw: Draw, height: int, width: int) -> Tensor:
        """Always the same."""
        return torch.tensor([[0.9, 0.2, 1.3], [-0.1, 1.1, 0.7], [0.0, 0.0, 1.0]]).expand(draw.n, 3, 3)


class Mixing(ColorTransform):
    """An affine map of the colours that goes with no other."""

    def matrix(self, draw: Draw) -> Tensor:
        """Always the same."""
        rows = [[0.8, 0.1, 0.1, 0.1], [0.0, 0.7, 0.2, -0.1], [0.3, 0.0, 0.6, 0.0], [0.0, 0.0, 0.0, 1.0]]
        return torch.tensor(rows).expand(draw.n, 4, 4)


class Sharper(FilterTransform):
    """A gain of the second band."""

    band = 1

    def gain(self, draw: Draw) -> Tensor:
        """Always the same."""
        return torch.full((draw.n,), 1.5)


class Curve(ImageTransform):
    """A curve of brightness beside a shift by one pixel."""

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Always the same."""
        return 0.6 * images.roll(1, -1) + 0.3 * images.square()


COMPANY = {"company.slant": Slant, "company.mixing": Mixing, "company.sharper": Sharper, "company.curve": Curve}
"""Transforms beside which a subject is checked: one of each kind, at the place that is given to those without one."""
