"""Leak detectors, dataset readers and loggers that each break one rule of the conformance kit."""

import itertools
import os
import time

import torch

import adaflow
from adaflow.conformance.samples import DrawnImages
from adaflow.core.leak_detector import Finding, LeakDetector
from adaflow.core.logger import Logger

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


class Counts(Silent):
    asked = itertools.count()

    def check(self, context):
        return [Finding("mine", "count", "clean", f"It was asked {next(self.asked)} times.")]


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


class Shrinks(Reader):
    """Has an image fewer each second time that it is opened."""

    opened = 0

    def open(self, spec):
        self.opened += 1
        source = self.source()
        source.count -= self.opened % 2
        return source


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
    ("leak detector", Counts, {"reproducible"}),
    ("leak detector", Wipes, {"input_untouched"}),
    ("dataset reader", Greedy(), {"can_open"}),
    ("dataset reader", Vague(), {"can_open"}),
    ("dataset reader", Loud(), {"can_open"}),
    ("dataset reader", NoSource(), {"opens"}),
    ("dataset reader", Reader(__len__=lambda self: 0), {"opens"}),
    ("dataset reader", Reader(name="../mine"), {"opens"}),
    ("dataset reader", Reader(read=upright), {"images"}),
    ("dataset reader", Reader(image_name=lambda self, index: "same"), {"names"}),
    ("dataset reader", Reader(image_name=lambda self, index: ""), {"names"}),
    ("dataset reader", Reader(encoded=lambda self, index: "text"), {"names"}),
    ("dataset reader", Reader(label=lambda self, index: -1), {"labels"}),
    ("dataset reader", Reader(label=lambda self, index: index, class_names=("a", "b")), {"labels"}),
    ("dataset reader", Reader(label=lambda self, index: (0.5,) * (1 + index % 2)), {"labels"}),
    ("dataset reader", Reader(label=lambda self, index: index or (0.5,)), {"labels"}),
    ("dataset reader", Reader(is_validation=lambda self, index: "no"), {"labels"}),
    ("dataset reader", Reader(group=lambda self, index: f"patient {index}"), {"labels"}),
    ("dataset reader", Shrinks(), {"reads_again", "fingerprints"}),
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

GOOD = [("leak detector", Silent), ("dataset reader", Reader()), ("logger", Quiet)]
"""What breaks nothing."""
