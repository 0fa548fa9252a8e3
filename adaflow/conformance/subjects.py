"""From what a user names to what is checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from adaflow.conformance.check import Subject
from adaflow.core.augment import build_pipeline
from adaflow.errors import PluginError, UsageError
from adaflow.plugin_manager import KINDS, PluginManager
from adaflow.registry import Entry

READER = KINDS["register_datasets"]


def offered_by(plugin: str | Path | ModuleType, settings: dict[str, dict[str, Any]] | None = None) -> list[Subject]:
    """All that a plugin offers, loaded beside the built-in ones, so that a name they have is an error.

    Args:
        plugin: a module, its name, or a file.
        settings: name → settings, where something is not to be checked with its defaults.

    Raises:
        PluginError: it cannot be loaded, or offers nothing.
    """
    given = plugin.__name__ if isinstance(plugin, ModuleType) else plugin
    manager = PluginManager([given], environ={"ADAFLOW_NO_PLUGINS": "1"})
    manager.require_named()
    subjects = of_provider(manager, manager.infos[-1].name)
    return [dataclasses.replace(s, settings=(settings or {}).get(s.name, s.settings)) for s in subjects]


def of_provider(manager: PluginManager, provider: str, kind: str = "") -> list[Subject]:
    """All that the plugin of this name offers, or what it offers of one kind.

    Raises:
        PluginError: that is nothing.
    """
    subjects = _those(manager, lambda of, entry: entry.provider == provider and kind in ("", of))
    if not subjects:
        raise PluginError(f"plugin {provider} offers no {kind or 'thing that could be checked'}")
    return subjects


def called(manager: PluginManager, name: str) -> list[Subject]:
    """All that has this name, and all that the plugin of this name offers.

    Raises:
        PluginError: nothing.
    """
    subjects = _those(manager, lambda _, entry: name in (entry.name, entry.provider))
    if not subjects:
        kinds = ", ".join(registry.kind for registry in manager.registries.values())
        hint = f"See adaflow plugins list; a plugin has a name, and so has each {kinds}."
        raise PluginError(f"there is no plugin named {name!r}, and none offers something of that name", hint)
    return subjects


def in_spec(manager: PluginManager, spec: str) -> list[Subject]:
    """The transforms of a list such as `blit,hair(width=2)`, with their settings.

    Raises:
        AdaflowError: as `build_pipeline`.
    """
    registry = manager.augmentations
    if spec in registry:
        # As it is: that it cannot be made is for its checks to find.
        return [Subject(registry.kind, spec, registry[spec].value, provider=registry[spec].provider)]
    transforms = build_pipeline(spec, registry).transforms
    if not transforms:
        raise UsageError(f"{spec!r} names no transform", "See adaflow augs list.")
    return [
        Subject(
            registry.kind,
            active.name,
            registry[active.name].value,
            {field.name: getattr(active.transform, field.name) for field in dataclasses.fields(active.transform)},
            registry[active.name].provider,
        )
        for active in transforms
    ]


def _those(manager: PluginManager, wanted: Callable[[str, Entry[Any]], bool]) -> list[Subject]:
    """What is offered and wanted, given its kind and entry. Nothing else is loaded."""
    return [
        Subject(registry.kind, entry.name, entry.value, provider=entry.provider)
        for registry in manager.registries.values()
        for entry in registry
        if wanted(registry.kind, entry)
    ]


def with_source(subjects: Sequence[Subject], source: str | None) -> Sequence[Subject]:
    """The same, in which dataset readers are to open `source`, if that is anything.

    Raises:
        UsageError: there is no dataset reader among them.
    """
    if source is None:
        return subjects
    if not any(subject.kind == READER for subject in subjects):
        raise UsageError("--data is for dataset readers, and none is to be checked", "Leave it out.")
    return [dataclasses.replace(s, settings={"source": source}) if s.kind == READER else s for s in subjects]
