"""What a logger is: a place where the statistics of a run go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaflow.core.run import Run


class Logger(ABC):
    """Receives what a run tells. Lives on rank 0 only."""

    def start(self, run: Run) -> None:  # noqa: B027
        """The run begins, or continues at `run.state.images`: drop what was written beyond that point."""

    @abstractmethod
    def tick(self, run: Run, stats: dict[str, Any]) -> None:
        """Statistics of one tick, as in the `tick` hook."""

    def metrics(self, run: Run, results: dict[str, Any]) -> None:  # noqa: B027
        """One metric's results at a snapshot: keys `metric`, `results` (name → number), `details` (name → number,
        interval, counts), `images`, `snapshot`, `seconds`, `best` (whether this made the snapshot the best so far)."""

    def step(self, run: Run) -> None:  # noqa: B027
        """A training step ended. Called often: return quickly."""

    def close(self) -> None:  # noqa: B027
        """The run ends."""
