"""The checks as tests of pytest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from adaflow.conformance.catalogue import checks_for, expected_failures_of
from adaflow.conformance.check import Subject

if TYPE_CHECKING:
    import pytest


def parametrize_with_checks(
    subjects: Iterable[Subject], expected_failures: Mapping[str, Mapping[str, str]] | None = None
) -> pytest.MarkDecorator:
    """Make a test of every check of every subject, with ids like `hair-identity_at_p_0`.

        @parametrize_with_checks(offered_by("hair.py"))
        def test_conformance(subject, check):
            check(subject)

    Args:
        subjects: what to check.
        expected_failures: name of a subject → id of a check → why it fails, beside those that it declares itself. Such
            a test is a strict xfail: that it passes is a failure.

    Raises:
        PluginError: an expected failure names no check, or gives no reason.
    """
    import pytest

    parameters = []
    for subject in subjects:
        expected = expected_failures_of(subject, (expected_failures or {}).get(subject.name))
        for check in checks_for(subject.kind):
            reason = expected.get(check.id)
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            parameters.append(pytest.param(subject, check, id=f"{subject.name}-{check.id}", marks=marks))
    return pytest.mark.parametrize(("subject", "check"), parameters)
