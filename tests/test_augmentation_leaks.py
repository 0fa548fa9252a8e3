"""The detector `augmentation`, whole: on drawn lesions, some of which were transformed, by a plugin, too."""

from functools import cache, partial
from pathlib import Path

import pytest
import torch

from adaflow.core.data.dataset import DataConfig, load_dataset
from adaflow.core.leaks.reference import apply_surely
from adaflow.core.leaks.search import Search
from adaflow.errors import ConfigError
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.leak_detectors.augmentation import AugmentationDetector, _some_reals
from tests.leaks import Thumbnail, context

PLUGIN = Path(__file__).parents[1] / "benchmarks" / "leakbench" / "contributed.py"
REALS, FAKES = 400, 400


class Pooled(Thumbnail):
    """With one stage: the image at 8 × 8 pixels."""

    def stages(self, images):
        return [torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 8)]


@cache
def drawn():
    plugins = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}, only="datasets")
    config = DataConfig(f"demo:lesions,resolution=32,images={REALS + FAKES}")
    return load_dataset(config, plugins.datasets, 0).images.split([REALS, FAKES])


def transform(name, **settings):
    return PluginManager([PLUGIN]).augmentations[name].value(**settings)


def check(fakes, transforms, **fields):
    reals, _ = drawn()
    known = {name: transform(name) for name in transforms}
    whole = context(
        fakes, train=reals[:300], held_out=reals[300:], extractor=lambda name: Pooled(), transforms=known, **fields
    )
    return {finding.subject: finding for finding in AugmentationDetector().check(whole)}


@pytest.mark.slow
def test_a_leak_is_named_with_its_rate_and_a_plugin_is_audited_without_a_line_for_it():
    fakes = drawn()[1].clone()
    fakes[:80], _ = apply_surely(transform("vignette"), "vignette", fakes[:80], 5)
    found = check(fakes, ["cutout", "vignette"], used=frozenset({"vignette"}), spec="cutout,vignette")
    leak, clean = found["vignette"], found["cutout"]
    assert leak.verdict == "leak"
    assert leak.rate == pytest.approx(0.2, abs=0.06)
    assert leak.interval[0] < 0.2 < leak.interval[1]
    assert '--augs "none"' in leak.advice
    assert leak.panels[0].image.shape[0] == 3
    assert clean.verdict == "clean"
    assert clean.smallest_seen < 0.1


@pytest.mark.slow
def test_one_command_is_advised_against_all_leaks_that_training_may_have_caused():
    fakes = drawn()[1].clone()
    for part, name in enumerate(("cutout", "vignette", "hair")):
        planted = fakes[80 * part : 80 * (part + 1)]
        planted[:], _ = apply_surely(transform(name), name, planted.clone(), 5)
    found = check(
        fakes,
        ["cutout", "vignette", "hair"],
        used=frozenset({"cutout", "vignette", "hue"}),
        spec="hue,cutout,vignette",
    )
    assert {name: finding.verdict for name, finding in found.items()} == dict.fromkeys(found, "leak")
    assert '--augs "hue,cutout,vignette,cutout=off,vignette=off"' in found["cutout"].advice
    assert found["vignette"].advice == found["cutout"].advice
    assert "Training did not use it" in found["hair"].advice


@pytest.mark.slow
def test_soft_images_are_accused_of_nothing_and_the_same_seed_says_the_same():
    """A sharp low-pass is none of the distortions that the detector knows."""
    spectrum = torch.fft.rfft2(drawn()[1].float())
    y, x = torch.fft.fftfreq(32)[:, None], torch.fft.rfftfreq(32)
    soft = torch.fft.irfft2(spectrum * ((y * y + x * x).sqrt() < 0.3), s=(32, 32))
    fakes = soft.round().clamp(0, 255).to(torch.uint8)
    found, again = (check(fakes, ["scale", "cutout"], seed=3) for _ in range(2))
    assert found["scale"].verdict != "leak"
    assert found["cutout"].verdict == "clean"
    assert [f.sentence for f in found.values()] == [f.sentence for f in again.values()]


@pytest.mark.slow
def test_clean_is_only_what_would_surely_have_been_seen(monkeypatch):
    """What was just seen at the wanted rate, 10 %, might be missed another time."""
    for smallest, verdict in ((0.075, "clean"), (0.1, "cannot tell"), (None, "cannot tell")):
        monkeypatch.setattr("adaflow.plugins.leak_detectors.augmentation.smallest_rate", lambda *_, r=smallest: r)
        found = check(drawn()[1], ["cutout"])["cutout"]
        assert (found.verdict, found.smallest_seen) == (verdict, smallest)
        assert found.interval == (0, pytest.approx(smallest or 1.0))


@pytest.mark.slow
def test_what_looks_like_a_leak_is_not_called_clean(monkeypatch):
    monkeypatch.setattr(Search, "looks_like", lambda _, name: {"cutout": ["vignette"], "vignette": ["cutout"]}[name])
    monkeypatch.setattr(Search, "leaks", lambda search, *_: {"vignette": 1 + search.suspects.index("vignette")})
    found = check(drawn()[1], ["cutout", "vignette"])["cutout"]
    assert (found.verdict, found.sentence) == ("cannot tell", "Some of what looks like vignette may be cutout.")


def test_nothing_can_be_clean_at_a_rate_that_is_never_seen():
    for rate in (0.02, 0.0, 1.5):
        with pytest.raises(ConfigError, match="share of"):
            AugmentationDetector(rate=rate)
    assert AugmentationDetector(rate=0.03).rate == 0.03


@pytest.mark.slow
def test_nothing_is_said_of_images_that_look_like_nothing():
    """As of a network that has hardly begun to train: coloured blobs."""
    blobs = torch.randn(200, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 60 + 128
    fakes = torch.nn.functional.interpolate(blobs, (32, 32), mode="bicubic").clamp(0, 255).to(torch.uint8)
    found = check(fakes, ["cutout", "hue"])
    assert {finding.verdict for finding in found.values()} == {"cannot tell"}
    assert "neither like real ones" in found["hue"].sentence
    assert found["hue"].details["strangeness"] > 1.15


def test_reals_are_flipped_as_training_flipped_them():
    """Upside down, and not left to right; each once, of training and held-out images alike."""
    train, held_out = drawn()[0][:60], drawn()[0][60:100]
    found = _some_reals(context(train=train, held_out=held_out, upside_down=True))
    known = {tuple(image.flatten().tolist()): 0 for image in torch.cat([train, held_out])}
    upright = [tuple(image.flatten().tolist()) in known for image in found]
    restored = [tuple(image.flip(1).flatten().tolist()) in known for image in found]
    assert len(found) == 100
    assert 25 < sum(upright) < 75
    assert [a != b for a, b in zip(upright, restored, strict=True)] == [True] * 100


def test_what_cannot_be_told_is_said():
    reals = drawn()[0]
    make = partial(context, extractor=lambda name: Pooled(), transforms={"cutout": transform("cutout")})
    (few,) = AugmentationDetector().check(make(drawn()[1][:150], train=reals[:120], held_out=None))
    assert few.verdict == "cannot tell"
    assert "120 real images are too few" in few.sentence
    (nothing,) = AugmentationDetector().check(make(transforms={}))
    assert (nothing.verdict, "No transform was looked for" in nothing.sentence) == ("cannot tell", True)
    assert AugmentationDetector().check(make(transforms={}, spec="none")) == []
    (small,) = AugmentationDetector().check(make(drawn()[1][:, :, :16, :16]))
    assert small.verdict == "cannot tell"
    assert "16 pixels show too little" in small.sentence
