"""Checks of augmentations: where their numbers come from, and what they remember."""

from __future__ import annotations

import torch
from scipy.special import bdtr  # type: ignore[import-untyped]
from torch import Tensor

from adaflow.conformance.check import (
    Subject,
    advanced_generators,
    generator_states,
    require,
    same_generators,
    through_a_file,
)
from adaflow.conformance.pipelines import STREAM, augmented, build, draws, noise
from adaflow.core.augment import AugmentPipeline
from adaflow.core.augment.transform import Transform
from adaflow.core.draw import RandomDraws

CHANCE = 1e-6
"""So often the gate rate of a faultless transform is called wrong."""
GATE_P, GATE_IMAGES = 0.3, 600
ROUNDING = 1e-4


def randomness_from_the_draw(subject: Subject) -> None:
    """Its numbers come from its draw: the global generators of torch, numpy and Python are neither used nor needed."""
    images, results = noise(8), []
    for seed in (1, 2):
        with same_generators(seed):
            before = generator_states()
            results.append(build(subject)(images, 1.0, draws(8)))
            used = advanced_generators(before)
        require(not used, f"it uses the global generator of {', '.join(used)}: take the numbers from the draw")
    require(torch.equal(*results), "it gives other images with other global seeds: take the numbers from the draw")


def reproducible(subject: Subject) -> None:
    """The same draws give the same images in another run, and each time in one, unless it has a state."""
    images = noise(8)
    first, second = build(subject), build(subject)
    runs = [[pipeline(images, 1.0, draws(8)) for _ in range(2)] for pipeline in (first, second)]
    same = all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    require(same, "the same draws give other images in another run")
    stateless = type(first.transforms[0].transform).state_dict is Transform.state_dict
    same = not stateless or torch.equal(*runs[0])
    require(same, "the same draws give other images the second time, and it has no state_dict()")


def independent_of_the_batch(subject: Subject) -> None:
    """What becomes of an image does not depend on the other images of the batch, nor on its place among them."""
    images = noise(8)
    for p in (1.0, 0.5):
        whole = augmented(build(subject), images, p)
        alone = torch.cat([augmented(build(subject), images[i : i + 1], p, draws(1, first=i)) for i in range(8)])
        other = torch.cat([images[:4], -images[4:]])
        company = augmented(build(subject), other, p)
        order = torch.tensor([5, 2, 7, 0, 3, 6, 1, 4])
        shuffled = augmented(build(subject), images[order], p, RandomDraws(0, STREAM, order))
        for case, result, expected in (
            ("alone", alone, whole),
            ("in other company", company[:4], whole[:4]),
            ("in another place of the batch", shuffled, whole[order]),
        ):
            apart = float((result - expected).abs().max())
            require(apart <= ROUNDING, f"an image {case} comes out differently, by up to {apart:.2g}")


def gate_rate(subject: Subject) -> str:
    """It acts on the share p of the images, and one that always shows on no more or fewer (wrong once in a million)."""
    images = noise(GATE_IMAGES)
    always = _changed(build(subject), images, 1.0)
    for p in (GATE_P, torch.tensor(GATE_P, dtype=torch.float64)):
        count = _changed(build(subject), images, p)
        too_many = 1 - float(bdtr(count - 1, GATE_IMAGES, GATE_P)) if count else 1.0
        too_few = float(bdtr(count, GATE_IMAGES, GATE_P)) if always == GATE_IMAGES else 1.0
        where = "p as a tensor" if isinstance(p, Tensor) else "p"
        likely = min(too_many, too_few) > CHANCE / 4  # two sides, two kinds of p
        require(likely, f"with {where} = {GATE_P}, {count} of {GATE_IMAGES} images change; its gate() is wrong")
    if always == GATE_IMAGES:
        return ""
    return f"{100 * always / GATE_IMAGES:.0f} % of the images change at p = 1, so only the upper side is checked"


def state_round_trip(subject: Subject) -> None:
    """What `state_dict` gives survives a checkpoint, and a transform that takes it back goes on like the first one."""
    images = noise(8)
    first, second = build(subject), build(subject)
    augmented(first, images)
    second.transforms[0].transform.load_state_dict(through_a_file(first.transforms[0].transform.state_dict()))
    for _ in range(2):
        same = torch.equal(augmented(first, images), augmented(second, images))
        require(same, "after a resume it gives other images than without: state_dict() does not hold all it remembers")


def _changed(pipeline: AugmentPipeline, images: Tensor, p: float | Tensor) -> int:
    """How many images change."""
    return int((augmented(pipeline, images, p) != images).flatten(1).any(1).sum())
