"""A new plugin from a template: one file that works, or a package with a test around it."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from adaflow import plugin_manager
from adaflow.errors import FileError, UsageError
from adaflow.registry import NAME


@dataclass(frozen=True)
class Kind:
    """A kind of plugin that can be begun from a template.

    Args:
        hook: the hook by which it comes in.
        usage: how it is used, with `{name}` and `{file}`.
        check: what the check of such a plugin needs besides its file.
        test: the template of its test.
    """

    hook: str
    usage: str
    check: str = ""
    test: str = "test"

    @property
    def what(self) -> str:
        """The word for it."""
        return plugin_manager.KINDS[self.hook]


KINDS = {
    "augmentation": Kind("register_augmentations", "adaflow augs preview --plugin {file} --augs {name} --p 0.5,1"),
    "p-controller": Kind(
        "register_p_controllers",
        "adaflow train --plugin {file} --p-controller {name} --data demo:lesions",
    ),
    "method": Kind("register_methods", "adaflow train --plugin {file} --methods {name} --data demo:lesions"),
    "metric": Kind("register_metrics", "adaflow metrics run.pkl --plugin {file} --metrics {name}"),
    "leak-detector": Kind("register_leak_detectors", "adaflow leakcheck run.pkl --plugin {file} --detectors {name}"),
    "dataset": Kind(
        "register_datasets",
        "adaflow data check images.npy --plugin {file}",
        check=" --data images.npy",
        test="test-dataset",
    ),
    "logger": Kind(
        "register_loggers", "adaflow train --plugin {file} --loggers console,jsonl,{name} --data demo:lesions"
    ),
}
"""What `adaflow plugins new --kind` offers."""


def write_plugin(name: str, kind: str, folder: Path, package: bool, taken: Iterable[str] = ()) -> list[Path]:
    """Write a new plugin.

    Args:
        name: what users will type, such as "lesion-hair".
        kind: one of `KINDS`.
        folder: where it goes: the file itself, or the folder of the package.
        package: write a package, `adaflow-<name>`, with the file, a test, a README and a `pyproject.toml`.
        taken: names of this kind that are in use.

    Returns:
        The files, the plugin itself first.

    Raises:
        UsageError: the name or kind cannot be used.
        FileError: something is there already, or nothing can be written there.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no kind of plugin called {kind!r}", f"Choose one of {', '.join(KINDS)}.")
    module = module_name(name)
    if name in taken:
        raise UsageError(f"the {KINDS[kind].what} {name!r} exists already", "Choose another name.")
    title = "adaflow-" + module.removeprefix("adaflow_").replace("_", "-")
    what = KINDS[kind].what
    words = {
        "name": name,
        "module": module,
        "class_name": class_name(module, kind),
        "package": title,
        "what": f"An {what}" if what[0] in "aeiou" else f"A {what}",
        "check": KINDS[kind].check,
        "usage": KINDS[kind].usage.replace(" --plugin {file}", "").format(name=name),
    }
    home = folder / title if package else folder
    texts = {home / f"{module}.py": fill(kind, words)}
    if package:
        texts |= {
            home / "pyproject.toml": fill("pyproject", words),
            home / "README.md": fill("readme", words),
            home / "tests" / f"test_{module}.py": fill(KINDS[kind].test, words),
        }
    for path in texts:
        if path.exists():
            raise FileError(f"{path} is there already", "Choose another name, or another folder with --dest.")
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}", "Choose another folder with --dest.") from error
    return list(texts)


def module_name(name: str) -> str:
    """The Python module of a plugin called `name`.

    Raises:
        UsageError: it cannot be one, or would stand in for another.
    """
    if not NAME.fullmatch(name) or name == "none":
        raise UsageError(
            f"a plugin cannot be called {name!r}",
            "A name starts with a letter and has letters, digits, and . : _ - only, 64 at most; it is not none.",
        )
    module = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if keyword.iskeyword(module) or is_installed(module):
        raise UsageError(f"a file {module}.py would stand in for the module {module} of Python", "Choose another name.")
    return module


def is_installed(module: str) -> bool:
    """Whether Python or a package has a module of this name; a file in the present folder does not count."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        return module in sys.stdlib_module_names
    return spec.origin is None or Path(spec.origin).parent != Path.cwd()


def class_name(module: str, kind: str) -> str:
    """The class of a plugin, lesion_hair → LesionHair, with the kind after it where its template has that word."""
    name = "".join(part.capitalize() for part in module.split("_"))
    taken = re.findall(r"\w+", template_text(kind))
    return name + kind.title().replace("-", "") if name in taken else name


def fill(template: str, words: dict[str, str]) -> str:
    """A template with its words put in."""
    return Template(template_text(template)).substitute(words)


def template_text(template: str) -> str:
    """A template as it is."""
    return (files("adaflow") / "templates" / f"{template}.tmpl").read_text(encoding="utf-8")
