"""What transforms there are, in plain words, for lists and tables."""

from __future__ import annotations

import dataclasses
import inspect

from adaflow.core.augment.transform import ColorTransform, FilterTransform, GeometryTransform, ImageTransform, Transform
from adaflow.registry import Registry

KIND_NAMES = {
    GeometryTransform: "geometry",
    ColorTransform: "color",
    FilterTransform: "filter",
    ImageTransform: "image",
}


def describe_transforms(registry: Registry[type[Transform]]) -> list[dict[str, str]]:
    """One row a transform: name, kind, settings with their defaults, plugin, and the first line of its docstring."""
    return [
        {
            "name": entry.name,
            "kind": kind_name(entry.value),
            "settings": ", ".join(_settings(entry.value)),
            "plugin": entry.provider,
            "summary": (inspect.getdoc(entry.value) or "").split("\n")[0],
        }
        for entry in registry
    ]


def kind_name(transform: type[Transform]) -> str:
    """The stage a transform belongs to."""
    for kind, name in KIND_NAMES.items():
        if isinstance(transform, type) and issubclass(transform, kind):
            return name
    return "unknown"


def _settings(transform: type[Transform]) -> list[str]:
    fields = dataclasses.fields(transform) if dataclasses.is_dataclass(transform) else ()
    return [f.name if f.default is dataclasses.MISSING else f"{f.name}={f.default!r}" for f in fields if f.init]
