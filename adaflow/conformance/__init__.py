"""The conformance kit: small named checks of what a plugin offers.

    run_checks("augmentation", "hair", Hair)    # → a CheckResult for each check

or, as tests of pytest:

    @parametrize_with_checks(offered_by("hair.py"))
    def test_conformance(subject, check):
        check(subject)

`docs/conformance.md` says what each check means.
"""

from adaflow.conformance.catalogue import CHECKS, check_subject, checks_for, run_checks
from adaflow.conformance.check import Check, CheckError, CheckResult, CheckSkipped, Subject
from adaflow.conformance.parametrize import parametrize_with_checks
from adaflow.conformance.subjects import offered_by

__all__ = [
    "CHECKS",
    "Check",
    "CheckError",
    "CheckResult",
    "CheckSkipped",
    "Subject",
    "check_subject",
    "checks_for",
    "offered_by",
    "parametrize_with_checks",
    "run_checks",
]
