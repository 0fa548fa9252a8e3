"""From presets, a configuration file and command line options to one checked `RunConfig`."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

from adaflow.config import Table, from_table, merge
from adaflow.core.build import format_item, parse_plugin
from adaflow.core.data.dataset import DataConfig, Dataset
from adaflow.core.precision import AUTO, choose_precision
from adaflow.core.presets import preset_table
from adaflow.core.run_config import RunConfig, ScheduleConfig
from adaflow.errors import ConfigError, UsageError
from adaflow.plugin_manager import PluginManager

DEFAULT_METRICS = ("kd(num=500, most_reals=2000)", "fd(num=500, most_reals=2000)")
"""What a new run measures at every snapshot. The numbers of images are chosen to cost less than a tenth of its time."""

PRETRAINED_KIMG = 100.0
"""Thousands of images from p = 0 to 1 when a run starts from a trained network (arXiv 2006.06676, appendix C)."""


def resolve_plugins(table: Table) -> tuple[list[str], list[str]]:
    """The plugins of a configuration table: those to load, files with their whole path, and those to leave out.

    Raises:
        ConfigError: they are not lists of texts.
    """
    for key in ("plugins", "block"):
        names = table.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"{key} is no list of texts (got {names!r})", f'Write {key} = ["name"].')
    # The run may be resumed from elsewhere.
    files = [os.path.abspath(name) if os.path.exists(name) else name for name in table.get("plugins", [])]
    return files, table.get("block", [])


def resolve_data(table: Table) -> DataConfig:
    """The data part of a configuration table.

    Raises:
        UsageError: no data are named.
        ConfigError: unknown settings, wrong types, values out of range.
    """
    if not table.get("data", {}).get("source"):
        raise UsageError("no data set is named", "Give a folder or a zip with --data, or --data demo:lesions.")
    data = from_table(DataConfig, table["data"], "data.")
    # The run may be resumed from elsewhere.
    return dataclasses.replace(data, source=os.path.abspath(data.source)) if os.path.exists(data.source) else data


def resolve_config(
    table: Table,
    data: DataConfig,
    dataset: Dataset,
    plugins: PluginManager,
    processes: int,
    on_gpu: bool,
    target: float | None = None,
) -> RunConfig:
    """The resolved configuration of a new run.

    Args:
        table: what the user set, in the sections of `RunConfig`.
        data, dataset: the data, loaded.
        plugins: to know the settings of controllers.
        processes: how many share a batch.
        on_gpu: the default preset is `auto` on a GPU and `tiny` on a CPU, and "auto" of precision depends on it, too.
        target: `--target`, a setting of the controller. Without a controller, a given p stays fixed, and so does p
            where nothing makes use of it: no augmentation, no method.

    Raises:
        ConfigError: unknown settings, wrong types, values out of range.
    """
    name = table.get("preset") or ("auto" if on_gpu else "tiny")
    preset = preset_table(name, dataset.resolution, dataset.channels, dataset.c_dim, processes)
    shape = {key: preset["generator"][key] for key in ("c_dim", "img_resolution", "img_channels")}
    for part in ("generator", "discriminator"):
        for key, value in shape.items():
            if table.get(part, {}).get(key, value) != value:
                raise ConfigError(f"{part}.{key} follows from the data, where it is {value}")
    if name == "auto" and "batch" in table.get("schedule", {}):
        batch = from_table(ScheduleConfig, table["schedule"], "schedule.").batch
        preset["loss"]["r1_gamma"] = 0.0002 * dataset.resolution**2 / batch
        preset["schedule"]["ema_kimg"] = batch * 10 / 32
    table = merge(
        preset, {"precision": AUTO, "metrics": list(DEFAULT_METRICS)}, table, {"data": dataclasses.asdict(data)}
    )
    augment = table.setdefault("augment", {})
    without_use = augment.get("augs") in ("", "none") and not table.get("methods") and target is None
    augment.setdefault("controller", "fixed" if "p" in augment or without_use else "rt")
    config = from_table(RunConfig, table)
    controller = full_controller(config.augment.controller, plugins, target, bool(config.init_from))
    return dataclasses.replace(
        config,
        augment=dataclasses.replace(config.augment, controller=controller),
        precision=choose_precision(config.precision, on_gpu, config.generator),
    )


def full_controller(text: str, plugins: PluginManager, target: float | None, pretrained: bool) -> str:
    """The controller with `--target` and the pace of a pretrained start written out, where it has such settings."""
    item = parse_plugin(text, "p controller")
    kind = plugins.p_controllers[item.name].value
    known = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    arguments: dict[str, Any] = dict(item.arguments)
    if target is not None:
        if "target" not in known:
            raise UsageError(f"the p controller {item.name} has no target", "Use --target with rt or rv.")
        arguments["target"] = target
    if pretrained and {"target", "kimg"} <= known:
        arguments.setdefault("kimg", PRETRAINED_KIMG)
    return format_item(item.name, arguments)


def describe(config: RunConfig, dataset: Dataset) -> str:
    """The second half of the run folder's name: data set and what is special about the run."""
    data, augs = config.data, config.augment.augs or "none"
    parts = [
        dataset.name,
        "cond" if data.cond else "",
        f"subset{data.subset}" if data.subset else "",
        "mirror" if data.mirror else "",
        "mirrory" if data.mirrory else "",
        config.preset,
        augs,
        config.augment.controller if augs != "none" or config.methods else "",
        *config.methods,
    ]
    text = "-".join(part for part in parts if part)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_")[:100]


def new_run_folder(outdir: Path, description: str) -> Path:
    """Create `outdir/00000-description`, with the next free number.

    Raises:
        ConfigError: it cannot be created.
    """
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        while True:
            taken = [int(m.group(1)) for p in outdir.iterdir() if (m := re.match(r"(\d{5})-", p.name))]
            folder = outdir / f"{max(taken, default=-1) + 1:05d}-{description}"
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        reason = f"cannot create a run folder in {outdir}: {error.strerror}"
        raise ConfigError(reason, "Choose another --outdir.") from error
