"""`augmentation`: which of the transforms of the training are in the generated images, and in how many of them?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adaflow.core.grid import join_images
from adaflow.core.leak_detector import Finding, LeakContext, LeakDetector, Panel, Verdict
from adaflow.core.leaks.mixture import Shares
from adaflow.core.leaks.planting import smallest_rates
from adaflow.core.leaks.reference import MOST_REALS, apply_surely, make_reference
from adaflow.core.leaks.search import MARGIN, Look, Search, alarm
from adaflow.core.leaks.statistics import statistics
from adaflow.core.leaks.traces import traces
from adaflow.errors import ConfigError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register

SMALLEST = 32
FEWEST_REALS = 200
GROSS = 0.3
"""Alignment hides what most images have. From this share on, fakes are compared with themselves, transformed."""
COMPARED = 300
"""Fakes that are transformed for that."""
SHOWN = 16


@dataclass
class AugmentationDetector(LeakDetector):
    """Explains the fakes as a mixture of real images, innocently distorted ones, and results of each transform.

    Args:
        rate: a transform counts as clean if it would have been seen in this share of the fakes.
        extractor: whose stages see the images beside the statistics of pixels; "" is the default one.
    """

    rate: float = 0.1
    extractor: str = ""

    def check(self, context: LeakContext) -> list[Finding]:
        """A finding for each transform of `context.transforms`."""
        if not context.transforms:
            return []
        size = min(context.fakes.shape[2:])
        if size < SMALLEST:
            raise ConfigError(f"images of {size} pixels show too little of a transform", f"{SMALLEST} are enough.")
        reals = _some_reals(context)
        if len(reals) < FEWEST_REALS:
            why = f"{len(reals)} real images are too few to learn what transforms look like; {FEWEST_REALS} are enough"
            return [_unknown(name, f"{why}.") for name in context.transforms]
        return _Audit(self, context, reals).findings()


class _Audit:
    """One run of the detector."""

    def __init__(self, detector: AugmentationDetector, context: LeakContext, reals: Tensor) -> None:
        self.context = context
        self.rate = detector.rate
        self.stages = context.extractor(detector.extractor).stages
        mirrors = {"xflip"} if context.mirrored else set()
        self.innocent = {name: "Training mirrored the data themselves." for name in mirrors & set(context.transforms)}
        self.transforms = {name: t for name, t in context.transforms.items() if name not in self.innocent}
        reference = make_reference(
            reals,
            self.transforms,
            self.stages,
            context.seed,
            lambda done, total: context.progress("what transforms do to real images", done, total),
        )
        for name in [name for name, share in reference.changed.items() if share < 0.5]:
            self.innocent[name] = "It does nothing to most of these images."
            del reference.transformed[name]
        context.progress("learning to tell them", 0, 1)
        self.search = Search(reference, statistics(reals[:1]).shape[1], context.seed)
        context.progress("learning to tell them", 1, 1)
        self.traces = traces(context.fakes, self.stages)
        self.look = self.search.look(self.traces)

    def findings(self) -> list[Finding]:
        """The findings, leaks first."""
        smallest = smallest_rates(self.search, self.look, len(self.traces))
        found = [_unknown(name, why) for name, why in self.innocent.items()]
        for name in self.search.names:
            if name in self.search.suspects:
                found.append(self._judge(name, smallest[name]))
            else:
                why = "After it, these images look like any of them"
                found.append(_unknown(name, f"{why} (area under the curve {self.search.area[name]:.2f})."))
        order = ("leak", "cannot tell", "clean")
        return sorted(found, key=lambda finding: (order.index(finding.verdict), -(finding.rate or 0)))

    def _judge(self, name: str, smallest: float | None) -> Finding:
        answer = self.search.suspects.index(name) + 1
        raw, aligned = self.look.raw, self.look.aligned
        interval = _interval(self.look, answer)
        suspicious = bool(alarm(raw, MARGIN)[answer])
        leak = bool(self.look.alarms()[answer])
        if suspicious and not leak and raw.value[answer] >= GROSS:
            leak = self._overlap(name) >= float(raw.low[answer])
        details = {
            "share": float(raw.value[answer]),
            "share_aligned": float(aligned.value[answer]),
            "by_chance": float(raw.by_chance[answer]),
            "misfit": raw.misfit,
            "misfit_aligned": aligned.misfit,
            "area_under_curve": self.search.area[name],
            "used_in_training": name in self.context.used,
        }
        rate = float(raw.value[answer])
        common: dict[str, Any] = {"rate": rate, "interval": interval, "smallest_seen": smallest, "details": details}
        low, high = (f"{100 * bound:.0f}" for bound in interval)
        if leak:
            sentence = f"{100 * rate:.0f} % of the images ({low}–{high} %) show {name}."
            return _finding(name, "leak", sentence, self._advice(name), panels=self._panels(name), **common)
        if suspicious:
            sentence = f"Up to {high} % of the images look like {name}, but so may an artefact that all of them share."
            return _finding(name, "cannot tell", sentence, "Look at the panels.", panels=self._panels(name), **common)
        if smallest is not None and smallest <= self.rate:
            sentence = f"No sign of {name}; it would have been seen in {100 * smallest:g} % of the images."
            return _finding(name, "clean", sentence, **common)
        least = "in any number of them" if smallest is None else f"in fewer than {100 * smallest:g} % of them"
        return _finding(name, "cannot tell", f"{name} would not have been seen {least}.", **common)

    def _overlap(self, name: str) -> float:
        """The largest share of a transform that the fakes can have, if compared with themselves transformed.

        Where a transform is common, what it makes of a fake is nothing new among the fakes; where an artefact merely
        looks like it, it is.
        """
        context, places = self.context, torch.arange(min(COMPARED, len(self.traces)))
        transformed, _ = apply_surely(self.transforms[name], name, context.fakes[places], context.seed + 1)
        own, after = self.search.odds(self.traces, name), self.search.odds(traces(transformed, self.stages), name)
        thresholds = torch.quantile(after, torch.linspace(0.05, 0.8, 16))
        ratios = [(own > t).float().mean() / (after > t).float().mean() for t in thresholds]
        return float(min(ratios))

    def _panels(self, name: str) -> tuple[Panel, ...]:
        best = self.search.odds(self.traces, name).topk(min(SHOWN, len(self.traces))).indices
        image = join_images(self.context.fakes[best], 8)
        return (Panel(f"Most like {name}", image, "The generated images that show it most clearly."),)

    def _advice(self, name: str) -> str:
        if name not in self.context.used:
            return "Training did not use it: look for it in the data, or doubt this finding."
        spec = f"{self.context.spec},{name}=off"
        return f'Train with --augs "{spec}", or with a lower p (--p-max).'


def _some_reals(context: LeakContext) -> Tensor:
    """Real images of both kinds, in random order; half of them mirrored where training did that. An even number."""
    reals = context.train if context.held_out is None else torch.cat([context.train, context.held_out])
    generator = torch.Generator().manual_seed(context.seed)
    order = torch.randperm(len(reals), generator=generator)[:MOST_REALS]
    chosen = reals[order[: len(order) // 2 * 2]]
    if context.mirrored:
        mirrored = torch.rand(len(chosen), generator=generator) < 0.5
        chosen[mirrored] = chosen[mirrored].flip(3)
    return chosen


def _interval(look: Look, answer: int) -> tuple[float, float]:
    """The bootstrap's interval, as wide as both ways of looking say, and wider where the mixture explains little."""

    def bounds(shares: Shares) -> tuple[float, float]:
        value, low, high = (float(part[answer]) for part in (shares.value, shares.low, shares.high))
        widening = max(1.0, shares.misfit) ** 0.5
        return value - widening * (value - low), value + widening * (high - value)

    (low, high), (aligned_low, aligned_high) = bounds(look.raw), bounds(look.aligned)
    return max(0.0, min(low, aligned_low)), min(1.0, max(high, aligned_high))


def _finding(name: str, verdict: Verdict, sentence: str, advice: str = "", **more: Any) -> Finding:
    return Finding("augmentation", name, verdict, sentence, advice, **more)


def _unknown(name: str, why: str) -> Finding:
    return _finding(name, "cannot tell", f"{name} cannot be told: {why[0].lower()}{why[1:]}")


@hookimpl
def register_leak_detectors(register: Register[type[LeakDetector]]) -> None:
    """Offer `augmentation`."""
    register("augmentation", AugmentationDetector)
