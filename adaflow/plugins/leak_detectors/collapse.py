"""`collapse`: does the generator leave out a part of the data, or repeat itself?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from adaflow.core.copies import COARSE_SIDE, Thumbnails, as_grey
from adaflow.core.leak_detector import Finding, LeakContext, LeakDetector, Panel, Verdict, exact_interval, percent
from adaflow.core.measured import Z95
from adaflow.hookspecs import hookimpl
from adaflow.plugins.metrics.copying import principal
from adaflow.plugins.metrics.manifold import coverage, precision_recall
from adaflow.plugins.metrics.vendi import vendi_score

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register

NAME = "collapse"
LEAST = 100
"""Fewer real images, or fakes, tell nothing."""

SPLITS = 20
"""Divisions of the real images into two halves, which say what a perfect generator would get."""

WIDTH = 64
"""Main directions of the real images' features in which neighbours are looked for."""

DEVIATIONS = 3.0
"""So many standard deviations below the real halves count."""

SMALLEST_LOSS = {"coverage": 0.03, "precision": 0.03, "vendi": 0.15}
"""To lose a smaller share of a score is nothing to speak of."""

SMALL = 8
"""Height and width, in pixels, at which blur, noise and the like do not show."""

MOST = 1000
"""More images than these are reduced to so many in each division."""

LARGEST_UNSEEN = 0.25
"""Where a loss of this share would not have been seen, nothing can be told."""

USUAL_REPEATS = 0.002
"""So many repeats are none to speak of."""

SAME = 0.95
"""Correlation of whitened thumbnails from which on two images count as the same."""

PAIRS = 6


@dataclass(frozen=True)
class Against:
    """A score of the fakes, and of real images in their place.

    Args:
        fakes: mean over the divisions.
        reals: mean over the divisions.
        deviation: standard deviation of what other images of the same kind would score.
        smallest_loss: see `SMALLEST_LOSS`.
    """

    fakes: float
    reals: float
    deviation: float
    smallest_loss: float = 0.0

    @staticmethod
    def of(fakes: list[float], reals: list[float], part: float, smallest_loss: float) -> Against:
        """From the scores in each division, of which a `part` of the real images took the fakes' place."""
        scores = torch.tensor([fakes, reals], dtype=torch.float64)
        # Parts of one set vary less among themselves than new images do against them.
        new = math.sqrt((1 + part) / (1 - part))
        made, real = scores.mean(1).tolist()
        return Against(made, real, float(scores[1].std()) * new, smallest_loss)

    @property
    def z(self) -> float:
        """By how many standard deviations the fakes score higher."""
        # One image more or less is the least that chance does.
        return (self.fakes - self.reals) / max(self.deviation, 1e-3)

    @property
    def lost(self) -> float:
        """By which share the fakes score lower."""
        return 1 - self.fakes / self.reals if self.reals else 0.0

    @property
    def low(self) -> bool:
        """Whether the fakes score lower than chance and their number explain."""
        return self.z < -DEVIATIONS and self.lost > self.smallest_loss

    def plain(self) -> dict[str, float]:
        """For `leakcheck.json`."""
        return {"fakes": self.fakes, "reals": self.reals, "z": self.z}


@dataclass
class Collapse(LeakDetector):
    """Looks for modes that are lost or repeated. Real images are divided in halves to see what chance does.

    Three findings. "modes": coverage (Naeem et al. 2020) and recall (Kynkäänniemi et al. 2019) of real images by fakes,
    against that by as many other real images. "variety": the Vendi score (Friedman & Dieng 2022) likewise. Soft or
    noisy images cover less of the data, too, and vary less, without any mode being lost. So both are a leak only where
    thumbnails of 8 × 8 pixels, which show nothing of that, cover too little; else they cannot tell.
    "repeats": fakes that are the same as another fake, against reals that are the same as another.

    Args:
        extractor: whose features decide; "" is the default one.
    """

    extractor: str = ""

    def check(self, context: LeakContext) -> list[Finding]:
        """Modes, variety, repeats."""
        parts = [context.train] if context.held_out is None else [context.train, context.held_out]
        count = sum(map(len, parts))
        if min(count, len(context.fakes)) < LEAST:
            sentence = f"{len(context.fakes)} fakes and {count} real images are too few; {LEAST} of each are needed."
            return [Finding(NAME, "modes", "cannot tell", sentence, "Use more images.")]
        reals = context.features("train", self.extractor, as_trained=True)
        if context.held_out is not None:
            reals = torch.cat((reals, context.features("held_out", self.extractor, as_trained=True)))
        fakes = context.features("fakes", self.extractor)
        images = torch.cat(parts)
        seen = torch.cat([thumbnails(context.as_trained(part)) for part in parts])
        small = compare(thumbnails(context.fakes), seen, context.seed)
        scores = compare(fakes, reals, context.seed, lambda done: context.progress("counting modes", done, SPLITS))
        return [_modes(scores, small), _variety(scores, small), repeats(context, images)]


def thumbnails(images: Tensor) -> Tensor:
    """Images uint8 [N, C, H, W] at 8 × 8 pixels, [N, C · 64]."""
    return torch.cat(
        [
            F.interpolate(part.float(), (SMALL, SMALL), mode="bilinear", antialias=True).flatten(1)
            for part in torch.split(images, 256)
        ]
    )


def compare(
    fakes: Tensor, reals: Tensor, seed: int, progress: Callable[[int], None] = lambda done: None
) -> dict[str, Against]:
    """Coverage, recall, precision and Vendi score of fakes, and of real images in their place.

    Args:
        fakes: features [N, D].
        reals: features [M, D].
        seed: of the divisions.
        progress: called with the number of divisions done.
    """
    generator = torch.Generator().manual_seed(seed)
    n = min(len(reals) // 2, len(fakes), MOST)
    mean, directions = principal(reals, WIDTH)
    near_fakes, near_reals = ((x.double() - mean) @ directions for x in (fakes, reals))
    scores: dict[str, tuple[list[float], list[float]]] = {
        name: ([], []) for name in ("coverage", "recall", "precision", "vendi")
    }
    for division in range(SPLITS):
        order = torch.randperm(len(reals), generator=generator)
        chosen = torch.randperm(len(fakes), generator=generator)[:n]
        half, other = order[:n], order[n : 2 * n]
        for place, near, whole in ((0, near_fakes[chosen], fakes[chosen]), (1, near_reals[half], reals[half])):
            precision, recall = precision_recall(near, near_reals[other])
            found = {
                "coverage": coverage(near, near_reals[other]),
                "recall": recall,
                "precision": precision,
                "vendi": vendi_score(whole),
            }
            for name, value in found.items():
                scores[name][place].append(value)
        progress(division + 1)
    part = n / len(reals)
    return {name: Against.of(*both, part, SMALLEST_LOSS.get(name, 0.0)) for name, both in scores.items()}


def _modes(scores: dict[str, Against], small: dict[str, Against]) -> Finding:
    covered, recalled = scores["coverage"], scores["recall"]
    seen = max(DEVIATIONS * covered.deviation / covered.reals, covered.smallest_loss) if covered.reals else 1.0
    numbers = (
        f"By features, which show softness and noise as well, fakes cover {percent(covered.fakes)} of the real images, "
        f"as many other real images {percent(covered.reals)}; recall is {percent(recalled.fakes)}, of other reals "
        f"{percent(recalled.reals)}."
    )
    verdict = modes_verdict(covered, small)
    sentence, advice = {
        "leak": (
            f"Parts of the data are missing in the fakes: {_at_8_by_8(small['coverage'])}. {numbers}",
            "Modes are lost: try a larger batch, a lower learning rate or a larger --gamma, or an earlier snapshot.",
        ),
        "clean": (f"No part of the data is missing. {numbers} A loss of {percent(seen)} would have been seen.", ""),
        "cannot tell": (f"{numbers} {_unsure(small)}", "Train longer, or compare images treated alike."),
    }[verdict]
    if verdict == "clean" and seen > LARGEST_UNSEEN:
        verdict, advice = "cannot tell", "Use more images."
        sentence = f"Whether parts of the data are missing cannot be told from so few images. {numbers}"
    details = {name: score.plain() for name, score in scores.items()}
    details |= {f"{name}_of_thumbnails": small[name].plain() for name in ("coverage", "precision")}
    return Finding(NAME, "modes", verdict, sentence, advice, details=details)


def _at_8_by_8(covered: Against) -> str:
    low, high = (covered.fakes + side * Z95 * covered.deviation for side in (-1, 1))
    return (
        f"at 8 × 8 pixels they cover {percent(covered.fakes)} of the real images (95 % interval "
        f"{percent(max(low, 0))} to {percent(min(high, 1))}), as many other real images {percent(covered.reals)}"
    )


def _variety(scores: dict[str, Against], small: dict[str, Against]) -> Finding:
    vendi = scores["vendi"]
    verdict = variety_verdict(vendi, small)
    seen = max(DEVIATIONS * vendi.deviation / vendi.reals, vendi.smallest_loss) if vendi.reals else 1.0
    numbers = f"The Vendi score of the fakes is {vendi.fakes:.3g}, that of as many real images {vendi.reals:.3g}."
    sentence, advice = {
        "leak": (
            f"The fakes vary less than the data do: {_at_8_by_8(small['coverage'])}. {numbers}",
            "Compare truncation, and an earlier snapshot.",
        ),
        "clean": (
            f"The fakes vary as much as the data do. {numbers} A loss of {percent(seen)} would have been seen.",
            "",
        ),
        "cannot tell": (f"{numbers} {_unsure(small)}", "Train longer, or compare images treated alike."),
    }[verdict]
    if verdict == "clean" and seen > LARGEST_UNSEEN:
        verdict, advice = "cannot tell", "Use more images."
        sentence = f"Whether the fakes vary as much as the data do cannot be told from so few images. {numbers}"
    return Finding(NAME, "variety", verdict, sentence, advice, details=vendi.plain())


def modes_verdict(covered: Against, small: dict[str, Against]) -> Verdict:
    """What the coverage by features says, and the scores of thumbnails."""
    if small["coverage"].low and not small["precision"].low:
        return "leak"
    return "cannot tell" if covered.low or small["coverage"].low else "clean"


def variety_verdict(vendi: Against, small: dict[str, Against]) -> Verdict:
    """What the Vendi score says, and the scores of thumbnails."""
    if not vendi.low:
        return "clean"
    return "leak" if modes_verdict(vendi, small) == "leak" else "cannot tell"


def _unsure(small: dict[str, Against]) -> str:
    if small["precision"].low:
        why = (
            f"many fakes look like no real image: precision is {percent(small['precision'].fakes)} at 8 × 8 pixels, of "
            f"other reals {percent(small['precision'].reals)}"
        )
    else:
        why = "at 8 × 8 pixels nothing is missing, so they may be soft or noisy images of all kinds"
    return f"Whether parts of the data are missing cannot be told: {why}."


def repeats(context: LeakContext, reals: Tensor) -> Finding:
    """Fakes that are the same as another fake."""
    n = min(len(context.fakes), len(reals))
    generator = torch.Generator().manual_seed(context.seed)
    grey = as_grey(reals, context.device)
    whitened = Thumbnails(grey, COARSE_SIDE, 128)
    chosen = torch.randperm(len(reals), generator=generator)[:n]
    likeness, partner = alike(whitened, as_grey(context.fakes, context.device))
    same = likeness >= SAME
    # The more images, the more have a double: the numbers must be alike.
    some = torch.randperm(len(context.fakes), generator=generator)[:n]
    count = int((alike(whitened, as_grey(context.fakes[some], context.device))[0] >= SAME).sum())
    normal = int((alike(whitened, grey[chosen.to(grey.device)])[0] >= SAME).sum())
    interval, usual = exact_interval(count, n), exact_interval(normal, n)
    leak = interval[0] > max(usual[1], USUAL_REPEATS)
    least = next((k for k in range(n + 1) if exact_interval(k, n)[0] > max(usual[1], USUAL_REPEATS)), n)
    sentence = (
        f"{count} of {n} fakes ({percent(count / n)}; 95 % interval {percent(interval[0])} to {percent(interval[1])}) "
        f"are the same as another one; of {n} real images {normal} are."
    ) + ("" if leak else f" Repeats would have been seen from {percent(least / n)} on.")
    advice = "The generator repeats images: try an earlier snapshot, a larger batch or more noise." if leak else ""
    rows = likeness.argsort(descending=True)[: 2 * PAIRS : 2].tolist() if same.any() else []
    panels = tuple(
        Panel(
            f"fake {row} and fake {int(partner[row])}",
            torch.cat((context.fakes[row], context.fakes[int(partner[row])]), dim=2),
            f"correlation {float(likeness[row]):.2f}",
        )
        for row in rows
    )
    details = {"repeated": count, "of": n, "repeated_reals": normal, "repeated_in_all_fakes": int(same.sum())}
    verdict: Verdict = "leak" if leak else "clean" if least / n <= LARGEST_UNSEEN else "cannot tell"
    return Finding(NAME, "repeats", verdict, sentence, advice, count / n, interval, least / n, details, panels)


def alike(whitened: Thumbnails, images: Tensor) -> tuple[Tensor, Tensor]:
    """For each of the images, grey [N, H, W], the correlation with the most similar other one, and its place."""
    vectors = whitened.cropped(images, [(1.0, 0.0, 0.0)])[:, 0]
    best, places = [], []
    for start in range(0, len(vectors), 1024):
        likeness = vectors[start : start + 1024] @ vectors.T
        likeness.diagonal(start).fill_(-1)
        most = likeness.max(1)
        best.append(most.values.cpu())
        places.append(most.indices.cpu())
    return torch.cat(best), torch.cat(places)


@hookimpl
def register_leak_detectors(register: Register[type[LeakDetector]]) -> None:
    """Offer `collapse`."""
    register(NAME, Collapse)
