"""`status`: keeps `status.json` in the run folder, for people and programs that look in from outside."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from adaflow.core.files import write_json
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.run import Run


def write_status(run: Run, status: str) -> None:
    """Write where the run stands."""
    progress = {
        name: run.stats[key]["mean"]
        for name, key in (("sec_per_kimg", "Timing/sec_per_kimg"), ("eta_sec", "Timing/eta_sec"))
        if key in run.stats
    }
    write_json(
        run.folder / "status.json",
        {
            "status": status,
            "kimg": run.state.images / 1000,
            "total_kimg": run.config.schedule.kimg,
            "p": run.state.p,
            "saturated": run.state.saturated,
            **progress,
            "updated": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    )


@hookimpl
def run_started(run: Run) -> None:
    """Running."""
    write_status(run, "running")


@hookimpl
def tick(run: Run, stats: dict[str, Any]) -> None:
    """Still running."""
    write_status(run, "running")


@hookimpl
def run_finished(run: Run, outcome: str) -> None:
    """How it ended."""
    write_status(run, outcome)
