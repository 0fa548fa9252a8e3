"""What is a leak, of all that is found, and how much of it there may be."""

from dataclasses import replace

import pytest
import torch

from adaflow.core.leaks.search import (
    CERTAIN_AREA,
    DISTINCT,
    FAIR_AREA,
    PLAIN_AREA,
    SURE_AREA,
    Look,
    Search,
    Transformed,
)
from adaflow.core.leaks.strangeness import UNUSUAL
from tests.drawn_traces import half_up, images, seen, softened, transformed


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_a_share_has_an_upper_bound_that_artefacts_do_not_move(search, share):
    """Two standard errors in each of 16 places: the bound may be too low in few of 20 sets."""
    after = transformed(search, drift=4.0)["up"].sharp
    bounds = [search.at_most(search.see(images(1000, seed, {"up": share}, 4.0)), after, "up") for seed in range(20)]
    assert sum(bound < share for bound in bounds) <= 3
    assert sum(bounds) / 20 < share + 0.25


def test_what_nearly_all_images_show_is_a_leak_although_they_are_then_alike(search):
    x = search.see(images(800, 11, {"up": 1.0}))
    look = search.look(x, transformed(search), times=40)
    assert not look.aligned.value[1] > 0.3
    assert list(search.leaks(look, x, transformed(search))) == ["up"]
    assert search.most_show(x, transformed(search)["up"], "up") == pytest.approx(1, abs=0.1)


def test_a_share_can_be_given_though_no_real_image_was_beyond_doubt(search, monkeypatch):
    monkeypatch.setitem(search.sure, "up", 0.0)
    x = search.see(images(800, 11, {"up": 1.0}))
    assert search.most_show(x, transformed(search)["up"], "up") == 1


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_common_leak_is_found_although_it_is_blurred(search, share):
    """Alignment takes away what so many images show, and what the transform itself makes of them lies far beyond it."""
    x, after = seen(search, *softened(share, 0.6))
    look = search.look(x, {"up": after}, times=40)
    assert look.alarms()[:, 1 + search.suspects.index("up")].tolist() == [True, False]
    assert search.at_most(x, after.sharp, "up") < 0.05
    assert search.most_show(x, after, "up") is None
    assert search.leak(look, x, after, "up", 1)


def test_a_soft_leak_is_held_against_what_is_as_soft(search):
    """A tenth of the images show "up" by half: of the whole of it they cannot have so much, of its half they can."""
    x, after = seen(search, *softened(0.1, 0.5))
    either = Transformed(after.sharp, [search.see(half_up(160, 64))])
    whole, half = search.bounds(x, either, "up")
    assert [whole] == search.bounds(x, after, "up")
    assert whole < 0.04
    assert 0.1 < half < 0.4


def test_what_is_as_soft_explains_a_soft_leak(search):
    """To what is known of real images, "up" by half is less of it."""
    soft = half_up(1000, 70)
    soft[100:] = images(900, 71)
    x, after = search.see(soft), transformed(search)["up"]
    either = Transformed(after.sharp, [search.see(half_up(400, 72))])
    shares = [float(search.look(x, {"up": known}, times=20).raw.value[1]) for known in (after, either)]
    assert shares[0] < shares[1]
    assert shares[1] == pytest.approx(0.1, abs=0.03)


def test_what_is_softened_until_it_cannot_be_told_is_left_out(search):
    """Or any set would look like it, whatever it shows."""
    after = transformed(search)["up"].sharp
    untouched = [search.see(images(160, seed, drift=1.0)) for seed in (80, 81)]
    told = [search.see(half_up(160, 82)), search.see(images(160, 84, drift=1.0))]
    assert search.transformed("up", after, told, untouched).softened == told[:1]
    moved = [search.see(half_up(160, 86))]  # softening alone looks like "up"
    assert search.transformed("up", after, told[:1], moved).softened == []


def test_what_two_ways_of_looking_find_need_not_be_new_to_the_images(search, monkeypatch):
    """Where half of the images show a transform, it moves them little on the whole."""
    x, after = seen(search, *softened(0.2, 1.0))
    look = search.look(x, {"up": after}, times=40)
    monkeypatch.setattr(Search, "shows", lambda *_: False)
    assert search.leak(look, x, after, "up", 1)


def test_in_unusual_images_only_what_is_plainly_told_is_a_leak(search, monkeypatch):
    x, after = seen(search, *softened(0.2, 1.0))
    look = search.look(x, {"up": after}, times=40)
    usual, unusual = (replace(look, strangeness=value) for value in (UNUSUAL - 0.01, UNUSUAL + 0.01))
    assert search.leak(unusual, x, after, "up", 1)
    monkeypatch.setitem(search.area, "up", PLAIN_AREA - 0.01)
    assert search.leak(usual, x, after, "up", 1)
    assert not search.leak(unusual, x, after, "up", 1)


def test_a_share_that_only_aligned_traces_show_is_held_against_the_bound(search, monkeypatch):
    """Of what a set shows once aligned, the bound may leave nothing, whatever the traces as they are say."""
    x, after = seen(search, *softened(0.2, 1.0))
    look = search.look(x, {"up": after}, times=40)
    answer = 1 + search.suspects.index("up")
    nothing = torch.zeros_like(look.raw.value)
    only_aligned = replace(look, raw=replace(look.raw, value=nothing, low=nothing))
    assert only_aligned.alarms()[:, answer].tolist() == [False, True]
    assert only_aligned.share(answer) == float(look.aligned.value[answer]) > 0.1
    assert look.share(answer) == float(look.raw.value[answer])
    assert search.leak(only_aligned, x, after, "up", 1)
    monkeypatch.setattr(Search, "at_most", lambda *_: 0.05)
    assert not search.leak(only_aligned, x, after, "up", 1)
    monkeypatch.setattr(Search, "at_most", lambda _, seen, part, name: 0.05 if part is after.sharp else 0.5)
    assert search.leak(only_aligned, x, Transformed(after.sharp, [search.see(half_up(160, 90))]), "up", 1)


@pytest.mark.parametrize("way", ["raw", "aligned"])
def test_one_alarm_is_enough_if_both_ways_of_looking_see_about_as_much(search, monkeypatch, way):
    """Of a transform that is hard to tell from nothing in most images, and beyond doubt in some."""
    x, after = seen(search, *softened(0.2, 1.0))
    look = search.look(x, {"up": after}, times=40)
    answer = 1 + search.suspects.index("up")
    shares = getattr(look, way)
    monkeypatch.setitem(search.area, "up", FAIR_AREA - 0.01)

    def seen_once(share, by_chance=0.0):
        """No alarm one way: the lower bound is too low."""
        value, chance = (torch.full_like(shares.value, number) for number in (share, by_chance))
        return replace(look, **{way: replace(shares, value=value, low=torch.zeros_like(value), by_chance=chance)})

    both = float((look.raw.value + look.aligned.value)[answer]) / 2
    assert seen_once(both).alarms()[:, answer].tolist() == [way == "aligned", way == "raw"]
    assert search.leak(seen_once(both), x, after, "up", answer)
    assert not search.leak(seen_once(both * 0.3), x, after, "up", answer)
    assert not search.leak(seen_once(both * 4), x, after, "up", answer)
    assert not search.leak(seen_once(both, by_chance=both), x, after, "up", answer)
    monkeypatch.setitem(search.sure, "up", DISTINCT - 0.01)
    assert not search.leak(seen_once(both), x, after, "up", answer)
    monkeypatch.setitem(search.sure, "up", DISTINCT)
    with monkeypatch.context() as patch:
        patch.setattr(Search, "shows", lambda *_: False)
        assert not search.leak(seen_once(both), x, after, "up", answer)
    monkeypatch.setattr(Search, "at_most", lambda *_: 0.05)
    assert not search.leak(seen_once(both), x, after, "up", answer)


def test_the_interval_of_a_leak_reaches_as_far_as_softness_may_hide(search, monkeypatch):
    x, after = seen(search, *softened(0.2, 1.0))
    either = {"up": Transformed(after.sharp, [search.see(half_up(160, 90))])}
    found = search.look(x, either, times=40)
    ways = (replace(s, low=s.value * 0.9, high=s.value * 1.1, misfit=s.misfit * 0) for s in (found.raw, found.aligned))
    look = Look(*ways, found.strangeness)
    low, high = look.interval(1)
    share = look.share(1)
    for bound, wanted in ((1.0, 2 * share), (1.7 * share, 1.7 * share), (0.1, high)):
        monkeypatch.setattr(
            Search, "at_most", lambda _, seen, part, name, most=bound: 0.0 if part is after.sharp else most
        )
        assert search.reach(look, x, either, "up", {"up": 1}) == (low, pytest.approx(wanted))
    assert search.reach(look, x, either, "up", {}) == (0, high)


def test_the_interval_of_what_looks_like_a_leak_reaches_as_far_as_their_sum(alike):
    x = alike.see(images(1000, 30, {"up": 0.1}))
    look, after = alike.look(x, times=60), transformed(alike)
    ((name, place),) = alike.leaks(look, x, after).items()
    other = next(one for one in ("up", "upwards", "above") if one != name)
    answer = 1 + alike.suspects.index(other)
    assert look.interval(answer)[1] < look.interval(place)[1]
    assert alike.reach(look, x, after, other, {name: place}) == (0, look.interval(place)[1])
    assert alike.reach(look, x, after, other, {}) == (0, look.interval(answer)[1])


def test_an_artefact_that_looks_like_a_transform_is_a_leak_only_of_one_that_is_told_almost_surely(search, monkeypatch):
    """All images are moved the way of "up", but not as far: what the transform adds is missing among them."""
    moved = images(800, 12)
    moved[:, 0] += 2.5
    x, after = search.see(moved), transformed(search, up=2.5)
    look = search.look(x, after, times=40)
    assert look.alarms()[:, 1].tolist() == [True, False]
    assert search.bounds(x, after["up"], "up")[0] < 0.1 < look.raw.bounds()[0][1]
    for area, leak in ((SURE_AREA, False), (CERTAIN_AREA, True)):
        monkeypatch.setitem(search.area, "up", area)
        assert search.leak(look, x, after["up"], "up", 1) == leak
