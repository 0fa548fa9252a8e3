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
            "settings": ", ".join(
                f"{field.name}={field.default!r}"
                for field in (dataclasses.fields(entry.value) if dataclasses.is_dataclass(entry.value) else ())
            ),
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
