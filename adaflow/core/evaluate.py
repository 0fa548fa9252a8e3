"""Measures a network snapshot, the way a run measures itself: the same fakes, the same numbers."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaflow.config import from_table
from adaflow.core.build import build_plugin, format_item
from adaflow.core.data.dataset import DataConfig, Dataset, load_dataset
from adaflow.core.features import Extractors
from adaflow.core.images import to_uint8
from adaflow.core.metric import Metric, MetricContext
from adaflow.core.networks import Generator
from adaflow.core.random import normal, stream_key, uniform
from adaflow.core.snapshot import NetworkFile
from adaflow.core.spec import parse_spec
from adaflow.errors import DataError, FileError, UsageError
from adaflow.plugin_manager import PluginManager

Progress = Callable[[int, int], None]
BATCH = 32
"""Fakes drawn at a time, as in training."""


def find_network(path: Path) -> Path:
    """The network file of a path: itself, or the newest one of a run folder.

    Raises:
        FileError: the folder has none.
    """
    if not path.is_dir():
        return path
    if (path / "run.pkl").exists():
        return path / "run.pkl"
    raise FileError(f"the folder {path} has no run.pkl", "Name a run folder, or a network in its snapshots folder.")


def data_of(network: NetworkFile, data: str, plugins: PluginManager, say: Callable[[str], None]) -> Dataset:
    """The data a network was trained on, divided as they were then.

    Args:
        network: the snapshot.
        data: where they are now, or other data; "" where they were.
        plugins: for the readers.
        say: told if they are other data.

    Raises:
        UsageError: the snapshot does not say, and neither does `data`.
        DataError: they cannot be read, or are of another size or kind than the network draws.
    """
    config = network.info.get("config", {})
    table = dict(config.get("data", {}))
    if not table and not data:
        raise UsageError("this network does not say what it was trained on", "Give the images with --data.")
    if data:
        table["source"] = os.path.abspath(data) if os.path.exists(data) else data
    elif "source" in table and os.path.isabs(table["source"]) and not os.path.exists(table["source"]):
        raise DataError(f"the data of this network are no longer at {table['source']}", "Say where with --data.")
    shape = network.G.config
    table.setdefault("cond", bool(shape.c_dim))
    seed = config.get("schedule", {}).get("seed", 0)
    dataset = load_dataset(from_table(DataConfig, table, "data."), plugins.datasets, seed, say=say, write_cache=False)
    if (dataset.resolution, dataset.channels) != (shape.img_resolution, shape.img_channels):
        raise DataError(
            f"the network draws {_shape(shape.img_resolution, shape.img_channels)}, "
            f"and the data have {_shape(dataset.resolution, dataset.channels)}",
            "Make them alike with adaflow data prepare.",
        )
    if dataset.c_dim != shape.c_dim:
        raise DataError(f"the network knows {shape.c_dim} classes, and the data have {dataset.c_dim}")
    known = network.info.get("data", {}).get("fingerprint")
    if known and known != dataset.fingerprint:
        say("These are not the images that the network was trained on. They are divided as those were.")
    return dataset


def seed_of(network: NetworkFile) -> int:
    """The seed of the training; 0 where the network does not say."""
    return int(network.info.get("config", {}).get("schedule", {}).get("seed", 0))


def build_metrics(text: str, plugins: PluginManager, **defaults: Any) -> dict[str, Metric]:
    """The metrics a user named, by what they wrote with its settings in full.

    Args:
        text: as in `--metrics "fd,kd(subset=1000)"`.
        plugins: who knows them.
        defaults: settings for those metrics that have them and were not given any.

    Raises:
        UsageError, PluginError, ConfigError: the text cannot be read, or names or sets what there is not.
    """
    metrics: dict[str, Metric] = {}
    for item in parse_spec(text):
        if item.weight is not None or not item.on:
            raise UsageError(f"a metric has no weight and no switch, as {item.name!r} is given in {text!r}")
        settings = inspect.signature(plugins.metrics[item.name].value).parameters
        arguments = {key: value for key, value in defaults.items() if key in settings} | item.arguments
        full = format_item(item.name, arguments)
        metrics[full] = build_plugin(full, plugins.metrics)
    if not metrics:
        raise UsageError("no metric is named", "Name some with --metrics, as in --metrics fd,kd,pr.")
    return metrics


def evaluate(
    network: NetworkFile,
    dataset: Dataset,
    metrics: dict[str, Metric],
    plugins: PluginManager,
    progress: Progress = lambda done, total: None,
    seed: int | None = None,
) -> Iterator[tuple[str, dict[str, float]]]:
    """Measure a network, metric by metric.

    Args:
        network: on the device to compute on.
        dataset: the data to compare with.
        metrics: as from `build_metrics`.
        plugins: who know the extractors.
        progress: told as fakes are drawn.
        seed: of the fakes and whatever a metric draws; None: that of the training.

    Yields:
        The text of a metric, and its results.

    Raises:
        AdaflowError: something a metric needs is not there.
    """
    for metric in metrics.values():
        metric.check(plugins.features, dataset)
    G = network.G_ema
    seed = seed_of(network) if seed is None else seed
    context = MetricContext(
        fakes=lambda count: draw_fakes(G, dataset, seed, count, progress),
        dataset=dataset,
        extractor=Extractors(plugins.features, next(G.parameters()).device),
        seed=seed,
        generator=G,
    )
    # The one that wants the most fakes comes first, for the others then share its features.
    for text in sorted(metrics, key=lambda text: -getattr(metrics[text], "num", 0)):
        yield text, metrics[text].compute(context)


@torch.no_grad()
def draw_fakes(
    G: Generator,
    dataset: Dataset,
    seed: int,
    count: int,
    progress: Progress = lambda done, total: None,
    purpose: str = "metrics",
    own_noise: bool = False,
) -> Iterator[Tensor]:
    """Fakes that depend on the seed alone, uint8 [n, C, H, W]; labels are as frequent as in the training data.

    Args:
        G: draws them.
        dataset: has the labels.
        seed: of the run, or of a check.
        count: how many.
        progress: told as they are drawn.
        purpose: other images for each; those of "metrics" are what a run measures itself by.
        own_noise: noise for each image, not the constant noise of the network, which all would share.
    """
    device = next(G.parameters()).device
    pool = dataset.labels[dataset.train_indices].to(device)
    keys = {name: stream_key(seed, purpose, name) for name in ("z", "label", "noise")}
    for start in range(0, count, BATCH):
        counters = torch.arange(start, min(start + BATCH, count), device=device)
        z = normal(keys["z"], counters, (G.config.z_dim,))
        places = (uniform(keys["label"], counters).double() * len(pool)).long().clamp_(max=len(pool) - 1)

        def noise(layer: int, shape: tuple[int, ...], counters: Tensor = counters) -> Tensor:
            return normal(keys["noise"], counters, tuple(shape[1:]), call=layer)

        yield to_uint8(G(z, pool[places], noise=noise if own_noise else "const"))
        progress(min(start + BATCH, count), count)


def _shape(resolution: int, channels: int) -> str:
    return f"{'grey' if channels == 1 else 'colour'} images of {resolution} pixels"
