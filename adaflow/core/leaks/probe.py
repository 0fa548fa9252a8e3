"""One probe for all transforms: which of them, if any, is an image the result of?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

COMPONENTS = 150
"""Principal components that stand for all traces, beside the traces of pixels themselves."""
L2 = 3e-3
ITERATIONS = 60
CONFIDENCE = (0.4, 0.65, 0.9)
"""Bounds between the cells of one answer."""
CELLS = len(CONFIDENCE) + 1


class Scaling:
    """Brings traces to unit variance and adds their absolute values, for most transforms move a trace either way.

    Args:
        plain: traces of images as they are, [N, D].
        every: traces of those and of transformed and distorted ones, [M, D].
        pixels: how many traces, the first ones, are statistics of pixels; the others take part by components only.
    """

    def __init__(self, plain: Tensor, every: Tensor, pixels: int) -> None:
        self.pixels = pixels
        self.mean, self.std = plain.mean(0), plain.std(0) + 1e-3
        z = self._z(every)[:, pixels:].clamp_(-8, 8)
        self.centre = z.mean(0)
        covariance = (z - self.centre).T @ (z - self.centre) / len(z)
        values, vectors = torch.linalg.eigh(covariance.double())
        count = min(COMPONENTS, len(values))
        values, vectors = values[-count:].clamp(min=1e-4), vectors[:, -count:]
        self.components = (vectors / values.sqrt()).float()

    def __call__(self, traces: Tensor) -> Tensor:
        """[N, D] → [N, D']."""
        z = self._z(traces)
        near = z[:, : self.pixels].clamp(-6, 6)
        deep = ((z[:, self.pixels :].clamp(-8, 8) - self.centre) @ self.components).clamp_(-6, 6)
        return torch.cat([near, near.abs(), deep, deep.abs()], 1)

    def _z(self, traces: Tensor) -> Tensor:
        return (traces - self.mean) / self.std


class Probe:
    """Multinomial logistic regression on traces.

    Args:
        scaling: of the traces.
        traces: [N, D] to learn from.
        answers: [N] int64, 0 for "none" and k for the k-th transform.
        kinds: how many answers there are.
    """

    def __init__(self, scaling: Scaling, traces: Tensor, answers: Tensor, kinds: int) -> None:
        self.scaling = scaling
        x = scaling(traces)
        self.weight = torch.zeros(x.shape[1], kinds, requires_grad=True)
        self.bias = torch.zeros(kinds, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [self.weight, self.bias], max_iter=ITERATIONS, history_size=10, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(x @ self.weight + self.bias, answers) + L2 / 2 * self.weight.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        self.weight.requires_grad_(False)
        self.bias.requires_grad_(False)

    def __call__(self, traces: Tensor) -> Tensor:
        """Log-probabilities of the answers [N, K]."""
        return (self.scaling(traces) @ self.weight + self.bias).log_softmax(1)


def to_cells(scores: Tensor) -> Tensor:
    """Which answer is likeliest, and how sure it is, as one number below K × CELLS. [N, K] → [N] int64."""
    value, answer = scores.max(1)
    return answer * CELLS + torch.bucketize(value.exp(), torch.tensor(CONFIDENCE))


class Alignment:
    """Moves and scales traces so that medians and spreads become those of others: what all images share is gone.

    Args:
        traces: whose medians and spreads are to change, [N, D].
        wanted: what they are to become, as of `middle_and_spread`.
    """

    def __init__(self, traces: Tensor, wanted: tuple[Tensor, Tensor]) -> None:
        middle, spread = middle_and_spread(traces)
        self.scale = wanted[1] / spread
        self.shift = wanted[0] - middle * self.scale

    def __call__(self, traces: Tensor) -> Tensor:
        """Move and scale, [..., D]."""
        return traces * self.scale + self.shift


def middle_and_spread(traces: Tensor) -> tuple[Tensor, Tensor]:
    """Medians, and standard deviations by the quartiles, of traces [N, D]."""
    places = [round(part * (len(traces) - 1)) for part in (0.25, 0.5, 0.75)]
    parted = np.ascontiguousarray(traces.numpy().T)
    parted.partition(places, axis=1)  # much faster than sorting
    low, middle, high = (torch.from_numpy(parted[:, place].copy()) for place in places)
    return middle, (high - low) / 1.35 + 1e-3


def area_under_curve(positive: Tensor, negative: Tensor) -> float:
    """The chance that a positive score is above a negative one."""
    ranks = torch.cat([positive, negative]).argsort().argsort().double() + 1
    wins = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(wins / (len(positive) * len(negative)))
