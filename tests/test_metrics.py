"""The Fréchet distance against golden numbers and closed forms, and metrics within a run."""

import json
import math

import numpy as np
import pytest
import torch

from adaflow.core import feature_cache
from adaflow.core.metric import MetricContext
from adaflow.errors import ConfigError
from adaflow.plugins.metrics.frechet import (
    FrechetDistance,
    exact_trace_of_root,
    frechet_distance,
    frechet_error,
    quick_trace_of_root,
)
from benchmarks.subjects.metric import distance_by_root
from tests.golden import Golden
from tests.runs import small_run

pytest_plugins = ["tests.command_line"]

GOLDEN = Golden("metrics")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "user_cache", lambda part: tmp_path / "cache" / part)


def features_with(mean: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """2·D features of exactly this mean and covariance."""
    root = torch.linalg.cholesky(covariance).T * len(mean) ** 0.5
    return torch.cat([mean + root, mean - root])


def test_frechet_distance_of_golden_moments():
    fakes = features_with(GOLDEN["mu_gen"], GOLDEN["cov_gen"])
    reals = features_with(GOLDEN["mu_real"], GOLDEN["cov_real"])
    assert frechet_distance(fakes, reals) == pytest.approx(float(GOLDEN["fid"]), rel=1e-6)
    assert frechet_distance(reals, fakes) == pytest.approx(float(GOLDEN["fid"]), rel=1e-6)


def test_frechet_distance_of_golden_features():
    assert frechet_distance(GOLDEN["gen"], GOLDEN["real"]) == pytest.approx(float(GOLDEN["fid"]), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(10, 7), (10, 200), (300, 10), (300, 200), (2, 2)])
def test_frechet_distance_with_fewer_images_than_features(n, m):
    random = np.random.default_rng(n * 1000 + m)
    x, y = random.normal(size=(n, 40)) @ np.diag(np.linspace(0.1, 3, 40)), random.normal(0.3, 1, (m, 40))
    cov_x, cov_y = np.cov(x.T, ddof=0), np.cov(y.T, ddof=0)
    eigenvalues = np.linalg.eigvals(cov_x @ cov_y).real.clip(min=0)
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(cov_x + cov_y) - 2 * np.sqrt(eigenvalues).sum()
    assert frechet_distance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n", [5, 100])
def test_frechet_distance_in_closed_form(n):
    x = torch.randn(n, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x -= x.mean(0)
    spread = x.square().sum().item() / n
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9 * spread)
    assert frechet_distance(x + 2, x) == pytest.approx(32 * 4, rel=1e-9)
    assert frechet_distance(3 * x, x) == pytest.approx(4 * spread, rel=1e-9)


def test_frechet_distance_keeps_its_digits_where_features_never_change():
    """With more images than features the quick route is tried; rounding must not add up over 1,500 zeros."""
    generator = torch.Generator().manual_seed(4)
    x, y = torch.zeros(2, 400, 300, dtype=torch.float64)
    x[:, :40], y[:, :40] = torch.randn(2, 400, 40, generator=generator, dtype=torch.float64)
    alone = frechet_distance(x[:, :40], y[:, :40])
    assert frechet_distance(x, y) == pytest.approx(alone, rel=1e-9)
    turn = torch.linalg.qr(torch.randn(300, 300, generator=generator, dtype=torch.float64)).Q
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(alone, rel=1e-9)


@pytest.mark.parametrize("n", [5, 20, 50])
def test_frechet_distance_of_images_that_are_all_the_same(n):
    same, y = torch.ones(n, 8), GOLDEN["real"][:50, :8]
    expected = (1 - y.double().mean(0)).square().sum() + y.double().var(0, correction=0).sum()
    assert frechet_distance(same, y) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(600, 500), (500, 600), (40, 500), (500, 40), (40, 50)])
def test_both_routes_of_the_frechet_distance_agree(n, m):
    x, y = GOLDEN["gen"][:n].double(), GOLDEN["real"][:m].double()
    x, y = (x - x.mean(0)) / len(x) ** 0.5, (y - y.mean(0)) / len(y) ** 0.5
    quick, error = quick_trace_of_root(x, y)
    exact = exact_trace_of_root(x, y)
    assert quick == pytest.approx(exact, rel=1e-10)
    assert abs(quick - exact) < error < 1e-7 * exact


def test_the_quick_route_gives_up_where_digits_would_be_lost():
    x = torch.randn(100, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    still = torch.cat((x, torch.zeros(100, 10)), 1)
    assert quick_trace_of_root(still, still)[1] == torch.inf
    repeated = x[:3].repeat(4, 1)
    assert quick_trace_of_root(repeated, repeated)[1] == torch.inf
    few = x[:5].repeat(2, 1)
    assert quick_trace_of_root(few, few)[1] > 1e-9
    assert exact_trace_of_root(repeated, repeated) == pytest.approx(float(repeated.square().sum()), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(600, 500), (100, 500), (60, 50)])
def test_frechet_distance_is_that_of_scipys_root(n, m):
    x, y = GOLDEN["gen"][:n], GOLDEN["real"][:m]
    assert frechet_distance(x, y) == pytest.approx(distance_by_root(x, y), rel=1e-6)


@pytest.mark.parametrize(("n", "width"), [(300, 5), (60, 90)])
def test_error_of_the_frechet_distance_is_the_spread_over_draws(n, width):
    generator = torch.Generator().manual_seed(n)
    mix = torch.randn(width, width, generator=generator)
    reals = torch.randn(500, width, generator=generator)
    draws = [torch.randn(n, width, generator=generator) @ mix for _ in range(150)]
    spread = np.std([frechet_distance(draw, reals) for draw in draws], ddof=1)
    error = np.mean([frechet_error(draw, reals) for draw in draws[:20]])
    assert 0.85 < error / spread < 1.6


def test_error_of_the_frechet_distance_is_its_derivative():
    """A little more weight on one image moves the distance by its influence; their spread gives the error."""
    x, y = GOLDEN["gen"][:60, :6].double(), GOLDEN["real"][:, :6].double()
    many, base = x.repeat(300, 1), frechet_distance(x, y)
    moved = [(frechet_distance(torch.cat((many, image[None])), y) - base) * len(many) for image in x]
    assert frechet_error(x, y) == pytest.approx(np.std(moved, ddof=1) / 60**0.5, rel=0.01)
    assert math.isnan(frechet_error(x[:1], y))


class Means:
    """Features anybody can check: the mean of each channel."""

    name = "means"
    device = torch.device("cpu")

    def all(self, batches):
        return torch.cat([batch.double().mean((2, 3)) for batch in batches])


def test_fd_compares_fakes_with_the_training_images(tmp_path):
    dataset = small_run(tmp_path, {"data": {"val_fraction": 0.5}}).dataset
    training = dataset.images[dataset.train_indices]
    asked = []

    def fakes(count):
        asked.append(count)
        yield training.flip(0)

    context = MetricContext(fakes, dataset, lambda name: asked.append(name) or Means(), seed=0)
    (item,) = FrechetDistance(num=32, extractor="mine").compute(context).items()
    assert item == ("fd32_means", pytest.approx(0, abs=1e-6))
    assert set(asked) == {"mine", 32}

    others = MetricContext(lambda _: iter([dataset.images[dataset.val_indices]]), dataset, lambda _: Means(), seed=0)
    expected = frechet_distance(Means().all([dataset.images[dataset.val_indices]]), Means().all([training]))
    assert FrechetDistance(num=32).compute(others)["fd32_means"] == pytest.approx(expected)
    assert expected > 1


def test_reals_come_in_order_and_up_to_a_count(tmp_path):
    dataset = small_run(tmp_path, {"data": {"val_fraction": 0.25}}).dataset
    context = MetricContext(lambda _: iter(()), dataset, lambda _: Means(), seed=0)
    assert torch.equal(torch.cat(list(context.reals(batch=7))), dataset.images[dataset.train_indices])
    assert [len(batch) for batch in context.reals(10, batch=7)] == [7, 3]


@pytest.mark.parametrize("num", [0, 1, 2.5, "many"])
def test_fd_needs_a_number_of_images(num):
    with pytest.raises(ConfigError):
        FrechetDistance(num=num)


def test_a_run_measures_itself_at_every_snapshot(tmp_path, cli):
    result = cli("train", *cli.small_run, "--metrics", "fd(num=8)", "--outdir", tmp_path / "runs")
    assert result.code == 0, result.err
    (run,) = (tmp_path / "runs").iterdir()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows] == [8, 16]
    for row in rows:
        assert row["metric"] == "fd(num=8)"
        assert row["seconds"] >= 0
        distance = row["results"]["fd8_efficientnet-lite0"]
        details = row["details"]["fd8_efficientnet-lite0"]
        assert (details["fakes"], details["reals"], details["split"]) == (8, 32, "train")
        assert details["interval"][0] < distance == details["value"] < details["interval"][1]
        assert f"fd8_efficientnet-lite0 {distance:.4g} ({details['interval'][0]:.4g} … " in result.out


def test_a_metric_that_fails_is_named_and_the_run_goes_on(tmp_path, cli):
    plugin = tmp_path / "faulty.py"
    plugin.write_text(
        "import adaflow\n"
        "class Faulty(adaflow.Metric):\n"
        "    def compute(self, context): raise ValueError('no luck')\n"
        "@adaflow.hookimpl\n"
        "def register_metrics(register): register('faulty', Faulty)\n"
    )
    result = cli(
        "train", *cli.small_run, "--plugin", plugin, "--metrics", "faulty,fd(num=8)", "--outdir", tmp_path / "runs"
    )
    assert result.code == 0, result.err
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "log.txt").read_text().count("metric faulty failed: ValueError: no luck") == 2
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["metric"] for row in rows] == ["fd(num=8)", "fd(num=8)"]
    assert json.loads((run / "status.json").read_text())["status"] == "finished"
