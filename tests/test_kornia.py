"""kornia's classes as transforms: what each must do, their settings, their numbers, the page about them."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import version

import pytest
import torch

from adaflow.conformance import parametrize_with_checks
from adaflow.conformance.subjects import of_provider
from adaflow.core.augment import build_pipeline
from adaflow.core.augment.describe import describe_transforms
from adaflow.core.draw import PercentileDraw, RandomDraws
from adaflow.core.leakcheck import _transforms
from adaflow.errors import ConfigError, PluginError
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.augmentations.kornia import CLASSES
from adaflow.plugins.augmentations.kornia_transform import _joined, _seeds, kornia_transform
from tests.kornia_checks import (
    INFINITE_GRADIENT,
    NO_GRADIENT,
    PAGE,
    UNSUITABLE,
    available,
    changed,
    images,
    page,
    problems,
)

pytest_plugins = ["tests.command_line"]

this_version = pytest.mark.skipif(version("kornia").startswith("0.8"), reason="the page is about kornia 0.9")

MANAGER = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
REGISTRY = MANAGER.augmentations


def pipeline(spec):
    return build_pipeline(spec, REGISTRY)


QUICK = ("ColorJitter", "RandomElasticTransform", "RandomErasing", "RandomHue", "RandomPerspective", "RandomSnow")
ALL_SOME_SLOW = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CLASSES]


@pytest.mark.parametrize("name", ALL_SOME_SLOW)
def test_is_fit_for_training(name):
    assert problems(kornia_transform(name)()) == []


@pytest.mark.slow
@parametrize_with_checks(of_provider(MANAGER, "kornia"))
def test_conformance(subject, check):
    check(subject)


@pytest.mark.parametrize("name", UNSUITABLE[NO_GRADIENT])
def test_classes_without_a_gradient_have_none(name):
    assert "gives some images no gradient at all." in problems(kornia_transform(name)())


@pytest.mark.parametrize("name", UNSUITABLE[INFINITE_GRADIENT])
def test_classes_with_an_infinite_gradient_have_one(name):
    assert problems(kornia_transform(name)()) == ["has gradients that are not finite for images of few colours."]


@this_version
def test_every_class_is_offered_or_there_is_a_reason():
    assert list(CLASSES) == sorted(set(CLASSES))
    assert len(CLASSES) >= 40
    refused = [name for names in UNSUITABLE.values() for name in names]
    assert sorted([*CLASSES, *refused]) == sorted(available())
    assert [entry.name for entry in REGISTRY if entry.provider == "kornia"] == [f"kornia.{name}" for name in CLASSES]


@this_version
@pytest.mark.filterwarnings("ignore")
def test_the_page_says_what_is_found():
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "Run python -m tests.kornia_checks."


def test_loading_plugins_does_not_import_kornia():
    script = """
import sys
from adaflow.core.augment import build_pipeline
from adaflow.plugin_manager import PluginManager
registry = PluginManager(environ={}).augmentations
assert "kornia.RandomHue" in registry
build_pipeline("bgcfnc", registry)
assert "kornia" not in sys.modules
build_pipeline("kornia.RandomHue", registry)
assert "kornia" in sys.modules
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr


def test_a_class_that_another_version_lacks(monkeypatch):
    import kornia

    monkeypatch.delattr(kornia.augmentation, "RandomRain")
    with pytest.raises(PluginError, match=r"'kornia.RandomRain' of plugin kornia cannot be used: kornia [\d.]+ has no"):
        PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).augmentations["kornia.RandomRain"].value  # noqa: B018


def test_a_name_that_is_nearly_right():
    with pytest.raises(PluginError) as error:
        pipeline("RandomHue")
    assert "kornia.RandomHue" in error.value.hint


# Settings


@pytest.mark.parametrize("name", CLASSES)
def test_a_spec_reads_back_the_same(name):
    built = pipeline(f"kornia.{name}*0.5")
    again = pipeline(built.spec())
    assert again.spec() == built.spec()
    assert again.transforms == built.transforms
    assert not built.transforms[0].transform.capturable


def test_settings_are_kornias():
    spec = "kornia.RandomElasticTransform(alpha=0.5, kernel_size=(31, 31), sigma=8.0, padding_mode='border')"
    (active,) = pipeline(spec).transforms
    assert (active.transform.alpha, active.transform.align_corners) == (0.5, False)
    assert pipeline(pipeline(spec).spec()).transforms == [active]
    pair = pipeline(spec.replace("alpha=0.5", "alpha=(0.5, 0.5)").replace("sigma=8.0", "sigma=(8.0, 8.0)"))
    assert torch.equal(changed(active.transform, images(2)), changed(pair.transforms[0].transform, images(2)))


def test_a_list_describes_them():
    rows = {row["name"]: row for row in describe_transforms(REGISTRY)}
    row = rows["kornia.RandomHue"]
    assert row["summary"].startswith("Apply a random transformation to the hue of a")
    assert (row["kind"], row["settings"], row["plugin"]) == ("image", "hue=(-0.5, 0.5)", "kornia")
    assert all(rows[f"kornia.{name}"]["summary"] for name in CLASSES)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("RandomHue(shade=1)", "augmentation 'kornia.RandomHue' has no setting 'shade'"),
        ("RandomHue(p=0.5)", "augmentation 'kornia.RandomHue' has no setting 'p'"),
        ("RandomHue(same_on_batch=True)", "augmentation 'kornia.RandomHue' has no setting 'same_on_batch'"),
        ("RandomCrop(size=(8, 8))", "augmentation 'kornia.RandomCrop' has no setting 'size'"),
        ("RandomHue(hue=(-2, 2))", "augmentation 'kornia.RandomHue': kornia does not take hue=(-2, 2)"),
        ("RandomHue(hue='red')", "augmentation 'kornia.RandomHue': kornia does not take hue='red'"),
        ("RandomElasticTransform(alpha=(1, 2, 3))", "kornia does not take alpha=(1, 2, 3)"),
        ("RandomElasticTransform(sigma='wide')", "kornia does not take sigma='wide'"),
        ("RandomGaussianBlur(kernel_size=4)", "kornia does not take kernel_size=4"),
        ("RandomAffine(degrees=10, padding_mode='wet')", "kornia does not take degrees=10, padding_mode='wet'"),
        ("RandomAffine(align_corners=1)", "augmentation 'kornia.RandomAffine': align_corners is 1"),
        ("RandomBrightness(clip_output=1)", "augmentation 'kornia.RandomBrightness': clip_output is 1"),
        ("RandomChannelDropout(num_drop_channels=1.5)", "kornia does not take num_drop_channels=1.5"),
        ("RandomGrayscale(rgb_weights=(1, 2))", "kornia does not take rgb_weights=(1, 2)"),
    ],
)
def test_wrong_settings(spec, message):
    with pytest.raises(ConfigError) as error:
        pipeline(f"kornia.{spec}")
    assert message in error.value.message
    assert "\n" not in error.value.message + error.value.hint


def test_settings_that_need_large_images_are_no_mistake():
    (active,) = pipeline("kornia.RandomGaussianBlur(kernel_size=(151, 151), sigma=(20.0, 30.0))").transforms
    with pytest.raises(ConfigError) as error:
        changed(active.transform, images(2))
    assert error.value.message == "kornia.RandomGaussianBlur cannot be applied to images of 3 channels, 24×24 pixels"


# What they do


def test_values_are_brought_to_kornias_range_and_back():
    before = images(3)
    for spec, expected in (
        ("RandomInvert", -before),
        ("RandomHorizontalFlip", before.flip(3)),
        ("RandomBrightness(brightness=(1.25, 1.25))", (before + 0.5).clamp(max=1)),
        ("RandomContrast(contrast=(0.5, 0.5))", (before + 1) / 2 - 1),
        ("RandomErasing(scale=(1.0, 1.0), ratio=(1.0, 1.0), value=0.75)", torch.full_like(before, 0.5)),
        ("RandomTranslate(translate_x=(0.25, 0.25), translate_y=None, align_corners=True)", torch.roll(before, 6, 3)),
    ):
        after = changed(pipeline(f"kornia.{spec}").transforms[0].transform, before)
        if "Translate" in spec:
            expected[..., :6] = -1.0
        torch.testing.assert_close(after, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["RandomHue", "ColorJitter", "RandomSnow"])
def test_colours_of_images_without_any(name):
    """As with our own: grey images are skipped, and what comes besides RGB stays."""
    transform = kornia_transform(name)()
    for channels in (1, 2, 5):
        assert torch.equal(changed(transform, images(4, channels)), images(4, channels))
    before = images(4, 4)
    after = changed(transform, before)
    assert torch.equal(after[:, 3], before[:, 3])
    torch.testing.assert_close(after[:, :3], changed(transform, before[:, :3]))


def test_channels_kornia_refuses():
    with pytest.raises(ConfigError) as error:
        changed(kornia_transform("RandomRain")(), images(2, channels=4))
    assert error.value.message == "kornia.RandomRain cannot be applied to images of 4 channels, 24×24 pixels"
    assert "channels should be 1 or 3" in error.value.hint


@pytest.mark.parametrize("name", ["RandomAffine", "RandomPlasmaBrightness"])
def test_numbers_come_from_the_draw(name):
    """Other images have other parameters; at a percentile, all have the same."""
    transform = kornia_transform(name)()
    same = images(1).expand(4, -1, -1, -1)
    after = changed(transform, same)
    assert all((after[i] - after[j]).abs().max() > 1e-3 for i in range(4) for j in range(i))
    assert not torch.equal(changed(transform, same, first=4), after)
    after = transform.apply(same, PercentileDraw(0.3, 4))
    torch.testing.assert_close(after, after[:1].expand_as(after))
    assert not torch.equal(transform.apply(same, PercentileDraw(0.7, 4)), after)


def test_seeds_have_63_bits_of_their_own():
    seeds = _seeds(RandomDraws(0, "test", torch.arange(4000)).draw("kornia"))
    assert len(set(seeds)) == 4000
    assert all(0 <= seed < 2**63 for seed in seeds)
    # A bit is set in half of them; one chance in 10⁹ for any of the 63 to fail (6.6 standard deviations).
    for bit in range(63):
        assert abs(sum(seed >> bit & 1 for seed in seeds) - 2000) < 6.6 * 4000**0.5 / 2


def test_parameters_of_images_are_joined_to_those_of_a_batch():
    of_image = {"angle": torch.tensor([0.5]), "forward_input_shape": torch.tensor([1, 3, 8, 9])}
    joined = _joined([of_image] * 4)
    assert joined["angle"].tolist() == [0.5] * 4
    assert joined["forward_input_shape"].tolist() == [4, 3, 8, 9]
    assert of_image["forward_input_shape"].tolist() == [1, 3, 8, 9]


def test_gates_are_the_pipelines():
    before = images(400, channels=1)[:, :, :4, :4]
    after = pipeline("kornia.RandomInvert*0.5")(before, 0.6, RandomDraws(0, "test", torch.arange(400)))
    inverted = torch.isclose(after, -before, atol=1e-6).flatten(1).all(1)
    untouched = (after == before).flatten(1).all(1)
    assert (inverted ^ untouched).all()
    # Binomial, p = 0.3: 120 ± 9.2; beyond 5 standard deviations once in a million.
    assert 75 <= inverted.sum() <= 165


def test_first_use_in_inference_mode():
    """What kornia keeps from sampling without gradients does not disturb training."""
    for name in CLASSES:
        transform = kornia_transform(name)()
        with torch.inference_mode():
            changed(transform, images(2))
        before = images(2).requires_grad_()
        torch.autograd.grad(changed(transform, before).sum(), before)


# In use


def test_a_run_with_kornia_goes_on_where_it_stopped(tmp_path, cli):
    augs = "blit,kornia.RandomElasticTransform(alpha=(0.5,0.5)),kornia.RandomPlasmaShadow*0.5"
    options = ("--augs", augs, "--p", "0.5", "--set", "loss.r1_interval=2", "--seed", "1")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    first = cli("train", *cli.small_run, *options, "--kimg", "0.032", "--outdir", whole)
    assert first.code == 0, first.err
    assert cli("train", *cli.small_run, *options, "--outdir", parts).code == 0
    (run,), (other,) = parts.iterdir(), whole.iterdir()
    resumed = cli("resume", run, "--kimg", "0.032")
    assert resumed.code == 0, resumed.err
    assert tomllib.loads((run / "config.toml").read_text())["augment"]["augs"] == augs
    rows = [[json.loads(line) for line in (r / "stats.jsonl").read_text().splitlines()][-1] for r in (run, other)]
    losses = [{key: row[key] for key in row if key.startswith("Loss/")} for row in rows]
    assert "Loss/r1_penalty" in losses[0]
    assert losses[0] == losses[1]


def test_a_leak_check_finds_them_by_name():
    found = _transforms("kornia.RandomHue,xflip", "bgc,kornia.RandomHue(hue=(-0.1, 0.1))", MANAGER)
    assert set(found["transforms"]) == {"kornia.RandomHue", "xflip"}
    assert "kornia.RandomHue" in found["used"]
