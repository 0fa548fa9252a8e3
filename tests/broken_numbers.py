"""P controllers, metrics and feature extractors that each break one rule of the conformance kit."""

import itertools
import random

import torch

from adaflow.conformance.samples import StandIn
from adaflow.core.metric import Metric
from adaflow.core.p_controller import PController
from adaflow.errors import ConfigError

# p controllers


class NoController:
    def update(self, seen):
        return 0.5


class Steady(PController):
    def update(self, seen):
        return 0.5


class NotANumber(Steady):
    def update(self, seen):
        return float("nan")


class EndlessStart(Steady):
    def first_p(self, p):
        return float("inf")


class Divides(Steady):
    def update(self, seen):
        return 0.5 / (seen.score_real - seen.score_fake)


class Dice(Steady):
    def update(self, seen):
        return random.random()


class Numbered(Steady):
    """Each of them goes a way of its own."""

    made = itertools.count()

    def __init__(self):
        self.number = next(self.made)

    def update(self, seen):
        return 0.1 + 0.01 * (self.number % 50)

    def state_dict(self):
        return {"number": self.number}

    def load_state_dict(self, state):
        self.number = state["number"]


class Forgetful(Steady):
    steps = 0

    def update(self, seen):
        self.steps += 1
        return 0.01 * self.steps


class KeepsAClass(Steady):
    def state_dict(self):
        return {"class": PController}


class KeepsAList(Steady):
    def state_dict(self):
        return [1, 2]


# Metrics


class Brightness(Metric):
    def compute(self, context):
        return {"brightness": sum(float(batch.float().mean()) for batch in context.fakes(8))}


class NoMetric:
    def compute(self, context):
        return {"one": 1.0}


class Upwards(Brightness):
    better = "up"


class Nothing(Brightness):
    def compute(self, context):
        return {}


class Infinite(Brightness):
    def compute(self, context):
        return {"endless": float("inf")}


class Word(Brightness):
    def compute(self, context):
        return {"word": "high"}


class Unnamed(Brightness):
    def compute(self, context):
        return {"": 1.0}


class Alone(Brightness):
    def compute(self, context):
        return 3.0


class Throws(Brightness):
    def compute(self, context):
        return {"dice": float(torch.rand(()))}


class Ages(Brightness):
    asked = itertools.count()

    def compute(self, context):
        return {"age": float(next(self.asked))}


class Blue(Brightness):
    def compute(self, context):
        return {"blue": float(next(context.fakes(4))[:, 2].float().mean())}


class GreyIsNothing(Brightness):
    def compute(self, context):
        return {"colours": float("nan") if context.dataset.channels == 1 else 3.0}


class Paints(Brightness):
    def compute(self, context):
        context.dataset.pixels.zero_()
        return super().compute(context)


class Trains(Brightness):
    def compute(self, context):
        context.generator.train()
        return super().compute(context)


class Shifts(Brightness):
    def compute(self, context):
        with torch.no_grad():
            next(context.generator.parameters()).add_(1)
        return super().compute(context)


class Wants(Brightness):
    def check(self, extractors, dataset):
        raise ConfigError("there are no patients")


# Feature extractors


class Pixels(StandIn):
    name = "mine"


class NoExtractor:
    name = "mine"

    def __init__(self, device):
        pass


class Nameless(Pixels):
    name = "yours"


class Doubles(Pixels):
    def __call__(self, images):
        return super().__call__(images).double()


class Logarithm(Pixels):
    def __call__(self, images):
        return (super().__call__(images) - 1).log()


class Flattens(Pixels):
    def __call__(self, images):
        return images.float().flatten(1)


class BytesOnly(Pixels):
    def __call__(self, images):
        return super().__call__(images) if images.dtype == torch.uint8 else super().__call__(255 * images)


class Blind(Pixels):
    def __call__(self, images):
        return torch.ones(len(images), 4)


class Untrained(Pixels):
    def __init__(self, device="cpu"):
        super().__init__(device)
        self.weights = torch.rand(48)

    def __call__(self, images):
        return super().__call__(images) * self.weights


class Jitters(Pixels):
    def __call__(self, images):
        return super().__call__(images) + 1e-6 * torch.rand(())


class Tires(Pixels):
    """Gives less from call to call, by a count of its own."""

    calls = 0

    def __call__(self, images):
        self.calls += 1
        return super().__call__(images) - 1e-6 * self.calls


class Compares(Pixels):
    def __call__(self, images):
        features = super().__call__(images)
        return features - features.mean(0)


class Overwrites(Pixels):
    def __call__(self, images):
        features = super().__call__(images)
        images.zero_()
        return features


class ManyNames(Pixels):
    made = itertools.count()

    def identity(self):
        return {"name": next(self.made)}


class SetOfNames(Pixels):
    def identity(self):
        return {"name": {"mine"}}


class FlatStages(Pixels):
    def stages(self, images):
        return [self(images)]


class EndlessStages(Pixels):
    def stages(self, images):
        return [stage / 0 for stage in super().stages(images)]


class OneForAll(Pixels):
    def probabilities(self, images):
        return super().probabilities(images).mean(0)


class Unsure(Pixels):
    def probabilities(self, images):
        return 2 * super().probabilities(images)


BROKEN = [
    ("p controller", NoController, {"constructs"}),
    ("p controller", NotANumber, {"answers"}),
    ("p controller", EndlessStart, {"first_p"}),
    ("p controller", Divides, {"odd_observations"}),
    ("p controller", Dice, {"reproducible", "state_round_trip"}),
    ("p controller", Numbered, {"reproducible"}),
    ("p controller", Forgetful, {"state_round_trip"}),
    ("p controller", KeepsAClass, {"state_round_trip"}),
    ("p controller", KeepsAList, {"state_round_trip"}),
    ("metric", NoMetric, {"constructs"}),
    ("metric", Upwards, {"constructs"}),
    ("metric", Nothing, {"named_numbers"}),
    ("metric", Infinite, {"named_numbers"}),
    ("metric", Word, {"named_numbers"}),
    ("metric", Unnamed, {"named_numbers"}),
    ("metric", Alone, {"named_numbers"}),
    ("metric", Throws, {"reproducible"}),
    ("metric", Ages, {"reproducible"}),
    ("metric", Blue, {"grey_images"}),
    ("metric", GreyIsNothing, {"grey_images"}),
    ("metric", Paints, {"leaves_things_alone"}),
    ("metric", Trains, {"leaves_things_alone"}),
    ("metric", Shifts, {"leaves_things_alone"}),
    ("feature extractor", NoExtractor, {"constructs"}),
    ("feature extractor", Nameless, {"constructs"}),
    ("feature extractor", Doubles, {"features"}),
    ("feature extractor", Logarithm, {"features"}),
    ("feature extractor", Flattens, {"grey_and_any_size"}),
    ("feature extractor", BytesOnly, {"float_images"}),
    ("feature extractor", Blind, {"tells_images_apart"}),
    ("feature extractor", Untrained, {"reproducible"}),
    ("feature extractor", Jitters, {"reproducible"}),
    ("feature extractor", Tires, {"reproducible"}),
    ("feature extractor", Compares, {"independent_of_the_batch"}),
    ("feature extractor", Overwrites, {"input_untouched"}),
    ("feature extractor", ManyNames, {"identity"}),
    ("feature extractor", SetOfNames, {"identity"}),
    ("feature extractor", FlatStages, {"stages"}),
    ("feature extractor", EndlessStages, {"stages"}),
    ("feature extractor", OneForAll, {"probabilities"}),
    ("feature extractor", Unsure, {"probabilities"}),
]
"""Kind, what is registered, and the checks that it fails; where a basic one fails, the rest are skipped."""

GOOD = [("p controller", Steady), ("metric", Brightness), ("feature extractor", Pixels)]
"""What breaks nothing."""
