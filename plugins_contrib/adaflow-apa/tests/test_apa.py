"""Adaptive pseudo augmentation."""

from pathlib import Path

import pytest
import torch

from adaflow.conformance import offered_by, parametrize_with_checks
from adaflow.core.draw import RandomDraws
from adaflow.core.method import Batch
from adaflow.core.training_step import training_step
from adaflow.plugin_manager import PluginManager
from tests.runs import differences, small_run

FILE = Path(__file__).parents[1] / "adaflow_apa.py"


@parametrize_with_checks(offered_by(FILE))
def test_conformance(subject, check):
    check(subject)


@pytest.fixture(scope="module")
def plugins():
    manager = PluginManager([FILE], environ={"ADAFLOW_NO_PLUGINS": "1"})
    manager.require_named()
    return manager


def replaced(plugins, p, weight=1.0, count=1000):
    apa = plugins.methods["apa"].value(weight=weight)
    reals = Batch(torch.zeros(count, 3, 4, 4), torch.zeros(count, 2))
    fakes = Batch(torch.ones(count, 3, 4, 4), torch.ones(count, 2))
    draw = RandomDraws(0, "test", torch.arange(count)).draw("apa")
    shown = apa.reals(reals, fakes, torch.tensor(p, dtype=torch.float64), draw)
    per_image = shown.images.flatten(1)
    assert (per_image == per_image[:, :1]).all()  # an image is real or fake as a whole
    assert torch.equal(per_image[:, 0], shown.labels[:, 0])  # and so is its label
    return float(per_image[:, 0].mean())


def test_reals_are_replaced_with_probability_p(plugins):
    """Within 4 standard deviations: wrong once in 16,000 times."""
    assert replaced(plugins, 0.0) == 0
    assert abs(replaced(plugins, 0.3) - 0.3) < 4 * (0.21 / 1000) ** 0.5
    assert abs(replaced(plugins, 0.6, weight=0.5) - 0.3) < 4 * (0.21 / 1000) ** 0.5
    assert replaced(plugins, 1.0) == 1


def test_d_sees_pseudo_reals_in_training(tmp_path, plugins):
    """With p = 1, D is shown fakes only: its mean score of what is called real is that of fakes."""
    table = {"augment": {"augs": "none", "controller": "fixed", "p": 1.0, "p_max": 1.0}, "methods": ["apa"]}
    run = small_run(tmp_path, table, plugins)
    for _ in range(3):
        training_step(run)
    real, fake = float(run.state.observed[1]), float(run.state.observed[2])
    assert real == pytest.approx(fake, abs=1e-6)


def test_without_p_nothing_changes(tmp_path, plugins):
    table = {"augment": {"augs": "none", "controller": "fixed", "p": 0.0}}
    states = []
    for methods in ([], ["apa"]):
        run = small_run(tmp_path, table | {"methods": methods}, plugins)
        for _ in range(3):
            training_step(run)
        states.append(run.state.state_dict())
    assert [name for name in differences(*states) if not name.startswith("plugins")] == []
