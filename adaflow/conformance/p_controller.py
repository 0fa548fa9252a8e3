"""Checks of p controllers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

from adaflow.conformance.check import (
    Subject,
    advanced_generators,
    generator_states,
    require,
    same_generators,
    through_a_file,
)
from adaflow.core.p_controller import Observation, PController, next_p

STEPS = 40
IMAGES_SINCE = 256
P_MAX = 0.8
TRANSFORMS = ("xflip", "hue", "noise")


def constructs(subject: Subject) -> None:
    """It can be made from its name, with its default settings or those given, and is a `PController`."""
    made = subject.make()
    require(isinstance(made, PController), f"it is a {type(made).__name__}, not an adaflow.PController")


def answers(subject: Subject) -> None:
    """It answers every observation of an ordinary run with a finite number."""
    controller, p = _make(subject), 0.0
    for step in range(STEPS):
        p = _answered(controller, _observation(controller, step, p))


def first_p(subject: Subject) -> None:
    """The p before the first step is a finite number, whatever p the run asks for."""
    for p in (0.0, 0.3, 1.0):
        first = float(_make(subject).first_p(p))
        require(math.isfinite(first), f"first_p({p}) is {first}")


def odd_observations(subject: Subject) -> None:
    """It answers with finite numbers, too, when scores are all alike, when all signs agree, and at the ends of p and
    of the run."""
    ordinary = _observation(_make(subject), 3, 0.3)
    val = None if ordinary.score_val is None else 0.0
    for odd in (
        replace(ordinary, score_real=0.0, score_fake=0.0, score_val=val),
        replace(ordinary, score_real=1e4, score_fake=-1e4, score_val=val),
        replace(ordinary, sign_real=1.0),
        replace(ordinary, sign_real=-1.0),
        replace(ordinary, p=0.0),
        replace(ordinary, p=P_MAX),
        replace(ordinary, images=ordinary.total_images),
    ):
        _answered(_make(subject), odd)


def weights(subject: Subject) -> None:
    """Factors on p, if it answers any, are finite numbers of at least 0, for transforms of the run."""
    controller, p = _make(subject), 0.3
    for step in range(STEPS):
        factors = controller.weights(TRANSFORMS, p)
        unknown = [name for name in factors if name not in TRANSFORMS]
        require(not unknown, f"it has weights for {', '.join(unknown)}, which it was not asked for")
        bad = [factor for factor in factors.values() if not (math.isfinite(factor) and factor >= 0)]
        require(not bad, f"a weight is {bad[0] if bad else 0}")
        p = _answered(controller, _observation(controller, step, p))


def reproducible(subject: Subject) -> None:
    """It decides from what it sees alone, so that every process comes to the same p: not from global random numbers."""
    ways = []
    for seed in (1, 2):
        with same_generators(seed):
            before = generator_states()
            ways.append(_way(_make(subject), range(STEPS)))
            used = advanced_generators(before)
        require(not used, f"it uses the global generator of {', '.join(used)}")
    require(ways[0] == ways[1], "the same observations give another p in another process")


def state_round_trip(subject: Subject) -> None:
    """What `state_dict` gives survives a checkpoint, and a controller that takes it back goes on like the first one."""
    first, second = _make(subject), _make(subject)
    before = _way(first, range(STEPS // 2))
    second.load_state_dict(through_a_file(first.state_dict()))
    rest = range(STEPS // 2, STEPS)
    goes_on, resumed = (_way(controller, rest, p=before[-1][0]) for controller in (first, second))
    require(goes_on == resumed, "after a resume p goes another way: state_dict() does not hold all it remembers")


def _make(subject: Subject) -> PController:
    return cast(PController, subject.make())


def _answered(controller: PController, seen: Observation) -> float:
    """The p that follows, of whose being a number is made sure."""
    answer = float(controller.update(seen))
    require(math.isfinite(answer), f"update() answers {answer} to {seen}")
    return next_p(controller, seen, P_MAX)[0]


def _way(controller: PController, steps: range, p: float = 0.0) -> list[tuple[float, dict[str, float]]]:
    """The p of each step, and the weights on it."""
    way = []
    for step in steps:
        p, _ = next_p(controller, _observation(controller, step, p), P_MAX)
        way.append((p, controller.weights(TRANSFORMS, p)))
    return way


def _observation(controller: PController, step: int, p: float) -> Observation:
    """What a discriminator says that begins to overfit."""
    sure = step / STEPS + 0.2 * math.sin(step)
    return Observation(
        p=p,
        images=(step + 1) * IMAGES_SINCE,
        images_since=IMAGES_SINCE,
        total_images=2 * STEPS * IMAGES_SINCE,
        sign_real=math.tanh(sure),
        score_real=2 * sure,
        score_fake=-1 - sure,
        score_val=0.5 - sure if controller.needs_validation else None,
        p_max=P_MAX,
        signs=dict(zip(TRANSFORMS, (math.tanh(sure), -0.5, None), strict=True)) if controller.needs_transforms else {},
    )
