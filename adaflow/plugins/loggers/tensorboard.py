"""`tensorboard`: event files in the run folder, to look at with `tensorboard --logdir runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaflow.core.logger import Logger
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.run import Run
    from adaflow.plugin_manager import Register


class TensorBoard(Logger):
    """Means of all statistics as scalars over images seen, in kimg·1000."""

    def start(self, run: Run) -> None:
        """Open an event file; events beyond the point of a resume are purged."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(run.folder, purge_step=run.state.images + 1 if run.state.images else None)

    def tick(self, run: Run, stats: dict[str, Any]) -> None:
        """Write one scalar for each statistic."""
        for name, value in stats.items():
            self.writer.add_scalar(name, value["mean"], run.state.images)
        self.writer.flush()

    def metrics(self, run: Run, results: dict[str, Any]) -> None:
        """Write the results under `Metrics/`."""
        for name, value in results["results"].items():
            self.writer.add_scalar(f"Metrics/{name}", value, run.state.images)

    def close(self) -> None:
        """Close the file."""
        self.writer.close()


@hookimpl
def register_loggers(register: Register[type[Logger]]) -> None:
    """Offer `tensorboard`."""
    register("tensorboard", TensorBoard)
