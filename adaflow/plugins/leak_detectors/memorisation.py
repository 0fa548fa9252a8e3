"""`memorisation`: are fakes copies of training images? Compared with real images that were kept out of training."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from adaflow.core.copies import CANDIDATES, TURNS, CopySearch, Matches, crop_line, turned
from adaflow.core.data.duplicates import MIN_AGREEMENT, SIDE, agreement
from adaflow.core.grid import to_pil
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

LIKELY = 1e-3
"""So many of the held-out reals, at most, would be taken for likely copies."""

CERTAIN = 0.01
"""So many checks of clean fakes would show one copy that counts as certain."""

CHANCE = 0.01
"""So many checks of clean fakes would have too many likely copies."""

NEARER = 4.0
"""A Z of Mann and Whitney; clean fakes pass it once in 30,000 checks."""

MISSED = 1.645
"""So many standard deviations above `NEARER`, a true difference is missed in one of 20 checks."""

LARGEST_UNSEEN = 0.5
"""Where as many fakes could be copies without being nearer on the whole, nothing can be told."""

FEWEST_SOURCES = 50
"""Fakes that are nearest to fewer training images, in effect, are the same few images again and again."""

TWIN = 0.5
"""Of two real images that are less close than this, agreeing texture is chance: at 32 pixels there is little of it."""

MOST_TRAIN = 2000
"""Of so many training images, twins are looked for."""

PLANTED = 60
LISTED = 50


@dataclass(frozen=True)
class Tail:
    """How close held-out reals come to training images, beyond the ninth tenth: an exponential law.

    Args:
        start: where the last tenth begins.
        scale: mean excess over it, one standard error more than estimated.
    """

    start: float
    scale: float

    @staticmethod
    def of(closeness: Tensor) -> Tail:
        """Fit it; by the median, which a few twins do not move."""
        start = closeness.quantile(0.9)
        beyond = closeness[closeness > start] - start
        scale = float(beyond.median()) / math.log(2) if len(beyond) else 0.0
        return Tail(float(start), max(scale, 0.05) * (1 + 1 / (math.log(2) * math.sqrt(max(len(beyond), 1)))))

    def threshold(self, rate: float) -> float:
        """The closeness that so many of the held-out reals reach, rate ≤ 0.1."""
        return self.start + self.scale * math.log(0.1 / rate)


@dataclass(frozen=True)
class CopyCount:
    """How many of some fakes are copies.

    Args:
        limits: the closeness of likely and of certain copies.
        likely: fakes at least as close as the first.
        certain: fakes at least as close as the second.
        enough: so many likely ones are no chance.
    """

    limits: tuple[float, float]
    likely: int
    certain: int
    enough: int

    @staticmethod
    def of(scores: Tensor, tail: Tail) -> CopyCount:
        """Count fakes by their scores [N]."""
        n = len(scores)
        limits = tail.threshold(LIKELY), tail.threshold(CERTAIN / n)
        likely, certain = (int((scores >= limit).sum()) for limit in limits)
        return CopyCount(limits, likely, certain, least_count(n, LIKELY, CHANCE))

    @property
    def leak(self) -> bool:
        """Whether this is no chance."""
        return self.certain > 0 or self.likely >= self.enough


@dataclass(frozen=True)
class Nearness:
    """Whether fakes are nearer to training images, on the whole, than held-out reals are.

    Args:
        share: of the pairs of a fake and a held-out real, those whose fake is the nearer one.
        deviation: of that share, by chance.
        sources: number of training images that fakes are nearest to, in effect.
    """

    share: float
    deviation: float
    sources: float

    @staticmethod
    def of(reals: Tensor, fakes: Tensor, sources: Tensor) -> Nearness:
        """Compare by ranks, as Mann and Whitney do; fakes of one source say the same, and count as one.

        Args:
            reals: closeness of the held-out reals, [M].
            fakes: that of the fakes, [N].
            sources: places of the training images they are nearest to, int64 [N].
        """
        n, m = len(fakes), len(reals)
        ordered = reals.sort().values
        first, last = (torch.searchsorted(ordered, fakes, right=right).double() for right in (False, True))
        below = (first + last) / 2 / m  # ties count half
        off, sizes = (
            torch.zeros(int(sources.max()) + 1, dtype=torch.float64).index_add_(0, sources, values)
            for values in (below - below.mean(), torch.ones(n, dtype=torch.float64))
        )
        of_fakes = max(float(off.square().sum()) / n**2, 1 / 12 / n)
        deviation = math.sqrt(of_fakes + 1 / 12 / m)
        return Nearness(float(below.mean()), deviation, n**2 / float(sizes.square().sum()))

    @property
    def z(self) -> float:
        """By how many standard deviations the share is more than a half."""
        return (self.share - 0.5) / self.deviation

    @property
    def smallest_seen(self) -> float:
        """The share of copies among the fakes that would have been seen."""
        return min(2 * ((NEARER + MISSED) * self.deviation + max(0.5 - self.share, 0)), 1.0)

    @property
    def verdict(self) -> Verdict:
        """What this says."""
        if self.sources < FEWEST_SOURCES:
            return "cannot tell"
        return "leak" if self.z > NEARER else "clean" if self.smallest_seen <= LARGEST_UNSEEN else "cannot tell"


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
            "twins_held_out": int(twins.sum()),
            "twins_train": int(own_twins.sum()),
            "looked_at_in_train": len(some),
        }
        return [
            self._copies(context, search, fakes, tail, counts),
            self._closeness(context, fakes, reals.closeness[~twins]),
        ]

    def _copies(
        self, context: LeakContext, search: CopySearch, fakes: Matches, tail: Tail, counts: dict[str, int]
    ) -> Finding:
        n = len(context.fakes)
        counted = CopyCount.of(fakes.score, tail)
        count, sure = counted.likely, counted.certain
        copies = plant(context.train, context.seed)
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

    def _closeness(self, context: LeakContext, fakes: Matches, reals: Tensor) -> Finding:
        assert context.held_out is not None
        nearness = Nearness.of(reals, fakes.closeness, fakes.source)
        features = [context.features(which, self.extractor) for which in ("train", "held_out", "fakes")]
        share_authentic = [float(x.double().mean()) for x in authentic_of(features[1:], features[0])]
        mean, directions = principal(features[0], 64)
        train, held_out, made = ((x.double() - mean) @ directions for x in features)
        ct = copying_z(train, held_out, made, seed=context.seed)
        verdict = nearness.verdict
        numbers = (
            f"in {percent(nearness.share)} of all pairs the fake is the nearer one (50 % by chance; "
            f"Z = {nearness.z:.1f}, alarm above {NEARER:.0f}). Authenticity is {percent(share_authentic[1])}, that of "
            f"held-out reals {percent(share_authentic[0])}; C_T is {ct:.1f}."
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
        besides = f", besides {twins} that are there twice" if twins else ""
        return Finding(
            NAME,
            "copies",
            "cannot tell",
            f"Whether fakes are copies cannot be told: {known or 'no'} real images are known that were not trained on"
            + besides
            + (f", and {LEAST_HELD_OUT} are needed." if known else "."),
            "Set some apart with --val-fraction 0.1 when training, or name others of the same kind with --held-out. "
            "Look at the closest pairs in the report.",
            details={"closest": closest_list(context, fakes)},
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


def plant(train: Tensor, seed: int) -> Tensor:
    """Copies as a trial: some training images, each turned, cropped to 90 % and encoded as JPEG of quality 75."""
    generator = torch.Generator().manual_seed(seed)
    size, copies = train.shape[-1], []
    for place in torch.randperm(len(train), generator=generator)[:PLANTED].tolist():
        y, x = torch.rand(2, generator=generator).tolist()
        image = crop_line(size, size, 0.9, y) @ train[place].float() @ crop_line(size, size, 0.9, x).T
        image = turned(image, int(torch.randint(TURNS, (1,), generator=generator)))
        file = io.BytesIO()
        to_pil(image.round().clamp(0, 255).to(torch.uint8)).save(file, "JPEG", quality=75)
        decoded = np.asarray(Image.open(file))
        copies.append(torch.from_numpy(decoded.reshape(size, size, -1).transpose(2, 0, 1).copy()))
    return torch.stack(copies)


def least_count(n: int, rate: float, chance: float) -> int:
    """The smallest count that n images of which each counts with probability `rate` reach with at most that chance."""
    from scipy.special import bdtrc  # type: ignore[import-untyped]

    return next(count for count in range(1, n + 2) if count > n or bdtrc(count - 1, n, rate) <= chance)


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
    held_out, train, of = (counts[name] for name in ("twins_held_out", "twins_train", "looked_at_in_train"))
    first = f" {held_out} held-out reals show the same as a training image and were set aside." if held_out else ""
    return first + (f" {train} of {of} training images have a twin among the others." if train else "")


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
