"""The wavelet filters of the augmentations: sym6 for resampling, a bank of four bands from sym2.

Coefficients: Daubechies, "Ten Lectures on Wavelets" (1992), tables 6.1 and 6.3 (symlets, the least asymmetric
wavelets).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Low-pass of sym6, sum √2.
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
# Low-pass of sym2 in closed form, sum √2.
SYM2 = tuple(np.array([1 - 3**0.5, 3 - 3**0.5, 3 + 3**0.5, 1 + 3**0.5]) / (4 * 2**0.5))


def sym6_lowpass() -> NDArray[np.float64]:
    """[12], the low-pass filter of sym6 normalised to sum 1. Its greatest tap is number 5, and it is not symmetric."""
    taps = np.array(SYM6)
    lowpass: NDArray[np.float64] = taps / taps.sum()
    return lowpass


def band_filters(levels: int = 3) -> NDArray[np.float64]:
    """A bank of symmetric filters that cut the spectrum into octaves and add up to a unit impulse.

    Analysis with a wavelet's low-pass h, then synthesis with the same one, multiplies the spectrum by the half-band
    filter L(z) = h(z)·h(1/z)/2; the high-pass does so by H(z) = L(-z), and L + H = 1. Undecimated ("à trous"), level
    k has zeros between the taps: L(z^(2^k)). The bands are H(z), L(z)·H(z²), L(z)·L(z²)·H(z⁴) … and what is left.

    Args:
        levels: how often the low band is cut in two.

    Returns:
        [levels + 1, taps], the lowest band first; three levels of sym2 have 43 taps.
    """
    half_band = np.convolve(SYM2, SYM2[::-1]) / 2
    mirrored = half_band * (-1.0) ** (np.arange(len(half_band)) - len(half_band) // 2)
    bands = []
    remainder = np.ones(1)
    for level in range(levels):
        bands.append(np.convolve(remainder, _spread(mirrored, 2**level)))
        remainder = np.convolve(remainder, _spread(half_band, 2**level))
    bands.append(remainder)
    margins = [(len(remainder) - len(band)) // 2 for band in bands]
    return np.stack([np.pad(band, margin) for band, margin in zip(bands, margins, strict=True)])[::-1]


def _spread(taps: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """The taps with step - 1 zeros between them."""
    spread = np.zeros((len(taps) - 1) * step + 1)
    spread[::step] = taps
    return spread
