"""Imports plugins that are a file, or a folder, and not installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from adaflow.errors import PluginError


def import_file(path: Path) -> ModuleType:
    """A file as a module.

    Raises:
        PluginError: there is none. Whatever the file raises passes.
    """
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


def import_folder(path: Path) -> ModuleType:
    """A package that is not installed, under its own name, for it imports itself by that.

    Raises:
        PluginError: it is no package, or its name is that of another module.
    """
    path = path.resolve()
    if not (path / "__init__.py").is_file():
        raise PluginError(
            f"the folder {str(path)!r} is no package", "Name a .py file, or a folder with an __init__.py."
        )
    if path.name not in sys.modules:
        sys.path.insert(0, str(path.parent))
        try:
            importlib.import_module(path.name)
        finally:
            sys.path.remove(str(path.parent))
    module = sys.modules[path.name]
    if getattr(module, "__file__", None) != str(path / "__init__.py"):
        raise PluginError(f"another module is called {path.name} already: {getattr(module, '__file__', 'built in')}")
    return module
