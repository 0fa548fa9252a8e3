"""What a leak detector is, what it gets to see, and what it reports."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from adaflow.core.feature_cache import cached_features
from adaflow.core.measured import Interval

if TYPE_CHECKING:
    from adaflow.core.augment.transform import Transform
    from adaflow.core.features import FeatureExtractor

Verdict = Literal["leak", "clean", "cannot tell"]
BATCH = 64


@dataclass(frozen=True)
class Panel:
    """A picture for the report.

    Args:
        title: above it.
        image: uint8 [1 or 3, H, W].
        caption: below it.
    """

    title: str
    image: Tensor
    caption: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing that a detector looked for.

    Args:
        detector: its name, as in "memorisation".
        subject: what it looked for: "copies", "hue".
        verdict: "leak" where the fakes show it, "clean" where it would have been seen and was not, "cannot tell" else.
        sentence: the result in plain words, whole.
        advice: what to do about it, in whole sentences.
        rate: share of the fakes that show it.
        interval: 95 % interval of the rate, wider where a detector knows that it may be off.
        smallest_seen: the smallest rate that would have been called a leak; None if none would, or where one was found.
        details: further numbers for `leakcheck.json`, plain values.
        panels: pictures for the report.
    """

    detector: str
    subject: str
    verdict: Verdict
    sentence: str
    advice: str = ""
    rate: float | None = None
    interval: Interval | None = None
    smallest_seen: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    panels: tuple[Panel, ...] = ()


def fault_of(found: object) -> str:
    """What is wrong with the form of what a detector gives; "" if nothing is."""
    if not isinstance(found, list | tuple):
        return f"it gives a {type(found).__name__}, not a list of findings"
    for finding in found:
        if not isinstance(finding, Finding):
            return f"it gives a {type(finding).__name__}, not an adaflow.Finding"
        fault = _fault_of_one(finding)
        if fault:
            return f"its finding of {finding.subject!r} {fault}"
    return ""


def _fault_of_one(finding: Finding) -> str:
    rates = [finding.rate, finding.smallest_seen, *(finding.interval or ())]
    texts: list[object] = [finding.sentence, finding.advice]
    if finding.verdict not in get_args(Verdict):
        return f"has the verdict {finding.verdict!r}, none of {get_args(Verdict)}"
    if not all(isinstance(text, str) for text in texts):
        return "has no text"
    if not all(rate is None or (isinstance(rate, int | float) and 0 <= rate <= 1) for rate in rates):
        return "has a rate that is not a number from 0 to 1"
    if finding.interval is not None and not finding.interval[0] <= finding.interval[1]:
        return "has no interval"
    for panel in finding.panels:
        image = panel.image
        if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] not in (1, 3):
            return "has a picture that is not uint8 [1 or 3, H, W]"
    try:
        json.dumps(finding.details)
    except (TypeError, ValueError) as error:
        return f"has details that are no plain values: {error}"
    return ""


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody wants to see."""


@dataclass(frozen=True)
class LeakContext:
    """Generated images, the real ones they may have leaked from, and the means to compare them.

    Args:
        fakes: uint8 [N, C, H, W], on the CPU.
        train: real images the generator was trained on, without mirroring, uint8 [M, C, H, W].
        held_out: real images it was not trained on, uint8 [L, C, H, W]; None: none are known.
        extractor: `extractor(name)` gives the feature extractor of that name, "" the default one.
        device: where to compute.
        transforms: transforms to look for, by name, with the settings of the training.
        used: the names of those that training used.
        spec: the augmentations of the training, as in `--augs`; "" where they are not known.
        mirrored, upside_down: training saw images flipped left to right, upside down, as data.
        fake_names, train_names: of the images, for people; empty where they have none.
        about: what fakes and data are, plain values for the report.
        seed: of everything random: detectors give the same findings for the same seed.
        data_key: names the real images in the user's cache, where their features are kept; "": they are not.
        progress: told (what is done, how much of it, of how much).
    """

    fakes: Tensor
    train: Tensor
    held_out: Tensor | None
    extractor: Callable[[str], FeatureExtractor]
    device: torch.device
    transforms: Mapping[str, Transform] = field(default_factory=dict)
    used: frozenset[str] = frozenset()
    spec: str = ""
    mirrored: bool = False
    upside_down: bool = False
    fake_names: tuple[str, ...] = ()
    train_names: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    data_key: str = ""
    progress: Callable[[str, int, int], None] = _silent
    _known: dict[tuple[str, str, str], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def features(
        self, which: Literal["fakes", "train", "held_out"], extractor: str = "", as_trained: bool = False
    ) -> Tensor:
        """Features of the fakes, the training images or the held-out ones, [N, D], computed once for all detectors.

        Those of real images are kept in the user's cache, unless `data_key` is empty.

        Args:
            which: of which images.
            extractor: its name, "" for the default one.
            as_trained: of the images that the method of that name makes of them.

        Raises:
            AdaflowError: there is no such extractor, or its weights are not here.
        """
        used = self.extractor(extractor)
        flips = [self.mirrored, self.upside_down, self.seed] if as_trained else []
        key = (which, used.name, str(flips))
        if key not in self._known:
            images: Tensor | None = getattr(self, which)
            assert images is not None
            seen = self.as_trained(images) if as_trained else images

            def compute() -> Tensor:
                return used.all(self._batches(seen, f"features of {which.replace('_', '-')} images"))

            if which == "fakes" or not self.data_key:
                self._known[key] = compute()
            else:
                content = {"leakcheck": self.data_key, "images": which, "flips": flips}
                self._known[key] = cached_features(used, content, compute)
        return self._known[key]

    def as_trained(self, images: Tensor) -> Tensor:
        """Real images [N, C, H, W] as training showed them: half of them flipped, by the seed, where it did that."""
        generator = torch.Generator().manual_seed(self.seed)
        for axis, flipped in ((3, self.mirrored), (2, self.upside_down)):
            half = torch.rand(len(images), generator=generator) < 0.5
            if flipped:
                images = torch.where(half[:, None, None, None], images.flip(axis), images)
        return images

    def _batches(self, images: Tensor, what: str) -> Iterator[Tensor]:
        for start in range(0, len(images), BATCH):
            yield images[start : start + BATCH]
            self.progress(what, min(start + BATCH, len(images)), len(images))


class LeakDetector(ABC):
    """Looks for one kind of leak. A subclass is a dataclass of its settings: `--detectors "name(setting=value)"`."""

    @abstractmethod
    def check(self, context: LeakContext) -> list[Finding]:
        """What was looked for and what was found, most important first.

        Raises:
            AdaflowError: something it needs is not there. Too few images are no error but "cannot tell".
        """


def exact_interval(count: int, total: int) -> Interval:
    """The 95 % interval of a share of which `count` of `total` were counted (Clopper & Pearson 1934)."""
    from scipy.special import betaincinv  # type: ignore[import-untyped]

    low = float(betaincinv(count, total - count + 1, 0.025)) if count else 0.0
    high = float(betaincinv(count + 1, total - count, 0.975)) if count < total else 1.0
    return low, high


def percent(share: float) -> str:
    """A share in per cent, with as many digits as a reader needs."""
    return f"{share * 100:.{0 if share >= 0.1 or share == 0 else 1 if share >= 0.01 else 2}f} %"
