"""`console`: a live line on a terminal, one plain line a tick elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from adaflow.core.logger import Logger
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.run import Run
    from adaflow.plugin_manager import Register


def duration(seconds: float) -> str:
    """A time in its two largest units: `45s`, `3m 10s`, `2h 05m`, `3d 04h`."""
    s = round(seconds)
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m {s % 60:02d}s"
    if s < 86400:
        return f"{s // 3600}h {s // 60 % 60:02d}m"
    return f"{s // 86400}d {s // 3600 % 24:02d}h"


def tick_line(run: Run, stats: dict[str, Any]) -> str:
    """The statistics of a tick a person wants, in one line."""

    def mean(name: str) -> float:
        return float(stats[name]["mean"])

    parts = [
        f"tick {run.state.tick:<4d}",
        f"kimg {mean('Progress/kimg'):<8.1f}",
        f"time {duration(mean('Timing/total_sec')):<8}",
        f"sec/kimg {mean('Timing/sec_per_kimg'):<7.1f}",
        f"p {run.state.p:.3f}" + (" (saturated)" if run.state.saturated else ""),
        f"r_t {mean('Loss/signs/real'):+.2f}",
        f"mem {mean('Resources/cpu_mem_gb'):.1f} GB",
    ]
    if "Resources/peak_gpu_mem_gb" in stats:
        parts.append(f"gpu {mean('Resources/peak_gpu_mem_gb'):.1f} GB")
    parts.append(f"ETA {duration(mean('Timing/eta_sec'))}")
    return "  ".join(parts)


class ConsoleLogger(Logger):
    """Shows progress on the screen; every line also goes to `log.txt`."""

    def start(self, run: Run) -> None:
        """Begin the live display where there is a terminal."""
        self.progress: Progress | None = None
        if sys.stdout.isatty():
            console = Console()
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
            self.progress = Progress(*columns, console=console, transient=True)
            self.task = self.progress.add_task("training", total=run.total_images, state="")
            self.progress.start()
            run.print = lambda text: console.print(text, markup=False, highlight=False)
        else:
            run.print = lambda text: print(text, flush=True)
        self.last = (time.monotonic(), run.state.images)
        self.speed = 0.0

    def step(self, run: Run) -> None:
        """Move the bar."""
        if self.progress is None:
            return
        now, images = time.monotonic(), run.state.images
        if now - self.last[0] > 1:
            new = (now - self.last[0]) / (images - self.last[1]) * 1000
            self.speed = new if not self.speed else 0.8 * self.speed + 0.2 * new
            self.last = (now, images)
        left = duration(self.speed * (run.total_images - images) / 1000)
        state = f"{images / 1000:.1f}/{run.config.schedule.kimg:g} kimg  {self.speed:.1f} s/kimg  p {run.state.p:.3f}"
        self.progress.update(self.task, completed=images, state=f"{state}  ETA {left}")

    def tick(self, run: Run, stats: dict[str, Any]) -> None:
        """One line."""
        run.say(tick_line(run, stats))

    def close(self) -> None:
        """End the live display."""
        if self.progress is not None:
            self.progress.stop()


@hookimpl
def register_loggers(register: Register[type[Logger]]) -> None:
    """Offer `console`."""
    register("console", ConsoleLogger)
