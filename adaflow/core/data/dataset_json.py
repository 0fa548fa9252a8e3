"""`dataset.json`: labels, groups and the validation part inside a prepared set."""

from __future__ import annotations

import json
import math
import reprlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adaflow.core.data.source import ImageSource, Label, printable
from adaflow.errors import DataError

DATASET_JSON = "dataset.json"
MAX_BYTES = 256 << 20  # some five million images; parsed JSON takes many times its size in memory
MAX_CLASS = 100_000
MAX_GROUP = 2**31 - 1
_LABEL_HINT = f"A label is a class (0, 1, …, at most {MAX_CLASS:,}) or a list of numbers."


@dataclass(frozen=True)
class LabelFile:
    """The content of a `dataset.json`.

    Args:
        by_name: image name → label.
        class_names: the name of class k at position k, or None.
        groups: image name → number of the patient or lesion.
        validation: names of the images set apart from training, or None where there is no such division.
    """

    by_name: Mapping[str, Label] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    groups: Mapping[str, int] = field(default_factory=dict)
    validation: frozenset[str] | None = None


def parse_dataset_json(text: bytes, where: str) -> LabelFile:
    """Parse what `dump_dataset_json` or another StyleGAN implementation wrote; unknown keys are ignored.

    Args:
        text: the file's content: `{"labels": [["00000/img00000000.png", 3], …] or null, "class_names": ["a", …],
            "groups": [["00000/img00000000.png", 0], …], "validation": ["00000/img00000001.png", …]}`, all optional.
        where: the file, for messages.

    Raises:
        DataError: not JSON of this form, a label that is neither a class from 0 to `MAX_CLASS` nor a list of numbers,
            a group that is no number from 0, or two labels or groups for one image.
    """
    content = _parse_object(text, where)
    class_names = _names(content, "class_names", where)
    validation = _names(content, "validation", where)
    if class_names is not None and len(set(class_names)) < len(class_names):
        raise DataError(f'"class_names" in {where} has a name twice')
    return LabelFile(
        _by_name(content, "labels", "label", where),
        tuple(class_names) if class_names is not None else None,
        _by_name(content, "groups", "group", where),
        frozenset(validation) if validation is not None else None,
    )


def dump_dataset_json(
    names: Sequence[str],
    labels: Sequence[Label | None],
    class_names: Sequence[str] | None = None,
    groups: Sequence[int | None] | None = None,
    validation: Collection[int] | None = None,
) -> str:
    """The text of a `dataset.json`; equal arguments give equal text.

    Args:
        names: image names as they are in the set.
        labels: for each image its label or None.
        class_names: the name of class k at position k, or None.
        groups: for each image the number of its patient or lesion, or None; None where nothing is known of groups.
        validation: indices of the images set apart from training, or None.
    """
    labelled = [[name, label] for name, label in zip(names, labels, strict=True) if label is not None]
    content: dict[str, Any] = {"labels": labelled or None}
    if class_names is not None:
        content["class_names"] = list(class_names)
    grouped = zip(names, groups if groups is not None else [None] * len(names), strict=True)
    if with_group := [[name, group] for name, group in grouped if group is not None]:
        content["groups"] = with_group
    if validation:
        content["validation"] = [names[index] for index in sorted(validation)]
    return json.dumps(content, allow_nan=False)


def count_classes(labels: Sequence[Label | None], class_names: Sequence[str] | None) -> dict[str, int]:
    """Images per class, in order of the classes, under their names where they have one; empty without classes."""
    counts = Counter(label for label in labels if isinstance(label, int))
    return {
        class_names[label] if class_names is not None and label < len(class_names) else str(label): counts[label]
        for label in sorted(counts)
    }


def check_names(source: ImageSource) -> None:
    """Refuse a source whose own labels, groups and division are about other images than those it has.

    Raises:
        DataError: it names images, and not one of them is there.
    """
    images = range(len(source))
    about_some = any(
        source.label(index) is not None or source.group(index) is not None or source.is_validation(index)
        for index in images
    )
    if source.unused_labels and not about_some:
        raise DataError(
            f"{source.labels_from or 'the list of labels'} of {source.name} fits none of its images",
            f"It has names like {printable(source.unused_labels[0])!r}, the images are called like "
            f"{printable(source.image_name(0))!r}. Correct it or take it away.",
        )


def empty_classes(labels: Sequence[Label | None], class_names: Sequence[str] | None) -> str:
    """A sentence about the classes that have no image; "" where there is none."""
    present = {label for label in labels if isinstance(label, int)}
    if not present:
        return ""
    count = max(max(present) + 1, len(class_names or ()))
    absent = [number for number in range(min(count, MAX_CLASS + 1)) if number not in present]
    if not absent:
        return ""
    shown = ", ".join(class_names[k] if class_names and k < len(class_names) else str(k) for k in absent[:5])
    more = ", …" * (len(absent) > 5)
    return f"classes without an image: {len(absent):,} of {count:,} ({shown}{more}); each costs memory, teaches nothing"


def _parse_object(text: bytes, where: str) -> dict[str, Any]:
    if len(text) > MAX_BYTES:
        raise DataError(f"{where} has {len(text) >> 20} MiB, more than {MAX_BYTES >> 20}")
    try:
        content = json.loads(text)
    except RecursionError:
        raise DataError(f"{where} is nested too deeply") from None
    except ValueError as error:  # bad JSON, bad UTF-8 and numbers of thousands of digits alike
        raise DataError(f"{where} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{where} is not a JSON object")
    return content


def _names(content: Mapping[str, Any], key: str, where: str) -> list[str] | None:
    names = content.get(key)
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise DataError(f'"{key}" in {where} is not a list of names')
    return names


def _by_name(content: Mapping[str, Any], key: str, what: str, where: str) -> dict[str, Any]:
    """Image name → label or group."""
    parse, hint = (_parse_label, _LABEL_HINT) if key == "labels" else (_parse_group, "A group is a number from 0.")
    values: dict[str, Any] = {}
    for name, value in _rows(content, key, what, where):
        parsed = parse(value)
        if parsed is None:
            raise DataError(f"the {what} of {printable(name)} in {where} is {_shown(value)}", hint)
        if values.setdefault(name, parsed) != parsed:
            raise DataError(f"{where} has two different {key} for {printable(name)}")
    return values


def _rows(content: Mapping[str, Any], key: str, what: str, where: str) -> Iterator[tuple[str, Any]]:
    rows = content.get(key)
    if rows is not None and not isinstance(rows, list):
        raise DataError(f'"{key}" in {where} is not a list')
    for row in rows or ():
        if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)):
            raise DataError(f'"{key}" in {where} has {_shown(row)} in place of [image name, {what}]')
        yield row[0], row[1]


def _parse_label(value: Any) -> Label | None:
    if type(value) is int and 0 <= value <= MAX_CLASS:
        return value
    if isinstance(value, list) and value and all(_is_finite(item) for item in value):
        return tuple(float(item) for item in value)
    return None


def _parse_group(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_GROUP else None


def _is_finite(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= 2**1023
    return type(value) is float and math.isfinite(value)


def _shown(value: Any) -> str:
    """Short, however long or deep the value is."""
    return reprlib.repr(value)
