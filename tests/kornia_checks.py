"""What is found out about kornia's classes, and the tables of docs/kornia.md made from it.

`python -m tests.kornia_checks` writes the tables into the page.
"""

import inspect
import random
import warnings
from pathlib import Path

import numpy as np
import torch

from adaflow.conformance.derivatives import graph_nodes
from adaflow.core.draw import RandomDraws
from adaflow.plugins.augmentations.kornia import CLASSES
from adaflow.plugins.augmentations.kornia_transform import (
    DEFAULTS,
    EXPECTED_FAILURES,
    KorniaTransform,
    kornia_transform,
)

PAGE = Path(__file__).parents[1] / "docs" / "kornia.md"
SIZE = 24  # drops of rain are up to 20 pixels high; a jigsaw has 4 × 4 pieces

NO_GRADIENT = "no gradient, or one that is zero: the generator learns nothing through it"
INFINITE_GRADIENT = "its gradient is infinite at black"
UNSUITABLE = {
    NO_GRADIENT: ("RandomClahe", "RandomEqualize", "RandomPosterize"),
    INFINITE_GRADIENT: ("RandomGamma",),
    "needs the network Stable Diffusion": ("RandomDissolving",),
    "changes the size of the image, or nothing": ("CenterCrop", "LongestMaxSize", "PadTo", "Resize", "SmallestMaxSize"),
    "not random: a change of units": ("Denormalize", "Normalize"),
    "mixes images of a batch, which are to stay independent": (
        *("PatchMix", "RandomCutMixV2", "RandomMixUpV2", "RandomMosaic", "RandomTransplantation"),
    ),
    "for volumes": (
        *("CenterCrop3D", "RandomAffine3D", "RandomCrop3D", "RandomDepthicalFlip3D", "RandomEqualize3D"),
        *("RandomHorizontalFlip3D", "RandomMotionBlur3D", "RandomPerspective3D", "RandomRotation3D"),
        *("RandomTransplantation3D", "RandomVerticalFlip3D"),
    ),
    "a container of others, or a base class": (
        *("AugmentationBase2D", "AugmentationBase3D", "AugmentationSequential", "GeometricAugmentationBase2D"),
        *("GeometricAugmentationBase3D", "ImageSequential", "IntensityAugmentationBase2D"),
        *("IntensityAugmentationBase3D", "ManyToManyAugmentationDispather", "ManyToOneAugmentationDispather"),
        *("MixAugmentationBaseV2", "PatchSequential", "RigidAffineAugmentationBase2D"),
        *("RigidAffineAugmentationBase3D", "VideoSequential"),
    ),
}
"""Reason → classes that are not offered."""


def available() -> set[str]:
    """All classes of the kornia that is installed."""
    import kornia.augmentation

    return {name for name, value in vars(kornia.augmentation).items() if inspect.isclass(value)}


def problems(transform: KorniaTransform) -> list[str]:
    """What is wrong with a transform, nothing if it is fit for training."""
    return [check.__doc__ or "" for check in CHECKS if not check(transform)]


def images(n: int, channels: int = 3, dtype: torch.dtype = torch.float32, width: int = SIZE) -> torch.Tensor:
    """[n, C, 24, W], uniform in (-0.9, 0.9)."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand((n, channels, SIZE, width), generator=generator, dtype=dtype) * 1.8 - 0.9


def few_colors(n: int) -> torch.Tensor:
    """[n, 3, 24, 24] of black, mid-grey, white and light grey in each channel, then as many greys, then flat ones."""
    generator = torch.Generator().manual_seed(0)
    palette = torch.tensor([-1.0, 0.0, 1.0, 0.5])
    colors = palette[torch.randint(4, (n, 3, SIZE, SIZE), generator=generator)]
    flat = palette[torch.arange(n) % 4].view(-1, 1, 1, 1).expand_as(colors)
    return torch.cat((colors, colors[:, :1].expand_as(colors), flat))


def changed(transform: KorniaTransform, before: torch.Tensor, first: int = 0) -> torch.Tensor:
    """The images after the transform, the first of them being image number `first` of a run."""
    numbers = torch.arange(first, first + len(before))
    return transform.apply(before, RandomDraws(0, "test", numbers).draw("kornia"))


def keeps_shape_and_changes_images(transform: KorniaTransform) -> bool:
    """does nothing, or changes the shape or the images it is given, or computes in bfloat16."""
    for channels in (3, 1):
        for dtype in (torch.float32, torch.bfloat16):
            before = images(4, channels, dtype, width=28)
            copy = before.clone()
            after = changed(transform, before)
            if after.shape != before.shape or not torch.equal(before, copy) or not after.isfinite().all():
                return False
            if channels == 3 and torch.equal(after.to(dtype), before):
                return False
            if not torch.equal(after.float(), changed(transform, before.float())):
                return False
    return True


def draws_from_nothing_else(transform: KorniaTransform) -> bool:
    """uses or advances a global generator, or gives something else the second time."""
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        results.append(changed(transform, images(4)))
        after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
        if not torch.equal(before[0], after[0]) or (before[1] != after[1]).any() or before[2] != after[2]:
            return False
    return torch.equal(*results)


def images_are_independent(transform: KorniaTransform) -> bool:
    """lets an image depend on the others of its batch."""
    before = images(5)
    alone = torch.cat([changed(transform, before[i : i + 1], first=i) for i in range(len(before))])
    return torch.allclose(changed(transform, before), alone, atol=1e-5, rtol=0)


def twice_differentiable(transform: KorniaTransform) -> bool:
    """has no gradient, a wrong one, no second one, or torch's grid_sample in it."""
    before = images(2, dtype=torch.float64).requires_grad_()

    def function(x: torch.Tensor) -> torch.Tensor:
        return changed(transform, x).sin()

    after = function(before)
    if not after.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(after.sum(), before, create_graph=True)
    if any("GridSampler" in name for name in graph_nodes(after) | graph_nodes(gradient)):
        return False
    first = torch.autograd.gradcheck(function, before, fast_mode=True, raise_exception=False)
    return first and torch.autograd.gradgradcheck(function, before, fast_mode=True, raise_exception=False)


def every_image_gets_a_gradient(transform: KorniaTransform) -> bool:
    """gives some images no gradient at all."""
    before = images(16).requires_grad_()
    after = changed(transform, before)
    if not after.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(after.sin().sum(), before)
    return bool((gradient != 0).flatten(1).any(1).all())


def gradients_are_finite(transform: KorniaTransform) -> bool:
    """has gradients that are not finite for images of few colours."""
    before = few_colors(8).requires_grad_()
    after = changed(transform, before)
    if not after.requires_grad:
        return True
    (gradient,) = torch.autograd.grad(after.sin().sum(), before, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), before)
    return bool(after.isfinite().all() and gradient.isfinite().all() and second.isfinite().all())


CHECKS = (
    *(keeps_shape_and_changes_images, draws_from_nothing_else, images_are_independent),
    *(twice_differentiable, every_image_gets_a_gradient, gradients_are_finite),
)


def skips_grey(transform: KorniaTransform) -> bool:
    """Whether it leaves images without colours alone."""
    return torch.equal(changed(transform, images(8, channels=1)), images(8, channels=1))


def clamps(transform: KorniaTransform) -> bool:
    """Whether a value beyond black or white gets no gradient, where one within does."""
    before = images(8)
    outside = before.abs() > 0.6
    before = torch.where(outside, before + before.sign(), before).requires_grad_()
    (gradient,) = torch.autograd.grad(changed(transform, before).sin().sum(), before)
    return bool((gradient[outside] == 0).all() and (gradient[~outside] != 0).any())


def tables() -> str:
    """The tables of the page."""
    lines = [
        "| class | does not pass | gradient beyond black and white | grey images | defaults that are not kornia's |",
        "|--|--|--|--|--|",
    ]
    for name in CLASSES:
        transform = kornia_transform(name)()
        gradient = "none" if clamps(transform) else "yes"
        grey = "left alone" if skips_grey(transform) else "yes"
        defaults = ", ".join(f"{setting}={value!r}" for setting, value in DEFAULTS.get(name, {}).items())
        reasons = list(dict.fromkeys(EXPECTED_FAILURES.get(name, {}).values()))
        failing = f"`{'`, `'.join(EXPECTED_FAILURES[name])}`: {'; '.join(reasons)}" if reasons else ""
        lines.append(f"| {name} | {failing} | {gradient} | {grey} | {f'`{defaults}`' if defaults else ''} |")
    lines += ["", "| not offered | why |", "|--|--|"]
    lines += [f"| {', '.join(sorted(names))} | {reason} |" for reason, names in UNSUITABLE.items()]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with everything from its first table on made anew."""
    return text[: text.index("| class |")] + tables()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
