"""A sheet that shows what an augmentation pipeline does to images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adaflow.core.augment.pipeline import AugmentPipeline
from adaflow.core.data.source import ImageSource, first_images
from adaflow.core.draw import PercentileDraws, RandomDraws
from adaflow.core.grid import join_images, label_rows
from adaflow.core.images import to_float, to_uint8
from adaflow.errors import UsageError


def parse_probabilities(text: str) -> list[float]:
    """`0.1,0.5,0.8` as numbers in [0, 1].

    Raises:
        UsageError: something else.
    """
    values = _parse_numbers(text, "probabilities", "0.1,0.5,0.8")
    if not all(0 <= value <= 1 for value in values):
        raise UsageError(f"a probability in {text!r} is not between 0 and 1")
    return values


def parse_percentiles(text: str) -> list[float]:
    """`5,50,95` as percentages between 0 and 100, both excluded.

    Raises:
        UsageError: something else.
    """
    values = _parse_numbers(text, "percentiles", "5,25,50,75,95")
    if not all(0 < value < 100 for value in values):
        raise UsageError(f"a percentile in {text!r} is not between 0 and 100")
    return values


def _parse_numbers(text: str, what: str, example: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{text!r} is no list of {what}", f"Write for example {example}.") from None


def preview_sheet(
    pipeline: AugmentPipeline,
    source: ImageSource,
    columns: int,
    probabilities: Sequence[float] = (),
    percentiles: Sequence[float] = (),
    seed: int = 0,
) -> Tensor:
    """Original images in the first row, augmented ones below, with words beside each row.

    Args:
        pipeline: the transforms.
        source: where images come from; the first ones are shown, as far as they have the first one's size.
        columns: images in a row, fewer where the source has fewer.
        probabilities: p of some further rows.
        percentiles: of more rows, in which all transforms act, with every number at this percentile, in percent.
        seed: of the draws at random.

    Returns:
        uint8 [C, H, W].
    """
    readable = first_images(source, range(len(source)), columns)
    images = torch.stack([torch.from_numpy(image) for image in readable if image.shape == readable[0].shape])
    rows, labels = [images], ["original"]
    counters = torch.arange(len(images))
    for row, p in enumerate(probabilities):
        augmented = pipeline(to_float(images), p, RandomDraws(seed, f"preview-{row}", counters))
        rows.append(to_uint8(augmented))
        labels.append(f"p = {p:g}")
    for percentile in percentiles:
        augmented = pipeline(to_float(images), 1.0, PercentileDraws(percentile / 100, len(images)))
        rows.append(to_uint8(augmented))
        labels.append(f"{percentile:g} %")
    return label_rows(join_images(torch.cat(rows), len(images)), labels)
