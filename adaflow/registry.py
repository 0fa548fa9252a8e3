"""A registry: name → what was registered and by whom, with clear errors for clashes and unknown names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from adaflow.errors import AdaflowError, PluginError

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing.

    Args:
        name: what users type.
        load: gives the class, function or object itself; called once, when it is first wanted.
        provider: the name of the plugin that registered it.
        lazy: whether loading it takes time, so that mere lists of what there is leave it alone.
    """

    name: str
    load: Callable[[], T]
    provider: str
    lazy: bool = False

    @cached_property
    def value(self) -> T:
        """The class, function or object itself.

        Raises:
            PluginError: it was registered lazily and cannot be loaded.
        """
        try:
            return self.load()
        except Exception as error:
            what = error.message if isinstance(error, AdaflowError) else f"{type(error).__name__}: {error}"
            hint = error.hint if isinstance(error, AdaflowError) else ""
            raise PluginError(f"{self.name!r} of plugin {self.provider} cannot be used: {what}", hint) from error


class Registry(Generic[T]):
    """All registered things of one kind.

    Args:
        kind: the word users read in messages, for example "augmentation".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.entries: dict[str, Entry[T]] = {}
        self.aliases: dict[str, Entry[str]] = {}

    def add(self, name: str, value: T, provider: str) -> None:
        """Register `value` under `name`.

        Raises:
            PluginError: the name is malformed or taken.
        """
        self._check_name(name, provider)
        self.entries[name] = Entry(name, lambda: value, provider)

    def add_lazy(self, name: str, load: Callable[[], T], provider: str) -> None:
        """Register what `load` will give, when somebody wants it, under `name`.

        Raises:
            PluginError: the name is malformed or taken.
        """
        self._check_name(name, provider)
        self.entries[name] = Entry(name, load, provider, lazy=True)

    def add_alias(self, name: str, meaning: str, provider: str) -> None:
        """Let `name` stand for the list of names in `meaning`, as in `--augs bg` for `blit,geom`.

        Raises:
            PluginError: the name is malformed or taken.
        """
        self._check_name(name, provider)
        self.aliases[name] = Entry(name, lambda: meaning, provider)

    def __getitem__(self, name: str) -> Entry[T]:
        """The entry of that name.

        Raises:
            PluginError: nothing of that name; the message suggests near names.
        """
        if name in self.entries:
            return self.entries[name]
        raise self.unknown(name)

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(sorted(self.entries.values(), key=lambda entry: entry.name))

    def __len__(self) -> int:
        return len(self.entries)

    def remove_provider(self, provider: str) -> None:
        """Forget everything that `provider` registered."""
        self.entries = {name: entry for name, entry in self.entries.items() if entry.provider != provider}
        self.aliases = {name: alias for name, alias in self.aliases.items() if alias.provider != provider}

    def unknown(self, name: str) -> PluginError:
        """The error to raise for a name nobody registered."""
        known = sorted({*self.entries, *self.aliases})
        near = difflib.get_close_matches(name, known, n=3)
        if near:
            hint = "Did you mean " + " or ".join(near) + "?"
        else:
            few = [name for name in known if name in self.aliases or not self.entries[name].lazy]
            hint = f"Known: {', '.join(few)}." if few else f"No plugin registers a {self.kind}."
        return PluginError(f"there is no {self.kind} named {name!r}", hint)

    def _check_name(self, name: str, provider: str) -> None:
        if not isinstance(name, str) or not NAME.fullmatch(name) or name == "none":
            raise PluginError(
                f"plugin {provider} registers the name {name!r} for its {self.kind}, which cannot be used",
                "A name starts with a letter and has letters, digits, and . : _ - only, 64 at most; it is not none.",
            )
        taken = self.entries.get(name) or self.aliases.get(name)
        if taken is not None:
            raise PluginError(
                f"plugin {provider} registers the {self.kind} {name!r}, which plugin {taken.provider} already has",
                f"Rename it, or block the other one with --block {taken.provider}.",
            )
