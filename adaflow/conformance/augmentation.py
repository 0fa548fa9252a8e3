"""Checks of augmentations: what goes in and comes out."""

from __future__ import annotations

import dataclasses
import inspect
import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from adaflow.conformance.check import CheckSkipped, Subject, require
from adaflow.conformance.pipelines import SIZE, augmented, build, draws, flat, noise
from adaflow.core.augment import AugmentPipeline
from adaflow.core.augment.transform import ColorTransform, FilterTransform, GeometryTransform
from adaflow.core.draw import PercentileDraws
from adaflow.cuda.library import native, reference_ops

PERCENTILES = (1e-6, 0.3, 0.5, 1 - 1e-6)
COST_SIZE, COST_IMAGES, COST_TRIES = 64, 16, 3


def constructs(subject: Subject) -> None:
    """It can be made from its name, with its default settings or those given."""
    build(subject)


def shape_and_type(subject: Subject) -> None:
    """Images come back in the shape and type they came in, natively and on the reference path; its own methods give the
    shape that their base class asks for, maps and gains in float32."""
    images = noise(4)
    pipeline = build(subject)
    for p in (1.0, torch.tensor(1.0, dtype=torch.float64)):
        _comes_back(pipeline, images, p)
        with reference_ops():
            _comes_back(pipeline, images, p)
    for place in pipeline.map_places:
        transform, draw = place.transform, draws(4).draw(*place.stream)
        if isinstance(transform, GeometryTransform):
            what, drawn, shape = "matrix()", transform.matrix(draw, SIZE, SIZE), [4, 3, 3]
        elif isinstance(transform, ColorTransform):
            what, drawn, shape = "matrix()", transform.matrix(draw), [4, 4, 4]
        else:
            assert isinstance(transform, FilterTransform)
            what, drawn, shape = "gain()", transform.gain(draw), [4]
        found = (drawn.dtype, list(drawn.shape))
        require(found == (torch.float32, shape), f"{what} returns {_described(*found)}, not float32 {shape}")


def settings_round_trip(subject: Subject) -> None:
    """The text of a pipeline, which is kept with a run, gives the same pipeline again."""
    pipeline = build(subject)
    spec = pipeline.spec()
    transform = type(pipeline.transforms[0].transform)
    fields = {field.name for field in dataclasses.fields(transform)}
    hidden = [name for name in inspect.signature(transform).parameters if name not in fields]
    require(not hidden, f"its setting {', '.join(hidden)} is not in {spec}: make it a field of a dataclass")
    again = build(subject, spec)
    require(again.spec() == spec, f"{spec} gives {again.spec()}")
    require(_equal(pipeline, again, noise(8)), f"the pipeline made from {spec} gives other images")


def identity_at_p_0(subject: Subject) -> None:
    """With p = 0, as a number or as a tensor, and with the weight 0, images stay the same bit for bit."""
    images = noise(64, height=8, width=8)
    images[:, :, 0] = -0.0
    cases = {
        "p = 0": augmented(build(subject), images, 0.0),
        "p = 0 as a tensor": augmented(build(subject), images, torch.tensor(0.0, dtype=torch.float64)),
        "the weight 0": augmented(build(subject, f"{subject.item}*0"), images, 1.0),
    }
    for case, result in cases.items():
        changed = int((result.view(torch.int32) != images.view(torch.int32)).flatten(1).any(1).sum())
        require(changed == 0, f"with {case}, {changed} of {len(images)} images change")


def channels_1_and_3(subject: Subject) -> None:
    """It takes grey images and those in colour."""
    for channels in (1, 3):
        _comes_back(build(subject), noise(4, channels))


def odd_sizes(subject: Subject) -> None:
    """It takes images that are not square, and whose sizes are odd."""
    for height, width in ((17, 23), (23, 17)):
        _comes_back(build(subject), noise(4, height=height, width=width))


def batch_of_one(subject: Subject) -> None:
    """It takes a single image."""
    _comes_back(build(subject), noise(1))


def number_formats(subject: Subject) -> None:
    """It takes float32 and bfloat16, and gives nearly the same images."""
    images = noise(6)
    single = _comes_back(build(subject), images)
    half = _comes_back(build(subject), images.bfloat16())
    apart = float((single - half.float()).abs().mean())
    require(apart < 0.1, f"bfloat16 images come out {apart:.2g} apart from float32 ones, on average")


def finite(subject: Subject) -> None:
    """No infinite value and no NaN comes of noise, nor of black, grey and white images."""
    for images in (noise(200), flat().repeat(20, 1, 1, 1)):
        bad = int((~augmented(build(subject), images).isfinite()).flatten(1).any(1).sum())
        require(bad == 0, f"{bad} of {len(images)} images get values that are not finite")


def any_draw(subject: Subject) -> None:
    """It takes draws whose numbers all lie at one percentile, as previews and analyses use, at the extremes, too."""
    for q in PERCENTILES:
        result = _comes_back(build(subject), noise(2), drawn=PercentileDraws(q, 2))
        require(bool(result.isfinite().all()), f"with draws at the percentile {q:g}, values are not finite")


def input_untouched(subject: Subject) -> None:
    """The images it is given are not changed."""
    pipeline, images = build(subject), noise(4)
    before = images.clone()
    augmented(pipeline, images)
    # A GPU's images are handed over as they are, those of a CPU as a copy of the ones for which it fired.
    for place in pipeline.image_places:
        place.transform.apply(images, draws(4).draw(*place.stream))
    require(torch.equal(images, before), "it writes into the images it is given")


def paths_agree(subject: Subject) -> None:
    """The native kernels and the reference path give the same images."""
    if native(torch.device("cpu")) is None:
        raise CheckSkipped("there are no native kernels here")
    images = noise(12)
    fast = augmented(build(subject), images, 0.7)
    with reference_ops():
        plain = augmented(build(subject), images, 0.7)
    apart = float((fast - plain).abs().max())
    require(apart < 1e-3, f"they differ by up to {apart:.2g}; has it a `formula` that is not its own?")


def cost(subject: Subject) -> str:
    """How long it takes, which is reported and not judged."""
    pipeline, images, drawn = build(subject), noise(COST_IMAGES, 3, COST_SIZE, COST_SIZE), draws(COST_IMAGES)
    pipeline(images, 1.0, drawn)
    seconds = []
    for _ in range(COST_TRIES):
        begin = time.perf_counter()
        pipeline(images, 1.0, drawn)
        seconds.append(time.perf_counter() - begin)
    return f"{min(seconds) / COST_IMAGES * 1000:.2g} ms an image of {COST_SIZE} × {COST_SIZE} pixels"


def order_stable(subject: Subject) -> None:
    """Its place among others does not depend on when they were made or in which order they are named."""
    orders = [build(subject).transforms[0].transform.order for _ in range(2)]
    numbers = orders[0] if isinstance(orders[0], tuple) else (orders[0],)
    good = bool(numbers) and all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
    require(good, f"its order is {orders[0]!r}, neither a number nor a tuple of numbers")
    require(orders[0] == orders[1], f"its order is {orders[0]!r} once, and {orders[1]!r} the next time")
    others = "company.slant,company.mixing,company.sharper,company.curve"
    first, last = build(subject, f"{subject.item},{others}"), build(subject, f"{others},{subject.item}")
    same = _equal(first, last, noise(8))
    require(same, "named before other transforms, it gives other images than named after them")


def _comes_back(
    pipeline: AugmentPipeline, images: Tensor, p: float | Tensor = 1.0, drawn: PercentileDraws | None = None
) -> Tensor:
    """Augmented images, of whose shape and type is made sure."""
    result = augmented(pipeline, images, p, drawn)
    given, got = _described(images.dtype, images.shape), _described(result.dtype, result.shape)
    require(given == got, f"images {given} come back as {got}")
    return result


def _described(dtype: torch.dtype, shape: Sequence[int]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"


def _equal(a: AugmentPipeline, b: AugmentPipeline, images: Tensor) -> bool:
    return torch.equal(augmented(a, images, 0.7), augmented(b, images, 0.7))
