"""Every hook of adaflow, in the order of a run's life. This is the page to read before writing a plugin.

A plugin is a module (or any object) with functions of these names, marked with `adaflow.hookimpl`. The first group
puts things on offer under a name, which a run then picks by that name; the second tells what a run is doing. Hooks are
called when a run is put together and at milestones, never inside tensor code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from adaflow.core.augment.transform import Transform
    from adaflow.core.data.source import DatasetReader
    from adaflow.core.features import FeatureExtractor
    from adaflow.core.leak_detector import LeakDetector
    from adaflow.core.logger import Logger
    from adaflow.core.method import Method
    from adaflow.core.metric import Metric
    from adaflow.core.p_controller import PController
    from adaflow.core.run import Run
    from adaflow.plugin_manager import Register

HOOK_API_VERSION = 1
"""Grows by one when a hook changes in a way that old plugins would notice."""

hookspec = pluggy.HookspecMarker("adaflow")
hookimpl = pluggy.HookimplMarker("adaflow")
"""Marks a function of a plugin as the implementation of the hook of the same name."""


@hookspec
def register_datasets(register: Register[DatasetReader]) -> None:
    """Offer a reader of image collections: `register("dicom", DicomReader())`.

    The first reader, by name, whose `can_open` agrees is used.
    """


@hookspec
def register_augmentations(register: Register[type[Transform]]) -> None:
    """Offer transforms: `register("hair", Hair)`, then `--augs blit,hair`.

    `register.alias("mine", "blit,hair*0.5")` gives a list of transforms a name.
    """


@hookspec
def register_p_controllers(register: Register[type[PController]]) -> None:
    """Offer a controller of the probability p: `register("pid", PID)`, then `--p-controller "pid(gain=2)"`."""


@hookspec
def register_methods(register: Register[type[Method]]) -> None:
    """Offer a method that changes what D is shown as real, or its loss: `--methods "apa,lecam(weight=1e-6)"`."""


@hookspec
def register_feature_extractors(register: Register[type[FeatureExtractor]]) -> None:
    """Offer a network that turns images into feature vectors, for metrics to measure distances with."""


@hookspec
def register_metrics(register: Register[type[Metric]]) -> None:
    """Offer a metric, computed at every network snapshot of runs that name it: `--metrics fd,mine`."""


@hookspec
def register_leak_detectors(register: Register[type[LeakDetector]]) -> None:
    """Offer a detector of something that should not be in generated images: `adaflow leakcheck --detectors mine`."""


@hookspec
def register_loggers(register: Register[type[Logger]]) -> None:
    """Offer a place for statistics to go: `register("csv", CsvLogger)`, then `--loggers console,csv`."""


@hookspec
def run_started(run: Run) -> None:
    """A run begins or continues; its folder exists, its networks and data are ready.

    This hook and those that follow are called in the first process only.
    """


@hookspec
def tick(run: Run, stats: dict[str, Any]) -> None:
    """A tick ended. `stats` maps names such as `Loss/scores/real` or `Progress/kimg` to `{"num", "mean", "std"}`."""


@hookspec
def snapshot_saved(run: Run, path: Path) -> None:
    """A network snapshot was written whole to `path`."""


@hookspec
def run_finished(run: Run, outcome: str) -> None:
    """A run ends: `outcome` is "finished", "stopped" (resumable), "diverged" or "failed"."""
