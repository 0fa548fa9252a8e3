"""The eigenvalues of what a transform does, on average, to distributions of images.

Applied for sure, a family of maps that add up multiplies a character of its line or circle by the characteristic
function of the number it draws, φ(ω) = E[exp(iωθ)]. A gate that opens with probability g makes 1 - g + g·φ(ω) of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaflow.core.augment.families import Axis, Erasure, Family

Complexes = NDArray[np.complexfloating[Any, Any]]
TOLERANCE = 0.005
"""Eigenvalues below this are taken for nothing, and so are imaginary parts."""
REACH = 40.0
"""Frequencies go up to this, over the spread of the number."""
STEP = 0.04
PLANE_REACH, PLANE_STEP = 20.0, 0.2
"""The same for the frequencies in a plane that lie on neither of its axes."""
MOST_TURNS = 2000
PLANE_SAMPLES = 1 << 13
RISE = 4.0
"""A characteristic function that comes back to this many tolerances had a zero before; other ones fade away."""


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of a transform that is applied for sure.

    Args:
        values: those that were looked at, besides 1.
        continuous: whether they lie on curves that begin at 1.
        vanishes: whether one of them is 0, and not only some near to it.
        tolerance: how well they are known.
    """

    values: Complexes
    continuous: bool
    vanishes: bool
    tolerance: float

    def singular_gate(self) -> float | None:
        """The smallest probability of the gate at which an eigenvalue of the whole is 0; None when there is none."""
        negative = self.values.real[(self.values.imag == 0) & (self.values.real < 0)]
        if len(negative):
            return float(1 / (1 - negative.min()))
        return 1.0 if self.vanishes else None

    def smallest(self, gate: float) -> float:
        """The smallest absolute value of an eigenvalue when the gate opens with probability `gate`."""
        singular = self.singular_gate()
        if self.continuous and singular is not None and gate >= singular:
            # The curve from 1 to beyond 0 crosses it.
            return 0.0
        return float(min(1.0, np.abs(1 - gate + gate * self.values).min(initial=1.0)))


def spectrum_of(family: Family | Erasure) -> Spectrum:
    """The eigenvalues of a family.

    Those of an erasure are the chances that this or that set of pixels is spared (Brown 2000, "Semigroups, rings, and
    Markov chains"): the smallest is that of all pixels.
    """
    if isinstance(family, Erasure):
        return Spectrum(np.array([family.untouched + 0j]), False, family.untouched == 0, TOLERANCE)
    # What more than two numbers decide, quasi-random points know no better than random ones: a rule of 5 deviations.
    tolerance = TOLERANCE
    if family.axes and family.numbers > 2:
        tolerance += 3.5 / math.sqrt(len(family.axes[0].values))
    sequences = [_along(axis, tolerance) for axis in family.axes]
    vanishes = any(_has_zero(values, axis, tolerance) for values, axis in zip(sequences, family.axes, strict=True))
    smooth = [axis.period == math.inf for axis in family.axes]
    if family.joint and len(family.axes) == 2:
        # The last axis is a line, if one of them is.
        sequences += [*_plane(family.axes[0], family.axes[1], tolerance)]
        smooth += [smooth[1]] * (len(sequences) - 2)
    found = [np.append(s, _crossings(s)) if line else s for s, line in zip(sequences, smooth, strict=True)]
    return Spectrum(np.concatenate([*found, np.zeros(0)]), any(smooth), vanishes, tolerance)


def _frequencies(axis: Axis, reach: float, step: float) -> tuple[float, int]:
    """The step of the frequencies to look at, and their number."""
    spread = _spread(axis)
    if axis.period == math.inf:
        return step / spread, round(reach / step)
    unit = 2 * math.pi / axis.period
    return unit, min(max(round(reach / spread / unit), 16), MOST_TURNS)


def _spread(axis: Axis) -> float:
    """The scale of the number: its mean distance from the median, which bears heavy tails; if it is 0, its size."""
    spread = float(np.abs(axis.values - np.median(axis.values)).mean())
    return spread if spread > 1e-9 else float(np.abs(axis.values).max())


def _along(axis: Axis, tolerance: float) -> Complexes:
    """The characteristic function at rising frequencies."""
    step, count = _frequencies(axis, REACH, STEP)
    phi = _characteristic(axis, step, count, tolerance)
    middle = abs(float(axis.values.mean()))
    if axis.period == math.inf and middle * step > STEP:
        # A number far from 0, compared with its spread, turns φ quickly: the first turns in small steps.
        return np.append(_characteristic(axis, STEP / middle, count, tolerance), phi)
    return phi


def _characteristic(axis: Axis, step: float, count: int, tolerance: float) -> Complexes:
    """φ at step, 2·step … count·step, cleaned of what is below its precision."""
    turn = np.exp(1j * step * axis.values)
    power = turn.copy()
    half = len(power) // 2
    phi, error = np.empty(count, complex), np.empty(count)
    for k in range(count):
        phi[k] = power.mean()
        # Half of the points are a coarser grid: what they say otherwise is not known.
        error[k] = abs(phi[k] - power[:half].mean())
        power *= turn
    return _clean(phi, tolerance + 2 * error, axis)


def _plane(first: Axis, second: Axis, tolerance: float) -> Complexes:
    """φ on a grid of frequencies of two numbers, [2·K, L]: a row for each frequency of the first, both signs."""
    powers, halves = [], []
    for axis in (first, second):
        step, count = _frequencies(axis, PLANE_REACH, PLANE_STEP)
        values = axis.values[:PLANE_SAMPLES]
        powers.append(np.exp(1j * step * np.arange(1, min(count, 100) + 1)[:, None] * values))
        halves.append(powers[-1][:, : len(values) // 2])
    rows = []
    for conjugate in (False, True):
        a, b = (np.conj(p[0]) if conjugate else p[0] for p in (powers, halves))
        phi = a @ powers[1].T / a.shape[1]
        error = np.abs(phi - b @ halves[1].T / b.shape[1])
        rows.append(_clean(phi, tolerance + 2 * error, second))
    return np.concatenate(rows)


def _clean(phi: Complexes, tolerance: NDArray[np.float64], axis: Axis) -> Complexes:
    """Values below their precision are 0. So are imaginary parts, on a line only if all are: a curve may cross 0."""
    real = np.abs(phi.imag) < tolerance
    if axis.period != math.inf or real.all():
        phi.imag[real] = 0.0
    phi[np.abs(phi) < tolerance] = 0.0
    return phi


def _crossings(phi: Complexes) -> Complexes:
    """Where a curve crosses the negative real axis between two of its points."""
    before, after = phi[:-1], phi[1:]
    crosses = before.imag * after.imag < 0
    before, after = before[crosses], after[crosses]
    share = before.imag / (before.imag - after.imag)
    real = before.real + share * (after.real - before.real)
    return real[real < 0] + 0j


def _has_zero(phi: Complexes, axis: Axis, tolerance: float) -> bool:
    """Whether a characteristic function is 0 somewhere, rather than fading away."""
    zeros = np.flatnonzero(phi == 0)
    if len(zeros) == 0:
        return False
    first = zeros[0]
    comes_back = bool((np.abs(phi[first:]) > RISE * tolerance).any())
    at_once = axis.period != math.inf and first == 0
    return comes_back or at_once
