"""Finds plugins, keeps them apart and remembers who registered what.

Plugins come from four places: the built-in ones, installed packages (entry points of group `adaflow`), files and
modules named in `ADAFLOW_PLUGINS`, and files given with `--plugin`. Loading never raises: a plugin that fails is kept
in the list with its error, file and line, and stops only the command that names it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import pluggy

import adaflow
from adaflow import hookspecs, plugin_files, registry
from adaflow.errors import AdaflowError, PluginError
from adaflow.registry import Registry

T = TypeVar("T")

BUILTINS = (
    *(f"adaflow.plugins.augmentations.{name}" for name in ("blit", "geom", "color", "filter", "noise")),
    *(f"adaflow.plugins.augmentations.{name}" for name in ("cutout", "kornia")),
    *(f"adaflow.plugins.p_controllers.{name}" for name in ("fixed", "overfitting", "schedules")),
    *(f"adaflow.plugins.datasets.{name}" for name in ("folder", "zipped", "cifar10", "lesions")),
    *(f"adaflow.plugins.features.{name}" for name in ("efficientnet", "torchscript", "dinov2")),
    *(f"adaflow.plugins.metrics.{name}" for name in ("frechet", "kernel", "manifold", "inception_score")),
    *(f"adaflow.plugins.metrics.{name}" for name in ("path_length", "vendi", "copying")),
    *(f"adaflow.plugins.leak_detectors.{name}" for name in ("augmentation", "memorisation", "collapse")),
    *(f"adaflow.plugins.loggers.{name}" for name in ("console", "jsonl", "tensorboard")),
    *(f"adaflow.plugins.{name}" for name in ("samples", "status", "health")),
)

KINDS = {
    "register_datasets": "dataset reader",
    "register_augmentations": "augmentation",
    "register_p_controllers": "p controller",
    "register_methods": "method",
    "register_feature_extractors": "feature extractor",
    "register_metrics": "metric",
    "register_leak_detectors": "leak detector",
    "register_loggers": "logger",
}


HOOKS = tuple(name for name, value in vars(hookspecs).items() if hasattr(value, "adaflow_spec"))
"""All hooks, in the order of a run's life."""

NOT_THE_PLUGIN = (
    __file__,
    registry.__file__,
    plugin_files.__file__,
    os.path.dirname(importlib.__file__),
    os.path.dirname(pluggy.__file__),
    "<frozen",
)
"""Beginnings of the file names in a traceback that lie between us and a plugin."""


PLUGIN_FILES: dict[str, str] = {}
"""File, or folder of a package with a slash → plugin, of those loaded in this process that are not built in."""


class Register(Generic[T]):
    """What a `register_…` hook receives: call it with a name and the thing to offer under that name."""

    def __init__(self, registry: Registry[T], provider: str) -> None:
        self._registry = registry
        self._provider = provider

    def __call__(self, name: str, value: T) -> None:
        """Offer `value` under `name`."""
        self._registry.add(name, value, self._provider)

    def lazy(self, name: str, load: Callable[[], T]) -> None:
        """Offer under `name` what `load` gives; called when the name is first used, not when plugins are loaded."""
        self._registry.add_lazy(name, load, self._provider)

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
        error: for a failed one, what happened, with file and line where there is one.
        hint: for a failed one, what to do about it, if anything is known.
        sha256: of the file, for plugins that are one.
        hooks: the hooks it implements.
        registered: kind → names; names that stand for lists of others have a kind of their own, "augmentation list".
    """

    name: str
    source: str
    version: str = ""
    status: str = "ok"
    error: str = ""
    hint: str = ""
    sha256: str = ""
    hooks: list[str] = field(default_factory=list)
    registered: dict[str, list[str]] = field(default_factory=dict)


class PluginManager:
    """All plugins of this process and the registries they filled.

    Args:
        files: plugin files named on the command line; `require_named` raises if one of them failed.
        block: names of plugins to leave out.
        environ: the environment to read `ADAFLOW_PLUGINS` and `ADAFLOW_NO_PLUGINS` from.
        only: of the built-in plugins, load those of one kind, such as "datasets": others import torch, which takes
            seconds. All plugins of the user are loaded.
    """

    def __init__(
        self,
        files: Sequence[str | Path] = (),
        block: Iterable[str] = (),
        environ: dict[str, str] | None = None,
        only: str = "",
    ) -> None:
        environ = dict(os.environ) if environ is None else environ
        self.infos: list[PluginInfo] = []
        self.registries: dict[str, Registry[Any]] = {hook: Registry(kind) for hook, kind in KINDS.items()}
        self._block = set(block)
        self._named: list[PluginInfo] = []
        self._muted: set[tuple[str, str]] = set()
        self._pluggy = pluggy.PluginManager("adaflow")
        self._pluggy.add_hookspecs(hookspecs)

        for module in BUILTINS:
            if not only or f".{only}." in module:
                self._add(_last(module), partial(importlib.import_module, module), "built-in", adaflow.__version__)
        if not environ.get("ADAFLOW_NO_PLUGINS"):
            self._add_entry_points()
            for item in filter(None, re.split(r"[,\n]", environ.get("ADAFLOW_PLUGINS", ""))):
                self._add_file_or_module(item.strip())
        for file in files:
            self._named.append(self._add_file_or_module(str(file)))

    @property
    def augmentations(self) -> Registry[Any]:
        """Transforms by name."""
        return self.registries["register_augmentations"]

    @property
    def p_controllers(self) -> Registry[Any]:
        """Controllers of p by name."""
        return self.registries["register_p_controllers"]

    @property
    def methods(self) -> Registry[Any]:
        """Training methods by name."""
        return self.registries["register_methods"]

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
    def leak_detectors(self) -> Registry[Any]:
        """Leak detectors by name."""
        return self.registries["register_leak_detectors"]

    @property
    def loggers(self) -> Registry[Any]:
        """Loggers by name."""
        return self.registries["register_loggers"]

    def require_named(self) -> None:
        """Raise PluginError if a plugin given with `--plugin` failed."""
        for info in self._named:
            if info.status == "failed":
                raise PluginError(f"plugin {info.name} cannot be used: {info.error}", info.hint)

    def failed(self) -> list[str]:
        """A sentence without its dot for every plugin that failed to load."""
        return [f"plugin {info.name} failed to load: {info.error}" for info in self.infos if info.status == "failed"]

    def unknown_blocks(self) -> list[str]:
        """Names that were to be left out and that no plugin has."""
        return sorted(self._block - {info.name for info in self.infos} - {*map(_last, BUILTINS)})

    @contextmanager
    def explain_unknown(self) -> Iterator[None]:
        """Within it, an error about an unknown name also says which plugins failed: one of them may have had it."""
        try:
            yield
        except PluginError as error:
            blocked = [f"plugin {info.name} is blocked" for info in self.infos if info.status == "blocked"]
            trouble = "; ".join(self.failed() + blocked)
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
        """Call a milestone hook of every plugin. One that raises is named once and left out of that hook from then on.

        Errors of adaflow's own kind (AdaflowError) pass through: a plugin may stop a run on purpose.
        """
        for impl in getattr(self._pluggy.hook, hook).get_hookimpls():
            if (impl.plugin_name, hook) in self._muted:
                continue
            try:
                impl.function(*(arguments[name] for name in impl.argnames))
            except AdaflowError:
                raise
            except (Exception, SystemExit) as error:
                self._muted.add((impl.plugin_name, hook))
                say(f"plugin {impl.plugin_name} failed in {hook} and is left out from now on: {_explain(error)}")

    def _add_entry_points(self) -> None:
        for point in sorted(importlib.metadata.entry_points(group="adaflow"), key=lambda p: p.name):
            dist = point.dist
            package = f"package {dist.name}" if dist is not None else "package"
            self._add(point.name, point.load, package, dist.version if dist is not None else "")

    def _add_file_or_module(self, text: str) -> PluginInfo:
        path = Path(text).expanduser()
        is_module = path.suffix != ".py" and not path.exists()
        source = _printable(f"module {text}" if is_module else f"file {os.path.abspath(path)}")
        for info in self.infos:
            if info.source == source:
                return info
        if is_module:
            return self._add(text, partial(importlib.import_module, text), source)
        if path.is_dir():
            return self._add(path.name, partial(plugin_files.import_folder, path), source)
        info = self._add(path.stem, partial(plugin_files.import_file, path), source)
        if path.is_file():
            info.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return info

    def _add(self, name: str, load: Callable[[], Any], source: str, version: str = "") -> PluginInfo:
        name, taken = _printable(name), self._pluggy.has_plugin(_printable(name))
        info = PluginInfo(name, source, version)
        self.infos.append(info)
        if name in self._block:
            info.status = "blocked"
        elif taken:
            info.status, info.error = "failed", f"another plugin is called {name} already"
            info.hint = "Rename its file."
        else:
            try:
                self._register(load(), info)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                info.status, info.error = "failed", _explain(error)
                info.hint = error.hint if isinstance(error, AdaflowError) else ""
                self._forget(info)
        return info

    def _register(self, plugin: object, info: PluginInfo) -> None:
        """Check the hooks of a plugin, and let it offer what it has."""
        known = self._pluggy.get_name(plugin)
        if known is not None:
            raise PluginError(f"it is loaded already, as {known}", "Name it once.")
        functions = self._hook_functions(plugin)
        info.hooks = [hook for hook in HOOKS if hook in functions]
        self._pluggy.register(plugin, name=info.name)
        file = getattr(plugin, "__file__", None)
        if file and info.source != "built-in":
            PLUGIN_FILES[file.removesuffix("__init__.py")] = info.name
        for hook, offered in self.registries.items():
            if hook not in functions:
                continue
            functions[hook](*[Register(offered, info.name) for _ in _required(functions[hook])])
            for kind, entries in ((offered.kind, offered), (f"{offered.kind} list", offered.aliases.values())):
                names = [entry.name for entry in entries if entry.provider == info.name]
                if names:
                    info.registered[kind] = names

    def _hook_functions(self, plugin: object) -> dict[str, Callable[..., Any]]:
        """Hook → the function of the plugin that implements it.

        Raises:
            PluginError: there is none, or one of an unknown name, or with arguments that its hook does not have.
        """
        functions: dict[str, Callable[..., Any]] = {}
        for attribute in dir(plugin):
            options = self._pluggy.parse_hookimpl_opts(plugin, attribute)
            if options is None:
                continue
            function = getattr(plugin, attribute)
            hook = options.get("specname") or attribute
            place = _place(inspect.getsourcefile(function), function.__code__.co_firstlineno)
            if hook not in HOOKS:
                unknown = _unknown_hook(hook)
                raise PluginError(unknown.message + place, unknown.hint)
            if options.get("wrapper") or options.get("hookwrapper"):
                raise PluginError(
                    f"{hook} is a wrapper, which adaflow does not call{place}", "Write it as a plain hook."
                )
            arguments = getattr(self._pluggy.hook, hook).spec.argnames
            excess = [name for name in _required(function) if name not in arguments]
            if excess:
                raise PluginError(
                    f"{hook} asks for {', '.join(excess)}, which the hook does not have{place}",
                    f"It has {', '.join(arguments)}.",
                )
            functions[hook] = function
        if not functions:
            raise PluginError("no function in it is a hook", "Mark its hooks with @adaflow.hookimpl.")
        return functions

    def _forget(self, info: PluginInfo) -> None:
        """Undo what a plugin did before it failed."""
        for offered in self.registries.values():
            offered.remove_provider(info.name)
        info.registered.clear()
        if self._pluggy.has_plugin(info.name):
            self._pluggy.unregister(name=info.name)


def blamed(error: Exception) -> PluginError | None:
    """What to tell the user of an error that came out of the code of a plugin of theirs; None for our own."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        for place, plugin in PLUGIN_FILES.items():
            if frame.filename == place or (place.endswith(os.sep) and frame.filename.startswith(place)):
                text = _printable(" ".join(traceback.format_exception_only(error)[0].split()))
                where = _place(frame.filename, frame.lineno)
                hint = f"adaflow plugins check {frame.filename} may tell more; ADAFLOW_TRACEBACK=1 shows all of it."
                return PluginError(f"plugin {plugin} failed: {text}{where}", hint)
    return None


def _last(module: str) -> str:
    """The name of a built-in plugin."""
    return module.rsplit(".", 1)[1]


def _required(function: Callable[..., Any]) -> list[str]:
    """The arguments of a hook implementation; those with a default are its own business."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]


def _explain(error: BaseException) -> str:
    """One line: type, message, file and line of an exception that a plugin raised."""
    if isinstance(error, SyntaxError):
        return _printable(f"{type(error).__name__}: {error.msg}") + _place(error.filename, error.lineno)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(NOT_THE_PLUGIN)]
    # The plugin's own last line, not that of a library it called.
    home = os.path.dirname(frames[0].filename) if frames else ""
    place = next((_place(f.filename, f.lineno) for f in reversed(frames) if f.filename.startswith(home)), "")
    text = error.message if isinstance(error, AdaflowError) else traceback.format_exception_only(error)[0]
    return _printable(" ".join(text.split())) + place


def _place(file: str | None, line: int | None) -> str:
    return f" ({file}, line {line})"


def _printable(text: str) -> str:
    """The text with control characters written out, so that no plugin can play tricks on a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _unknown_hook(name: str) -> PluginError:
    known: Registry[None] = Registry("hook")
    for hook in HOOKS:
        known.add(hook, None, "adaflow")
    return known.unknown(name)
