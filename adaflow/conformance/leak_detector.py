"""Checks of leak detectors: on a few hundred drawn images, with a feature extractor that costs nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from adaflow.conformance import samples
from adaflow.conformance.check import (
    Subject,
    advanced_generators,
    generator_states,
    require,
    same_generators,
)
from adaflow.conformance.pipelines import COMPANY
from adaflow.core.leak_detector import Finding, LeakContext, LeakDetector, fault_of

FEW = 20


def constructs(subject: Subject) -> None:
    """It can be made from its name, with its default settings or those given, and is a `LeakDetector`."""
    made = subject.make()
    require(isinstance(made, LeakDetector), f"it is a {type(made).__name__}, not an adaflow.LeakDetector")


def findings(subject: Subject) -> str:
    """It gives at least one finding: a verdict, a whole sentence, rates from 0 to 1, plain details, uint8 pictures."""
    found = _found(subject, _context())
    require(bool(found), "it finds nothing, not even that something is clean")
    return ", ".join(finding.subject for finding in found)


def innocent_images(subject: Subject) -> None:
    """Other images of the same kind as those trained on are no leak."""
    found = _found(subject, _context())
    require(not _leaks(found), f"of innocent images it says: {_leaks(found)}")


def few_images(subject: Subject) -> None:
    """Of too few images it says that it cannot tell, and raises nothing."""
    context = _context()
    assert context.held_out is not None
    few = replace(context, fakes=context.fakes[:FEW], train=context.train[:FEW], held_out=context.held_out[:FEW])
    found = _found(subject, few)
    require(not _leaks(found), f"of {FEW} innocent images it says: {_leaks(found)}")


def no_held_out_images(subject: Subject) -> None:
    """It does what it can without images that were kept out of training."""
    found = _found(subject, replace(_context(), held_out=None))
    require(not _leaks(found), f"of innocent images it says: {_leaks(found)}")


def grey_images(subject: Subject) -> None:
    """It takes grey images, too."""
    _found(subject, _context(channels=1))


def reproducible(subject: Subject) -> None:
    """The same images and the same seed give the same findings; the global random numbers are left alone."""
    ways = []
    for seed in (1, 2):
        with same_generators(seed):
            before = generator_states()
            ways.append(_plain(_found(subject, _context())))
            used = advanced_generators(before)
        require(not used, f"it uses the global generator of {', '.join(used)}: draw from context.seed")
    require(ways[0] == ways[1], "the same images and seed give other findings the second time")


def input_untouched(subject: Subject) -> None:
    """The images it is given are not changed."""
    context = _context()
    assert context.held_out is not None
    given = {"fakes": context.fakes, "train": context.train, "held_out": context.held_out}
    before = {name: images.clone() for name, images in given.items()}
    _found(subject, context)
    changed = [name for name, images in given.items() if not torch.equal(images, before[name])]
    require(not changed, f"it writes into the images it is given: {', '.join(changed)}")


def _context(channels: int = 3) -> LeakContext:
    """A check of images that are as innocent as can be; they are copies, to be written into without harm."""
    data, extractor = samples.dataset(channels), samples.StandIn()
    return LeakContext(
        fakes=samples.fakes(channels).clone(),
        train=data.take(data.train_indices),
        held_out=data.take(data.val_indices),
        extractor=lambda name: extractor,
        device=torch.device("cpu"),
        transforms={"curve": COMPANY["company.curve"]()},
        used=frozenset({"curve"}),
        spec="curve",
    )


def _found(subject: Subject, context: LeakContext) -> list[Finding]:
    """What it finds, of whose form is made sure."""
    found = cast(LeakDetector, subject.make()).check(context)
    fault = fault_of(found)
    require(not fault, fault)
    for finding in found:
        whole = finding.sentence.endswith(".")
        require(whole, f"its finding of {finding.subject!r} says {finding.sentence!r}, which is no whole sentence")
    return found


def _plain(found: Sequence[Finding]) -> list[str]:
    """Findings as text."""
    names = ("detector", "subject", "verdict", "sentence", "advice", "rate", "interval", "smallest_seen", "details")
    rows: list[dict[str, Any]] = [{name: getattr(finding, name) for name in names} for finding in found]
    return [json.dumps(row) for row in rows]


def _leaks(found: Sequence[Finding]) -> str:
    return " ".join(finding.sentence for finding in found if finding.verdict == "leak")
