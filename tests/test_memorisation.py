"""Copies of training images are found, whatever was done to them, and nothing else is."""

import math

import pytest
import torch

from adaflow.core.copies import (
    FINE,
    TURNS,
    CopySearch,
    closeness,
    crop_line,
    middle_agreement,
    turned,
    turned_back,
)
from adaflow.core.copy_counts import CERTAIN, LIKELY, CopyCount, Nearness, Tail, least_count
from adaflow.core.leak_detector import exact_interval, percent
from adaflow.errors import ConfigError
from adaflow.plugins.leak_detectors.memorisation import Memorisation, twins_of
from tests.leaks import context, parts

CPU = torch.device("cpu")
TRAIN, HELD_OUT, OTHERS = parts()


@pytest.fixture(scope="module")
def search():
    return CopySearch(TRAIN, CPU)


def everything(search, images):
    return search.refine(images, search.nearest(images), torch.ones(len(images), dtype=torch.bool))


def cropped(images, scale, y, x):
    size = images.shape[-1]
    part = crop_line(size, size, scale, y) @ images.float() @ crop_line(size, size, scale, x).T
    return part.round().to(torch.uint8)


COPIES = {
    "as it is": lambda x: x,
    "flipped": lambda x: x.flip(-1),
    "turned": lambda x: x.rot90(1, (2, 3)),
    "flipped and turned": lambda x: x.flip(-1).rot90(3, (2, 3)),
    "cropped": lambda x: cropped(x, 0.9, 0.3, 0.8),
    "turned and cropped": lambda x: cropped(x.rot90(2, (2, 3)), 0.87, 0.9, 0.1),
    "darker": lambda x: (x.float() * 0.8).to(torch.uint8),
    "blended": lambda x: (0.8 * x.float() + 0.2 * OTHERS[: len(x)].float()).to(torch.uint8),
}


@pytest.mark.parametrize("kind", COPIES)
def test_the_source_of_a_copy_is_found(search, kind):
    found = everything(search, COPIES[kind](TRAIN[:20]))
    assert (found.source == torch.arange(20)).double().mean() >= 0.95
    others = everything(search, OTHERS[:60]).closeness
    assert float(found.closeness.median()) > float(others.max())


def test_nothing_to_refine_leaves_matches_as_they_are(search):
    found = search.nearest(OTHERS[:5])
    same = search.refine(OTHERS[:5], found, torch.zeros(5, dtype=torch.bool))
    assert torch.equal(found.closeness, same.closeness)
    assert torch.equal(found.closeness, same.score)


def test_turns_and_crops_are_named_so_that_both_lie_on_each_other(search):
    images = cropped(TRAIN[:8].flip(-1).rot90(1, (2, 3)), 0.88, 1 / 3, 2 / 3)
    found = everything(search, images)
    laid, sources = search.laid_over(images, TRAIN, found, range(8))
    assert torch.equal(laid, images)
    assert float((laid.float() - sources.float()).abs().mean()) < 4
    assert found.crop[:, 0].tolist() == pytest.approx([0.88] * 8, abs=0.04)


def test_every_turn_is_another_and_is_undone():
    image = torch.arange(12.0).view(1, 3, 4)
    square = torch.arange(16.0).view(1, 4, 4)
    assert len({tuple(turned(square, k).flatten().tolist()) for k in range(TURNS)}) == TURNS
    for k in range(TURNS):
        assert torch.equal(turned_back(turned(image, k), k), image)


def test_crop_lines_average_and_cut():
    assert torch.allclose(crop_line(8, 8, 1, 0), torch.eye(8))
    rows = crop_line(64, 16, 0.9, 1.0)
    assert torch.allclose(rows.sum(1), torch.ones(16))
    assert float(rows[:, :5].sum()) == 0  # the crop lies at the end
    assert float(rows[-1, -1]) > 0
    positions = rows @ torch.arange(64.0)
    assert torch.allclose(positions.diff()[1:-1], torch.tensor(0.9 * 4), atol=0.05)
    assert len(set(FINE)) == len(FINE)


def test_closeness_is_how_much_nearer_the_first_is_than_the_others():
    likeness = torch.tensor([[0.9, 0.6, 0.6, 0.6, 0.5, 0.4], [0.9, 0.9, 0.6, 0.6, 0.6, 0.5]])
    expected = torch.tensor([4.0, 4.0]).log()  # a twin among the others does not hide a copy
    torch.testing.assert_close(closeness(likeness), expected)
    assert float(closeness(torch.zeros(1, 6))) == 0


def test_smooth_noisy_and_plain_images_are_no_copies(search):
    plain = torch.full((4, 3, 32, 32), 128, dtype=torch.uint8)
    ramp = torch.linspace(0, 255, 32).to(torch.uint8).expand(4, 3, 32, 32)
    noise = torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    copies = everything(search, TRAIN[:20]).closeness
    for images in (plain, ramp, noise):
        assert float(everything(search, images).closeness.max()) < float(copies.min()) / 2


def test_the_same_frame_around_another_lesion_is_no_copy():
    line = torch.linspace(-1, 1, 32)
    frame = ((line[:, None] + 0.2) ** 2 + (line - 0.1) ** 2) > 0.9
    train, fakes = TRAIN.clone(), OTHERS.clone()
    train[7, :, frame] = 0
    fakes[3, :, frame] = 0
    search = CopySearch(train, CPU)
    found, copy = everything(search, fakes), everything(search, train[7:8].flip(-1))
    assert int(found.source[3]) == 7
    assert float(found.closeness[3]) > 1
    assert float(found.score[3]) < 0.5 * float(found.closeness[3])
    assert float(copy.score[0]) > 3
    copies, _ = Memorisation().check(context(fakes, train=train))
    assert copies.verdict == "clean"


def test_a_plain_middle_does_not_hide_a_copy():
    rim = torch.randn(2, 24, 24, generator=torch.Generator().manual_seed(0)) * 20
    rim[:, 6:18, 6:18] = 0
    first, second = rim
    both = middle_agreement(torch.stack((first, first)), torch.stack((first, second)))
    assert both.tolist() == pytest.approx([1, 0], abs=0.15)
    inner = torch.randn(2, 24, 24, generator=torch.Generator().manual_seed(1)) * 5
    inner = inner + 200 * (rim[:1] != 0)  # the same rim, other insides
    assert abs(float(middle_agreement(inner[:1], inner[1:])[0])) < 0.3


def test_clean_fakes_are_clean():
    copies, closer = Memorisation().check(context())
    assert (copies.verdict, closer.verdict) == ("clean", "clean")
    assert copies.details["certain"] == 0
    assert copies.details["twins_train"] == 0
    assert copies.smallest_seen < 0.2
    assert f"{len(OTHERS)}" in copies.sentence
    assert abs(closer.details["z"]) < 4
    assert 0 <= closer.details["authenticity"] <= 1
    assert len(copies.panels) == 12
    assert copies.panels[0].image.shape == (3, 32, 96)


@pytest.mark.parametrize("kind", ["as it is", "flipped and turned", "cropped"])
def test_a_few_copies_are_a_leak_and_are_listed_first(kind):
    fakes = torch.cat((OTHERS, COPIES[kind](TRAIN[50:54])))
    names = tuple(f"patient {k}" for k in range(len(TRAIN)))
    copies, _ = Memorisation(pictures=4).check(context(fakes, train_names=names))
    assert copies.verdict == "leak"
    assert "likely copies" in copies.sentence
    assert "pairs" in copies.advice
    first = copies.details["closest"][:4]
    assert {row["fake"] for row in first} == {f"fake {len(OTHERS) + k}" for k in range(4)}
    assert {row["training_image"] for row in first} == {f"patient {50 + k}" for k in range(4)}
    assert len(copies.panels) == 4
    assert copies.interval[0] <= copies.rate <= copies.interval[1]


def test_fakes_that_all_lean_on_a_training_image_are_nearer_on_the_whole():
    fakes = (0.55 * OTHERS.float() + 0.45 * TRAIN[: len(OTHERS)].float()).to(torch.uint8)
    _, closer = Memorisation().check(context(fakes))
    assert closer.verdict == "leak"
    assert closer.details["share_nearer"] > 0.6


def test_few_images_again_and_again_are_not_nearer_on_the_whole():
    """Their number is no evidence: what one of them shows, all of its repeats show."""
    z = []
    for seed in range(200):
        reals, fakes = torch.rand(200 + 60, generator=torch.Generator().manual_seed(seed)).split([200, 60])
        nearness = Nearness.of(reals, fakes.repeat(30), torch.arange(60).repeat(30))
        assert nearness.sources == pytest.approx(60)
        z.append(nearness.z)
    assert 0.8 < float(torch.tensor(z).std()) < 1.3
    assert max(map(abs, z)) < 4
    _, closer = Memorisation().check(context(OTHERS[:20].repeat(10, 1, 1, 1)))
    assert closer.verdict == "cannot tell"
    assert "too few to count" in closer.sentence


def test_nearness_that_few_images_or_artefacts_would_hide_cannot_be_told():
    reals, fakes = torch.rand(2, 1000, generator=torch.Generator().manual_seed(0))
    sources = torch.arange(1000)
    plenty = Nearness.of(reals, fakes, sources)
    assert plenty.verdict == "clean"
    assert 0.1 < plenty.smallest_seen < 0.3
    assert Nearness.of(reals[:40], fakes, sources).verdict == "cannot tell"
    assert Nearness.of(reals, fakes / 2, sources).verdict == "cannot tell"
    copies = torch.cat((fakes[:700], torch.full((300,), 2.0)))
    assert Nearness.of(reals, copies, sources).verdict == "leak"


def test_fakes_too_soft_to_show_a_copy_are_not_called_clean():
    flat = TRAIN.flatten(1).float()
    mean = flat.mean(0)
    directions = torch.linalg.svd(flat - mean, full_matrices=False).Vh

    def rebuilt(images, count):
        kept = directions[:count]
        x = (images.flatten(1).float() - mean) @ kept.T @ kept + mean
        return x.view(images.shape).round().clamp(0, 255).to(torch.uint8)

    verdicts = {}
    for count in (6, 200):
        copies, _ = Memorisation().check(context(rebuilt(torch.cat((OTHERS, TRAIN[:3])), count)))
        verdicts[count] = copies.verdict
    assert verdicts == {6: "cannot tell", 200: "leak"}


@pytest.mark.parametrize("held_out", [HELD_OUT, None])
def test_no_pictures_are_shown_if_none_are_wanted(held_out):
    assert not Memorisation(pictures=0).check(context(held_out=held_out))[0].panels
    with pytest.raises(ConfigError, match="pictures"):
        Memorisation(pictures=-1)


@pytest.mark.parametrize("held_out", [None, HELD_OUT[:30]])
def test_without_held_out_images_nothing_can_be_told_but_pairs_are_shown(held_out):
    fakes = torch.cat((OTHERS, COPIES["darker"](TRAIN[:3])))
    (copies,) = Memorisation().check(context(fakes, held_out=held_out))
    assert copies.verdict == "cannot tell"
    assert "--val-fraction" in copies.advice
    assert "--held-out" in copies.advice
    assert ("30 real images" if held_out is not None else "no real images") in copies.sentence
    assert {row["fake"] for row in copies.details["closest"][:3]} == {f"fake {len(OTHERS) + k}" for k in range(3)}
    assert copies.panels
    equal = torch.cat((OTHERS, TRAIN[:2], TRAIN[2:3].rot90(1, (2, 3)).flip(3)))
    (copies,) = Memorisation().check(context(equal, held_out=held_out))
    assert (copies.verdict, copies.details["equal"]) == ("leak", 3)
    assert "3 of 123 fakes are training images, pixel by pixel" in copies.sentence


def test_too_few_training_images_tell_nothing():
    (copies,) = Memorisation().check(context(train=TRAIN[:5]))
    assert copies.verdict == "cannot tell"


def test_twins_among_the_reals_are_set_aside(search):
    images = torch.cat((HELD_OUT, TRAIN[:3].flip(-1)))
    found = everything(search, images)
    twins = twins_of(search, images, TRAIN, found)
    assert twins[-3:].all()
    assert int(twins.sum()) == 3
    copies, _ = Memorisation().check(context(held_out=images))
    assert copies.details["twins_held_out"] >= 3
    assert "set aside" in copies.sentence
    assert copies.verdict == "clean"
    doubled = torch.cat((TRAIN, TRAIN[:2]))
    copies, _ = Memorisation().check(context(train=doubled))
    assert copies.details["twins_train"] == 4


@pytest.mark.parametrize("kind", [pytest.param("as it is", marks=pytest.mark.slow), "darker"])
@pytest.mark.parametrize("times", [pytest.param(4, marks=pytest.mark.slow), 8])
def test_copies_of_images_that_training_has_several_times_are_found(times, kind):
    noise = torch.randn(times - 1, 10, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    twins = (TRAIN[:10].float() + noise).round().clamp(0, 255).to(torch.uint8).flatten(0, 1)
    fakes = torch.cat((OTHERS, COPIES[kind](TRAIN[:10])))
    copies, _ = Memorisation().check(context(fakes, train=torch.cat((TRAIN, twins))))
    assert copies.verdict == "leak"
    assert copies.details["likely"] >= 10
    assert copies.details["twins_train"] == 10 * times


@pytest.mark.parametrize("strangers", [0, 20])
def test_held_out_images_that_were_trained_on_tell_nothing(strangers):
    held_out = torch.cat((TRAIN[:80], HELD_OUT[:strangers]))
    (copies,) = Memorisation().check(context(held_out=held_out))
    assert copies.verdict == "cannot tell"
    assert "80 that training used, too" in copies.sentence
    assert f"{strangers or 'no'} real images" in copies.sentence


def test_many_twins_among_the_reals_do_not_hide_copies():
    held_out = torch.cat((HELD_OUT, TRAIN[:40].flip(-1)))
    fakes = torch.cat((OTHERS, COPIES["cropped"](TRAIN[50:54])))
    copies, _ = Memorisation().check(context(fakes, held_out=held_out))
    assert copies.details["twins_held_out"] == 40
    assert copies.verdict == "leak"
    assert copies.details["thresholds"]["likely"] < 4


def test_grey_images_work():
    train, held_out, others = (x[:, :1] for x in (TRAIN, HELD_OUT, OTHERS))
    fakes = torch.cat((others, train[:2].flip(-1)))
    copies, _ = Memorisation().check(context(fakes, train=train, held_out=held_out))
    assert copies.verdict == "leak"
    assert copies.panels[0].image.shape == (1, 32, 96)


def test_findings_are_the_same_for_the_same_seed():
    first, second = (Memorisation(pictures=1).check(context(seed=3)) for _ in range(2))
    assert [f.details for f in first] == [f.details for f in second]
    assert [f.sentence for f in first] == [f.sentence for f in second]


def test_the_tail_gives_thresholds_of_known_rates():
    """Exponential numbers pass the threshold about as often as promised, and twins do not move it."""
    rates = []
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.empty(500).exponential_(5, generator=generator)
        numbers[:4] = 6.0  # twins
        fresh = torch.empty(20_000).exponential_(5, generator=generator)
        rates.append(float((fresh >= Tail.of(numbers).threshold(LIKELY)).double().mean()))
    assert 0.1 * LIKELY < sum(rates) / len(rates) < 2 * LIKELY


def test_one_certain_copy_or_many_likely_ones_are_a_leak():
    tail = Tail(0.3, 0.2)
    certain, likely = tail.threshold(CERTAIN / 1000), tail.threshold(LIKELY)
    fakes = torch.full((1000,), 0.1)
    assert not CopyCount.of(fakes, tail).leak
    fakes[0] = certain + 0.01
    assert CopyCount.of(fakes, tail).leak
    fakes[0] = 0.1
    fakes[:3] = likely + 0.01
    assert not CopyCount.of(fakes, tail).leak
    fakes[:9] = likely + 0.01
    assert CopyCount.of(fakes, tail).leak


def test_least_count_is_the_first_that_chance_does_not_reach():
    def reached(count, n=500, p=0.01):
        return 1 - sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(count))

    count = least_count(500, 0.01, 0.05)
    assert reached(count) <= 0.05 < reached(count - 1)


def test_exact_interval_and_percent():
    assert exact_interval(0, 100) == pytest.approx((0, 0.0362), abs=1e-4)
    assert exact_interval(100, 100)[1] == 1
    assert exact_interval(5, 100) == pytest.approx((0.0164, 0.1128), abs=1e-4)
    assert [percent(x) for x in (0, 0.0012, 0.012, 0.12)] == ["0 %", "0.12 %", "1.2 %", "12 %"]
