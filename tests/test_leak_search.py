"""Shares of a mixture, the probe, and the search: on drawn numbers whose truth is known, with stated error rates."""

from dataclasses import replace

import pytest
import torch

from adaflow.core.leaks.mixture import Sources, expectation_maximisation, find_shares, frequencies
from adaflow.core.leaks.planting import plant, smallest_rate
from adaflow.core.leaks.probe import Alignment, Probe, Scaling, area_under_curve, middle_and_spread, to_cells
from adaflow.core.leaks.reference import Reference
from adaflow.core.leaks.search import DISTINCT, FAIR_AREA, PLAIN_AREA, Look, Search, Transformed
from adaflow.core.leaks.strangeness import LEAST, STRANGE, UNUSUAL, Familiar

WIDTH, PIXELS = 30, 12


def generator(seed):
    return torch.Generator().manual_seed(seed)


def cells_of(weights, count, seed):
    return torch.multinomial(torch.tensor(weights), count, replacement=True, generator=generator(seed))


@pytest.fixture(scope="module")
def sources():
    """Nothing, nothing distorted, and two answers; six cells."""
    tables = ([8.0, 1, 1, 0, 0, 0], [5.0, 3, 1, 1, 0, 0], [1.0, 0, 1, 8, 0, 0], [1.0, 1, 0, 0, 4, 4])
    cells = [cells_of(table, 500, seed) for seed, table in enumerate(tables)]
    return Sources(cells, [torch.arange(500)] * 4, torch.tensor([0, 0, 1, 2]), 3, 6)


def mixed(sources, shares, count, seed):
    """Cells of images whose sources have these shares."""
    known = sources.frequencies()
    return torch.multinomial(torch.tensor(shares) @ known, count, replacement=True, generator=generator(seed))


def test_expectation_maximisation_finds_the_most_likely_shares(sources):
    known = sources.frequencies()
    truth = torch.tensor([0.2, 0.3, 0.4, 0.1])
    found = expectation_maximisation((truth @ known)[None], known[None])[0]
    torch.testing.assert_close(found, truth, atol=0.02, rtol=0)
    assert found.sum() == pytest.approx(1, abs=1e-4)


def test_intervals_cover_and_chance_is_bounded(sources):
    """Of 40 sets, 95 % intervals should miss 2; 8 or more would happen in 1 of 1,000 runs of a right program."""
    missed, alarms = 0, 0
    for seed in range(40):
        found = find_shares(mixed(sources, [0.5, 0.3, 0.2, 0.0], 800, seed), sources, generator(seed), 100)
        missed += not found.low[1] <= 0.2 <= found.high[1]
        alarms += bool(found.value[2] > found.by_chance[2])
        assert found.misfit.max() < 0.1
    assert missed < 8
    assert alarms < 8


def test_the_sum_of_two_answers_is_known_better_than_both_of_them(sources):
    """Both answer alike: how much belongs to which cannot be told, how much to both can."""
    alike = [*sources.cells[:3], cells_of([1.0, 0, 1, 8, 0, 0], 500, 9)]
    found = find_shares(
        mixed(sources, [0.5, 0.3, 0.2, 0.0], 800, 1), replace(sources, cells=alike, alike=[(1, 2)]), generator(2), 100
    )
    width = found.high - found.low
    assert len(found.value) == 4
    assert found.value[3] == pytest.approx(float(found.value[1] + found.value[2]), abs=1e-6)
    assert found.low[3] <= 0.2 <= found.high[3]
    assert width[3] < 0.7 * (width[1] + width[2])
    assert found.misfit[3] == pytest.approx(float(found.misfit[1] + found.misfit[2]), abs=1e-6)


def test_what_no_mixture_explains_is_noticed(sources):
    strange = cells_of([0.0, 1, 8, 0, 1, 0], 800, 3)
    assert find_shares(strange, sources, generator(0), 20).misfit.max() > 0.3


def test_frequencies_of_a_cell_that_never_occurs_are_small_and_not_zero():
    found = frequencies(torch.tensor([[0, 0, 1], [2, 2, 2]]), 4)
    torch.testing.assert_close(found.sum(1), torch.ones(2))
    assert (found > 0).all()
    assert found[1, 2] > 0.9


def test_the_probe_learns_two_sided_changes():
    """A transform that moves a trace up or down leaves its mean where it was."""
    plain, moved = torch.randn(600, WIDTH, generator=generator(0)), torch.randn(600, WIDTH, generator=generator(1))
    moved[:, 3] += 5 * torch.where(torch.arange(600) % 2 == 0, 1.0, -1.0)
    every = torch.cat([plain, moved])
    probe = Probe(Scaling(plain, every, PIXELS), every, torch.arange(2).repeat_interleave(600), 2)
    scores = probe(torch.cat([torch.randn(200, WIDTH, generator=generator(2)), moved[:200]]))
    assert area_under_curve(scores[200:, 1] - scores[200:, 0], scores[:200, 1] - scores[:200, 0]) > 0.95


def test_cells_are_answers_and_confidence():
    scores = torch.tensor([[0.95, 0.05], [0.3, 0.7], [0.5, 0.5]]).log()
    assert to_cells(scores).tolist() == [3, 4 + 2, 1]


def test_aligned_traces_have_the_medians_and_spreads_that_are_wanted():
    x, wanted = torch.randn(400, 5, generator=generator(1)) * 3 + 7, torch.randn(300, 5, generator=generator(2))
    found = Alignment(x, middle_and_spread(wanted))(x)
    torch.testing.assert_close(found.median(0).values, wanted.median(0).values, atol=0.02, rtol=0)
    torch.testing.assert_close(found.std(0), wanted.std(0), atol=0.25, rtol=0)


NAMES = ("up", "sideways", "nothing")
SHIFT = {"up": (0, 4.0), "sideways": (5, -4.0), "nothing": (20, 0.0), "upwards": (0, 4.2), "above": (0, 3.9)}


def images(count, seed, shares=None, drift=0.0):
    """Traces of made-up images, some of them transformed, all of them distorted by `drift`."""
    draws = generator(seed)
    x = torch.randn(count, WIDTH, generator=draws)
    order, start = torch.randperm(count, generator=draws), 0
    for name, share in (shares or {}).items():
        place, by = SHIFT[name]
        chosen = order[start : start + round(share * count)]
        x[chosen, place] += by + torch.randn(len(chosen), generator=draws)
        start += len(chosen)
    x[:, 1] += drift
    return x


@pytest.fixture(scope="module")
def search():
    return learned(NAMES)


def learned(names):
    half = torch.arange(400) // 2 % 5 < 2
    reference = Reference(
        images(400, 0),
        images(400, 1, drift=0.5),
        {f"drift {drift}": images(200, 2, drift=drift) for drift in (1.0, 2.0)},
        {name: images(400, 5 + place, {name: 1.0}) for place, name in enumerate(names)},
        {name: images(200, 8 + place, {name: 1.0}) for place, name in enumerate(names)},
        half,
        dict.fromkeys(names, 1.0),
    )
    return Search(reference, PIXELS, 0)


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


@pytest.fixture(scope="module")
def alike():
    """Has learned three transforms that look alike, and another one."""
    return learned(("up", "sideways", "upwards", "above"))


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


def transformed(search, count=160, drift=0.0, up=0.0):
    found = {}
    for place, name in enumerate(search.names):
        x = images(count, 70 + place, {name: 1.0}, drift)
        x[:, 0] += up
        found[name] = Transformed(search.see(x))
    return found


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


def softened(share, by):
    """800 images, a share moved "up" by a part of the usual distance, as if blurred; and 160 that are moved fully."""
    x = torch.randn(800, WIDTH, generator=generator(60))
    chosen = torch.randperm(800, generator=generator(61))[: round(800 * share)]
    x[chosen, 0] += by * (4 + torch.randn(len(chosen), generator=generator(62)))
    after = x[:160].clone()
    after[:, 0] += 4 + torch.randn(160, generator=generator(63))
    return x, after


def seen(search, x, after):
    return search.see(x), Transformed(search.see(after))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_common_leak_is_found_although_it_is_blurred(search, share):
    """Alignment takes away what so many images show, and what the transform itself makes of them lies far beyond it."""
    x, after = seen(search, *softened(share, 0.6))
    look = search.look(x, {"up": after}, times=40)
    assert look.alarms()[:, 1 + search.suspects.index("up")].tolist() == [True, False]
    assert search.at_most(x, after.sharp, "up") < 0.05
    assert search.most_show(x, after, "up") is None
    assert search.leak(look, x, after, "up", 1)


def half_up(count, seed):
    x = torch.randn(count, WIDTH, generator=generator(seed))
    x[:, 0] += 2 + torch.randn(count, generator=generator(seed + 1))
    return x


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


def test_an_artefact_that_looks_like_a_transform_is_no_leak(search):
    """All images are moved the way of "up", but not as far: what the transform adds is missing among them."""
    moved = images(800, 12)
    moved[:, 0] += 2.0
    x, after = search.see(moved), transformed(search, up=2.0)
    look = search.look(x, after, times=40)
    assert look.raw.bounds()[1][1] > 0.1
    assert not search.leak(look, x, after["up"], "up", 1)


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
