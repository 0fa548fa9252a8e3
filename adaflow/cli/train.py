"""`adaflow train` and `adaflow resume`."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaflow.cli import app
from adaflow.cli.options import Block, PluginFiles, load_plugins, progress_bar
from adaflow.errors import ExitCode, FileError, PluginError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaflow.core.data.dataset import DataConfig, Dataset
    from adaflow.core.data.parallel import Progress
    from adaflow.core.distributed import World
    from adaflow.core.run import Run
    from adaflow.plugin_manager import PluginManager

DATA, AUGMENT, SCHEDULE = "Data", "Augmentation", "Length and portions"
NETWORK, SETTINGS = "Networks and losses", "Settings and plugins"


@app.command()
def train(
    context: typer.Context,
    data: Annotated[str, typer.Option(help="Folder or zip of images, or demo:lesions.")] = "",
    outdir: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("runs"),
    cfg: Annotated[
        str | None,
        typer.Option(
            help="Preset: auto (default on a GPU), tiny (on a CPU), stylegan2, paper256, paper512, paper1024, cifar."
        ),
    ] = None,
    gpus: Annotated[int, typer.Option(help="Processes: one per GPU, or several on a CPU.", min=1)] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Show what would happen; touch nothing.")
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN|X.pkl", help="A run folder: go on with it exactly. A network: as --init-from."),
    ] = None,
    init_from: Annotated[str | None, typer.Option(metavar="X.pkl", help="Start a new run from these weights.")] = None,
    cond: Annotated[
        bool | None, typer.Option("--cond", metavar="", help="Train with labels.", rich_help_panel=DATA)
    ] = None,
    subset: Annotated[int | None, typer.Option(help="Use only so many images.", rich_help_panel=DATA)] = None,
    mirror: Annotated[
        bool | None, typer.Option("--mirror", metavar="", help="Add left-right flips.", rich_help_panel=DATA)
    ] = None,
    mirrory: Annotated[
        bool | None, typer.Option("--mirrory", metavar="", help="Add upside-down flips.", rich_help_panel=DATA)
    ] = None,
    val_fraction: Annotated[
        float | None, typer.Option(help="Share of images kept out of training.", rich_help_panel=DATA)
    ] = None,
    balance: Annotated[
        bool | None,
        typer.Option("--balance", metavar="", help="Show every class equally often.", rich_help_panel=DATA),
    ] = None,
    no_cache: Annotated[
        bool | None,
        typer.Option(
            "--no-cache",
            metavar="",
            help="Decode to memory, and keep nothing in .adaflow-cache beside the data.",
            rich_help_panel=DATA,
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that decode images.", rich_help_panel=DATA)] = None,
    augs: Annotated[
        str | None,
        typer.Option(
            "--augs",
            "--augpipe",
            help='Transforms: "bgc" (default), "blit,geom", "blit,color*0.5,hue=off", "none".',
            rich_help_panel=AUGMENT,
        ),
    ] = None,
    p_controller: Annotated[
        str | None,
        typer.Option(
            help='How p is found: rt (default), rv, fixed, linear, cosine; or "cosine(end=0.3)".',
            rich_help_panel=AUGMENT,
        ),
    ] = None,
    p: Annotated[
        float | None,
        typer.Option(help="p at the start; without a controller it stays there.", rich_help_panel=AUGMENT),
    ] = None,
    p_max: Annotated[float | None, typer.Option(help="Cap on p, 0.8 by default.", rich_help_panel=AUGMENT)] = None,
    target: Annotated[
        float | None, typer.Option(help="Target of rt (default 0.6) or rv (0.5).", rich_help_panel=AUGMENT)
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help='Plugins that change training itself, as in "apa,lecam".', rich_help_panel=AUGMENT),
    ] = None,
    kimg: Annotated[float | None, typer.Option(help="Length in thousands of images.", rich_help_panel=SCHEDULE)] = None,
    batch: Annotated[
        int | None, typer.Option(help="Images per step, over all processes.", rich_help_panel=SCHEDULE)
    ] = None,
    batch_gpu: Annotated[
        int | None,
        typer.Option(help="At most so many per process at a time (gradient accumulation).", rich_help_panel=SCHEDULE),
    ] = None,
    tick: Annotated[float | None, typer.Option(help="Thousands of images per tick.", rich_help_panel=SCHEDULE)] = None,
    snap: Annotated[int | None, typer.Option(help="Ticks per snapshot.", rich_help_panel=SCHEDULE)] = None,
    keep: Annotated[
        int | None, typer.Option(help="Network snapshots to keep; 0: all.", rich_help_panel=SCHEDULE)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.", rich_help_panel=SCHEDULE)] = None,
    gamma: Annotated[float | None, typer.Option(help="Weight of R1.", rich_help_panel=NETWORK)] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of both networks.", rich_help_panel=NETWORK)] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, tf32 (GPUs), bf16, or auto (default): bf16 where it is faster.", rich_help_panel=NETWORK
        ),
    ] = None,
    no_graphs: Annotated[
        bool | None,
        typer.Option(
            "--no-graphs",
            metavar="",
            help="Launch every kernel by itself instead of recorded CUDA graphs (GPUs).",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    cbase: Annotated[int | None, typer.Option(help="Channels × resolution.", rich_help_panel=NETWORK)] = None,
    cmax: Annotated[int | None, typer.Option(help="Most channels of a layer.", rich_help_panel=NETWORK)] = None,
    map_layers: Annotated[
        int | None, typer.Option(help="Layers of the mapping network.", rich_help_panel=NETWORK)
    ] = None,
    freezed: Annotated[int | None, typer.Option(help="Freeze so many layers of D.", rich_help_panel=NETWORK)] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help='Computed at every snapshot: kd and fd by default, "fd(num=500),pr", "none".', rich_help_panel=SETTINGS
        ),
    ] = None,
    loggers: Annotated[
        str | None,
        typer.Option(help="Where statistics go: console,jsonl,tensorboard by default.", rich_help_panel=SETTINGS),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Settings, under the options given here.", rich_help_panel=SETTINGS),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="A.B=V", help="Any setting of config.toml; may be given again.", rich_help_panel=SETTINGS
        ),
    ] = None,
    plugin: PluginFiles = None,
    block: Block = None,
) -> None:
    """Train a generator. Ctrl-C saves and stops; `adaflow resume RUN` goes on."""
    start = init_from or resume
    if resume and init_from:
        raise UsageError("--resume and --init-from both name weights", "Give one of them.")
    if resume and Path(resume).is_dir():
        _only_these_options(context, "resume", "gpus", "kimg")
        _resume(Path(resume), gpus, kimg)
        return
    if resume:
        if not Path(resume).is_file():
            raise FileError(f"there is no run folder or network {resume}")
        typer.echo(f"Starting a new run from the weights of {resume}, as --init-from does.", err=True)
        typer.echo("To go on with a run where it stopped, name its folder.", err=True)
    flags = {
        "preset": cfg,
        "precision": precision,
        "graphs": False if no_graphs else None,
        "init_from": os.path.abspath(start) if start else None,
        "data": {
            "source": data or None,
            "cond": cond,
            "subset": subset,
            "mirror": mirror,
            "mirrory": mirrory,
            "val_fraction": val_fraction,
            "workers": workers,
            "balance": balance,
            "cache": False if no_cache else None,
        },
        "augment": {"augs": augs, "controller": p_controller, "p": p, "p_max": p_max},
        "schedule": {
            "kimg": kimg,
            "batch": batch,
            "batch_gpu": batch_gpu,
            "tick_kimg": tick,
            "snap": snap,
            "keep": keep,
            "seed": seed,
        },
        "loss": {"r1_gamma": gamma},
        "optimizer": {"g_lr": lr, "d_lr": lr},
        "generator": {"channel_base": cbase, "channel_max": cmax, "mapping_layers": map_layers},
        "discriminator": {"channel_base": cbase, "channel_max": cmax, "freeze_layers": freezed},
        "methods": _listed(methods, "method"),
        "metrics": _listed(metrics, "metric"),
        "loggers": _listed(loggers, "logger"),
        "plugins": plugin,
        "block": block,
    }
    _train(flags, config, set_ or [], target, outdir, gpus, dry_run)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    gpus: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    kimg: Annotated[float | None, typer.Option(help="Another length in thousands of images.")] = None,
) -> None:
    """Go on with a stopped or killed run, exactly where its last checkpoint is."""
    _resume(run, gpus, kimg)


def _listed(text: str | None, kind: str) -> list[str] | None:
    from adaflow.core.build import split_plugins

    return None if text is None else list(split_plugins(text, kind))


def _only_these_options(context: typer.Context, *allowed: str) -> None:
    """Refuse options that a resumed run would have to ignore."""
    sources = {name: context.get_parameter_source(name) for name in context.params if name not in allowed}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    excess = ", ".join("--" + name.strip("_").replace("_", "-") for name in given)
    if excess:
        raise UsageError(f"a run goes on with its own settings, without {excess}", "Only --kimg and --gpus can change.")


def _train(
    flags: dict[str, Any],
    config_file: Path | None,
    overrides: list[str],
    target: float | None,
    outdir: Path,
    gpus: int,
    dry_run: bool,
) -> None:
    from adaflow.config import check_keys, from_table, merge, parse_overrides, read_toml
    from adaflow.core.distributed import World
    from adaflow.core.launch import is_child, launch, must_launch
    from adaflow.core.provenance import write_config, write_provenance
    from adaflow.core.resolve import describe, new_run_folder, resolve_config, resolve_data, resolve_plugins
    from adaflow.core.run import Run
    from adaflow.core.run_config import RunConfig, ScheduleConfig

    base = read_toml(config_file) if config_file else {}
    table: dict[str, Any] = {}
    for part in (base, flags, parse_overrides(overrides)):
        part = merge(part)
        check_keys(RunConfig, part)
        table = merge(table, part)
    files, block = resolve_plugins(table)
    table = merge(table, {"plugins": files, "block": block})
    data, schedule = resolve_data(table), from_table(ScheduleConfig, table.get("schedule", {}), "schedule.")
    if not dry_run and must_launch(gpus):
        raise typer.Exit(launch(gpus, sys.argv[1:]))
    plugins = load_plugins(files, block)
    world = World.from_environment()
    with plugins.explain_unknown(), world:
        dataset = _load(data, plugins, schedule.seed, world, write_cache=not dry_run)
        processes = world.size if is_child() else gpus
        config = resolve_config(table, data, dataset, plugins, processes, world.device.type == "cuda", target)
        description = describe(config, dataset)
        if dry_run:
            _show_plan(Run(config, outdir, replace(world, size=processes), plugins, dataset), description)
            return
        # The folder comes after the run: a mistake found in putting it together leaves nothing behind.
        run = Run(config, outdir, world, plugins, dataset)
        run.folder = world.share(world.on_first(lambda: new_run_folder(outdir, description)))
        world.on_first(lambda: write_config(run))
        world.on_first(lambda: write_provenance(run))
        _go(run, resumed=False)


def _resume(folder: Path, gpus: int, kimg: float | None) -> None:
    from adaflow.config import from_table, merge, read_toml
    from adaflow.core.distributed import World
    from adaflow.core.launch import launch, must_launch
    from adaflow.core.provenance import compare_provenance, write_config
    from adaflow.core.run import Run
    from adaflow.core.run_config import RunConfig

    if not (folder / "config.toml").is_file():
        raise FileError(f"{folder} is not a run folder: it has no config.toml")
    if must_launch(gpus):
        raise typer.Exit(launch(gpus, sys.argv[1:]))
    table = merge(read_toml(folder / "config.toml"), {"schedule": {"kimg": kimg}})
    config = from_table(RunConfig, table)
    for file in config.plugins:
        kept = folder / "plugins" / Path(file).name
        if file.endswith(".py") and not Path(file).is_file() and kept.is_file():
            raise PluginError(f"the plugin {file} is gone", f"Put it back; what it was is kept: {kept}.")
    plugins = load_plugins(list(config.plugins), list(config.block))
    world = World.from_environment()
    with plugins.explain_unknown(), world:
        dataset = _load(config.data, plugins, config.schedule.seed, world)
        notes = compare_provenance(folder, dataset, plugins)
        run = Run(config, folder, world, plugins, dataset, fresh=False)
        if kimg is not None and world.is_first:
            write_config(run)
        for note in notes:
            run.say(note)
        _go(run, resumed=True)


def _load(data: DataConfig, plugins: PluginManager, seed: int, world: World, write_cache: bool = True) -> Dataset:
    """The data set in every process. What is to be cached is decoded by the first one, while the others wait."""
    from adaflow.core.data.dataset import load_dataset

    def load(progress: Progress | None = None, say: Callable[[str], None] = lambda text: None) -> Dataset:
        return load_dataset(data, plugins.datasets, seed, progress, say, write_cache)

    def load_first() -> Dataset:
        with progress_bar("reading images") as progress:
            return load(progress, lambda text: typer.echo(text, err=True))

    dataset = world.on_first(load_first) if data.is_cached else None
    if dataset is None:
        dataset = load_first() if world.is_first else load()
    return dataset


def _go(run: Run, resumed: bool) -> None:
    from adaflow.core.lock import locked
    from adaflow.core.memory import keep_memory
    from adaflow.core.train import train

    keep_memory()
    if not resumed:
        run.say(f"Training in {run.folder}")
    left_out = run.dataset.left_out
    if left_out:
        first = ", ".join(f"{name} ({reason})" for name, reason in left_out[:3])
        run.say(f"{len(left_out)} images are left out: {first}{' …' if len(left_out) > 3 else ''}")
    with ExitStack() as stack:
        run.world.on_first(lambda: stack.enter_context(locked(run.folder)))
        outcome = train(run, resumed)
        run.world.wait()  # nobody leaves while another still listens to it
    if outcome == "stopped":
        raise typer.Exit(ExitCode.STOPPED)
    run.say(f"Finished. Draw images with: adaflow generate {run.folder / 'run.pkl'} --seeds 0-35 --grid")


def _show_plan(run: Run, description: str) -> None:
    """What `--dry-run` prints."""
    from rich.console import Console
    from rich.table import Table

    from adaflow.config import to_toml

    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.rule("configuration")
    console.print(to_toml(run.config))
    console.rule("data")
    summary = run.dataset.summary()
    for key in ("images", "train_images", "val_images", "resolution", "channels", "class_counts", "fingerprint"):
        console.print(f"{key:14} {summary[key]}")
    for name, reason in run.dataset.left_out:
        console.print(f"left out       {name}: {reason}")
    console.rule("plugins")
    for info in run.plugins.infos:
        if info.source != "built-in" or info.status != "ok":
            console.print(f"{info.name} ({info.source}): {info.status} {info.error}")
    console.print(f"augmentations  {run.augment.spec() or 'none'}")
    console.print(f"p controller   {run.config.augment.controller}, from p = {run.config.augment.p:g}")
    if run.methods:
        console.print(f"methods        {', '.join(run.methods)}")
    console.rule("networks")
    table = Table("network", "parameters", "trained")
    for name, network in (("G", run.state.G), ("D", run.state.D)):
        count = sum(p.numel() for p in network.parameters())
        table.add_row(name, f"{count:,}", f"{sum(p.numel() for p in run.trainable[network]):,}")
    console.print(table)
    console.print(f"Would write to {run.folder}/<number>-{description}/. Nothing was written.")
