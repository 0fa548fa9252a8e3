"""`augmentation`: which of the transforms of the training are in the generated images, and in how many of them?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adaflow.core.grid import join_images
from adaflow.core.leak_detector import Finding, LeakContext, LeakDetector, Panel, Verdict, percent
from adaflow.core.leaks.distortions import blurred_and_compressed, reduced, softened
from adaflow.core.leaks.planting import RATES, smallest_rate
from adaflow.core.leaks.reference import MOST_REALS, apply_reduced, apply_surely, make_reference
from adaflow.core.leaks.search import Search, Seen, Transformed
from adaflow.core.leaks.statistics import statistics
from adaflow.core.leaks.strangeness import STRANGE
from adaflow.core.leaks.traces import Stages, traces
from adaflow.errors import ConfigError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register

SMALLEST = 32
FEWEST_REALS = 200
COMPARED = 240
"""Fakes that are transformed, to compare the others with them and to plant them among the others."""
KNOWN, TRIED = 0.35, 0.55
"""How much what is known of the transformed fakes is softened, and what is planted: a generator softens as it likes."""
SHOWN = 16
STRANGE_IMAGES = "The images look neither like real ones nor like real ones after a transform."
TRAIN_LONGER = "Check a network that has trained longer, or look at the images first."


@dataclass
class AugmentationDetector(LeakDetector):
    """Explains the fakes as a mixture of real images, innocently distorted ones, and results of each transform.

    Args:
        rate: a transform is clean if a smaller share of the fakes than this would have been seen; above 0.02, up to 1.
        extractor: whose stages see the images beside the statistics of pixels; "" is the default one.
    """

    rate: float = 0.1
    extractor: str = ""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not RATES[0] < self.rate <= 1:
            raise ConfigError(
                f"augmentation: nothing can be seen in a share of {self.rate} of the images",
                f"Choose a rate above {RATES[0]} and up to 1.",
            )

    def check(self, context: LeakContext) -> list[Finding]:
        """A finding for each transform of `context.transforms`."""
        if not context.transforms and context.spec == "none":
            return []
        if not context.transforms:
            return [_finding("transforms", "cannot tell", "No transform was looked for.", "Name some with --augs.")]
        size = min(context.fakes.shape[2:])
        if size < SMALLEST:
            why = f"Images of {size} pixels show too little of a transform; {SMALLEST} pixels are enough."
            return [_unknown(name, why) for name in context.transforms]
        reals = _some_reals(context)
        if len(reals) < FEWEST_REALS:
            why = f"{len(reals)} real images are too few to learn what transforms look like; {FEWEST_REALS} are enough"
            return [_unknown(name, f"{why}.") for name in context.transforms]
        return _Audit(self, context, reals).findings()


class _Audit:
    """One run of the detector."""

    def __init__(self, detector: AugmentationDetector, context: LeakContext, reals: Tensor) -> None:
        self.context = context
        self.reals = reals
        self.rate = detector.rate
        stages = context.extractor(detector.extractor).stages
        mirrors = {"xflip"} if context.mirrored else set()
        self.innocent = {name: "Training mirrored the data themselves." for name in mirrors & set(context.transforms)}
        self.transforms = {name: t for name, t in context.transforms.items() if name not in self.innocent}
        reference = make_reference(
            reals,
            self.transforms,
            stages,
            context.seed,
            lambda done, total: context.progress("what transforms do to real images", done, total),
        )
        for name in [name for name, share in reference.changed.items() if share < 0.5]:
            self.innocent[name] = "It leaves most of these images as they are."
            del reference.transformed[name], reference.among[name]
        context.progress("learning to tell them", 0, 1)
        self.search = Search(reference, statistics(reals[:1]).shape[1], context.seed)
        context.progress("learning to tell them", 1, 1)
        self.fakes = self.search.see(traces(context.fakes, stages))
        self.strangeness = self.search.familiar.strangeness(self.fakes.traces)
        self.strange = not self.strangeness < STRANGE  # nor is anything said of what is no number
        if not self.strange:
            self._look(stages)

    def _look(self, stages: Stages) -> None:
        """See what is in the fakes, and what would have been seen."""
        context = self.context
        self.transformed: dict[str, Transformed] = {}
        planted: dict[str, list[Seen]] = {}

        def see(images: Tensor) -> Seen:
            return self.search.see(traces(images, stages))

        untouched = [see(part) for part in softened(reduced(self._some()), KNOWN)]
        for place, name in enumerate(self.search.suspects):
            context.progress("transforming fakes", place, len(self.search.suspects))
            changed, _ = apply_reduced(self.transforms[name], name, self._some(), context.seed + 1)
            known, others = changed.chunk(2)
            after = [see(part) for part in softened(known, KNOWN)]
            self.transformed[name] = self.search.transformed(name, see(known), after, untouched)
            planted[name] = [see(part) for part in (others, blurred_and_compressed(others, TRIED))]
        self.look = self.search.look(self.fakes, self.transformed)
        self.leaks = self.search.leaks(self.look, self.fakes, self.transformed)
        self.smallest: dict[str, float | None] = {}
        unseen = [name for name in self.search.suspects if name not in self.leaks]
        for place, name in enumerate(unseen):
            context.progress("planting transforms among fakes", place, len(unseen))
            self.smallest[name] = smallest_rate(
                self.search, self.fakes, self.transformed, planted[name], name, context.seed
            )
        context.progress("planting transforms among fakes", len(unseen), len(unseen))

    def _some(self) -> Tensor:
        """Some of the fakes, which halve into even numbers."""
        return self.context.fakes[: min(COMPARED, len(self.context.fakes)) // 4 * 4]

    def findings(self) -> list[Finding]:
        """The findings, leaks first."""
        found = [_unknown(name, why) for name, why in self.innocent.items()]
        for name in self.search.names:
            if self.strange:
                found.append(_unknown(name, STRANGE_IMAGES, TRAIN_LONGER, details={"strangeness": self.strangeness}))
            elif name in self.search.suspects:
                found.append(self._judge(name))
            else:
                area, sure = self.search.area[name], self.search.sure[name]
                why = (
                    f"After it, real images look like real images (area under the curve {area:.2f}, "
                    f"{percent(sure)} beyond doubt)."
                )
                found.append(_unknown(name, why))
        order = ("leak", "cannot tell", "clean")
        return sorted(found, key=lambda finding: (order.index(finding.verdict), -(finding.rate or 0)))

    def _judge(self, name: str) -> Finding:
        answer, smallest = self.search.suspects.index(name) + 1, self.smallest.get(name)
        raw, aligned = self.look.raw, self.look.aligned
        leak = name in self.leaks
        place = self.leaks.get(name, answer)
        alike = self.search.looks_like(name)
        which = f"{name} or {' or '.join(alike)}, which look alike" if place != answer else name
        beside = [other for other in alike if other in self.leaks]
        rate = self.look.share(place)
        most = self.search.most_show(self.fakes, self.transformed[name], name)
        details = {
            "share": float(raw.value[place]),
            "share_aligned": float(aligned.value[place]),
            "at_most": self.search.bounds(self.fakes, self.transformed[name], name),
            "low": float(raw.bounds()[0][place]),
            "low_aligned": float(aligned.bounds()[0][place]),
            "by_chance": float(raw.by_chance[place]),
            "by_chance_aligned": float(aligned.by_chance[place]),
            "misfit": float(raw.misfit[place]),
            "misfit_aligned": float(aligned.misfit[place]),
            "alarms": self.look.alarms()[:, place].tolist(),
            "strangeness": self.strangeness,
            "area_under_curve": self.search.area[name],
            "beyond_doubt": self.search.sure[name],
            "most_show": most,
            "used_in_training": name in self.context.used,
            "looks_like": alike,
            "of_the_sum": place != answer,
        }
        low, high = self.search.reach(self.look, self.fakes, self.transformed, name, self.leaks)
        if not leak:  # as much may be there as would not have been seen
            high = max(high, 1.0 if smallest is None else smallest)
        common: dict[str, Any] = {
            "rate": rate,
            "interval": (low, high),
            "smallest_seen": smallest,
            "details": details,
        }
        if most is not None:  # no mixture explains such images, so there is no interval
            common |= {"rate": most, "interval": None}
            sentence = f"About {percent(most)} of the images show {name}."
            return _finding(name, "leak", sentence, self._advice(name), panels=self._panels(name), **common)
        if leak:
            sentence = f"{percent(rate)} of the images ({percent(low)} to {percent(high)}) show {which}."
            return _finding(name, "leak", sentence, self._advice(name), panels=self._panels(name), **common)
        if beside:
            sentence = f"Some of what looks like {beside[0]} may be {name}."
            return _finding(name, "cannot tell", sentence, **common)
        if smallest is None:
            return _finding(name, "cannot tell", f"{name} would not be noticed, however many images show it.", **common)
        if smallest >= self.rate:  # what one trial just shows, another may miss
            sentence = f"{name} would not be noticed in less than {percent(smallest)} of the images."
            return _finding(name, "cannot tell", sentence, **common)
        if high >= self.rate:
            sentence = f"Up to {percent(high)} of the images look like {name}, but so may artefacts that they share."
            return _finding(name, "cannot tell", sentence, "Look at the panels.", panels=self._panels(name), **common)
        found = f"No sign of {name}" if high <= smallest else f"At most {percent(high)} of the images show {name}"
        sentence = f"{found}; it would have been seen from {percent(smallest)} on."
        return _finding(name, "clean", sentence, **common)

    def _panels(self, name: str) -> tuple[Panel, ...]:
        best = self.search.odds(self.fakes, name).topk(min(SHOWN, len(self.fakes))).indices
        image = join_images(self.context.fakes[best], 8)
        changed, _ = apply_surely(self.transforms[name], name, self.reals[:SHOWN], self.context.seed)
        after = join_images(changed, 8)
        return (
            Panel(f"Most like {name}", image, "The generated images that show it most clearly."),
            Panel(f"Real images after {name}", after, "What it does to real images, to compare with."),
        )

    def _advice(self, name: str) -> str:
        if not self._used_of(name):
            return "Training did not use it: look for it in the data, or doubt this finding."
        out = {one for leak in self.leaks for one in self._used_of(leak)}  # one command against all leaks
        off = [f"{one}=off" for one in self.context.transforms if one in out]
        spec = "none" if out == self.context.used else ",".join([self.context.spec, *off])
        return f'Train with --augs "{spec}", or with a lower p (--p-max of a controller, --p of a fixed p).'

    def _used_of(self, name: str) -> set[str]:
        """What training used of the transforms that a leak may be of: itself, or where it stands for several, all."""
        several = self.search.looks_like(name) if self.leaks.get(name, 0) >= len(self.search.answers) else []
        return {name, *several} & self.context.used


def _some_reals(context: LeakContext) -> Tensor:
    """Real images of both kinds, in random order; half of them flipped where training did that. An even number."""
    held_out = context.train[:0] if context.held_out is None else context.held_out
    count = len(context.train)
    generator = torch.Generator().manual_seed(context.seed)
    order = torch.randperm(count + len(held_out), generator=generator)[:MOST_REALS]
    order = order[: len(order) // 2 * 2]
    chosen = torch.cat([context.train[order[order < count]], held_out[order[order >= count] - count]])
    return context.as_trained(chosen[torch.randperm(len(chosen), generator=generator)])


def _finding(name: str, verdict: Verdict, sentence: str, advice: str = "", **more: Any) -> Finding:
    return Finding("augmentation", name, verdict, sentence, advice, **more)


def _unknown(name: str, why: str, advice: str = "", **more: Any) -> Finding:
    sentence = f"Whether {name} leaked cannot be told: {why[0].lower()}{why[1:]}"
    return _finding(name, "cannot tell", sentence, advice, **more)


@hookimpl
def register_leak_detectors(register: Register[type[LeakDetector]]) -> None:
    """Offer `augmentation`."""
    register("augmentation", AugmentationDetector)
