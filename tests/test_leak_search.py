"""The search for transforms in images: on drawn numbers whose truth is known."""

from dataclasses import replace

import pytest
import torch

from adaflow.core.leaks.probe import Scaling
from adaflow.core.leaks.search import Search
from adaflow.core.leaks.strangeness import LEAST, STRANGE, Familiar
from tests.drawn_traces import NAMES, PIXELS, WIDTH, generator, images, learned, transformed


def test_what_cannot_be_told_is_left_out(search, monkeypatch):
    assert search.suspects == ["up", "sideways"]
    assert search.area["nothing"] < 0.6
    assert search.area["up"] > 0.95
    monkeypatch.setattr("adaflow.core.leaks.search.LEAST_SURE", search.sure["up"] + 0.01)
    assert "up" not in learned(NAMES).suspects


@pytest.mark.parametrize("drift", [0.0, 1.5, 3.0])
def test_a_leak_is_found_with_its_share_and_nothing_else_is_accused(search, drift):
    look = search.look(search.see(images(1000, 30, {"up": 0.1}, drift)), times=60)
    assert look.alarms().tolist() == [[False, True, False]] * 2
    assert look.raw.value[1] == pytest.approx(0.1, abs=0.04)


def test_of_those_that_look_alike_the_largest_is_accused(search, alike):
    """None of them is a leak by itself, for the others would explain it."""
    assert search.alike == []
    assert alike.alike == [(1, 3, 4)]
    x = alike.see(images(1000, 30, {"up": 0.1}))
    look, after = alike.look(x, times=60), transformed(alike)
    assert look.alarms().tolist() == [[False] * 5 + [True]] * 2
    ((name, place),) = alike.leaks(look, x, after).items()
    assert place == 5
    assert name == max(("up", "upwards", "above"), key=lambda name: look_size(alike, look, name))
    place = 1 + alike.suspects.index("above")
    value = look.aligned.value.clone()
    value[place] += 0.2
    assert list(alike.leaks(replace(look, aligned=replace(look.aligned, value=value)), x, after)) == ["above"]
    assert alike.looks_like("up") == ["upwards", "above"]
    assert alike.looks_like("sideways") == []


def look_size(search, look, name):
    answer = 1 + search.suspects.index(name)
    return float(look.raw.value[answer] + look.aligned.value[answer])


def test_what_is_a_leak_by_itself_leaves_none_for_those_that_look_like_it(alike):
    x = alike.see(images(1000, 30, {"up": 0.1}))
    look, after = alike.look(x, times=60), transformed(alike)
    smallest = min(("up", "upwards", "above"), key=lambda name: look_size(alike, look, name))
    place = 1 + alike.suspects.index(smallest)
    low, value = look.raw.low.clone(), look.raw.value.clone()
    low[place] = value[place] = 0.05
    clear = replace(look, raw=replace(look.raw, low=low, value=value))
    assert alike.leaks(clear, x, after) == {smallest: place}


def test_a_weak_alarm_of_its_own_takes_no_leak_away(alike, monkeypatch):
    """Not possible by the bound, it would be no leak; that of the sum, which both ways of looking see, is one still."""
    x = alike.see(images(1000, 30, {"up": 0.1}))
    look, after = alike.look(x, times=60), transformed(alike)
    ((name, _),) = alike.leaks(look, x, after).items()
    monkeypatch.setattr(Search, "at_most", lambda *_: 0.0)
    low, value, place = look.raw.low.clone(), look.raw.value.clone(), 1 + alike.suspects.index(name)
    low[place], value[place] = 0.03, 0.06
    weak = replace(look, raw=replace(look.raw, low=low, value=value))
    assert weak.alarms()[:, place].tolist() == [True, False]
    assert alike.leaks(weak, x, after) == {name: 5}


def test_weak_transforms_are_not_alike(monkeypatch):
    monkeypatch.setattr("adaflow.core.leaks.search.SURE_AREA", 1.1)
    assert learned(("up", "upwards")).alike == []


@pytest.mark.parametrize("drift", [0.0, 1.5, 6.0])
def test_innocent_images_raise_no_alarm(search, drift):
    """Ten sets; a share of 2 % beyond chance in one of them would be a false alarm."""
    for seed in range(10):
        assert not search.look(search.see(images(600, 50 + seed, drift=drift)), times=60).alarms().any()


def test_the_same_seed_gives_the_same_findings(search):
    x = search.see(images(500, 7, {"sideways": 0.2}))
    first, second = search.look(x, times=40), search.look(x, times=40)
    assert torch.equal(first.raw.low, second.raw.low)
    assert torch.equal(first.aligned.value, second.aligned.value)


def test_real_images_are_never_seen_by_the_probe_that_learned_from_them(search):
    """Cross-fitted scores of the plain reals are those of the other fold's probe."""
    plain = search.reference.plain
    crossed = search.scores(plain, cross=True)
    assert torch.equal(crossed[0::2], search.probes[1](plain[0::2]))
    assert torch.equal(crossed[1::2], search.probes[0](plain[1::2]))
    assert torch.equal(search.scores(plain)[0::2], search.probes[0](plain[0::2]))


def test_only_images_unlike_all_known_ones_are_strange(search):
    """Known are images as they are, distorted and transformed ones."""
    for known in (images(400, 50), images(400, 51, {"up": 1.0}), images(400, 52, drift=1.5)):
        assert search.familiar.strangeness(known) < STRANGE
    noise = torch.randn(400, WIDTH, generator=generator(53)) * 6
    assert search.familiar.strangeness(noise) > STRANGE
    half = torch.cat([noise[:150], images(250, 54)])
    assert search.familiar.strangeness(half) < STRANGE  # most of them are known


def test_without_transforms_that_change_much_real_images_are_the_measure():
    plain = torch.randn(400, WIDTH, generator=generator(0))
    familiar = Familiar(Scaling(plain, plain, PIXELS), [plain, plain + 0.01])
    assert familiar.strangeness(torch.randn(400, WIDTH, generator=generator(1))) == pytest.approx(1 / LEAST, rel=0.1)
