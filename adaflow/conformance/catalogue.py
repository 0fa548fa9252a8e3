"""All checks by kind, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from adaflow.conformance import (
    augmentation,
    dataset_reader,
    derivatives,
    feature_extractor,
    leak_detector,
    logger,
    method,
    metric,
    p_controller,
    randomness,
)
from adaflow.conformance.check import Check, CheckResult, Subject
from adaflow.errors import PluginError, UsageError

NOT_TRIED = "not tried"
"""How the reason begins why a check was left out that would only say the same again."""

Function = Callable[[Subject], str | None]


def _checks(kind: str, basic: Iterable[Function], further: Iterable[Function]) -> tuple[Check, ...]:
    return tuple([Check(kind, f, basic=True) for f in basic] + [Check(kind, f) for f in further])


CHECKS: dict[str, tuple[Check, ...]] = {
    "augmentation": _checks(
        "augmentation",
        (augmentation.constructs, augmentation.shape_and_type),
        (
            augmentation.settings_round_trip,
            augmentation.identity_at_p_0,
            augmentation.channels_1_and_3,
            augmentation.odd_sizes,
            augmentation.batch_of_one,
            augmentation.number_formats,
            augmentation.finite,
            augmentation.input_untouched,
            derivatives.gradient,
            derivatives.gradient_of_gradient,
            derivatives.gradient_of_gradient_on_torch_2_11,
            randomness.randomness_from_the_draw,
            augmentation.any_draw,
            randomness.reproducible,
            randomness.independent_of_the_batch,
            randomness.gate_rate,
            augmentation.order_stable,
            augmentation.paths_agree,
            randomness.state_round_trip,
            augmentation.cost,
        ),
    ),
    "p controller": _checks(
        "p controller",
        (p_controller.constructs, p_controller.answers),
        (
            p_controller.first_p,
            p_controller.odd_observations,
            p_controller.weights,
            p_controller.reproducible,
            p_controller.state_round_trip,
        ),
    ),
    "method": _checks(
        "method",
        (method.constructs, method.shown_as_real),
        (method.loss_term, method.input_untouched, method.randomness_from_the_draw, method.state_round_trip),
    ),
    "metric": _checks(
        "metric",
        (metric.constructs, metric.named_numbers),
        (metric.reproducible, metric.grey_images, metric.leaves_things_alone),
    ),
    "feature extractor": _checks(
        "feature extractor",
        (feature_extractor.constructs, feature_extractor.features),
        (
            feature_extractor.grey_and_any_size,
            feature_extractor.float_images,
            feature_extractor.tells_images_apart,
            feature_extractor.reproducible,
            feature_extractor.independent_of_the_batch,
            feature_extractor.input_untouched,
            feature_extractor.identity,
            feature_extractor.stages,
            feature_extractor.probabilities,
        ),
    ),
    "leak detector": _checks(
        "leak detector",
        (leak_detector.constructs, leak_detector.findings),
        (
            leak_detector.innocent_images,
            leak_detector.few_images,
            leak_detector.no_held_out_images,
            leak_detector.grey_images,
            leak_detector.reproducible,
            leak_detector.input_untouched,
        ),
    ),
    "dataset reader": _checks(
        "dataset reader",
        (dataset_reader.can_open, dataset_reader.opens),
        (
            dataset_reader.images,
            dataset_reader.names,
            dataset_reader.labels,
            dataset_reader.reads_again,
            dataset_reader.threads,
            dataset_reader.fingerprints,
        ),
    ),
    "logger": _checks(
        "logger",
        (logger.constructs, logger.whole_run),
        (logger.resumed_run, logger.strange_numbers, logger.early_end, logger.leaves_things_alone, logger.step_cost),
    ),
}
"""Kind → its checks, in the order in which they are run."""


def checks_for(kind: str) -> tuple[Check, ...]:
    """The checks of a kind, as `adaflow.plugin_manager.KINDS` has it.

    Raises:
        UsageError: there is no such kind.
    """
    if kind not in CHECKS:
        raise UsageError(f"there is no kind of plugin named {kind!r}", f"Known: {', '.join(CHECKS)}.")
    return CHECKS[kind]


def run_checks(
    kind: str,
    name: str,
    value: Any,
    expected_failures: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[CheckResult]:
    """Check one thing that a plugin offers: `run_checks("augmentation", "hair", Hair)`.

    Where a basic check fails, those that follow are skipped.

    Args:
        kind, name, value, settings: see `Subject`.
        expected_failures: id of a check → why it fails, beside those that `value` declares itself.

    Raises:
        UsageError: there is no such kind.
        PluginError: an expected failure names no check, or gives no reason.
    """
    return check_subject(Subject(kind, name, value, settings or {}), expected_failures)


def check_subject(subject: Subject, expected_failures: Mapping[str, str] | None = None) -> list[CheckResult]:
    """As `run_checks`, for a subject."""
    expected = expected_failures_of(subject, expected_failures)
    results: list[CheckResult] = []
    missing = ""
    for check in checks_for(subject.kind):
        if missing:
            results.append(CheckResult(check.id, "skipped", f"{NOT_TRIED}, for {missing} has not passed"))
            continue
        results.append(check.result(subject, expected.get(check.id, "")))
        if check.basic and results[-1].status != "passed":
            missing = check.id
    return results


def expected_failures_of(subject: Subject, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The failures that are expected: those in the attribute `expected_failures` of what is registered, and more.

    Raises:
        PluginError: one of them names no check of this kind, or gives no reason.
    """
    own = getattr(subject.value, "expected_failures", {})
    if not isinstance(own, Mapping):
        raise PluginError(
            f"expected_failures of {subject.kind} {subject.name!r} is a {type(own).__name__}",
            "It is a dictionary: id of a check → why it fails.",
        )
    expected = {**own, **(more or {})}
    ids = [check.id for check in checks_for(subject.kind)]
    for check, reason in expected.items():
        if check not in ids:
            raise PluginError(
                f"{subject.kind} {subject.name!r} expects the check {check!r} to fail, which there is not",
                f"Known: {', '.join(ids)}.",
            )
        if not isinstance(reason, str) or not reason.strip():
            raise PluginError(
                f"{subject.kind} {subject.name!r} expects the check {check!r} to fail and does not say why",
                "Give a reason beside its id.",
            )
    return expected
