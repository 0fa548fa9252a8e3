"""The checks of augmentations: built-in ones pass them, and broken ones fail theirs and no others."""

import pytest
import torch

from adaflow.conformance import checks_for, run_checks
from adaflow.cuda.library import native
from adaflow.plugin_manager import PluginManager
from tests.broken_augmentations import BROKEN, Good

PLUGINS = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
REPORTS = {"cost"}
"""Checks that report and do not judge."""
UNTRIED = {"paths_agree"} if native(torch.device("cpu")) is None else set()
"""Checks that are skipped where there are no native kernels."""


@pytest.mark.parametrize("entry", [e for e in PLUGINS.augmentations if not e.lazy], ids=lambda entry: entry.name)
def test_built_in_augmentations_conform(entry):
    results = run_checks("augmentation", entry.name, entry.value)
    assert [(r.check, r.reason) for r in results if r.status != "passed" and r.check not in UNTRIED] == []


def test_a_plain_augmentation_conforms_and_its_cost_is_reported():
    results = run_checks("augmentation", "mine", Good)
    assert {result.check for result in results if result.status == "skipped"} == UNTRIED
    assert {result.check for result in results if result.reason} == {"cost"} | UNTRIED
    assert not any(result.status == "failed" for result in results)
    assert results[-1].reason.endswith("ms an image of 64 × 64 pixels")


@pytest.mark.parametrize(("transform", "checks"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_augmentation_fails_its_checks_and_no_others(transform, checks):
    results = run_checks("augmentation", "mine", transform)
    assert {result.check for result in results if result.status == "failed"} == checks - UNTRIED
    for result in results:
        if result.status == "failed":
            assert result.reason.isprintable()
            assert len(result.reason) < 600
    basic = {check.id for check in checks_for("augmentation") if check.basic}
    skipped = {result.check for result in results if result.status == "skipped"}
    assert bool(skipped - UNTRIED) == bool(basic & checks)


def test_every_check_of_augmentations_can_fail():
    fallible = set().union(*(checks for _, checks in BROKEN))
    assert {check.id for check in checks_for("augmentation")} - fallible == REPORTS
    alone = {next(iter(checks)) for _, checks in BROKEN if len(checks) == 1}
    assert fallible - alone == {"identity_at_p_0", "batch_of_one", "reproducible"}
