"""Augmentations that each break one rule of the conformance kit, or as few as they can."""

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from adaflow.core.augment.transform import (
    ColorTransform,
    FilterTransform,
    GeometryTransform,
    ImageTransform,
    Transform,
    parameter,
)

CPU = torch.device("cpu")
LATE_GRID_SAMPLE = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12)
"""Whether torch's grid_sample has no second derivative here."""


@dataclass
class Good(ImageTransform):
    """Darkens by an amount that is drawn; breaks nothing."""

    strength: float = parameter(0.5)

    def apply(self, images: Tensor, draw):
        amount = draw.uniform(0.1, self.strength).view(-1, 1, 1, 1)
        return images * (1 - amount) - amount


class Unmakeable(Good):
    def __init__(self, strength):
        super().__init__(strength)


class Kindless(Transform):
    pass


class Cropped(Good):
    def apply(self, images, draw):
        return super().apply(images, draw)[:, :, 1:]


class Raises(Good):
    def apply(self, images, draw):
        raise RuntimeError("no \x1b[31mway\nout")


class Exits(Good):
    def apply(self, images, draw):
        raise SystemExit(0)


class NotATensor(Good):
    def apply(self, images, draw):
        return images.tolist()


class DoubleMatrix(ColorTransform):
    def matrix(self, draw):
        return 0.5 * torch.eye(4, dtype=torch.float64).repeat(draw.n, 1, 1)


class OneGain(FilterTransform):
    band = 2

    def gain(self, draw):
        return torch.full((draw.n, 1), 2.0)


@dataclass
class Doubles(Good):
    def __post_init__(self):
        super().__post_init__()
        self.strength *= 1.25


class Secretive(Good):
    def __init__(self, power=1.0):
        super().__init__()
        self.power = power


@dataclass
class Unreadable(Good):
    device: torch.device = CPU


class Short(float):
    def __repr__(self):
        return f"{self:.2f}"


@dataclass
class Shortened(Good):
    """Shows a setting with fewer digits than it has."""

    strength: float = 0.504

    def __post_init__(self):
        self.strength = Short(self.strength)


class AlwaysOpen(Good):
    def gate(self, p):
        return p * 0.9 + 0.1


class Colourful(Good):
    def apply(self, images, draw):
        return super().apply(images, draw) + torch.tensor([0.1, 0.0, -0.1]).view(1, 3, 1, 1)


class OnlyColour(Good):
    def apply(self, images, draw):
        return super().apply(images, draw) + 0 * images[:, 2:3]


class Square(Good):
    def apply(self, images, draw):
        return super().apply(images, draw).transpose(2, 3)


class NeedsCompany(Good):
    def apply(self, images, draw):
        return super().apply(images, draw).squeeze(0)


class Ranked(Good):
    """Uses what torch has for float32 and float64 only."""

    def apply(self, images, draw):
        return super().apply(images, draw) - 0.1 * torch.quantile(images.flatten(1), 0.3, dim=1).view(-1, 1, 1, 1)


class Rounded(Good):
    def apply(self, images, draw):
        return super().apply(images, draw) * (2.0 if images.dtype == torch.bfloat16 else 1.0)


class Normalised(Good):
    """NaN for flat images, whose gradient is NaN then, too."""

    def apply(self, images, draw):
        return super().apply(images, draw) / images.flatten(1).std(1).view(-1, 1, 1, 1)


class Overflows(Good):
    """Infinite for one image in fifty."""

    def apply(self, images, draw):
        rare = ((draw.uniform() - 0.98).abs() < 0.01).view(-1, 1, 1, 1)
        return torch.where(rare, torch.inf, super().apply(images, draw))


class InPlace(Good):
    def apply(self, images, draw):
        return images.mul_(0.5)


class Scissors(Good):
    """Cuts half of the gradient."""

    def apply(self, images, draw):
        return super().apply(images, draw) + images.detach().square()


class Detached(Good):
    def apply(self, images, draw):
        return super().apply(images.detach(), draw)


class Posterised(Good):
    def apply(self, images, draw):
        return (super().apply(images, draw) * 4).round() / 4


class RootOfSquare(Good):
    """|x| by a root, whose derivative is NaN at 0."""

    def apply(self, images, draw):
        return super().apply(images, draw) + images.square().sqrt() / 2


class OnceSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


class Once(Good):
    def apply(self, images, draw):
        return super().apply(images, draw) + OnceSquare.apply(images)


class CutSecond(torch.autograd.Function):
    """A square whose second derivative is forgotten."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0].detach()


class WrongSecond(Good):
    def apply(self, images, draw):
        return super().apply(images, draw) + CutSecond.apply(images)


class GridSample(Good):
    def apply(self, images, draw):
        matrix = torch.eye(2, 3).repeat(draw.n, 1, 1)
        matrix[:, 0, 2] = draw.uniform(0.1, 0.3)
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False).to(images.dtype)
        return F.grid_sample(images, grid, align_corners=False)


class GlobalNoise(Good):
    def apply(self, images, draw):
        return images + 0.1 * torch.randn_like(images)


class Wasteful(Good):
    """Draws a global number that it does not use."""

    def apply(self, images, draw):
        torch.rand(())
        return super().apply(images, draw)


class Secretly(Good):
    """Uses global numbers and hides it."""

    def apply(self, images, draw):
        with torch.random.fork_rng(devices=[]):
            return images + 0.1 * torch.randn_like(images)


class KeyOfTheDraw(Good):
    def apply(self, images, draw):
        return super().apply(images, draw) + 1e-3 * (draw.key % 7)


class ExtremeQuantile(Good):
    """Infinite at the very ends of the distribution."""

    def apply(self, images, draw):
        return super().apply(images, draw) + torch.where(draw.uniform() > 1 - 2e-6, torch.inf, 0.0).view(-1, 1, 1, 1)


class Counts(Good):
    """Remembers how often it was called, and keeps that to itself."""

    calls = 0

    def apply(self, images, draw):
        self.calls += 1
        return super().apply(images, draw) + 0.01 * self.calls


class ForgetsHalf(Counts):
    def state_dict(self):
        return {"calls": self.calls // 2}

    def load_state_dict(self, state):
        self.calls = state["calls"]


class SavesASet(Good):
    def state_dict(self):
        return {"seen": {1, 2}}


class Centred(Good):
    """Looks at the others of the batch."""

    def apply(self, images, draw):
        return super().apply(images, draw) - 0.1 * images.mean()


class Shy(Good):
    def gate(self, p):
        return p * p


class Eager(GeometryTransform):
    """A flip that comes too often."""

    def gate(self, p):
        return p**0.5

    def matrix(self, draw, height, width):
        return torch.diag(torch.tensor([-1.0, 1.0, 1.0])).repeat(draw.n, 1, 1)


class LatestFirst(Good):
    made = itertools.count(1)

    def __post_init__(self):
        self.order = 1000 - 999 * (next(self.made) % 2)


class NoOrder(Good):
    order = math.nan


class Impostor(GeometryTransform):
    """Claims to be the built-in flip, and turns upside down."""

    formula = "xflip"
    pixel_copy = True

    def matrix(self, draw, height, width):
        return torch.diag(torch.tensor([1.0, -1.0, 1.0])).repeat(draw.n, 1, 1)


@dataclass
class Expecting(Posterised):
    """Says itself what is wrong with it."""

    expected_failures: ClassVar = {"gradient": "colours are rounded, and rounding has no slope"}


BROKEN: list[tuple[type, set[str]]] = [
    (Unmakeable, {"constructs"}),
    (Kindless, {"constructs"}),
    (Cropped, {"shape_and_type"}),
    (Raises, {"shape_and_type"}),
    (Exits, {"shape_and_type"}),
    (NotATensor, {"shape_and_type"}),
    (DoubleMatrix, {"shape_and_type"}),
    (OneGain, {"shape_and_type"}),
    (Doubles, {"settings_round_trip"}),
    (Secretive, {"settings_round_trip"}),
    (Unreadable, {"settings_round_trip"}),
    (Shortened, {"settings_round_trip"}),
    (AlwaysOpen, {"identity_at_p_0", "gate_rate"}),
    (Colourful, {"channels_1_and_3"}),
    (OnlyColour, {"channels_1_and_3"}),
    (Square, {"odd_sizes"}),
    (NeedsCompany, {"batch_of_one", "independent_of_the_batch"}),
    (Ranked, {"number_formats"}),
    (Rounded, {"number_formats"}),
    (Overflows, {"finite"}),
    (Normalised, {"finite", "gradient", "gradient_of_gradient"}),
    (InPlace, {"input_untouched"}),
    (Scissors, {"gradient", "gradient_of_gradient"}),
    (Detached, {"gradient"}),
    (Posterised, {"gradient"}),
    (RootOfSquare, {"gradient", "gradient_of_gradient"}),
    (Once, {"gradient_of_gradient"}),
    (WrongSecond, {"gradient_of_gradient"}),
    (GridSample, {"gradient_of_gradient_on_torch_2_11"} | ({"gradient_of_gradient"} if LATE_GRID_SAMPLE else set())),
    (GlobalNoise, {"randomness_from_the_draw", "reproducible", "independent_of_the_batch"}),
    (Secretly, {"randomness_from_the_draw", "independent_of_the_batch"}),
    (Wasteful, {"randomness_from_the_draw"}),
    (KeyOfTheDraw, {"any_draw"}),
    (ExtremeQuantile, {"any_draw"}),
    (Centred, {"independent_of_the_batch"}),
    (Shy, {"gate_rate"}),
    (Eager, {"gate_rate"}),
    (LatestFirst, {"order_stable"}),
    (NoOrder, {"order_stable"}),
    (Impostor, {"paths_agree"}),
    (Counts, {"reproducible", "state_round_trip"}),
    (ForgetsHalf, {"state_round_trip"}),
    (SavesASet, {"state_round_trip"}),
]
"""Each with the checks that it fails; where a basic one fails, the rest are skipped."""
