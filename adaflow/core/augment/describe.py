"""What transforms there are, in plain words, for lists and tables."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable

from adaflow.core.augment.transform import ColorTransform, FilterTransform, GeometryTransform, ImageTransform, Transform
from adaflow.errors import PluginError
from adaflow.registry import Entry

KIND_NAMES = {
    GeometryTransform: "geometry",
    ColorTransform: "color",
    FilterTransform: "filter",
    ImageTransform: "image",
}


def describe_transforms(entries: Iterable[Entry[type[Transform]]]) -> list[dict[str, str]]:
    """One row a transform: name, kind, settings with their defaults, plugin, and the first line of its docstring."""
    return [_row(entry) for entry in entries]


def _row(entry: Entry[type[Transform]]) -> dict[str, str]:
    row = {"name": entry.name, "kind": "unknown", "settings": "", "plugin": entry.provider}
    try:
        transform = entry.value
    except PluginError as error:
        return row | {"summary": error.message}
    summary = (inspect.getdoc(transform) or "").split("\n")[0]
    return row | {"kind": kind_name(transform), "settings": ", ".join(_settings(transform)), "summary": summary}


def kind_name(transform: type[Transform]) -> str:
    """The stage a transform belongs to."""
    for kind, name in KIND_NAMES.items():
        if isinstance(transform, type) and issubclass(transform, kind):
            return name
    return "unknown"


def _settings(transform: type[Transform]) -> list[str]:
    fields = dataclasses.fields(transform) if dataclasses.is_dataclass(transform) else ()
    return [f.name if f.default is dataclasses.MISSING else f"{f.name}={f.default!r}" for f in fields if f.init]
