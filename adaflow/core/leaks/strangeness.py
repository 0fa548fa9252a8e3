"""Whether images look like anything that is known: real ones, distorted ones, or results of a transform.

What a network draws in its first thousand images is like none of these, and to a probe that knows nothing else it
must look like one of them. No answer about such images means anything.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adaflow.core.leaks.probe import Scaling

STRANGE = 1.15
"""Of strangeness, from which on nothing is said of images. LeakBench has up to 1.08, at all transforms with p = .6."""
UNUSUAL = 0.8
"""Of strangeness, from which on a transform that is not plainly told from nothing is no leak. LeakBench has up to 0.77
with one transform in a tenth of the images. Networks of 32 × 32 had 0.92 after 5 kimg, when they looked like `aniso` to
the probes, and 0.82 after 50, when one of them looked like `band2`."""
LEAST = 1.4
"""A transform that is looked for makes some images so many times as far from others as real ones are. Where none does,
this counts."""
SOME = 200
"""So many images of a set are enough to say how near they are to others."""


class Familiar:
    """Images that are known, as a probe sees them.

    Args:
        scaling: of the probe.
        sets: traces [M, D] of real images of each kind, as they are first; rows with the same number are made from the
            same image.
    """

    def __init__(self, scaling: Scaling, sets: list[Tensor]) -> None:
        self.scaling = scaling
        self.known = torch.cat([scaling(traces[0::2]) for traces in sets])
        distances = [self._distance(traces[1::2]) for traces in sets]
        self.usual = max(LEAST * distances[0], *distances)

    def strangeness(self, traces: Tensor) -> float:
        """How far images [N, D] are from the nearest known one, by the median.

        Returns:
            1 for as far as other images of the kind that are farthest from those known, or `LEAST` times as far as real
            images as they are.
        """
        return self._distance(traces) / self.usual

    def _distance(self, traces: Tensor) -> float:
        some = traces[:: max(len(traces) // SOME, 1)]
        return float(torch.cdist(self.scaling(some), self.known).min(1).values.median())
