"""The training loop: steps, ticks, snapshots, and an orderly stop at any moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import torch

from adaflow.config import to_table
from adaflow.core.best import deciding, keep_if_best
from adaflow.core.checkpoint import load_newest_checkpoint, save_checkpoint
from adaflow.core.evaluate import draw_fakes
from adaflow.core.logger import Logger
from adaflow.core.measured import describe, with_interval
from adaflow.core.metric import MetricContext
from adaflow.core.run import Run
from adaflow.core.snapshot import point_to, save_network
from adaflow.core.training_step import training_step
from adaflow.errors import AdaflowError, DivergedError, ExitCode


class StopRequest:
    """Turns the first SIGTERM, SIGHUP or Ctrl-C into a flag, and the second Ctrl-C into leaving at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> StopRequest:
        self._previous = {
            number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            os._exit(ExitCode.INTERRUPTED)
        self.requested = True


def train(run: Run, resume: bool = False) -> str:
    """Train until the run's length is reached or somebody asks it to stop.

    Args:
        run: freshly built.
        resume: go on from the newest checkpoint in its folder.

    Returns:
        "finished", or "stopped" after a signal, with a checkpoint to resume from.
    """
    state, world, config = run.state, run.world, run.config.schedule
    if resume:
        state.load_state_dict(load_newest_checkpoint(run.folder, world.device, run.say), world)
    outcome = "failed"
    with StopRequest() as stop, _announced(run):
        try:
            if not resume:
                snapshot(run)
            saved = clock = time.monotonic()
            while state.images < run.total_images:
                training_step(run)
                for logger in run.loggers.values() if world.is_first else ():
                    logger.step(run)
                stopping = world.any(stop.requested)
                if state.images - state.tick_start >= config.tick_kimg * 1000 or state.images >= run.total_images:
                    _end_tick(run, state.tick_seconds + time.monotonic() - clock)
                    clock = time.monotonic()
                    if state.tick % config.snap == 0 or state.images >= run.total_images:
                        snapshot(run)
                        saved = clock = _count_time(run, clock)
                    elif world.any(clock - saved > config.checkpoint_minutes * 60):
                        checkpoint(run)
                        saved = clock = _count_time(run, clock)
                if stopping:
                    break
            outcome = "finished" if state.images >= run.total_images else "stopped"
            if outcome == "stopped":
                state.tick_seconds += time.monotonic() - clock
                checkpoint(run)
                run.say(f"Stopped at {state.images / 1000:.1f} kimg. Go on with: adaflow resume {run.folder}")
        except DivergedError:
            outcome = "diverged"
            raise
        finally:
            if world.is_first:
                run.plugins.notify("run_finished", run.say, run=run, outcome=outcome)
    return outcome


@contextmanager
def _announced(run: Run) -> Iterator[None]:
    """Loggers are open and plugins know that the run has begun; loggers are closed whatever happens."""
    started: list[Logger] = []

    def start() -> None:
        for logger in run.loggers.values():
            logger.start(run)
            started.append(logger)
        run.plugins.notify("run_started", run.say, run=run)

    try:
        run.world.on_first(start)
        yield
    finally:
        for logger in reversed(started):
            logger.close()


def _count_time(run: Run, since: float) -> float:
    """Add the time since then to the run's. Returns the time now."""
    now = time.monotonic()
    run.state.seconds += now - since
    return now


def _end_tick(run: Run, seconds: float) -> None:
    """Gather the statistics of a tick that took so many seconds, tell everybody, and begin the next one."""
    state, world = run.state, run.world
    state.statistics.merge(world)
    stats: dict[str, Any] = dict(state.statistics.take())
    images = state.images - state.tick_start
    state.seconds += seconds
    state.tick_seconds = 0.0
    state.tick += 1
    state.tick_start = state.images
    values = {
        "Progress/tick": state.tick,
        "Progress/kimg": state.images / 1000,
        "Progress/images": state.images,
        "Progress/augment": state.p,
        **{f"Progress/augment/{name}": state.p * factor for name, factor in run.augment.factors.items()},
        "Progress/saturated": float(state.saturated),
        "Timing/total_sec": state.seconds,
        "Timing/sec_per_tick": seconds,
        "Timing/sec_per_kimg": seconds / images * 1000,
        "Timing/eta_sec": seconds / images * max(run.total_images - state.images, 0),
        "Resources/cpu_mem_gb": psutil.Process().memory_info().rss / 2**30,
    }
    if world.device.type == "cuda":
        values["Resources/peak_gpu_mem_gb"] = torch.cuda.max_memory_allocated(world.device) / 2**30
        torch.cuda.reset_peak_memory_stats(world.device)
    stats |= {name: {"num": 1, "mean": float(value), "std": 0.0} for name, value in values.items()}
    run.stats = stats
    world.on_first(lambda: _tell_tick(run, stats))


def _tell_tick(run: Run, stats: dict[str, Any]) -> None:
    for logger in run.loggers.values():
        logger.tick(run, stats)
    run.plugins.notify("tick", run.say, run=run, stats=stats)


def checkpoint(run: Run) -> None:
    """Save the whole state, so that the run can go on from here."""
    run.state.merge(run.world)
    plugins = run.world.gather(run.state.plugin_states())
    state = {**run.state.state_dict(), "plugins": plugins}
    run.world.on_first(lambda: save_checkpoint(run.folder, state, run.config.schedule.keep_checkpoints))


def snapshot(run: Run) -> None:
    """Save the networks, measure them, tell the plugins, and save a checkpoint."""
    run.world.on_first(lambda: _write_snapshot(run))
    checkpoint(run)


def _write_snapshot(run: Run) -> None:
    state, config = run.state, run.config
    path = run.folder / "snapshots" / f"network-{state.images // 1000:06d}.pkl"
    info = {
        "images": state.images,
        "p": state.p,
        "augs": run.augment.spec(),
        "data": run.dataset.summary(),
        "config": to_table(config),
    }
    save_network(path, state.G, state.D, state.G_ema, info)
    point_to(run.folder / "run.pkl", path)
    if config.schedule.keep:
        for old in sorted(path.parent.glob("network-*.pkl"))[: -config.schedule.keep]:
            old.unlink()
    run.plugins.notify("snapshot_saved", run.say, run=run, path=path)
    if state.images:
        measure(run, path)


def measure(run: Run, path: Path) -> None:
    """Compute the metrics of a snapshot and hand them to the loggers. One that fails is named, and the run goes on.

    The best snapshot is kept (`adaflow.core.best`).
    """
    state, seed = run.state, run.config.schedule.seed
    context = MetricContext(
        fakes=lambda count: draw_fakes(state.G_ema, run.dataset, seed, count),
        dataset=run.dataset,
        extractor=run.extractor,
        seed=seed,
        generator=state.G_ema,
    )
    for name, metric in run.metrics.items():
        begin = time.monotonic()
        try:
            results = dict(metric.compute(context))
            described = {str(key): describe(value) for key, value in results.items()}
        except Exception as error:
            what = error.message if isinstance(error, AdaflowError) else f"{type(error).__name__}: {error}"
            run.say(f"metric {name} failed: {what}")
            continue
        is_best = name == deciding(run.metrics) and keep_if_best(run, metric, results, path)
        row = {
            "metric": name,
            "results": {key: value["value"] for key, value in described.items()},
            "details": described,
            "images": state.images,
            "snapshot": f"snapshots/{path.name}",
            "seconds": round(time.monotonic() - begin, 2),
            "best": is_best,
        }
        for logger in run.loggers.values():
            logger.metrics(run, row)
        found = ", ".join(f"{key} {with_interval(value)}" for key, value in described.items())
        run.say(f"{found} at {state.images / 1000:.1f} kimg in {row['seconds']} s{'; the best so far' * is_best}")
