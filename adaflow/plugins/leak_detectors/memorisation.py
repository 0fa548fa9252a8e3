"""`memorisation`: are fakes copies of training images? Compared with real images that were kept out of training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adaflow.core.copies import CANDIDATES, TURNS, CopySearch, Matches, turned
from adaflow.core.copy_counts import CERTAIN, CHANCE, FEWEST_SOURCES, LIKELY, NEARER, CopyCount, Nearness, Tail
from adaflow.core.copy_trial import planted_copies
from adaflow.core.data.duplicates import MIN_AGREEMENT, SIDE, agreement
from adaflow.core.leak_detector import Finding, LeakContext, LeakDetector, Panel, Verdict, exact_interval, percent
from adaflow.errors import ConfigError
from adaflow.hookspecs import hookimpl
from adaflow.plugins.metrics.copying import authentic_of, copying_z, principal

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register

NAME = "memorisation"
LEAST_HELD_OUT = 50
LOOKED_AT = 0.2
"""This share of the held-out reals, and all fakes that seem as close as these, are compared on the finer grid."""

TWIN = 0.5
"""Of two real images that are less close than this, agreeing texture is chance: at 32 pixels there is little of it."""

MOST_TRAIN = 2000
"""Of so many training images, twins are looked for."""

LISTED = 50


@dataclass
class Memorisation(LeakDetector):
    """Looks for fakes that are training images: flipped, turned, cropped by up to 15 %, encoded again, blended.

    Two findings. "copies": single fakes much nearer to one training image than to the next ones, against a threshold
    from held-out reals. "closeness": fakes on the whole nearer than held-out reals are. Both count how much nearer the
    nearest is than the next ones, so smooth or noisy fakes do not look like copies; flips and quarter turns of training
    images count as copies, whether training mirrored them or not. Near-twins among the real images are set aside.

    Authenticity (Alaa et al. 2022) and C_T (Meehan et al. 2020) are given beside; they do not decide.

    Args:
        pictures: so many of the closest pairs are shown.
        extractor: for authenticity and C_T; "" is the default one.
    """

    pictures: int = 12
    extractor: str = ""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.pictures < 0:
            raise ConfigError(f"memorisation: {self.pictures} pictures cannot be shown", "pictures starts at 0.")

    def check(self, context: LeakContext) -> list[Finding]:
        """Copies, then closeness."""
        if len(context.train) <= CANDIDATES:
            return [_cannot_tell(f"{len(context.train)} training images are too few to look for copies.")]
        search = CopySearch(context.train, context.device)
        fakes = search.nearest(context.fakes, progress=partial(context.progress, "looking for copies"))
        if context.held_out is None or len(context.held_out) < LEAST_HELD_OUT:
            return [self._without_held_out(context, search, fakes)]
        reals = search.nearest(context.held_out, progress=partial(context.progress, "looking for twins"))
        start = looked_at_from(reals)
        reals = search.refine(context.held_out, reals, reals.closeness >= start)
        fakes = search.refine(
            context.fakes, fakes, fakes.closeness >= start, partial(context.progress, "comparing the closest")
        )
        twins = twins_of(search, context.held_out, context.train, reals)
        if int((~twins).sum()) < LEAST_HELD_OUT:
            return [self._without_held_out(context, search, fakes, int(twins.sum()))]
        some = context.train[:MOST_TRAIN]
        own = search.nearest(some, same=True, progress=partial(context.progress, "looking for twins"))
        own = search.refine(some, own, own.closeness >= start)
        own_twins = twins_of(search, some, context.train, own)
        tail = Tail.of(reals.closeness[~twins])
        counts = {
            "held_out": len(twins),
            "twins_held_out": int(twins.sum()),
            "twins_train": int(own_twins.sum()),
            "looked_at_in_train": len(some),
        }
        return [
            self._copies(context, search, fakes, tail, counts),
            self._closeness(context, fakes, reals.closeness[~twins], ~twins),
        ]

    def _copies(
        self, context: LeakContext, search: CopySearch, fakes: Matches, tail: Tail, counts: dict[str, int]
    ) -> Finding:
        n = len(context.fakes)
        counted = CopyCount.of(fakes.score, tail)
        count, sure = counted.likely, counted.certain
        assert context.held_out is not None
        copies = planted_copies(context.fakes, context.held_out, context.train, context.seed)
        planted = search.refine(copies, search.nearest(copies), torch.ones(len(copies), dtype=torch.bool))
        seen = [float((planted.score >= limit).double().mean()) for limit in counted.limits]
        # One certain copy is among 3 / n with a probability of 95 %; of twice as many likely ones, enough are.
        smallest = min(
            [1.0, *(need / n / part for need, part in zip((2 * counted.enough, 3), seen, strict=True) if part)]
        )
        rate, interval = count / n, exact_interval(count, n)
        verdict: Verdict = "leak" if counted.leak else "clean" if max(seen) >= 0.5 else "cannot tell"
        sentence = {
            "leak": f"{count} of {n} fakes ({percent(rate)}; 95 % interval {percent(interval[0])} to "
            f"{percent(interval[1])}) are likely copies of training images, {sure} of them without doubt. Of held-out "
            f"reals at most {percent(LIKELY)} would be taken for copies.",
            "clean": f"No more fakes than by chance are as close to a training image as a copy: {count} of {n}, and "
            f"{LIKELY * n:.2g} would be by chance. Copies would have been seen from {percent(smallest)} on.",
            "cannot tell": f"Whether fakes are copies cannot be told: of copies planted for a trial, only "
            f"{percent(max(seen))} were recognised. {count} of {n} fakes are as close as a copy.",
        }[verdict]
        advice = {
            "leak": "Look at the pairs in the report. Do not share this network; train on more images or stop earlier.",
            "clean": "",
            "cannot tell": "Look at the closest pairs in the report.",
        }[verdict]
        details = {
            "likely": count,
            "certain": sure,
            "thresholds": {"likely": math.exp(counted.limits[0]), "certain": math.exp(counted.limits[1])},
            "false_alarms": {"likely_per_image": LIKELY, "verdict": CERTAIN + CHANCE},
            "planted_seen": {"likely": seen[0], "certain": seen[1]},
            **counts,
            "closest": closest_list(context, fakes),
        }
        panels = self._panels(context, search, fakes)
        return Finding(
            NAME,
            "copies",
            verdict,
            sentence + _twins_sentence(counts),
            advice,
            rate,
            interval,
            smallest,
            details,
            panels,
        )

    def _closeness(self, context: LeakContext, fakes: Matches, reals: Tensor, strangers: Tensor) -> Finding:
        """Of held-out reals, bool [L], `strangers` count: those that are no twins of training images."""
        nearness = Nearness.of(reals, fakes.closeness, fakes.source)
        features = [context.features(which, self.extractor) for which in ("train", "held_out", "fakes")]
        features[1] = features[1][strangers]
        share_authentic = [float(x.double().mean()) for x in authentic_of(features[1:], features[0])]
        mean, directions = principal(features[0], 64)
        train, held_out, made = ((x.double() - mean) @ directions for x in features)
        ct = copying_z(train, held_out, made, seed=context.seed)
        verdict = nearness.verdict
        numbers = (
            f"in {percent(nearness.share)} of all pairs the fake is the nearer one (50 % by chance; "
            f"Z = {nearness.z:.1f}, alarm above {NEARER:.0f}). Authenticity is {percent(share_authentic[1])}, that of "
            f"held-out reals {percent(share_authentic[0])}; C_T is {ct:.1f} (below −3: copies)."
        )
        few = f"the fakes are nearest to {nearness.sources:.0f} training images, in effect: too few to count"
        sentence = {
            "leak": f"On the whole, fakes are nearer to training images than held-out reals are: {numbers}",
            "clean": f"On the whole, fakes are no nearer to training images than held-out reals are: {numbers} "
            f"It would have been seen if {percent(nearness.smallest_seen)} of them were copies.",
            "cannot tell": "Whether fakes are nearer to training images than held-out reals are cannot be told: "
            + (f"{few}. " if nearness.sources < FEWEST_SOURCES else "as artefacts or few images hide it. ")
            + numbers[0].upper()
            + numbers[1:],
        }[verdict]
        advice = {
            "leak": "The network begins to repeat its training images: stop earlier, or train on more.",
            "clean": "",
            "cannot tell": "Give more images with --held-out, or check a network that has trained longer.",
        }[verdict]
        details = {
            "z": nearness.z,
            "share_nearer": nearness.share,
            "sources": nearness.sources,
            "authenticity": share_authentic[1],
            "authenticity_held_out": share_authentic[0],
            "ct": None if math.isnan(ct) else ct,
            "extractor": context.extractor(self.extractor).name,
        }
        smallest = nearness.smallest_seen
        return Finding(NAME, "closeness", verdict, sentence, advice, smallest_seen=smallest, details=details)

    def _without_held_out(self, context: LeakContext, search: CopySearch, fakes: Matches, twins: int = 0) -> Finding:
        """What can be said without real images to compare with: the closest pairs, for the eye."""
        start = fakes.closeness.quantile(1 - min(4 * self.pictures / len(context.fakes), 1))
        fakes = search.refine(context.fakes, fakes, fakes.closeness >= start)
        known = 0 if context.held_out is None else len(context.held_out) - twins
        besides = f", besides {twins} that training used, too" if twins else ""
        missing = f"{known or 'no'} real images are known that were not trained on{besides}" + (
            f", and {LEAST_HELD_OUT} are needed." if known else "."
        )
        equal = pixel_copies(context.fakes, context.train)
        verdict: Verdict = "leak" if equal else "cannot tell"
        n = len(context.fakes)
        sentence = (
            f"{equal} of {n} fakes are training images, pixel by pixel; of others that cannot be told: {missing}"
            if equal
            else f"Whether fakes are copies cannot be told: {missing}"
        )
        return Finding(
            NAME,
            "copies",
            verdict,
            sentence,
            "Set some apart with --val-fraction 0.1 when training, or name others of the same kind with --held-out. "
            "Look at the closest pairs in the report.",
            rate=equal / n if equal else None,
            interval=exact_interval(equal, n) if equal else None,
            details={"closest": closest_list(context, fakes), "equal": equal},
            panels=self._panels(context, search, fakes),
        )

    def _panels(self, context: LeakContext, search: CopySearch, fakes: Matches) -> tuple[Panel, ...]:
        """The closest pairs, each as fake, training image as it lies on the fake, and their difference."""
        rows = by_closeness(fakes)[: self.pictures]
        if not rows:
            return ()
        panels = []
        for row, fake, real in zip(rows, *search.laid_over(context.fakes, context.train, fakes, rows), strict=True):
            difference = (fake.short() - real.short()).abs().to(torch.uint8)
            strip = torch.cat((fake, real, difference), dim=2)
            panels.append(
                Panel(
                    f"{_name(context.fake_names, row, 'fake')} and "
                    f"{_name(context.train_names, int(fakes.source[row]), 'training image')}",
                    strip,
                    f"Fake, training image, difference. {_nearness(fakes, row)}",
                )
            )
        return tuple(panels)


def looked_at_from(reals: Matches) -> float:
    """The closeness from which on images are compared on the finer grid; many twins among the reals do not raise it."""
    return min(float(reals.closeness.quantile(1 - LOOKED_AT)), TWIN)


def twins_of(search: CopySearch, images: Tensor, train: Tensor, found: Matches) -> Tensor:
    """Which real images, bool [N], show the same as a training image: their fine texture agrees."""
    rows = (found.refined & (found.closeness >= TWIN)).nonzero()[:, 0]
    twins = torch.zeros(len(images), dtype=torch.bool)
    if len(rows):
        pairs = [_thumbnails(x) for x in search.laid_over(images, train, found, rows.tolist())]
        twins[rows] = torch.from_numpy(agreement(*pairs) >= MIN_AGREEMENT)
    return twins


def pixel_copies(fakes: Tensor, train: Tensor) -> int:
    """How many fakes equal a training image, flipped or turned or as it is."""
    known = {image.numpy().tobytes() for image in train}
    ways = torch.stack([turned(fakes, k) for k in range(TURNS)], 1)
    return sum(any(way.contiguous().numpy().tobytes() in known for way in fake) for fake in ways)


def by_closeness(found: Matches) -> list[int]:
    """Images, the closest first; those that were looked at closely before the others."""
    order: list[int] = (found.score + 100 * found.refined).argsort(descending=True).tolist()
    return order


def closest_list(context: LeakContext, fakes: Matches) -> list[dict[str, Any]]:
    """The closest pairs as plain values."""
    return [
        {
            "fake": _name(context.fake_names, row, "fake"),
            "training_image": _name(context.train_names, int(fakes.source[row]), "training image"),
            "times_nearer": math.exp(fakes.closeness[row]),
            "middle_agrees": float(fakes.middle[row]),
        }
        for row in by_closeness(fakes)[:LISTED]
    ]


def _cannot_tell(sentence: str) -> Finding:
    return Finding(NAME, "copies", "cannot tell", sentence, "Use more images.")


def _twins_sentence(counts: dict[str, int]) -> str:
    held_out, train = counts["twins_held_out"], counts["twins_train"]
    first = (
        f" {held_out} of {counts['held_out']} held-out reals ({percent(held_out / counts['held_out'])}) show the same "
        "as a training image and were set aside; innocent fakes may do so as often."
        if held_out
        else ""
    )
    return first + (f" {train} of {counts['looked_at_in_train']} training images have a twin." if train else "")


def _nearness(found: Matches, row: int) -> str:
    turn, scale = int(found.turn[row]), float(found.crop[row][0])
    ways = ["flipped"] * (turn >= TURNS // 2) + [f"turned by {turn % 4 * 90}°"] * (turn % 4 > 0)
    ways += [f"cropped to {scale:.0%}"] * (scale < 1)
    return (
        f"{math.exp(found.closeness[row]):.1f} times nearer than the next ones" + "".join(f", {w}" for w in ways) + "."
    )


def _name(names: tuple[str, ...], place: int, kind: str) -> str:
    return names[place] if names else f"{kind} {place}"


def _thumbnails(images: Tensor) -> Any:
    small = F.interpolate(images.float().mean(1, keepdim=True), (SIDE, SIDE), mode="bilinear", antialias=True)
    return small[:, 0].round().to(torch.uint8).numpy()


@hookimpl
def register_leak_detectors(register: Register[type[LeakDetector]]) -> None:
    """Offer `memorisation`."""
    register(NAME, Memorisation)
