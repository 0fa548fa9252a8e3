"""Labels of a data set as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adaflow.core.data.dataset_json import MAX_CLASS, check_names
from adaflow.core.data.source import ImageSource, Label
from adaflow.errors import ConfigError, DataError


def label_table(source: ImageSource, labels: Sequence[Label | None]) -> Tensor:
    """What `cond` trains with, for all images of a source: one-hot classes or vectors.

    Args:
        source: the data set, for messages and class names.
        labels: of its images.

    Returns:
        float [N, c_dim].

    Raises:
        DataError: an image has no label, the labels are of several kinds or lengths, or a class is too high.
    """
    check_names(source)
    _check_labels(source, labels)
    classes = [label for label in labels if isinstance(label, int)]
    if classes:
        count = max(max(classes) + 1, len(source.class_names or ()))
        if count > MAX_CLASS + 1:
            raise DataError(
                f"{source.name} has a class {max(classes)}", "Classes are counted from 0; is it an identifier?"
            )
        return torch.nn.functional.one_hot(torch.tensor(classes), count).float()
    vectors = [label for label in labels if isinstance(label, tuple)]
    for index, vector in enumerate(vectors):
        if len(vector) != len(vectors[0]):
            raise DataError(
                f"the label of {source.image_name(index)} has {len(vector)} numbers, the first one {len(vectors[0])}"
            )
    return torch.tensor(vectors)


def class_numbers(source: ImageSource, labels: Sequence[Label | None]) -> Tensor:
    """Class of every image of a source, int64 [N].

    Raises:
        ConfigError: the source has no classes.
        DataError: some images have none.
    """
    check_names(source)
    if not any(isinstance(label, int) for label in labels):
        found = "vectors as" if any(labels) else "no"
        raise ConfigError(f"{source.name} has {found} labels, and --balance needs classes", "Train without --balance.")
    _check_labels(source, labels)
    return torch.tensor(labels)


def _check_labels(source: ImageSource, labels: Sequence[Label | None]) -> None:
    """Every image has a label, and all are of one kind."""
    for index, label in enumerate(labels):
        if label is None:
            raise DataError(
                f"image {source.image_name(index)} of {source.name} has no label",
                "Train without --cond and --balance, or give the set labels: "
                "adaflow data prepare … --labels table.csv.",
            )
        if isinstance(label, int) != isinstance(labels[0], int):
            raise DataError(f"{source.name} has both classes and vectors as labels")
