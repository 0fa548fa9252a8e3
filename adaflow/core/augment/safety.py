"""Whether a transform can leak: the smallest eigenvalue of what it does to distributions of images, for a given p.

A generator learns the images as they are, although all that the discriminator sees is augmented, as long as no two
distributions of images look the same once they are augmented: as long as the operator (1 - p)·I + p·E[T] has no
eigenvalue 0 (arXiv 2006.06676, Sec. 2.2 and App. C). The smallest one says how faint the faintest part of a difference
between real and generated images becomes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adaflow.core.augment.families import Erasure, Family, UnknownFamilyError, find_family
from adaflow.core.augment.pipeline import ActiveTransform
from adaflow.core.augment.spectrum import Spectrum, spectrum_of
from adaflow.core.augment.transform import FilterTransform

FILTER_NOTE = (
    "Of the band and the others together, for the filter's power is normalised: a curve in a plane. "
    "Their ratio alone would be a line."
)
DIRECTIONS_NOTE = "Seen along some directions of the space of images, and known to"
ERASURE_NOTE = "It forms no group, for what it erases has no way back; the eigenvalues are the chances to be spared."


@dataclass(frozen=True)
class Safety:
    """What is known of the safety of one transform.

    Args:
        name, weight: of the transform.
        family: what it draws from, in words; "" when it cannot be analysed.
        note: what to keep in mind, or why it cannot be analysed: whole sentences, or "".
        singular_at: the smallest p at which an eigenvalue is 0; None when there is none, or nothing is known.
        eigenvalues: p → the smallest absolute value of an eigenvalue; empty when nothing is known.
        tolerance: how well eigenvalues are known; nan when nothing is known.
    """

    name: str
    weight: float
    family: str = ""
    note: str = ""
    singular_at: float | None = None
    eigenvalues: dict[float, float] = dataclasses.field(default_factory=dict)
    tolerance: float = math.nan

    def sentence(self) -> str:
        """What it comes to."""
        if not self.family:
            return self.note
        if self.singular_at is None:
            text = "Never stops being invertible"
        elif self.singular_at > 1 - self.tolerance:
            text = "Stops being invertible only at p = 1"
        else:
            text = f"Stops being invertible at p = {self.singular_at:.2f}"
        before = [p for p, value in self.eigenvalues.items() if value > 0 and p < (self.singular_at or 2.0)]
        if before:
            p = max(before)
            value = self.eigenvalues[p]
            text += f"; at p = {p:g} the smallest eigenvalue is {value:.2g}"
            if value < 0.995:
                text += f": to undo it amplifies noise {1 / value:.2g} times"
        return f"{text}."

    def plain(self) -> dict[str, Any]:
        """All of it as plain values; a conditioning that is infinite is None, as is what is not known."""
        return {
            "name": self.name,
            "weight": self.weight,
            "analysed": bool(self.family),
            "family": self.family,
            "note": self.note,
            "singular_at": self.singular_at,
            "tolerance": self.tolerance if self.family else None,
            "p": [
                {"p": p, "smallest_eigenvalue": value, "conditioning": 1 / value if value > 0 else None}
                for p, value in self.eigenvalues.items()
            ],
            "sentence": self.sentence(),
        }


def analyse(active: ActiveTransform, probabilities: Sequence[float], resolution: int) -> Safety:
    """The safety of one transform.

    Args:
        active: the transform, with its weight.
        probabilities: p at which the smallest eigenvalue is wanted.
        resolution: height and width of the images in pixels; it matters for shifts by whole pixels.
    """
    try:
        family = find_family(active.transform, resolution)
        spectrum = spectrum_of(family)
    except UnknownFamilyError as reason:
        return Safety(active.name, active.weight, note=f"Cannot be analysed, because {reason}.")
    return Safety(
        active.name,
        active.weight,
        _in_words(family),
        _note(active, family, spectrum.tolerance),
        _first_singular(active, spectrum),
        {p: _smallest(active, spectrum, p) for p in probabilities},
        spectrum.tolerance,
    )


def _gate(active: ActiveTransform, p: float) -> float:
    """The probability of each of its gates."""
    return float(active.transform.gate(min(p * active.weight, 1.0)))


def _smallest(active: ActiveTransform, spectrum: Spectrum, p: float) -> float:
    """The smallest absolute value of an eigenvalue of all places where it acts."""
    order = active.transform.order
    return spectrum.smallest(_gate(active, p)) ** (len(order) if isinstance(order, tuple) else 1)


def _first_singular(active: ActiveTransform, spectrum: Spectrum) -> float | None:
    """The smallest p at which an eigenvalue is 0."""
    wanted = spectrum.singular_gate()
    if wanted is None or _gate(active, 1.0) < wanted - 1e-9:
        return None
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if _gate(active, middle) >= wanted else (middle, high)
    return high


def _in_words(family: Family | Erasure) -> str:
    """What a transform draws from."""
    if isinstance(family, Erasure):
        return "pixels to erase"
    if not family.joint and family.axes:
        return "noise"
    spaces = []
    for axis in family.axes:
        circle = f"cyclic group of {axis.order}" if axis.order else "circle"
        spaces.append(f"{axis.name} on a line" if axis.period == math.inf else f"{axis.name} on a {circle}")
    return ", ".join(spaces) or "nothing"


def _note(active: ActiveTransform, family: Family | Erasure, tolerance: float) -> str:
    """What to keep in mind."""
    if isinstance(family, Erasure):
        return ERASURE_NOTE
    if not family.joint and family.axes:
        return f"{DIRECTIONS_NOTE} ±{tolerance:.2f}."
    return FILTER_NOTE if isinstance(active.transform, FilterTransform) else ""
