"""From what the user writes to a pipeline: `build_pipeline("blit,geom,color*0.5", registry)`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from adaflow.core.augment.pipeline import ActiveTransform, AugmentPipeline
from adaflow.core.augment.transform import Transform
from adaflow.core.spec import SpecItem, create, parse_spec
from adaflow.errors import PluginError
from adaflow.registry import Registry


@dataclass
class _Choice:
    """What a spec says of one transform."""

    arguments: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0


def build_pipeline(spec: str, registry: Registry[type[Transform]]) -> AugmentPipeline:
    """The pipeline a spec describes.

    A name is a transform or a registered list of them. Later items modify earlier ones: settings and weights replace
    those given before, `=off` takes transforms out, and `none` takes out all. An empty spec is an empty pipeline.

    Args:
        spec: see `adaflow.core.spec`.
        registry: the transforms and lists that are on offer.

    Raises:
        UsageError: the spec cannot be read.
        PluginError: a name is unknown.
        ConfigError: a setting is unknown, of the wrong kind or out of range.
    """
    choices: dict[str, _Choice] = {}
    for item in parse_spec(spec):
        _apply(item, choices, registry)
    return AugmentPipeline(
        [
            ActiveTransform(
                name, create(registry.kind, name, _transform(name, registry), choice.arguments), choice.weight
            )
            for name, choice in choices.items()
        ]
    )


def _apply(item: SpecItem, choices: dict[str, _Choice], registry: Registry[type[Transform]]) -> None:
    """Let one item modify the choices made so far."""
    if item.name == "none":
        choices.clear()
        return
    names = _members(item.name, registry, ())
    if not item.on:
        for name in names:
            choices.pop(name, None)
        return
    if item.name in registry.aliases:
        for part in parse_spec(registry.aliases[item.name].value):
            _apply(part, choices, registry)
    else:
        choices.setdefault(item.name, _Choice())
    for choice in (choices[name] for name in names if name in choices):
        choice.arguments.update(item.arguments)
        choice.weight = choice.weight if item.weight is None else item.weight


def _transform(name: str, registry: Registry[type[Transform]]) -> type[Transform]:
    """The registered class. It comes from a plugin and may be anything."""
    entry = registry[name]
    if not (isinstance(entry.value, type) and issubclass(entry.value, Transform)):
        raise PluginError(
            f"{registry.kind} {name!r} of plugin {entry.provider} is no transform",
            "Register a class that inherits from one of those in adaflow.core.augment.transform.",
        )
    return entry.value


def _members(name: str, registry: Registry[type[Transform]], within: tuple[str, ...]) -> list[str]:
    """The transforms a name stands for."""
    if name not in registry.aliases:
        return [registry[name].name]
    if name in within:
        raise PluginError(f"the {registry.kind} list {name!r} contains itself", " → ".join((*within, name)) + ".")
    parts = parse_spec(registry.aliases[name].value)
    return [member for part in parts for member in _members(part.name, registry, (*within, name))]
