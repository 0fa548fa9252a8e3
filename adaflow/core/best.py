"""The best snapshot of a run so far, kept as `best.pkl` whatever becomes of the snapshots folder."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adaflow.core.files import committed, sync_folder

if TYPE_CHECKING:
    from adaflow.core.metric import Metric
    from adaflow.core.run import Run

NAME = "best.pkl"


def deciding(metrics: Mapping[str, Metric]) -> str | None:
    """Which metric of a run decides: the first that says whether lower or higher results are better, or none."""
    return next((text for text, metric in metrics.items() if metric.better in ("lower", "higher")), None)


def keep_if_best(run: Run, metric: Metric, results: Mapping[str, float], snapshot: Path) -> bool:
    """Keep a snapshot if the first result of the metric that decides is better than that of all snapshots before.

    Args:
        run: `run.state.best` remembers the best so far.
        metric: the one that decides.
        results: what it found.
        snapshot: the network it measured.

    Returns:
        Whether the snapshot is the best so far.
    """
    name, value = next(iter(results.items()), ("", math.nan))
    sign = 1 if metric.better == "higher" else -1
    if not math.isfinite(value) or (run.state.best and sign * value <= sign * run.state.best["value"]):
        return False
    second_name(snapshot, run.folder / NAME)
    run.state.best = {"result": name, "value": float(value), "images": run.state.images}
    return True


def second_name(path: Path, name: Path) -> None:
    """Give a file a second name, in one step, under which it outlives the first; a copy where there are no hard links.

    Raises:
        FileError: it cannot be written.
    """
    temporary = name.with_name(f".{name.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        os.link(path, temporary)
        temporary.replace(name)
    except OSError:
        with committed(name) as file:
            file.write(path.read_bytes())
    sync_folder(name.parent)
