"""Small runs for tests: a data set of 64 drawn lesions at 16×16, networks of a few thousand parameters."""

from pathlib import Path
from typing import Any

import torch

from adaflow.config import merge
from adaflow.core.data.dataset import load_dataset
from adaflow.core.distributed import World
from adaflow.core.resolve import resolve_config, resolve_data
from adaflow.core.run import Run
from adaflow.plugin_manager import PluginManager

SMALL: dict[str, Any] = {
    "data": {"source": "demo:lesions,resolution=16,images=64", "mirror": True},
    "augment": {"augs": "bgc", "controller": "rt(kimg=1)", "p": 0.3},
    "generator": {"z_dim": 16, "w_dim": 16, "channel_base": 128, "channel_max": 16},
    "discriminator": {"channel_base": 128, "channel_max": 16},
    "schedule": {"batch": 8, "kimg": 0.16, "tick_kimg": 0.04, "snap": 2},
    "metrics": [],
    "loggers": ["jsonl"],
}


def small_run(
    folder: Path,
    table: dict[str, Any] | None = None,
    plugins: PluginManager | None = None,
    world: World | None = None,
    fresh: bool = True,
) -> Run:
    """A run of `SMALL` with `table` laid over it, in an existing folder."""
    plugins = plugins or PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
    world = world or World(0, 1, torch.device("cpu"))
    whole = merge(SMALL, table or {})
    data = resolve_data(whole)
    dataset = load_dataset(data, plugins.datasets, whole["schedule"].get("seed", 0))
    config = resolve_config(whole, data, dataset, plugins, world.size, on_gpu=False)
    return Run(config, folder, world, plugins, dataset, fresh)


def tensors(state: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """All leaves of a nested state by their dotted names."""
    leaves: dict[str, Any] = {}
    items = state.items() if isinstance(state, dict) else enumerate(state)
    for key, value in items:
        name = f"{prefix}{key}"
        if isinstance(value, dict | list | tuple):
            leaves |= tensors(value, f"{name}.")
        else:
            leaves[name] = value
    return leaves


def differences(
    a: dict[str, Any], b: dict[str, Any], ignore: tuple[str, ...] = ("seconds", "tick_seconds")
) -> list[str]:
    """Names of the leaves that are not exactly equal."""
    left, right = tensors(a), tensors(b)
    names = (left.keys() | right.keys()) - set(ignore)

    def equal(name: str) -> bool:
        if name not in left or name not in right:
            return False
        x, y = left[name], right[name]
        return torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y

    return sorted(name for name in names if not equal(name))
