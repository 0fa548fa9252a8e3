"""All that is known of one augmentation, for `adaflow augs show` and for the page in the docs."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from contextlib import suppress
from typing import Any

import numpy as np

from adaflow.core.augment.build import build_pipeline
from adaflow.core.augment.describe import kind_name
from adaflow.core.augment.families import Axis, Family, UnknownFamilyError, find_family
from adaflow.core.augment.pipeline import ActiveTransform
from adaflow.core.augment.safety import analyse
from adaflow.core.augment.transform import Transform
from adaflow.errors import AdaflowError, PluginError
from adaflow.plugin_manager import PluginManager

PERCENTILES = (5, 50, 95)
PROBABILITIES = (0.5, 0.8)
"""Where the smallest eigenvalue is given."""
STAGES = {
    "geometry": "1 of 4: all geometry is one map and one resampling",
    "color": "2 of 4: all colour is one map",
    "filter": "3 of 4: all bands are one filter",
    "image": "4 of 4: pixels, one transform after the other",
}


def show_transform(spec: str, manager: PluginManager, resolution: int) -> dict[str, Any]:
    """Everything about one transform, as plain values.

    Args:
        spec: its name, perhaps with settings.
        manager: the plugins.
        resolution: height and width of the images, in pixels.

    Raises:
        PluginError: the spec names several transforms, or none.
        UsageError, ConfigError: as for `build_pipeline`.
    """
    transforms = build_pipeline(spec, manager.augmentations).transforms
    if len(transforms) != 1:
        names = ", ".join(active.name for active in transforms) or "nothing"
        raise PluginError(f"{spec!r} is not one transform", f"It stands for {names}.")
    (active,) = transforms
    return describe(active, manager, resolution)


def describe(active: ActiveTransform, manager: PluginManager, resolution: int) -> dict[str, Any]:
    """As `show_transform`, of a transform that is built."""
    kind = type(active.transform)
    meanings = argument_meanings(docstring(kind))
    provider = manager.augmentations[active.name].provider
    plugin = next(info for info in manager.infos if info.name == provider)
    order = active.transform.order
    return {
        "name": active.name,
        "summary": summary(kind),
        "kind": kind_name(kind),
        "stage": STAGES[kind_name(kind)],
        "order": list(order) if isinstance(order, tuple) else [order],
        "groups": groups(active.name, manager),
        "settings": [_setting(field, active.transform, meanings) for field in dataclasses.fields(kind) if field.init],
        "draws": draws(active.transform, resolution),
        "plugin": plugin.name,
        "source": plugin.source,
        "version": plugin.version,
        "file": _file(kind),
        "safety": analyse(active, PROBABILITIES, resolution).plain(),
    }


def docstring(kind: type[Transform]) -> str:
    """The docstring of a class, or "": a dataclass without one gets its signature for one."""
    text = inspect.cleandoc(kind.__doc__ or "")
    return "" if text.startswith(f"{kind.__name__}(") else text


def summary(kind: type[Transform]) -> str:
    """What it is: the docstring up to its list of arguments, in one paragraph."""
    return " ".join(re.split(r"^(?:Args|Raises|Attributes):$", docstring(kind), flags=re.MULTILINE)[0].split())


def argument_meanings(text: str) -> dict[str, str]:
    """What a docstring says of each argument under `Args:`; several may share a line, as in `x, y: …`."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", text, flags=re.MULTILINE)
    meanings: dict[str, str] = {}
    for item in re.split(r"^ {4}(?=\S)", section.group(1) if section else "", flags=re.MULTILINE)[1:]:
        names, _, meaning = item.partition(":")
        meanings |= {name.strip(): " ".join(meaning.split()) for name in names.split(",")}
    return meanings


def groups(name: str, manager: PluginManager) -> list[str]:
    """The lists that a transform is in, the shortest first."""
    registry = manager.augmentations
    sizes = {}
    for alias in registry.aliases:
        # A list of a plugin may name what does not exist.
        with suppress(AdaflowError):
            members = [active.name for active in build_pipeline(alias, registry).transforms]
            if name in members:
                sizes[alias] = len(members)
    return sorted(sizes, key=lambda alias: (sizes[alias], alias))


def draws(transform: Transform, resolution: int) -> list[dict[str, Any]]:
    """What it draws, measured: for each number its name, percentiles, and both in words."""
    try:
        family = find_family(transform, resolution)
    except UnknownFamilyError:
        return []
    # Of the directions of noise, a pixel alone.
    axes = family.axes[: None if family.joint else 1] if isinstance(family, Family) else ()
    return [_drawn(axis) for axis in axes]


def _drawn(axis: Axis) -> dict[str, Any]:
    if axis.order:
        steps = (axis.values / axis.period * axis.order).round().astype(int) % axis.order
        shares = np.bincount(steps, minlength=axis.order) / len(steps)
        words = ", ".join(f"{step} ({share:.0%})" for step, share in enumerate(shares))
        return {"number": f"step of {axis.order}", "percentiles": None, "words": words}
    values = [float(value) for value in np.percentile(axis.values, PERCENTILES)]
    if axis.name.startswith("factor"):
        values = [math.exp(value) for value in values]
        texts = [f"×{value:.2f}" for value in values]
    elif axis.name == "angle":
        values = [math.degrees(value) for value in values]
        texts = [f"{_rounded(value, 0):g}°" for value in values]
    elif axis.name.endswith("shift"):
        texts = [f"{_rounded(100 * value, 1):g} %" for value in values]
    else:
        texts = [f"{_rounded(value, 2):g}" for value in values]
    words = " … ".join(texts).replace("-", "−")
    return {"number": axis.name, "percentiles": dict(zip(map(str, PERCENTILES), values, strict=True)), "words": words}


def _rounded(value: float, digits: int) -> float:
    """Rounded, and 0 without a sign."""
    return round(value, digits) + 0.0


def _setting(field: dataclasses.Field[Any], transform: Transform, meanings: dict[str, str]) -> dict[str, Any]:
    low, high = field.metadata.get("low", -math.inf), field.metadata.get("high", math.inf)
    return {
        "name": field.name,
        "value": getattr(transform, field.name),
        "default": None if field.default is dataclasses.MISSING else field.default,
        "low": low if math.isfinite(low) else None,
        "high": high if math.isfinite(high) else None,
        "meaning": meanings.get(field.name, ""),
    }


def _file(kind: type[Transform]) -> str:
    try:
        return inspect.getsourcefile(kind) or ""
    except TypeError:
        return ""
