"""How small a leak would have been seen."""

import pytest

from adaflow.core.leaks.planting import plant, smallest_rate
from adaflow.core.leaks.search import Search
from tests.drawn_traces import generator, images, transformed


def test_the_smallest_rate_falls_with_the_number_of_images(search):
    known, planted = transformed(search), [transformed(search, 80)["up"].sharp] * 3
    few, many = (smallest_rate(search, search.see(images(count, 9)), known, planted, "up") for count in (150, 1000))
    assert many is not None
    assert many <= 0.1
    assert few is None or few > many


def test_what_does_not_show_on_the_images_themselves_is_not_said_to_be_seen(search):
    """Images like those after the transform: nothing more would be seen of it."""
    x = search.see(images(600, 9, {"up": 1.0}))
    planted = [transformed(search, 80)["up"].sharp]
    assert smallest_rate(search, x, transformed(search), planted, "up") is None
    assert not search.shows(x, transformed(search)["up"].sharp, "up")
    assert search.shows(search.see(images(600, 9)), transformed(search)["up"].sharp, "up")


def test_a_rate_must_be_seen_in_every_trial(search):
    """In the second trial the generator has wiped the transform out."""
    x, known = search.see(images(600, 9)), transformed(search)
    trials = [known["up"].sharp, search.see(images(80, 3))]
    assert smallest_rate(search, x, known, trials[:1], "up") is not None
    assert smallest_rate(search, x, known, trials, "up") is None


def test_a_rate_must_be_seen_and_the_next_one_too(search, monkeypatch):
    """One draw may be lucky."""
    x, known = search.see(images(600, 9)), transformed(search)
    for rates_seen, smallest in (((0.03, 0.1, 0.15), 0.1), ((0.02, 0.05, 0.5), 0.5), ((0.02,), None)):
        monkeypatch.setattr("adaflow.core.leaks.planting.plant", lambda images, part, rate, *_: rate)
        monkeypatch.setattr(Search, "look", lambda _, mixed, *__: mixed)
        monkeypatch.setattr(Search, "leaks", lambda _, look, *__, wanted=rates_seen: ["up"] if look in wanted else [])
        assert smallest_rate(search, x, known, [known["up"].sharp], "up") == smallest


def test_what_shows_a_transform_already_does_not_help_to_see_what_is_planted(search):
    x, after = search.see(images(600, 9, {"up": 0.1})), transformed(search)["up"].sharp
    odds = search.odds(x, "up")
    mixed = plant(x, after, 0.1, odds, generator(0))
    changed = (mixed.traces != x.traces).any(1)
    assert changed.sum() == 60
    assert odds[changed].min() >= odds[~changed].max()
    assert (mixed.scores[changed] != x.scores[changed]).any(1).all()
    more = plant(x, after, 0.2, odds, generator(0))
    assert search.look(mixed, times=20).raw.value[1] == pytest.approx(0.1, abs=0.03)
    assert search.look(more, times=20).raw.value[1] == pytest.approx(0.2, abs=0.04)
