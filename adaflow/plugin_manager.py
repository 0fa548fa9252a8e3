"""Finds plugins, keeps them apart and remembers who registered what.

Plugins come from four places: the built-in ones, installed packages (entry points of group `adaflow`), files and modules
named in `ADAFLOW_PLUGINS`, and files given with `--plugin`. Loading never raises: a plugin that fails is kept in the list
with its error, file and line, and stops only the command that names it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import pluggy

import adaflow
from adaflow import hookspecs
from adaflow.errors import AdaflowError, PluginError
from adaflow.registry import Registry

T = TypeVar("T")

BUILTINS = (
    *(f"adaflow.plugins.augmentations.{name}" for name in ("blit", "geom", "color", "filter", "noise", "cutout")),
    *(f"adaflow.plugins.p_controllers.{name}" for name in ("fixed", "overfitting", "schedules")),
    *(f"adaflow.plugins.datasets.{name}" for name in ("folder", "zipped", "lesions")),
    *(f"adaflow.plugins.features.{name}" for name in ("efficientnet",)),
    *(f"adaflow.plugins.metrics.{name}" for name in ("frechet",)),
    *(f"adaflow.plugins.loggers.{name}" for name in ("console", "jsonl", "tensorboard")),
    *(f"adaflow.plugins.{name}" for name in ("samples", "status", "health")),
)

KINDS = {
    "register_datasets": "dataset reader",
    "register_augmentations": "augmentation",
    "register_p_controllers": "p controller",
    "register_feature_extractors": "feature extractor",
    "register_metrics": "metric",
    "register_loggers": "logger",
}


class Register(Generic[T]):
    """What a `register_…` hook receives: call it with a name and the thing to offer under that name."""

    def __init__(self, registry: Registry[T], provider: str) -> None:
        self._registry = registry
        self._provider = provider

    def __call__(self, name: str, value: T) -> None:
        """Offer `value` under `name`."""
        self._registry.add(name, value, self._provider)

    def alias(self, name: str, meaning: str) -> None:
        """Let `name` stand for a list of names, as `bg` does for `blit,geom`."""
        self._registry.add_alias(name, meaning, self._provider)


@dataclass
class PluginInfo:
    """What is known of one plugin.

    Args:
        name: how `--block` and messages call it.
        source: "built-in", a package with its version, or a file.
        version: of the package, or of adaflow for built-in ones, or "" for a file.
        status: "ok", "failed" or "blocked".
        error: for a failed one, what happened and where.
        sha256: of the file, for plugins that are one.
        hooks: the hooks it implements.
        registered: kind → names.
    """

    name: str
    source: str
    version: str = ""
    status: str = "ok"
    error: str = ""
    sha256: str = ""
    hooks: list[str] = field(default_factory=list)
    registered: dict[str, list[str]] = field(default_factory=dict)


class PluginManager:
    """All plugins of this process and the registries they filled.

    Args:
        files: plugin files named on the command line; `require_named` raises if one of them failed.
        block: names of plugins to leave out.
        environ: the environment to read `ADAFLOW_PLUGINS` and `ADAFLOW_NO_PLUGINS` from.
    """

    def __init__(
        self, files: Sequence[str | Path] = (), block: Iterable[str] = (), environ: dict[str, str] | None = None
    ) -> None:
        environ = dict(os.environ) if environ is None else environ
        self.infos: list[PluginInfo] = []
        self.registries: dict[str, Registry[Any]] = {hook: Registry(kind) for hook, kind in KINDS.items()}
        self.files = tuple(str(file) for file in files)
        self._block = set(block)
        self._named: set[str] = set()
        self._muted: set[tuple[str, str]] = set()
        self._pluggy = pluggy.PluginManager("adaflow")
        self._pluggy.add_hookspecs(hookspecs)

        for module in BUILTINS:
            self._add(module.rsplit(".", 1)[1], lambda m=module: importlib.import_module(m), "built-in", adaflow.__version__)
        if not environ.get("ADAFLOW_NO_PLUGINS"):
            self._add_entry_points()
            for item in filter(None, re.split(r"[,\n]", environ.get("ADAFLOW_PLUGINS", ""))):
                self._add_file_or_module(item.strip())
        for file in self.files:
            self._named.add(self._add_file_or_module(file).name)
        unknown = self._block - {info.name for info in self.infos}
        if unknown:
            warnings.warn(f"--block names no plugin: {', '.join(sorted(unknown))}", stacklevel=2)

    @property
    def augmentations(self) -> Registry[Any]:
        """Transforms by name."""
        return self.registries["register_augmentations"]

    @property
    def p_controllers(self) -> Registry[Any]:
        """Controllers of p by name."""
        return self.registries["register_p_controllers"]

    @property
    def datasets(self) -> Registry[Any]:
        """Dataset readers by name."""
        return self.registries["register_datasets"]

    @property
    def features(self) -> Registry[Any]:
        """Feature extractors by name."""
        return self.registries["register_feature_extractors"]

    @property
    def metrics(self) -> Registry[Any]:
        """Metrics by name."""
        return self.registries["register_metrics"]

    @property
    def loggers(self) -> Registry[Any]:
        """Loggers by name."""
        return self.registries["register_loggers"]

    def require_named(self) -> None:
        """Raise PluginError if a plugin given with `--plugin` failed."""
        for info in self.infos:
            if info.name in self._named and info.status == "failed":
                raise PluginError(f"plugin {info.name} cannot be used: {info.error}", f"It comes from {info.source}.")

    def failures_hint(self) -> str:
        """A sentence about plugins that failed or are blocked; empty when there are none."""
        failed = [f"plugin {info.name} failed to load: {info.error}" for info in self.infos if info.status == "failed"]
        blocked = [f"plugin {info.name} is blocked" for info in self.infos if info.status == "blocked"]
        return "; ".join(failed + blocked)

    @contextmanager
    def explain_unknown(self) -> Iterator[None]:
        """Within it, an error about an unknown name also says which plugins failed: one of them may have had it."""
        try:
            yield
        except PluginError as error:
            trouble = self.failures_hint()
            if not trouble:
                raise
            raise PluginError(error.message, f"{error.hint} Note: {trouble}.".strip()) from error

    def provenance(self) -> list[dict[str, str]]:
        """Name, source, version and hash of every plugin that is not built in, for the run folder."""
        return [
            {"name": i.name, "source": i.source, "version": i.version, "status": i.status, "sha256": i.sha256}
            for i in self.infos
            if i.source != "built-in"
        ]

    def notify(self, hook: str, say: Callable[[str], None], **arguments: Any) -> None:
        """Call a milestone hook of every plugin. A plugin that raises is named once and left out of that hook from then on.

        Errors of adaflow's own kind (AdaflowError) pass through: a plugin may stop a run on purpose.
        """
        for impl in getattr(self._pluggy.hook, hook).get_hookimpls():
            if (impl.plugin_name, hook) in self._muted:
                continue
            try:
                impl.function(*(arguments[name] for name in impl.argnames))
            except AdaflowError:
                raise
            except Exception as error:
                self._muted.add((impl.plugin_name, hook))
                say(f"plugin {impl.plugin_name} failed in {hook} and is left out from now on: {_where(error)}")

    def _add_entry_points(self) -> None:
        for point in sorted(importlib.metadata.entry_points(group="adaflow"), key=lambda p: p.name):
            dist = point.dist
            package = f"package {dist.name}" if dist is not None else "package"
            self._add(point.name, point.load, package, dist.version if dist is not None else "")

    def _add_file_or_module(self, text: str) -> PluginInfo:
        path = Path(text).expanduser()
        if path.suffix != ".py" and not path.exists():
            return self._add(text, lambda: importlib.import_module(text), f"module {text}")
        info = self._add(path.stem, lambda: _import_file(path), f"file {path}")
        if path.is_file():
            info.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return info

    def _add(self, name: str, load: Callable[[], Any], source: str, version: str = "") -> PluginInfo:
        info = PluginInfo(name, source, version)
        self.infos.append(info)
        if name in self._block:
            info.status = "blocked"
            return info
        try:
            plugin = load()
            if self._pluggy.has_plugin(name):
                raise PluginError(f"another plugin is already called {name!r}")
            self._pluggy.register(plugin, name=name)
            self._check_hook_names(plugin, info)
            self._collect(info)
        except (Exception, SystemExit) as error:
            info.status, info.error = "failed", _where(error)
            self._forget(info)
        return info

    def _check_hook_names(self, plugin: object, info: PluginInfo) -> None:
        for caller in self._pluggy.get_hookcallers(plugin) or []:
            if not caller.has_spec():
                raise _unknown_hook(caller.name)
            info.hooks.append(caller.name)

    def _collect(self, info: PluginInfo) -> None:
        for hook, registry in self.registries.items():
            for impl in getattr(self._pluggy.hook, hook).get_hookimpls():
                if impl.plugin_name == info.name:
                    impl.function(*([Register(registry, info.name)] if impl.argnames else []))
            names = [e.name for e in registry if e.provider == info.name]
            names += [f"{alias.name} (alias)" for alias in registry.aliases.values() if alias.provider == info.name]
            if names:
                info.registered[registry.kind] = names

    def _forget(self, info: PluginInfo) -> None:
        """Undo what a plugin did before it failed."""
        for registry in self.registries.values():
            registry.remove_provider(info.name)
        info.registered.clear()
        if self._pluggy.get_plugin(info.name) is not None and sum(i.name == info.name for i in self.infos) == 1:
            self._pluggy.unregister(name=info.name)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise PluginError(f"there is no file {str(path)!r}")
    # A name of its own, so that a file called numpy.py cannot stand in for the library.
    name = f"adaflow_plugin_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _where(error: BaseException) -> str:
    """One line: type, message, file and line of an exception."""
    if isinstance(error, AdaflowError):
        return error.message
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    last = next((f for f in reversed(frames) if "importlib" not in f.filename and f.filename != __file__), None)
    place = f" ({last.filename}, line {last.lineno})" if last else ""
    return f"{type(error).__name__}: {text}{place}"


def _unknown_hook(name: str) -> PluginError:
    known: Registry[None] = Registry("hook")
    for hook in vars(hookspecs):
        if hook.startswith(("register_", "run_")) or hook in ("tick", "snapshot_saved"):
            known.add(hook, None, "adaflow")
    return known.unknown(name)
