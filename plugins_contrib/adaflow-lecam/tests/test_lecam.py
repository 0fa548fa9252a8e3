"""LeCam regularisation."""

from pathlib import Path

import pytest
import torch

from adaflow.conformance import offered_by, parametrize_with_checks
from adaflow.core.p_controller import Observation
from adaflow.core.train import train
from adaflow.core.training_step import training_step
from adaflow.errors import ConfigError
from adaflow.plugin_manager import PluginManager
from tests.runs import differences, small_run

FILE = Path(__file__).parents[1] / "adaflow_lecam.py"


@parametrize_with_checks(offered_by(FILE))
def test_conformance(subject, check):
    check(subject)


@pytest.fixture(scope="module")
def plugins():
    manager = PluginManager([FILE], environ={"ADAFLOW_NO_PLUGINS": "1"})
    manager.require_named()
    return manager


def observation(real, fake):
    return Observation(0, 0, 0, 0, sign_real=0.0, score_real=real, score_fake=fake, steps_since=4)


def test_the_term(plugins):
    lecam = plugins.methods["lecam"].value(weight=2.0)
    fake_logits, real_logits = torch.tensor([[1.0], [0.0]]), torch.tensor([[3.0], [-1.0]])
    assert lecam.discriminator_loss(fake_logits, real_logits) is None
    lecam.observe(observation(real=2.0, fake=-0.5))
    expected = 2 * ((real_logits + 0.5) ** 2 + (fake_logits - 2) ** 2)
    torch.testing.assert_close(lecam.discriminator_loss(fake_logits, real_logits), expected)


def test_the_running_means(plugins):
    """Four steps with the same scores, at once."""
    lecam = plugins.methods["lecam"].value(decay=0.9)
    lecam.observe(observation(0.0, 1.0))
    lecam.observe(observation(1.0, 0.0))
    assert lecam.means == pytest.approx((1 - 0.9**4, 0.9**4))


@pytest.mark.slow
def test_it_holds_the_scores_of_d_together(tmp_path, plugins):
    gaps = []
    for weight in (0.0, 1.0):
        run = small_run(tmp_path, {"methods": [f"lecam(weight={weight})"], "augment": {"augs": "none"}}, plugins)
        for _ in range(40):
            training_step(run)
        stats = run.state.statistics.take()
        gaps.append(stats["Loss/scores/real"]["mean"] - stats["Loss/scores/fake"]["mean"])
    assert abs(gaps[1]) < abs(gaps[0])


def test_a_resume_is_exact(tmp_path, plugins):
    whole = tmp_path / "whole"
    halves = tmp_path / "halves"
    whole.mkdir()
    halves.mkdir()
    table = {"methods": ["lecam(weight=0.1)"], "schedule": {"kimg": 0.16}}
    run = small_run(whole, table, plugins)
    train(run)
    first = small_run(halves, table | {"schedule": {"kimg": 0.08}}, plugins)
    train(first)
    second = small_run(halves, table, plugins, fresh=False)
    train(second, resume=True)
    assert second.methods["lecam(weight=0.1)"].means is not None
    ignore = ("seconds", "tick_seconds", "best")
    assert differences(run.state.state_dict(), second.state.state_dict(), ignore) == []


@pytest.mark.parametrize("settings", [{"weight": -1.0}, {"decay": 1.0}])
def test_settings_out_of_range(plugins, settings):
    with pytest.raises(ConfigError):
        plugins.methods["lecam"].value(**settings)
