"""The conformance kit for all kinds but augmentations: built-in things pass, broken ones fail their checks alone."""

import itertools
import os
import random
import time

import numpy as np
import pytest
import torch

import adaflow
from adaflow.conformance import CHECKS, run_checks
from adaflow.conformance.samples import DrawnImages, StandIn
from adaflow.core.leak_detector import Finding, LeakDetector
from adaflow.core.logger import Logger
from adaflow.core.metric import Metric
from adaflow.core.p_controller import PController
from adaflow.errors import ConfigError
from adaflow.plugin_manager import PluginManager

PLUGINS = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
SLOW = {"memorisation"}
"""Built-in things whose checks take ten seconds."""
MAY_BE_ABSENT = {"dinov2", "dinov2-l", "inception", "vgg16-lpips", "cifar10"}
"""Their weights or files need not be on this machine."""
REPORTS = {("logger", "step_cost")}


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


class Unsure(Pixels):
    def probabilities(self, images):
        return 2 * super().probabilities(images)


# Leak detectors


class Silent(LeakDetector):
    def check(self, context):
        context.held_out  # noqa: B018
        return [Finding("mine", "nothing", "clean", "There is nothing.")]


class NoDetector:
    def check(self, context):
        return []


class SaysNothing(Silent):
    def check(self, context):
        return []


def says(**fields):
    class Says(Silent):
        def check(self, context):
            known = {"detector": "mine", "subject": "it", "verdict": "clean", "sentence": "It is so."}
            return [Finding(**(known | fields))]

    return Says


class Accuses(Silent):
    def check(self, context):
        return [Finding("mine", "copies", "leak", "All are copies.")]


class AccusesMany(Silent):
    """Only where there are images enough and others to compare with."""

    def check(self, context):
        if len(context.fakes) < 100 or context.held_out is None:
            return super().check(context)
        return [Finding("mine", "copies", "leak", "All are copies.")]


class WantsMany(Silent):
    def check(self, context):
        return [super(WantsMany, self).check(context)[0] for _ in range(len(context.fakes) // 50)][:1] or [None]


class WantsHeldOut(Silent):
    def check(self, context):
        len(context.held_out)
        return super().check(context)


class WantsColour(Silent):
    def check(self, context):
        context.fakes[:, 2].float()
        return super().check(context)


class Guesses(Silent):
    def check(self, context):
        return [Finding("mine", "guess", "clean", f"It may be {float(torch.rand(()))}.")]


class Wipes(Silent):
    def check(self, context):
        context.train.zero_()
        return super().check(context)


# Dataset readers


class Source(DrawnImages):
    name = "mine"

    def __init__(self):
        super().__init__(6)


class Reader:
    def __init__(self, source=Source, **replaced):
        self.source = type("Changed", (source,), replaced)

    def can_open(self, spec):
        return spec == "mine"

    def open(self, spec):
        return self.source()


class Greedy(Reader):
    def can_open(self, spec):
        return True


class Vague(Reader):
    def can_open(self, spec):
        return spec if spec == "mine" else ""


class Loud(Reader):
    def can_open(self, spec):
        return bool(os.stat(spec))


class NoSource(Reader):
    def open(self, spec):
        return [1, 2, 3]


def upright(self, index):
    return DrawnImages.read(self, index).transpose(1, 2, 0)


def through_one_buffer(self, index):
    image = self.__dict__.setdefault("buffer", {}).setdefault(index, DrawnImages.read(self, index))
    return image


def with_a_cursor(self, index):
    self.cursor = index
    time.sleep(0.002)
    return DrawnImages.read(self, self.cursor)


# Loggers


class NoLogger:
    def tick(self, run, stats):
        pass


class Quiet(Logger):
    def tick(self, run, stats):
        pass


class Misspells(Quiet):
    def tick(self, run, stats):
        stats["Progress/kings"]


class OnlyOnce(Quiet):
    def start(self, run):
        (run.folder / "mine.log").touch(exist_ok=False)


class Rounds(Quiet):
    def tick(self, run, stats):
        round(stats["Loss/D/loss"]["mean"])


class ClosesWhatATickOpens(Quiet):
    def tick(self, run, stats):
        self.file = run.folder / "mine.log"

    def close(self):
        self.file.touch()


class Takes(Quiet):
    def tick(self, run, stats):
        stats.pop("Progress/kimg")


class TakesResults(Quiet):
    def metrics(self, run, results):
        results.clear()


class Meddles(Quiet):
    def step(self, run):
        run.state.p = 0.0


BROKEN = [
    ("p controller", NoController, {"constructs"}),
    ("p controller", NotANumber, {"answers"}),
    ("p controller", EndlessStart, {"first_p"}),
    ("p controller", Divides, {"odd_observations"}),
    ("p controller", Dice, {"reproducible", "state_round_trip"}),
    ("p controller", Numbered, {"reproducible"}),
    ("p controller", Forgetful, {"state_round_trip"}),
    ("p controller", KeepsAClass, {"state_round_trip"}),
    ("metric", NoMetric, {"constructs"}),
    ("metric", Upwards, {"constructs"}),
    ("metric", Nothing, {"named_numbers"}),
    ("metric", Infinite, {"named_numbers"}),
    ("metric", Word, {"named_numbers"}),
    ("metric", Alone, {"named_numbers"}),
    ("metric", Throws, {"reproducible"}),
    ("metric", Ages, {"reproducible"}),
    ("metric", Blue, {"grey_images"}),
    ("metric", Paints, {"leaves_things_alone"}),
    ("metric", Trains, {"leaves_things_alone"}),
    ("metric", Shifts, {"leaves_things_alone"}),
    ("feature extractor", NoExtractor, {"constructs"}),
    ("feature extractor", Nameless, {"constructs"}),
    ("feature extractor", Doubles, {"features"}),
    ("feature extractor", Flattens, {"grey_and_any_size"}),
    ("feature extractor", BytesOnly, {"float_images"}),
    ("feature extractor", Blind, {"tells_images_apart"}),
    ("feature extractor", Untrained, {"reproducible"}),
    ("feature extractor", Jitters, {"reproducible"}),
    ("feature extractor", Compares, {"independent_of_the_batch"}),
    ("feature extractor", Overwrites, {"input_untouched"}),
    ("feature extractor", ManyNames, {"identity"}),
    ("feature extractor", SetOfNames, {"identity"}),
    ("feature extractor", FlatStages, {"stages"}),
    ("feature extractor", Unsure, {"probabilities"}),
    ("leak detector", NoDetector, {"constructs"}),
    ("leak detector", SaysNothing, {"findings"}),
    ("leak detector", says(verdict="maybe"), {"findings"}),
    ("leak detector", says(sentence="so"), {"findings"}),
    ("leak detector", says(rate=1.5), {"findings"}),
    ("leak detector", says(interval=(0.9, 0.1)), {"findings"}),
    ("leak detector", says(details={"images": {1, 2}}), {"findings"}),
    ("leak detector", says(panels=(adaflow.Panel("it", torch.zeros(3, 8, 8)),)), {"findings"}),
    ("leak detector", Accuses, {"innocent_images", "few_images", "no_held_out_images"}),
    ("leak detector", AccusesMany, {"innocent_images"}),
    ("leak detector", WantsMany, {"few_images"}),
    ("leak detector", WantsHeldOut, {"no_held_out_images"}),
    ("leak detector", WantsColour, {"grey_images"}),
    ("leak detector", Guesses, {"reproducible"}),
    ("leak detector", Wipes, {"input_untouched"}),
    ("dataset reader", Greedy(), {"can_open"}),
    ("dataset reader", Vague(), {"can_open"}),
    ("dataset reader", Loud(), {"can_open"}),
    ("dataset reader", NoSource(), {"opens"}),
    ("dataset reader", Reader(__len__=lambda self: 0), {"opens"}),
    ("dataset reader", Reader(name="../mine"), {"opens"}),
    ("dataset reader", Reader(read=upright), {"images"}),
    ("dataset reader", Reader(image_name=lambda self, index: "same"), {"names"}),
    ("dataset reader", Reader(encoded=lambda self, index: "text"), {"names"}),
    ("dataset reader", Reader(label=lambda self, index: -1), {"labels"}),
    ("dataset reader", Reader(label=lambda self, index: index, class_names=("a", "b")), {"labels"}),
    ("dataset reader", Reader(label=lambda self, index: (0.5,) * (1 + index % 2)), {"labels"}),
    ("dataset reader", Reader(group=lambda self, index: f"patient {index}"), {"labels"}),
    ("dataset reader", Reader(read=through_one_buffer), {"reads_again"}),
    ("dataset reader", Reader(read=with_a_cursor), {"threads"}),
    ("dataset reader", Reader(fingerprint=lambda self: os.urandom(8).hex()), {"fingerprints"}),
    ("dataset reader", Reader(stamp=lambda self: "today"), {"fingerprints"}),
    ("logger", NoLogger, {"constructs"}),
    ("logger", Misspells, {"whole_run"}),
    ("logger", OnlyOnce, {"resumed_run"}),
    ("logger", Rounds, {"strange_numbers"}),
    ("logger", ClosesWhatATickOpens, {"early_end"}),
    ("logger", Takes, {"leaves_things_alone"}),
    ("logger", TakesResults, {"leaves_things_alone"}),
    ("logger", Meddles, {"leaves_things_alone"}),
]
"""Kind, what is registered, and the checks that it fails; where a basic one fails, the rest are skipped."""

GOOD = [
    ("p controller", Steady),
    ("metric", Brightness),
    ("feature extractor", Pixels),
    ("leak detector", Silent),
    ("dataset reader", Reader()),
    ("logger", Quiet),
]


@pytest.mark.parametrize(("kind", "value"), GOOD)
def test_plain_things_conform(kind, value):
    assert [result for result in run_checks(kind, "mine", value) if result.status != "passed"] == []


@pytest.mark.parametrize(("kind", "value", "checks"), BROKEN)
def test_broken_things_fail_their_checks_and_no_others(kind, value, checks):
    results = run_checks(kind, "mine", value)
    assert {result.check for result in results if result.status == "failed"} == checks
    assert all(result.reason.isprintable() for result in results)


def test_every_check_can_fail_alone():
    alone = {(kind, *checks) for kind, _, checks in BROKEN if len(checks) == 1}
    every = {(kind, check.id) for kind, checks in CHECKS.items() if kind != "augmentation" for check in checks}
    assert every - alone == REPORTS


def test_what_a_metric_lacks_is_no_failure():
    results = run_checks("metric", "mine", Wants)
    assert [(r.check, r.status) for r in results[:2]] == [("constructs", "passed"), ("named_numbers", "skipped")]
    assert results[1].reason == "there are no patients"


BUILT_IN = [
    pytest.param(
        registry.kind,
        entry,
        id=f"{registry.kind}-{entry.name}",
        marks=[pytest.mark.slow] if entry.name in SLOW else [],
    )
    for registry in PLUGINS.registries.values()
    if registry.kind != "augmentation"
    for entry in registry
]


@pytest.mark.parametrize(("kind", "entry"), BUILT_IN)
def test_built_in_things_conform(kind, entry):
    settings = {"source": "demo:lesions,resolution=16,images=4"} if entry.name == "demo:lesions" else {}
    results = run_checks(kind, entry.name, entry.value, settings=settings)
    assert [r for r in results if r.status == "failed"] == []
    assert entry.name in MAY_BE_ABSENT or all(r.status == "passed" for r in results)


def test_drawn_images_differ():
    pictures = [DrawnImages(20).read(index) for index in range(20)]
    assert len({picture.tobytes() for picture in pictures}) == 20
    assert min(np.ptp(picture) for picture in pictures) > 40
