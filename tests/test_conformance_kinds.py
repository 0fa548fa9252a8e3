"""The conformance kit for all kinds but augmentations: built-in things pass, broken ones fail their checks alone."""

import numpy as np
import pytest

from adaflow.conformance import CHECKS, run_checks
from adaflow.conformance.samples import DrawnImages
from adaflow.plugin_manager import PluginManager
from tests import broken_methods, broken_numbers, broken_others

BROKEN = broken_numbers.BROKEN + broken_others.BROKEN + broken_methods.BROKEN
GOOD = broken_numbers.GOOD + broken_others.GOOD + broken_methods.GOOD
PLUGINS = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
SLOW = {"memorisation"}
"""Built-in things whose checks take ten seconds."""
MAY_BE_ABSENT = {"dinov2", "dinov2-l", "inception", "vgg16-lpips", "cifar10"}
"""Their weights or files need not be on this machine."""
REPORTS = {("logger", "step_cost")}


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
    results = run_checks("metric", "mine", broken_numbers.Wants)
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
