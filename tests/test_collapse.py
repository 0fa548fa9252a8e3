"""Lost modes and repeated images are found; real images, and images that merely look different, are not accused."""

import pytest
import torch

from adaflow.core.copies import Thumbnails
from adaflow.plugins.leak_detectors.collapse import (
    Against,
    Collapse,
    _modes,
    _variety,
    alike,
    compare,
    repeats,
    thumbnails,
)
from tests.leaks import context, parts

TRAIN, HELD_OUT, OTHERS = parts()


def features(count, shift=0.0, seed=0):
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(seed)) + shift


def check(fakes=None, **fields):
    return {finding.subject: finding for finding in Collapse().check(context(fakes, **fields))}


def test_real_images_are_clean():
    found = check()
    assert {name: finding.verdict for name, finding in found.items()} == {
        "modes": "clean",
        "variety": "clean",
        "repeats": "clean",
    }
    assert "would have been seen" in found["modes"].sentence
    assert found["repeats"].smallest_seen < 0.1


def test_images_flipped_as_training_flipped_them_are_clean():
    """Left and right are made to differ, so that flipped ones look like no real image as it is."""
    ramp = torch.linspace(0, 120, 32)

    def lit(images):
        return (images.float() / 2 + ramp).to(torch.uint8)

    fakes = lit(OTHERS)
    fakes[::2] = fakes[::2].flip(3)
    reals = {"train": lit(TRAIN), "held_out": lit(HELD_OUT)}
    as_trained, as_they_are = check(fakes, **reals, mirrored=True), check(fakes, **reals)
    assert {finding.verdict for finding in as_trained.values()} == {"clean"}
    assert as_trained["modes"].details["precision_of_thumbnails"]["z"] > -3
    assert as_they_are["modes"].details["precision_of_thumbnails"]["z"] < -5


def test_twenty_images_repeated_are_found():
    found = check(OTHERS[:20].repeat(6, 1, 1, 1))
    assert (found["modes"].verdict, found["repeats"].verdict) == ("leak", "leak")
    assert "missing" in found["modes"].sentence
    assert found["repeats"].rate == 1
    assert found["repeats"].panels
    assert found["modes"].advice
    assert found["repeats"].advice
    scores = compare(features(20, seed=1).repeat(10, 1), features(300), 0)
    same = compare(features(200, seed=1), features(300), 0)
    assert _variety(scores, scores).verdict == "leak"
    assert _variety(scores, same).verdict == "cannot tell"
    assert _variety(same, same).verdict == "clean"


def test_one_half_of_the_data_is_a_lost_mode_but_no_repeat():
    reals = torch.cat((TRAIN, HELD_OUT))
    bright = reals.float().mean((1, 2, 3))
    half = OTHERS[OTHERS.float().mean((1, 2, 3)) > bright.median()]
    found = check(half.repeat(2, 1, 1, 1)[:100] if len(half) < 100 else half)
    assert found["modes"].verdict == "leak"
    alone = check(OTHERS)
    assert alone["modes"].verdict == "clean"


def test_a_few_repeats_are_found_as_such():
    fakes = torch.cat((OTHERS, OTHERS[:15]))
    found = check(fakes)
    assert found["repeats"].verdict == "leak"
    assert found["repeats"].rate == pytest.approx(30 / 135, abs=0.01)
    assert found["modes"].verdict == "clean"


def test_repeats_among_the_reals_excuse_the_fakes():
    doubled = TRAIN[:60].repeat(2, 1, 1, 1)
    fakes = torch.cat((OTHERS, OTHERS[:15]))
    found = repeats(context(fakes, train=doubled, held_out=None), doubled)
    assert found.verdict == "cannot tell"
    assert "seen from 100 % on" in found.sentence


def test_fakes_unlike_any_real_image_lose_modes_perhaps():
    """Poor images cover little, too: that is no proof of lost modes."""
    noise = torch.randint(0, 256, OTHERS.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = check((0.5 * OTHERS.float() + 0.5 * noise.float().mean((1, 2, 3), keepdim=True) * 0.2).to(torch.uint8))
    assert found["modes"].verdict == "cannot tell"
    assert "precision" in found["modes"].sentence


def test_soft_or_noisy_images_of_all_kinds_are_not_accused():
    """The features of the extractor change, and cover less, but at 8 × 8 pixels nothing is missing."""
    reals, part = torch.cat((features(150), features(150, 6.0, seed=2))), features(200, seed=1)
    whole = torch.cat((part[:100], features(100, 6.0, seed=3)))
    less, same = compare(part, reals, 0), compare(whole, reals, 0)
    assert less["coverage"].low
    assert [_modes(*pair).verdict for pair in ((less, less), (less, same), (same, same))] == [
        "leak",
        "cannot tell",
        "clean",
    ]
    assert "soft or noisy" in _modes(less, same).sentence
    small = thumbnails(OTHERS[:50])
    noise = torch.randn(OTHERS[:50].shape, generator=torch.Generator().manual_seed(0)) * 12
    noisy = thumbnails((OTHERS[:50] + noise).clamp(0, 255).to(torch.uint8))
    assert small.shape == (50, 192)
    assert float((small - noisy).abs().mean()) < 4


def test_too_few_images_tell_nothing():
    assert {f.verdict for f in Collapse().check(context(OTHERS[:60]))} == {"cannot tell"}
    uncertain = dict.fromkeys(("coverage", "recall", "precision"), Against(0.9, 0.9, 0.1, 0.03))
    few = _modes(uncertain, uncertain)
    assert few.verdict == "cannot tell"
    assert "so few images" in few.sentence
    assert _modes(sure := dict.fromkeys(uncertain, Against(0.9, 0.9, 0.05, 0.03)), sure).verdict == "clean"


def test_the_same_distribution_scores_as_the_reals_do_and_a_part_of_it_less():
    z = []
    for seed in range(12):
        scores = compare(features(150, seed=seed + 100), features(300, seed=seed), seed)
        z.append(scores["coverage"].z)
        assert not scores["coverage"].low
        assert not scores["vendi"].low
    assert -2 < sum(z) / len(z) < 2
    both = torch.cat((features(150), features(150, 6.0, seed=1)))
    scores = compare(features(200, seed=2), both, 0)
    assert scores["coverage"].low
    assert scores["coverage"].fakes == pytest.approx(0.5, abs=0.1)
    assert not scores["precision"].low


def test_as_many_reals_as_fakes_are_compared():
    calls = []
    compare(features(40), features(300, seed=1), 0, calls.append)
    assert calls == list(range(1, 21))
    few, many = (compare(features(n), features(300, seed=1), 0)["vendi"].reals for n in (40, 140))
    assert few < many


def test_against_counts_deviations_and_shares():
    score = Against(0.6, 0.8, 0.05, 0.1)
    assert score.z == pytest.approx(-4)
    assert score.lost == pytest.approx(0.25)
    assert score.low
    assert not Against(0.6, 0.8, 0.05, 0.3).low
    assert not Against(0.6, 0.8, 0.1, 0.1).low
    assert Against(0.0, 0.0, 0.0).lost == 0
    spread = Against.of([0.5, 0.5], [0.6, 0.8], 0.5, 0.0)
    assert spread.deviation == pytest.approx(0.1414 * 3**0.5, rel=1e-3)


def test_alike_finds_the_double_and_not_the_image_itself():
    grey = OTHERS.float().mean(1)
    thumbnails = Thumbnails(TRAIN.float().mean(1), 16, 128)
    likeness, partner = alike(thumbnails, torch.cat((grey[:30], grey[:1])))
    assert (int(partner[0]), int(partner[30])) == (30, 0)
    assert float(likeness[0]) > 0.99
    assert float(likeness[1:30].max()) < 0.95
