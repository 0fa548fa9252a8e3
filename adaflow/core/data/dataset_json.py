"""`dataset.json`, the labels inside a prepared set."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adaflow.core.data.source import Label
from adaflow.errors import DataError

DATASET_JSON = "dataset.json"


@dataclass(frozen=True)
class LabelFile:
    """The content of a `dataset.json`.

    Args:
        by_name: image name → label.
        class_names: the name of class k at position k, or None.
    """

    by_name: Mapping[str, Label] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None


def parse_dataset_json(text: bytes, where: str) -> LabelFile:
    """Parse `{"labels": [["00000/img00000000.png", 3], …] or null, "class_names": ["a", …]}`; other keys are ignored.

    Args:
        text: the file's content.
        where: the file, for messages.

    Raises:
        DataError: not JSON of this form, a label that is neither a class from 0 nor a list of numbers, or two labels
            for one image.
    """
    try:
        content = json.loads(text)
    except ValueError as error:  # bad JSON and bad UTF-8 alike
        raise DataError(f"{where} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{where} is not a JSON object")
    names = content.get("class_names")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise DataError(f'"class_names" in {where} is not a list of names')
    rows = content.get("labels") or []
    if not isinstance(rows, list):
        raise DataError(f'"labels" in {where} is not a list')
    by_name: dict[str, Label] = {}
    for row in rows:
        if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)):
            raise DataError(f'"labels" in {where} has {json.dumps(row)[:80]} in place of [image name, label]')
        label = _parse_label(row[1], f"the label of {row[0]} in {where}")
        if by_name.setdefault(row[0], label) != label:
            raise DataError(f"{where} has two different labels for {row[0]}")
    return LabelFile(by_name, tuple(names) if names is not None else None)


def _parse_label(value: Any, what: str) -> Label:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, list) and value and all(type(item) in (int, float) and math.isfinite(item) for item in value):
        return tuple(float(item) for item in value)
    raise DataError(f"{what} is {json.dumps(value)[:80]}", "A label is a class (0, 1, …) or a list of numbers.")


def count_classes(labels: Sequence[Label | None], class_names: Sequence[str] | None) -> dict[str, int]:
    """Images per class, in order of the classes, under their names where they have one; empty without classes."""
    counts = Counter(label for label in labels if isinstance(label, int))
    return {
        class_names[label] if class_names is not None and label < len(class_names) else str(label): counts[label]
        for label in sorted(counts)
    }
