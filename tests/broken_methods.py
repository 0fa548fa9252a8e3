"""Training methods, and controllers with a p for each transform, that each break one rule of the conformance kit."""

from typing import ClassVar

import torch

from adaflow.core.method import Batch, Method
from adaflow.core.p_controller import PController


class Plain(Method):
    """Replaces reals by chance, adds a term, and remembers."""

    def __init__(self):
        self.mean = 0.0

    def reals(self, reals, fakes, p, draw):
        chosen = draw.fires(p)[:, None, None, None]
        return Batch(torch.where(chosen, fakes.images, reals.images), reals.labels)

    def discriminator_loss(self, fake_logits, real_logits):
        return (real_logits - self.mean).square()

    def observe(self, seen):
        self.mean = 0.9 * self.mean + 0.1 * seen.score_fake

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]


class NoMethod:
    pass


class Fewer(Plain):
    def reals(self, reals, fakes, p, draw):
        return Batch(reals.images[1:], reals.labels[1:])


class NoNumbers(Plain):
    def reals(self, reals, fakes, p, draw):
        return Batch(reals.images / 0, reals.labels)


class TooMany(Plain):
    def discriminator_loss(self, fake_logits, real_logits):
        return real_logits.square().repeat(2, 1)


class NoSlope(Plain):
    """Its term is finite, its gradient is not."""

    def discriminator_loss(self, fake_logits, real_logits):
        return (real_logits * 0).sqrt()


class Wipes(Plain):
    def reals(self, reals, fakes, p, draw):
        fakes.labels.zero_()
        return reals


class Guesses(Plain):
    def discriminator_loss(self, fake_logits, real_logits):
        torch.rand(())
        return super().discriminator_loss(fake_logits, real_logits)


class Forgets(Plain):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class ByName(PController):
    """A p of its own for each transform."""

    needs_transforms: ClassVar[bool] = True

    def update(self, seen):
        return 0.5 + 0.1 * sum(sign or 0.0 for sign in seen.signs.values())

    def weights(self, names, p):
        return {names[0]: 0.5}


class Counts(ByName):
    """Its weights grow, and are lost on a resume."""

    def __init__(self):
        self.count = 0

    def weights(self, names, p):
        self.count += 1
        return {names[0]: 1.0 + self.count}


class Elsewhere(ByName):
    def weights(self, names, p):
        return {"colour": 0.5}


class Negative(ByName):
    def weights(self, names, p):
        return {names[0]: -0.5}


GOOD = [("method", Plain), ("method", Method), ("p controller", ByName)]

BROKEN = [
    ("method", NoMethod, {"constructs"}),
    ("method", Fewer, {"shown_as_real"}),
    ("method", NoNumbers, {"shown_as_real"}),
    ("method", TooMany, {"loss_term"}),
    ("method", NoSlope, {"loss_term"}),
    ("method", Wipes, {"input_untouched"}),
    ("method", Guesses, {"randomness_from_the_draw"}),
    ("method", Forgets, {"state_round_trip"}),
    ("p controller", Counts, {"state_round_trip"}),
    ("p controller", Elsewhere, {"weights"}),
    ("p controller", Negative, {"weights"}),
]
