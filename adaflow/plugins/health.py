"""`health`: says in one line, once, when a run shows a known trouble, and what helps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.run import Run

SURE_OF_FAKES = -0.98
SURE_OF_REALS = 0.98


def troubles(run: Run, stats: dict[str, Any]) -> dict[str, str]:
    """Name → sentence for each trouble the statistics show."""
    found = {}

    def mean(name: str) -> float:
        return float(stats[name]["mean"]) if name in stats else math.nan

    if run.state.saturated:
        found["saturated"] = (
            f"p has reached its cap of {run.config.augment.p_max:g} and the controller wants more: "
            "the discriminator still overfits. More images, --mirror, or a larger --gamma help"
        )
    if mean("Loss/signs/real") > SURE_OF_REALS and mean("Loss/signs/fake") < SURE_OF_FAKES:
        found["sure"] = (
            "the discriminator tells reals from fakes nearly always, which leaves the generator little to learn from: "
            "look at the fakes; a larger --gamma or more --augs help"
        )
    if any(run.state.bad_updates.values()):
        found["not finite"] = "gradients were not finite and the update was left out; if it goes on, lower --lr"
    return found


@hookimpl
def run_started(run: Run) -> None:
    """Begin with no warnings given."""
    run.warned.clear()


@hookimpl
def tick(run: Run, stats: dict[str, Any]) -> None:
    """Warn about troubles that are new since the last tick."""
    found = troubles(run, stats)
    for name, sentence in found.items():
        if name not in run.warned:
            run.say(f"Note: {sentence}.")
    run.warned.clear()
    run.warned.update(found)
