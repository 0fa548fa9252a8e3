"""A training run of adaflow, put together as `adaflow train` does, to time its steps."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from adaflow.core.data.dataset import Dataset, load_dataset
from adaflow.core.distributed import World
from adaflow.core.resolve import resolve_config, resolve_data
from adaflow.core.run import Run
from adaflow.plugin_manager import PluginManager


@dataclass(frozen=True)
class Setup:
    """What is trained: the preset `auto` with changes.

    Args:
        name: for the table.
        resolution: of the images, which are drawn lesions.
        images: how many there are.
        network: settings of both networks.
        schedule: the batch.
    """

    name: str
    resolution: int
    images: int = 128
    network: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)


SMALL = Setup("64²", 64, 128, {"channel_base": 4096, "channel_max": 128}, {"batch": 16})
AUTO = (Setup("auto 128²", 128), Setup("auto 256²", 256), Setup("auto 512²", 512, 64))


def new_run(setup: Setup, augs: str, p: float, precision: str, device: torch.device) -> Run:
    """A run with a fixed p. It writes nothing as long as nobody asks it to."""
    plugins = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
    table: dict[str, Any] = {
        "preset": "auto",
        "precision": precision,
        "data": {"source": f"demo:lesions,resolution={setup.resolution},images={setup.images}"},
        "augment": {"augs": augs, "controller": "fixed", "p": p},
        "generator": setup.network,
        "discriminator": setup.network,
        "schedule": setup.schedule,
        "loggers": [],
    }
    dataset = lesions(table["data"]["source"])
    config = resolve_config(table, resolve_data(table), dataset, plugins, 1, on_gpu=device.type == "cuda")
    return Run(config, Path(tempfile.gettempdir()), World(0, 1, device), plugins, dataset)


@lru_cache(maxsize=1)
def lesions(source: str) -> Dataset:
    """A data set, drawn once."""
    readers = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).datasets
    return load_dataset(resolve_data({"data": {"source": source}}), readers, seed=0)
