"""Checks of feature extractors."""

from __future__ import annotations

import json
from typing import cast

import torch
from torch import Tensor

from adaflow.conformance import samples
from adaflow.conformance.check import (
    CheckSkipped,
    Subject,
    advanced_generators,
    generator_states,
    require,
    same_generators,
)
from adaflow.core.features import FeatureExtractor
from adaflow.errors import AdaflowError, ConfigError

ROUNDING = 1e-3
"""Of the largest feature."""


def constructs(subject: Subject) -> None:
    """It loads from what is on this machine, is a `FeatureExtractor`, and carries the name it is offered under."""
    made = _make(subject)
    require(isinstance(made, FeatureExtractor), f"it is a {type(made).__name__}, not an adaflow.FeatureExtractor")
    name = getattr(made, "name", None)
    require(name == subject.name, f"it is offered as {subject.name!r} and calls itself {name!r}")


def features(subject: Subject) -> str:
    """It gives finite features, float32 [N, D], of images uint8 [N, C, H, W]."""
    found = _features(_make(subject), _images())
    return f"{found.shape[1]} features"


def grey_and_any_size(subject: Subject) -> None:
    """It takes grey images, a single one, and images of any size, and always gives as many features."""
    extractor = _make(subject)
    widths = {_features(extractor, _images(3, size)[:1]).shape[1] for size in (16, 33)}
    widths.add(_features(extractor, _images(1)).shape[1])
    require(len(widths) == 1, f"it gives {' and '.join(map(str, sorted(widths)))} features")


def float_images(subject: Subject) -> None:
    """Images in float32, 0 … 255, give the features of the same ones in uint8."""
    extractor, images = _make(subject), _images()
    _alike(_features(extractor, images), _features(extractor, images.float()), "float32 images have other features")


def tells_images_apart(subject: Subject) -> None:
    """Different images have different features."""
    found = _features(_make(subject), _images())
    require(float(torch.pdist(found).min()) > 0, "different images have the same features")


def reproducible(subject: Subject) -> None:
    """The same image has the same features each time, from every instance, without global random numbers."""
    images, extractor = _images(), _make(subject)
    before = generator_states()
    first, second = (_features(extractor, images) for _ in range(2))
    used = advanced_generators(before)
    require(not used, f"it uses the global generator of {', '.join(used)}")
    require(torch.equal(first, second), "the same images have other features the second time")
    with same_generators(1):
        again = _features(_make(subject), images)
    require(torch.equal(first, again), "another instance gives other features: are its weights drawn at random?")


def independent_of_the_batch(subject: Subject) -> None:
    """Features of an image do not depend on the other images of the batch."""
    extractor, images = _make(subject), _images()
    alone = torch.cat([_features(extractor, image[None]) for image in images])
    _alike(alone, _features(extractor, images), "an image alone has other features than among others")


def input_untouched(subject: Subject) -> None:
    """The images it is given are not changed."""
    images = _images()
    for given in (images.clone(), images.float()):
        _make(subject)(given)
        require(torch.equal(given, images.to(given.dtype)), "it writes into the images it is given")


def identity(subject: Subject) -> None:
    """What names its features in the cache is plain, and the same for every instance."""
    texts = {json.dumps(_make(subject).identity(), sort_keys=True) for _ in range(2)}
    require(len(texts) == 1, "two instances have different identities")


def stages(subject: Subject) -> None:
    """Its stages are maps [N, c, h, w] of finite numbers, one set for each image."""
    images = _images()
    for maps in _make(subject).stages(images):
        found = list(maps.shape)
        require(len(found) == 4 and found[0] == len(images), f"a stage has the shape {found} for {len(images)} images")
        require(bool(maps.isfinite().all()), "a stage has values that are not finite")


def probabilities(subject: Subject) -> None:
    """If it knows classes, their probabilities, [N, classes], are from 0 to 1 and sum up to 1."""
    try:
        found = _make(subject).probabilities(_images())
    except ConfigError as error:
        raise CheckSkipped(error.message) from error
    require(found.dim() == 2 and len(found) == len(_images()), f"they have the shape {list(found.shape)}")
    good = bool((found >= 0).all()) and bool(((found.sum(1) - 1).abs() < ROUNDING).all())
    require(good, "they are no probabilities")


def _make(subject: Subject) -> FeatureExtractor:
    """The extractor, as a metric gets it.

    Raises:
        CheckSkipped: its weights are not on this machine.
    """
    value = subject.registry()[subject.name].value
    try:
        if hasattr(value, "check"):
            value.check()
    except AdaflowError as error:
        raise CheckSkipped(error.message) from error
    return cast(FeatureExtractor, value(torch.device("cpu")))


def _images(channels: int = 3, size: int = samples.SIZE) -> Tensor:
    return samples.fakes(channels)[:4, :, :size, :size].repeat(1, 1, 2, 2)[:, :, :size, :size].contiguous()


def _features(extractor: FeatureExtractor, images: Tensor) -> Tensor:
    """Features, of whose shape and type is made sure. It gets a copy, for one that writes into images is told once."""
    with torch.no_grad():
        found = extractor(images.clone())
    good = found.dtype == torch.float32 and found.dim() == 2 and len(found) == len(images)
    dtype = str(found.dtype).removeprefix("torch.")
    require(good, f"{len(images)} images give features {dtype} {list(found.shape)}, not float32 [{len(images)}, D]")
    require(bool(found.isfinite().all()), "features are not finite")
    return found


def _alike(a: Tensor, b: Tensor, sentence: str) -> None:
    apart = float((a - b).abs().max() / a.abs().max().clamp(min=1e-12))
    require(apart < ROUNDING, f"{sentence}, by up to {100 * apart:.2g} % of the largest")
