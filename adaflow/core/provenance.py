"""Where a run came from: versions, plugins, data, command."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import adaflow
from adaflow.config import to_toml
from adaflow.core.data.dataset import Dataset
from adaflow.core.files import committed, write_json
from adaflow.core.run import Run
from adaflow.errors import FileError
from adaflow.plugin_manager import PluginManager


def provenance(run: Run) -> dict[str, Any]:
    """Plain values that say what made this run. No user, host or path is among them, but those the user gave."""
    return {
        "adaflow": adaflow.__version__,
        "git": git_revision(Path(adaflow.__file__).resolve().parents[1]),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "packages": {name: _version(name) for name in ("kornia", "numpy", "pluggy", "pillow")},
        "device": torch.cuda.get_device_name(run.world.device) if run.world.device.type == "cuda" else "cpu",
        "processes": run.world.size,
        "command": sys.argv[1:],
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "plugins": run.plugins.provenance(),
        "data": run.dataset.summary(),
    }


def git_revision(checkout: Path) -> str:
    """The commit of a checkout, with "+changes" when it is not clean; "" where `checkout` is no checkout's top."""
    git = shutil.which("git")
    if git is None:
        return ""

    def ask(*words: str) -> str:
        command = [git, "-C", str(checkout), *words]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            return ""
        return answer.stdout.strip() if answer.returncode == 0 else ""

    if ask("rev-parse", "--show-toplevel") != str(checkout):
        return ""
    revision = ask("rev-parse", "HEAD")
    return revision + ("+changes" if revision and ask("status", "--porcelain", "--untracked-files=no") else "")


def write_config(run: Run) -> None:
    """Write `config.toml`: the resolved configuration, which a resume reads back."""
    with committed(run.folder / "config.toml") as file:
        file.write(to_toml(run.config).encode())


def write_provenance(run: Run) -> None:
    """Write `provenance.json`, and keep the source of plugin files beside it in `plugins/`."""
    write_json(run.folder / "provenance.json", provenance(run))
    for source in (Path(name) for name in run.config.plugins):
        if not source.is_file():
            continue  # an installed module
        (run.folder / "plugins").mkdir(exist_ok=True)
        with committed(run.folder / "plugins" / source.name) as file:
            file.write(source.read_bytes())


def compare_provenance(folder: Path, dataset: Dataset, plugins: PluginManager) -> list[str]:
    """What is not as it was when the run in `folder` began, in sentences, as far as a run can go on with it.

    Raises:
        FileError: the data changed.
    """
    try:
        then = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        fingerprint = then["data"]["fingerprint"]
        known = {plugin["name"]: (plugin["sha256"], plugin["version"]) for plugin in then["plugins"]}
        torch_version = then["torch"]
    except (OSError, ValueError, KeyError, TypeError):
        return ["provenance.json is missing or damaged: whether data and plugins are the same is not checked"]
    if fingerprint != dataset.fingerprint:
        raise FileError(
            f"the data set {dataset.config.source} is not what {folder.name} was trained on: its fingerprint changed",
            "Bring the old data back, or start a new run with --init-from.",
        )
    notes = [
        f"plugin {plugin['name']} is not the one the run began with (its source then is in {folder / 'plugins'})"
        for plugin in plugins.provenance()
        if known.get(plugin["name"], (plugin["sha256"], plugin["version"])) != (plugin["sha256"], plugin["version"])
    ]
    if torch_version != torch.__version__:
        notes.append(f"the run began with torch {torch_version}; with {torch.__version__} it goes on, not bit for bit")
    return notes


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
