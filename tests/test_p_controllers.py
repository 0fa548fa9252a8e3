"""Controllers of the augmentation probability: step sizes, schedules, and what holds for every one of them."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaflow.core.build import build_plugin
from adaflow.core.p_controller import Observation, PController, next_p
from adaflow.core.resolve import full_controller
from adaflow.errors import ConfigError, UsageError
from adaflow.plugin_manager import PluginManager

PLUGINS = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})

BATCH_64 = Observation(
    p=0.3, images=100_000, images_since=256, total_images=1_000_000, sign_real=0.9, score_real=2.0, score_fake=-2.0
)
"""What a controller sees after four batches of 64."""


def make(text: str) -> PController:
    controller = build_plugin(text, PLUGINS.p_controllers)
    assert isinstance(controller, PController)
    return controller


def test_rt_moves_p_by_one_step_of_the_paper():
    # arXiv 2006.06676: every 4 minibatches, from 0 to 1 in 500k images: 64·4 / 500 000.
    assert make("rt").update(BATCH_64) - 0.3 == pytest.approx(5.12e-4, abs=1e-12)
    assert make("rt").update(replace(BATCH_64, sign_real=0.5)) - 0.3 == pytest.approx(-5.12e-4, abs=1e-12)
    assert make("rt").update(replace(BATCH_64, sign_real=0.6)) == 0.3
    assert make("rt(target=0.95)").update(BATCH_64) < 0.3
    assert make("rt(kimg=100)").update(BATCH_64) - 0.3 == pytest.approx(2.56e-3, abs=1e-12)


@pytest.mark.parametrize("batch", [8, 32, 64])
def test_rt_takes_500_kimg_from_0_to_1(batch):
    p, images, saturated = 0.0, 0, False
    while not saturated and images < 600_000:
        images += 4 * batch
        p, saturated = next_p(make("rt"), replace(BATCH_64, p=p, images=images, images_since=4 * batch), p_max=1.0)
    assert p == 1.0
    assert images == pytest.approx(500_000, abs=8 * batch)


def test_rv_compares_validation_images_with_the_rest():
    # Eq. 1: (2 − 1) / (2 − −2) = 0.25 and (2 − −1) / (2 − −2) = 0.75, around the target of 0.5.
    assert make("rv").needs_validation
    assert make("rv").update(replace(BATCH_64, score_val=1.0)) < 0.3
    assert make("rv").update(replace(BATCH_64, score_val=-1.0)) - 0.3 == pytest.approx(5.12e-4, abs=1e-12)
    assert make("rv").update(replace(BATCH_64, score_val=0.0)) == 0.3
    assert make("rv(target=0.2)").update(replace(BATCH_64, score_val=1.0)) > 0.3
    assert make("rv").update(BATCH_64) == 0.3


def test_rv_survives_a_discriminator_that_tells_nothing_apart():
    same = replace(BATCH_64, score_fake=2.0, score_val=2.0)
    assert make("rv").update(same) == pytest.approx(0.3 - 5.12e-4, abs=1e-12)
    assert make("rv").update(replace(same, score_val=1.0)) == pytest.approx(0.3 + 5.12e-4, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("linear", (0.0, 0.075, 0.15, 0.225, 0.3)),
        ("linear(start=0.5, end=0.1)", (0.5, 0.4, 0.3, 0.2, 0.1)),
        ("linear(end=0.4, kimg=500)", (0.0, 0.2, 0.4, 0.4, 0.4)),
        ("cosine", (0.0, 0.15 * (1 - math.sqrt(0.5)), 0.15, 0.15 * (1 + math.sqrt(0.5)), 0.3)),
        ("cosine(end=0.55, kimg=500)", (0.0, 0.275, 0.55, 0.55, 0.55)),
    ],
)
def test_schedules_pass_through_their_values(text, values):
    seen = [replace(BATCH_64, images=quarter * 250_000) for quarter in range(5)]
    assert [make(text).update(one) for one in seen] == pytest.approx(list(values), abs=1e-12)


def test_fixed_holds_its_p_or_that_of_the_run():
    assert make("fixed").update(BATCH_64) == 0.3
    assert make("fixed(p=0.7)").update(BATCH_64) == 0.7


def test_the_cap_holds_and_says_so():
    assert next_p(make("fixed(p=0.9)"), BATCH_64, p_max=0.8) == (0.8, True)
    assert next_p(make("fixed(p=0.8)"), BATCH_64, p_max=0.8) == (0.8, False)
    at_cap = replace(BATCH_64, p=0.8)
    assert next_p(make("rt"), at_cap, p_max=0.8) == (0.8, True)
    assert next_p(make("rt"), replace(at_cap, sign_real=0.0), p_max=0.8) == (pytest.approx(0.8 - 5.12e-4), False)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["sign_real", "score_real", "score_fake", "score_val"])
def test_p_is_held_while_the_discriminator_is_not_finite(name, value):
    for text in ("rt", "rv", "linear", "fixed(p=0.7)"):
        assert next_p(make(text), replace(BATCH_64, **{name: value}), p_max=0.8) == (0.3, False)


@pytest.mark.parametrize("answer", [math.nan, math.inf, -math.inf])
def test_p_is_held_when_the_controller_has_no_finite_answer(answer):
    class Odd(PController):
        def update(self, seen):
            return answer

    assert next_p(Odd(), BATCH_64, p_max=0.8) == (0.3, False)


any_number = st.floats(allow_nan=True, allow_infinity=True)


@given(
    text=st.sampled_from(["rt", "rv", "rt(kimg=0.001)", "linear(start=1.0, end=0.0)", "cosine(end=1.0)", "fixed(p=1)"]),
    p_max=st.floats(0.0, 1.0),
    share=st.floats(0.0, 1.0),
    images=st.integers(0, 10**9),
    images_since=st.integers(0, 10**6),
    scores=st.tuples(any_number, any_number, any_number, st.none() | any_number),
)
def test_p_stays_between_0_and_its_cap_whatever_is_seen(text, p_max, share, images, images_since, scores):
    sign, real, fake, val = scores
    seen = Observation(share * p_max, images, images_since, 10**6, sign, real, fake, val)
    p, saturated = next_p(make(text), seen, p_max)
    assert 0 <= p <= p_max
    assert not saturated or p == p_max


@given(sign=st.floats(-1, 1), target=st.floats(-1, 1), p=st.floats(0.1, 0.9), since=st.integers(1, 10_000))
def test_rt_never_moves_by_more_than_a_step_nor_the_wrong_way(sign, target, p, since):
    seen = replace(BATCH_64, p=p, sign_real=sign, images_since=since)
    move = make(f"rt(target={target!r})").update(seen) - p
    assert abs(move) <= since / 500_000 + 1e-12
    assert move * (sign - target) >= 0


@pytest.mark.parametrize(
    "text",
    [
        *(
            "rt(kimg=0)",
            "rt(kimg=-5)",
            "rt(target=1.5)",
            "rv(target=-0.1)",
            "rv(kimg=0)",
            "fixed(p=1.1)",
            "fixed(p=-1)",
        ),
        *("linear(kimg=0)", "cosine(end=2)", "linear(start=-1)", "rt(target=True)", "rt(target='high')", "rt(gain=1)"),
    ],
)
def test_settings_out_of_range_are_refused(text):
    with pytest.raises(ConfigError):
        make(text)


def test_target_and_pace_are_written_into_the_controller():
    assert full_controller("rt", PLUGINS, None, pretrained=False) == "rt"
    assert full_controller("rt", PLUGINS, 0.7, pretrained=False) == "rt(target=0.7)"
    assert full_controller("rt(target=0.5)", PLUGINS, 0.7, pretrained=False) == "rt(target=0.7)"
    # arXiv 2006.06676, appendix C: five times faster from a trained network.
    assert full_controller("rv", PLUGINS, None, pretrained=True) == "rv(kimg=100.0)"
    assert full_controller("rt(kimg=7)", PLUGINS, None, pretrained=True) == "rt(kimg=7)"
    assert full_controller("cosine", PLUGINS, None, pretrained=True) == "cosine"
    with pytest.raises(UsageError, match="fixed has no target"):
        full_controller("fixed", PLUGINS, 0.7, pretrained=False)
