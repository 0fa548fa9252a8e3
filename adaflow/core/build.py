"""From what the user writes to plugin objects: `build_plugin("rt(target=0.5)", registry)`."""

from __future__ import annotations

from typing import Any

from adaflow.core.spec import SpecItem, create, parse_spec
from adaflow.errors import PluginError, UsageError
from adaflow.registry import Registry


def parse_plugin(text: str, kind: str) -> SpecItem:
    """One name with its settings.

    Raises:
        UsageError: it cannot be read, or is not exactly one.
    """
    items = parse_spec(text)
    if len(items) != 1 or items[0].weight is not None or not items[0].on:
        raise UsageError(f"{text!r} does not name one {kind}", 'Write name or name(setting=1), as in "rt(target=0.5)".')
    return items[0]


def split_plugins(text: str, kind: str) -> tuple[str, ...]:
    """`"fd(num=100),fd"` as separate texts, one for each plugin; `none` is nobody."""
    items = [item for item in parse_spec(text) if item.name != "none"]
    for item in items:
        if item.weight is not None or not item.on:
            raise UsageError(f"a {kind} has no weight and no switch, as {item.name!r} is given in {text!r}")
    return tuple(format_item(item.name, item.arguments) for item in items)


def format_item(name: str, arguments: dict[str, Any]) -> str:
    """`name(setting=value, …)`, the text that reads back the same."""
    settings = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"{name}({settings})" if settings else name


def build_plugin(text: str, registry: Registry[Any]) -> Any:
    """The plugin object that `text` names, with its settings.

    Raises:
        UsageError, PluginError, ConfigError: it cannot be read, is unknown, or does not take these settings.
    """
    item = parse_plugin(text, registry.kind)
    entry = registry[item.name]
    if not callable(entry.value):
        raise PluginError(
            f"{registry.kind} {item.name!r} of plugin {entry.provider} is no class",
            "Register the class, not an object.",
        )
    return create(registry.kind, item.name, entry.value, item.arguments)
