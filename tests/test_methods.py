"""Training methods, and controllers that give each transform its own p."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from adaflow.core.augment import build_pipeline
from adaflow.core.draw import RandomDraws
from adaflow.core.method import Batch, Method
from adaflow.core.p_controller import Observation, PController
from adaflow.core.train import train
from adaflow.core.training_step import training_step
from adaflow.errors import ConfigError, PluginError
from adaflow.hookspecs import hookimpl
from adaflow.plugin_manager import PluginManager
from tests.runs import differences, small_run


@dataclass
class Swap(Method):
    """Shows fakes in the place of all reals, and counts."""

    capturable: ClassVar[bool] = False

    extra: float = 0.0

    def __post_init__(self):
        self.shown = 0
        self.seen = []

    def reals(self, reals, fakes, p, draw):
        assert not fakes.images.requires_grad
        assert reals.images.shape == fakes.images.shape
        assert reals.labels.shape == fakes.labels.shape
        assert draw.n == len(reals.images)
        self.shown += len(reals.images)
        return fakes

    def discriminator_loss(self, fake_logits, real_logits):
        assert fake_logits.shape == real_logits.shape == (8, 1)
        return self.extra * real_logits.square() if self.extra else None

    def observe(self, seen):
        self.seen.append(seen.images)

    def state_dict(self):
        return {"shown": self.shown}

    def load_state_dict(self, state):
        self.shown = state.get("shown", 0)


@dataclass
class ByName(PController):
    """p = 0.5 for x-flips, a tenth of it for hue; the sign of each transform is kept."""

    needs_transforms: ClassVar[bool] = True

    other: str = "hue"

    def __post_init__(self):
        self.signs = []

    def update(self, seen):
        self.signs.append(dict(seen.signs))
        return 0.5

    def weights(self, names, p):
        return {**dict.fromkeys(names, 0.0), "xflip": 1.0, self.other: 0.1}


class Plugin:
    @hookimpl
    def register_methods(self, register):
        register("swap", Swap)

    @hookimpl
    def register_p_controllers(self, register):
        register("by-name", ByName)


@pytest.fixture
def plugins():
    manager = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
    manager._add("mine", lambda: Plugin(), "a test")
    return manager


def test_a_method_replaces_what_is_shown_as_real(tmp_path, plugins):
    run = small_run(tmp_path, {"methods": ["swap"], "augment": {"augs": "none"}}, plugins)
    for _ in range(4):
        training_step(run)
    method = run.methods["swap"]
    assert method.shown == 4 * 8
    assert method.seen == [32]
    stats = run.state.statistics.take()
    # D was shown the same images as fake and as real.
    plain = small_run(tmp_path, {"augment": {"augs": "none"}})
    for _ in range(4):
        training_step(plain)
    assert stats["Loss/signs/real"] != plain.state.statistics.take()["Loss/signs/real"]


def test_a_term_is_added_to_the_loss_of_d(tmp_path, plugins):
    runs = [small_run(tmp_path, {"methods": [f"swap(extra={extra})"]}, plugins) for extra in (0.0, 1.0)]
    for run in runs:
        training_step(run)
    without, with_term = (run.state.statistics.take()["Loss/D/loss"]["mean"] for run in runs)
    assert with_term > without


def test_methods_survive_a_resume(tmp_path, plugins):
    run = small_run(tmp_path, {"methods": ["swap"]}, plugins)
    train(run)
    again = small_run(tmp_path, {"methods": ["swap"]}, plugins, fresh=False)
    again.state.load_state_dict(run.state.state_dict(), again.world)
    assert again.methods["swap"].shown == run.methods["swap"].shown == 160


def test_unknown_methods_and_settings_are_refused(tmp_path, plugins):
    with pytest.raises(PluginError, match="no method named 'swop'"):
        small_run(tmp_path, {"methods": ["swop"]}, plugins)
    with pytest.raises(ConfigError, match="no setting 'more'"):
        small_run(tmp_path, {"methods": ["swap(more=1)"]}, plugins)


def test_without_methods_nothing_changes(tmp_path):
    """The base class is no method: it shows the reals, and adds nothing."""
    batch = Batch(torch.randn(2, 3, 4, 4), torch.zeros(2, 0))
    assert Method().reals(batch, batch, torch.zeros(()), None) is batch
    assert Method().discriminator_loss(torch.zeros(2, 1), torch.zeros(2, 1)) is None


def test_a_p_for_each_transform(tmp_path, plugins):
    """Over 400 images each transform fires as often as its own p says, within 4 standard deviations."""
    pipeline = build_pipeline("xflip,hue*0.5,rotate,cutout", plugins.augmentations)
    images, p = torch.randn(400, 3, 16, 16), 0.8
    pipeline.weigh({"hue": 0.5, "rotate": 0.25, "cutout": 0.0})
    fired = pipeline.fired(p, RandomDraws(0, "test", torch.arange(400)), channels=3)
    for name, expected in {"xflip": 0.8, "hue": 0.2, "rotate": 0.2, "cutout": 0.0}.items():
        share = fired[name].double().mean()
        assert abs(share - expected) <= 4 * (expected * (1 - expected) / 400) ** 0.5, name
    changed = (pipeline(images, p, RandomDraws(0, "test", torch.arange(400))) != images).flatten(1).any(1)
    # An x-flip is drawn among flip and no flip.
    assert not changed[~(fired["xflip"] | fired["hue"] | fired["rotate"])].any()
    assert changed[fired["hue"] | fired["rotate"]].all()


def test_weights_change_nothing_else(plugins):
    """The same numbers are drawn with and without: a pipeline whose factors are all 1 does the same."""
    pipeline = build_pipeline("bgcfnc", plugins.augmentations)
    images = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    draws = lambda: RandomDraws(0, "test", torch.arange(32))  # noqa: E731
    before = pipeline(images, 0.5, draws())
    spec = pipeline.spec()
    pipeline.weigh({"hue": 1.0})
    torch.testing.assert_close(pipeline(images, 0.5, draws()), before, atol=2e-5, rtol=0)
    pipeline.weigh({"hue": 0.0})
    assert pipeline.spec() == spec
    pipeline.weigh({})
    assert torch.equal(pipeline(images, 0.5, draws()), before)


def test_a_controller_sees_the_sign_of_every_transform(tmp_path, plugins):
    table = {"augment": {"augs": "xflip,hue,cutout", "controller": "by-name", "p": 0.5}}
    run = small_run(tmp_path, table, plugins)
    reals = []
    original = run.state.D.forward

    def record(images, labels, **options):
        logits = original(images, labels, **options)
        if options.get("parts") == 2:
            reals.append(logits.chunk(2)[1].detach().squeeze(1).sign())
        return logits

    run.state.D.forward = record
    for _ in range(4):
        training_step(run)
    (signs,) = run.controller.signs
    pipeline = build_pipeline("xflip,hue,cutout", plugins.augmentations)
    pipeline.weigh({"hue": 0.1, "cutout": 0.0})
    fired = pipeline.fired(0.5, RandomDraws(0, "D-real", torch.arange(32)), channels=3)
    for name in ("xflip", "hue"):
        expected = torch.cat(reals)[fired[name]].mean() if fired[name].any() else None
        assert signs[name] == pytest.approx(float(expected)) if expected is not None else signs[name] is None
    assert signs["cutout"] is None  # it never fired


def test_an_unknown_transform_among_weights_is_found_before_the_run(tmp_path, plugins):
    with pytest.raises(PluginError, match="no p for 'huw'"):
        small_run(tmp_path, {"augment": {"controller": "by-name(other='huw')"}}, plugins)


def test_signs_must_be_finite():
    seen = Observation(0, 0, 0, 0, 0.0, 0.0, 0.0, signs={"hue": None, "xflip": float("nan")})
    assert not seen.is_finite()
    assert Observation(0, 0, 0, 0, 0.0, 0.0, 0.0, signs={"hue": None}).is_finite()


def test_states_differ_where_they_should(tmp_path, plugins):
    """The comparison that resume tests rely on sees the state of a method."""
    one, other = (small_run(tmp_path, {"methods": ["swap"]}, plugins) for _ in range(2))
    other.methods["swap"].shown = 5
    assert differences(one.state.state_dict(), other.state.state_dict()) == ["plugins.0.method swap.shown"]


@pytest.mark.parametrize("factor", [float("nan"), -1.0, float("inf"), "much", None])
def test_factors_are_numbers_of_at_least_0(plugins, factor):
    with pytest.raises(PluginError, match="no factor on p"):
        build_pipeline("hue", plugins.augmentations).weigh({"hue": factor})


def test_what_needs_colours_fires_for_no_grey_image(plugins):
    pipeline = build_pipeline("hue,xflip", plugins.augmentations)
    fired = pipeline.fired(1.0, RandomDraws(0, "test", torch.arange(8)), channels=1)
    assert not fired["hue"].any()
    assert fired["xflip"].all()


def test_the_p_of_each_transform_is_logged(tmp_path, plugins):
    table = {"augment": {"augs": "xflip,hue", "controller": "by-name", "p": 0.5}, "schedule": {"kimg": 0.04}}
    run = small_run(tmp_path, table, plugins)
    train(run)
    assert run.stats["Progress/augment/hue"]["mean"] == pytest.approx(0.05)
    assert run.stats["Progress/augment/xflip"]["mean"] == pytest.approx(0.5)


def misbehaving(**functions):
    return type("Bad", (Method,), functions)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (misbehaving(reals=lambda self, reals, fakes, p, draw: None), "does not show as many"),
        (misbehaving(reals=lambda self, reals, fakes, p, draw: Batch(reals[0][1:], reals[1])), "does not show as many"),
        (misbehaving(discriminator_loss=lambda self, fake, real: real[1:]), "adds something"),
        (misbehaving(discriminator_loss=lambda self, fake, real: 0.5), "adds something"),
        (type("NoMethod", (), {}), "is a NoMethod"),
    ],
)
def test_a_method_that_misbehaves_is_named(tmp_path, plugins, method, message):
    plugins.methods.add("bad", method, "a test")
    with pytest.raises(PluginError, match=f"method 'bad' {message}"):
        training_step(small_run(tmp_path, {"methods": ["bad"]}, plugins))
