"""`jsonl`: `stats.jsonl`, one line a tick, and `metrics.jsonl`, one line a metric and snapshot."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaflow.core.files import append_line, committed, finite
from adaflow.core.logger import Logger
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.run import Run
    from adaflow.plugin_manager import Register


def drop_after(path: Path, images: int) -> None:
    """Keep the lines of `path` up to a number of images; later ones, and a torn last one, come again after a resume."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        seen = row["Progress/images"]["mean"] if "Progress/images" in row else row["images"]
        if seen <= images:
            kept.append(line + "\n")
    with committed(path) as file:
        file.write("".join(kept).encode())


class JsonLines(Logger):
    """Statistics as lines of JSON, in the layout StyleGAN users know."""

    def start(self, run: Run) -> None:
        """Drop what a run that was killed wrote beyond its checkpoint."""
        for name in ("stats.jsonl", "metrics.jsonl"):
            drop_after(run.folder / name, run.state.images)

    def tick(self, run: Run, stats: dict[str, Any]) -> None:
        """Append to `stats.jsonl`."""
        append_line(run.folder / "stats.jsonl", json.dumps(finite({**stats, "timestamp": time.time()})))

    def metrics(self, run: Run, results: dict[str, Any]) -> None:
        """Append to `metrics.jsonl`."""
        append_line(run.folder / "metrics.jsonl", json.dumps(finite({**results, "timestamp": time.time()})))


@hookimpl
def register_loggers(register: Register[type[Logger]]) -> None:
    """Offer `jsonl`."""
    register("jsonl", JsonLines)
