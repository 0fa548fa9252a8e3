"""Every metric against golden numbers, plain loops over the definitions, and cases with a known answer."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from adaflow.core.measured import Counts, Measured, describe, normal_interval, share_interval
from adaflow.core.neighbours import balls_around, distance_blocks, nearest, radii
from adaflow.plugins.metrics.copying import authentic, copying_z, k_means, principal, rank_z
from adaflow.plugins.metrics.inception_score import divergences, inception_score
from adaflow.plugins.metrics.kernel import kernel_distance, kernel_distance_of_subsets, kernel_error
from adaflow.plugins.metrics.manifold import coverage, densities, precision_recall
from adaflow.plugins.metrics.path_length import trimmed
from adaflow.plugins.metrics.vendi import some, vendi_score
from tests.golden import Golden

GOLDEN = Golden("metrics")
FAKES, REALS = GOLDEN["gen"], GOLDEN["real"]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Neighbours


@pytest.mark.parametrize("block", [1, 7, 50, 10_000])
def test_neighbours_are_those_of_a_plain_table_of_distances_whatever_the_blocks(block):
    x, y = normal(23, 5), normal(17, 5, seed=1)
    table = torch.cdist(x, y)
    torch.testing.assert_close(nearest(x, y, block=block)[0], table.min(1).values)
    assert torch.equal(nearest(x, y, block=block)[1], table.argmin(1))
    own = torch.cdist(x, x).fill_diagonal_(math.inf)
    torch.testing.assert_close(nearest(x, x, same=True, block=block)[0], own.min(1).values)
    torch.testing.assert_close(radii(x, 3, block=block), own.sort(1).values[:, 2])
    radius = torch.full((17,), 2.0, dtype=torch.float64)
    assert torch.equal(balls_around(x, y, radius, block=block), (table <= 2).sum(1))


def test_blocks_are_no_larger_than_they_may_be():
    sizes = [block.numel() for _, block in distance_blocks(normal(50, 3), normal(20, 3), block=100)]
    assert max(sizes) == 100
    assert sum(sizes) == 1000


def test_near_neighbours_far_from_the_origin_keep_their_distance():
    x = normal(40, 8).float() * 1e-3 + 1000
    expected = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(radii(x, 1), expected.fill_diagonal_(math.inf).min(1).values, rtol=1e-6, atol=0)
    assert nearest(x, x)[0].max() < 1e-9


@pytest.mark.parametrize("k", [0, 5, 6])
def test_radii_need_enough_neighbours(k):
    with pytest.raises(ValueError, match="neighbours"):
        radii(normal(5, 2), k)


# Kernel distance


def test_kernel_distance_of_golden_subsets():
    whole = kernel_distance(FAKES[GOLDEN["kid_full_idx_gen"]], REALS[GOLDEN["kid_full_idx_real"]])
    assert whole == pytest.approx(float(GOLDEN["kid_full"]), rel=5e-5)  # float32 there
    parts = zip(GOLDEN["kid_sub_idx_gen"], GOLDEN["kid_sub_idx_real"], strict=True)
    mean = np.mean([kernel_distance(FAKES[i], REALS[j]) for i, j in parts])
    assert mean == pytest.approx(float(GOLDEN["kid_sub"]), rel=5e-5)
    assert kernel_distance(FAKES[:500], REALS) == pytest.approx(float(GOLDEN["kid_equal500"]), rel=5e-5)


def test_kernel_distance_by_loops_over_pairs():
    x, y = normal(5, 3), normal(4, 3, seed=1) + 0.5

    def kernel(a, b):
        return float(a @ b / 3 + 1) ** 3

    within = [np.mean([kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]) for z in (x, y)]
    between = np.mean([kernel(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(within[0] + within[1] - 2 * between, rel=1e-12)


def test_kernel_distance_has_no_bias():
    """Sets of 10 of the same distribution: on average 0, below it about as often as above."""
    distances = [kernel_distance(normal(10, 4, seed=i), normal(10, 4, seed=1000 + i)) for i in range(400)]
    assert abs(np.mean(distances)) < 3 * np.std(distances) / 20
    assert min(distances) < 0


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_error_of_the_kernel_distance_is_the_spread_over_draws(shift):
    reals = normal(400, 8)
    draws = [normal(150, 8, seed=i) + shift for i in range(1, 201)]
    spread = np.std([kernel_distance(draw, reals) for draw in draws], ddof=1)
    error = np.mean([kernel_error(draw, reals) for draw in draws[:30]])
    assert 0.85 < error / spread < 1.25
    assert math.isnan(kernel_error(reals[:2], reals))


def test_random_subsets_of_the_kernel_distance_follow_the_seed():
    first, again, other = (kernel_distance_of_subsets(FAKES, REALS, 50, 4, seed) for seed in (1, 1, 2))
    assert first == again != other
    whole = kernel_distance_of_subsets(FAKES[:500], REALS, 500, 1, seed=3)
    assert whole == pytest.approx(float(GOLDEN["kid_equal500"]), rel=5e-5)


def test_some_features_are_different_ones_chosen_by_the_seed():
    x = torch.arange(20.0)[:, None]
    assert some(x, 20, 0) is x
    assert len(some(x, 7, 0).unique()) == 7
    assert torch.equal(some(x, 7, 5), some(x, 7, 5))
    assert not torch.equal(some(x, 7, 5), some(x, 7, 6))


# Precision, recall, density, coverage


def test_precision_and_recall_of_golden_features():
    assert precision_recall(FAKES, REALS) == (float(GOLDEN["precision_k3"]), float(GOLDEN["recall_k3"]))


def test_density_and_coverage_by_loops():
    fakes, reals, k = normal(30, 4) + 1.2, normal(25, 4, seed=1), 5
    table = torch.cdist(reals, fakes)
    reach = torch.cdist(reals, reals).fill_diagonal_(math.inf).sort(1).values[:, k - 1]
    hits = [[bool(table[j, i] <= reach[j]) for j in range(25)] for i in range(30)]
    assert densities(fakes, reals, k).tolist() == [sum(row) / k for row in hits]
    covered = sum(any(row[j] for row in hits) for j in range(25)) / 25
    assert coverage(fakes, reals, k) == covered
    assert 0.2 < covered < 0.8


def test_dropping_a_mode_costs_recall_and_coverage_and_no_precision():
    modes = torch.cat((normal(200, 4), normal(200, 4, seed=1) + 30))
    fakes = normal(200, 4, seed=2)
    precision, recall = precision_recall(fakes, modes)
    assert precision > 0.8
    assert recall <= 0.5
    assert coverage(fakes, modes) <= 0.5
    assert densities(fakes, modes).mean() > 0.8


# Inception score


def test_inception_score_of_golden_probabilities():
    mean, spread = inception_score(GOLDEN["probs"])
    assert mean == pytest.approx(float(GOLDEN["is_mean_10splits"]), rel=1e-6)
    assert spread == pytest.approx(float(GOLDEN["is_std_10splits"]), rel=1e-5)
    assert inception_score(GOLDEN["probs"], splits=1)[0] == pytest.approx(float(GOLDEN["is_mean_1split"]), rel=1e-6)


def test_inception_score_of_sure_and_of_blind_classifiers():
    assert inception_score(torch.eye(10).repeat(20, 1), splits=2)[0] == pytest.approx(10)
    assert inception_score(torch.full((20, 4), 0.25), splits=1) == (pytest.approx(1), 0)
    assert divergences(torch.eye(2)).tolist() == pytest.approx([math.log(2)] * 2)


# Path length, Vendi


def test_path_lengths_lose_their_extreme_percents():
    kept = trimmed(torch.arange(201, dtype=torch.float64)[torch.randperm(201)])
    assert (kept.min(), kept.max(), len(kept)) == (2, 198, 197)


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("width", [6, 40])
def test_vendi_counts_different_images(copies, width):
    assert vendi_score(torch.eye(width)[:6].repeat(copies, 1) * 5) == pytest.approx(6)


def test_vendi_by_the_definition():
    x = normal(12, 5)
    unit = x / x.norm(dim=1, keepdim=True)
    shares = np.linalg.eigvalsh((unit @ unit.T / 12).numpy()).clip(min=1e-300)
    assert vendi_score(x) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-9)
    assert vendi_score(x[:1].repeat(5, 1)) == pytest.approx(1)


# Copies


def test_authentic_images_are_farther_away_than_the_neighbour_of_their_neighbour():
    reals = torch.tensor([[0.0], [1.0], [10.0]])
    fakes = torch.tensor([[0.5], [1.9], [2.5], [10.0], [18.0]])
    assert authentic(fakes, reals).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_against_scipy(ties):
    first, second = normal(40), normal(30, seed=1) + 0.3
    if ties:
        first, second = first.mul(3).round(), second.mul(3).round()
    expected = scipy.stats.mannwhitneyu(second.numpy(), first.numpy()).statistic
    z = rank_z(first, second)
    assert z * math.sqrt(40 * 30 * 71 / 12) + 600 == pytest.approx(expected)
    assert rank_z(second, first) == pytest.approx(-z)


def test_copying_is_far_below_zero_for_copies_and_near_zero_for_new_images():
    train, held_out, new = (torch.cat((normal(300, 6, seed=s), normal(300, 6, seed=s + 9) + 8)) for s in (1, 2, 3))
    copies = train + 0.01 * normal(600, 6, seed=5)
    assert abs(copying_z(train, held_out, new)) < 3
    assert copying_z(train, held_out, copies) < -10
    assert copying_z(train, held_out, new * 3) > 3
    assert math.isnan(copying_z(train, held_out[:5], new))


def test_copying_in_one_cell_is_seen_though_the_other_is_clean():
    """Of two clusters, one holds copies only."""
    train, held_out, new = (torch.cat((normal(300, 6, seed=s), normal(300, 6, seed=s + 9) + 8)) for s in (1, 2, 3))
    mixed = torch.cat((train[:300] + 0.01 * normal(300, 6, seed=5), new[300:]))
    assert copying_z(train, held_out, mixed, cells=2) < -5


def test_k_means_finds_clusters_and_follows_the_seed():
    x = torch.cat([normal(50, 2, seed=i) * 0.1 + 10 * i for i in range(3)])
    centres = k_means(x, 3, seed=0)
    expected = torch.stack([part.mean(0) for part in x.split(50)])
    torch.testing.assert_close(centres[centres[:, 0].argsort()], expected)
    assert torch.equal(k_means(normal(30, 2), 4, seed=1), k_means(normal(30, 2), 4, seed=1))
    assert k_means(torch.ones(5, 2), 3, seed=0).eq(1).all()


@pytest.mark.parametrize(("n", "d"), [(50, 8), (8, 50)])
def test_principal_directions_are_those_of_a_singular_value_decomposition(n, d):
    x = normal(n, d) * torch.linspace(3, 0.1, d)
    mean, directions = principal(x, 4)
    expected = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:4].T
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(directions @ directions.T, expected @ expected.T, rtol=1e-6, atol=1e-8)
    assert principal(x, 1000)[1].shape == (d, min(n - 1, d))


# Numbers with intervals


def test_intervals_and_counts():
    low, high = share_interval(0.5, 100)
    assert (low, high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))  # Wilson's own
    assert share_interval(0.0, 10)[0] == 0
    assert share_interval(1.0, 10) == (pytest.approx(0.7225, abs=1e-4), pytest.approx(1))
    assert normal_interval(1, 0.5) == (pytest.approx(0.02, abs=1e-3), pytest.approx(1.98, abs=1e-3))
    assert normal_interval(1, math.nan) is None
    number = Measured(2.5, (2, 3), Counts(10, 20, "val"))
    assert number == 2.5
    assert describe(number) == {"value": 2.5, "interval": [2, 3], "fakes": 10, "reals": 20, "split": "val"}
    assert describe(Measured(1, None, Counts(4))) == {"value": 1.0, "interval": None, "fakes": 4}
    assert describe(3) == {"value": 3.0}
