"""What the real images look like, as they are, innocently distorted, and transformed: all that a probe learns from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from adaflow.core.augment.pipeline import ActiveTransform, AugmentPipeline
from adaflow.core.augment.transform import Transform
from adaflow.core.draw import RandomDraws
from adaflow.core.images import to_float, to_uint8
from adaflow.core.leaks.distortions import bank, distort_randomly, reduced
from adaflow.core.leaks.traces import Stages, traces

MOST_REALS = 1000
BANK_REALS = 400
AT_A_TIME = 100
"""Images that are transformed at a time; fewer where they have more than 256 × 256 pixels."""
OTHERS = 0.25
"""With this chance, images of a transform "among others" show each of the others, too."""
TRIES = 8
"""How often a transform is drawn again for an image that it left as it was, such as a turn by 0°."""


@dataclass(frozen=True)
class Reference:
    """Traces of real images. Row i of any of them is made from image i, of which those with even i are one fold.

    Args:
        plain: as they are, [M, D].
        distorted: each distorted at random, [M, D].
        bank: all with the same distortion, by its name, [B, D] of the first B images.
        transformed: by name, [M, D]; the images of `is_plain` are not distorted as well.
        among: the same, after some of the other transforms, [B, D] of the first B images.
        is_plain: [M] bool.
        changed: the share of images that each transform changed at all, by name.
    """

    plain: Tensor
    distorted: Tensor
    bank: dict[str, Tensor]
    transformed: dict[str, Tensor]
    among: dict[str, Tensor]
    is_plain: Tensor
    changed: dict[str, float]


def make_reference(
    reals: Tensor,
    transforms: Mapping[str, Transform],
    stages: Stages,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Reference:
    """Compute the traces of real images.

    Args:
        reals: uint8 [M, C, H, W].
        transforms: to look for, as configured.
        stages: of a feature extractor.
        seed: of the draws.
        progress: told how many images are done, of how many.
    """
    numbers = torch.arange(len(reals))
    small = reduced(reals)
    distortions = bank(small)
    few = min(BANK_REALS, len(reals))
    total = (2 + len(transforms)) * len(reals) + (len(distortions) + len(transforms)) * few
    done = 0

    def measure(images: Tensor) -> Tensor:
        nonlocal done
        result = traces(images, stages)
        done += len(images)
        progress(done, total)
        return result

    is_plain = numbers // 2 % 5 < 2
    transformed, among, changed = {}, {}, {}
    for place, (name, transform) in enumerate(transforms.items()):
        images, moved = apply_reduced(transform, name, reals, seed)
        changed[name] = float(moved.float().mean())
        images[~is_plain] = distort_randomly(images[~is_plain], numbers[~is_plain], seed + 2 + place)
        transformed[name] = measure(images)
        among[name] = measure(among_others(transforms, name, reals[:few], seed))
    return Reference(
        measure(small),
        measure(distort_randomly(small, numbers, seed + 1)),
        {name: measure(function(small[:few], numbers[:few])) for name, function in distortions.items()},
        transformed,
        among,
        is_plain,
        changed,
    )


def apply_reduced(transform: Transform, name: str, images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """What `apply_surely` gives, its images reduced; large ones take little memory so."""
    at_a_time = max(min(AT_A_TIME, AT_A_TIME * 256**2 // (images.shape[2] * images.shape[3])), 1)
    parts = [
        apply_surely(transform, name, part, seed, at_a_time * place)
        for place, part in enumerate(torch.split(images, at_a_time))
    ]
    return torch.cat([reduced(part) for part, _ in parts]), torch.cat([moved for _, moved in parts])


def apply_surely(transform: Transform, name: str, images: Tensor, seed: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Every image transformed, drawn again where the transform happened to do nothing.

    Args:
        transform: as configured.
        name: names its random numbers.
        images: uint8 [N, C, H, W].
        seed: of the draws.
        first: number of the first image, which decides what is drawn for it.

    Returns:
        uint8 images, and which of them were changed, [N] bool.
    """
    pipeline = AugmentPipeline([ActiveTransform(name, transform)])
    result, moved = images.clone(), torch.zeros(len(images), dtype=torch.bool)
    for attempt in range(TRIES):
        left = (~moved).nonzero().flatten()
        if not len(left):
            break
        draws = RandomDraws(seed, f"leaks-{name}-{attempt}", left + first)
        drawn = to_uint8(pipeline(to_float(images[left]), 1.0, draws))
        changed = (drawn != images[left]).flatten(1).any(1)
        result[left[changed]] = drawn[changed]
        moved[left[changed]] = True
    return result, moved


def among_others(transforms: Mapping[str, Transform], name: str, images: Tensor, seed: int) -> Tensor:
    """Images after each of the transforms with a chance of `OTHERS`, and then surely after one; reduced."""
    others = [ActiveTransform(other, transform) for other, transform in transforms.items() if other != name]
    pipeline, parts = AugmentPipeline(others), []
    for place, part in enumerate(torch.split(images, AT_A_TIME)):
        draws = RandomDraws(seed, f"leaks-around-{name}", torch.arange(len(part)) + AT_A_TIME * place)
        mixed = to_uint8(pipeline(to_float(part), OTHERS, draws))
        parts.append(reduced(apply_surely(transforms[name], name, mixed, seed, AT_A_TIME * place)[0]))
    return torch.cat(parts)
