"""Shares of a mixture, and the probe: on drawn numbers whose truth is known, with stated error rates."""

from dataclasses import replace

import pytest
import torch

from adaflow.core.leaks.mixture import Sources, expectation_maximisation, find_shares, frequencies
from adaflow.core.leaks.probe import Alignment, Probe, Scaling, area_under_curve, middle_and_spread, to_cells
from tests.drawn_traces import PIXELS, WIDTH, generator


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
