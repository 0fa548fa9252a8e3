"""The Fréchet distance against golden numbers and closed forms, feature extraction, and metrics within a run."""

import json
import math

import numpy as np
import pytest
import torch

from adaflow.core.metric import MetricContext
from adaflow.errors import ConfigError
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.features.efficientnet import EfficientNetLite0
from adaflow.plugins.metrics.frechet import FrechetDistance, frechet_distance
from tests.golden import Golden
from tests.runs import small_run

pytest_plugins = ["tests.command_line"]

GOLDEN = Golden("metrics")


def features_with(mean: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """2·D features of exactly this mean and covariance."""
    root = torch.linalg.cholesky(covariance).T * len(mean) ** 0.5
    return torch.cat([mean + root, mean - root])


def test_frechet_distance_of_golden_moments():
    fakes = features_with(GOLDEN["mu_gen"], GOLDEN["cov_gen"])
    reals = features_with(GOLDEN["mu_real"], GOLDEN["cov_real"])
    assert frechet_distance(fakes, reals) == pytest.approx(float(GOLDEN["fid"]), rel=1e-6)
    assert frechet_distance(reals, fakes) == pytest.approx(float(GOLDEN["fid"]), rel=1e-6)


@pytest.mark.skipif("gen" not in GOLDEN, reason="needs the whole set of golden arrays")
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


@pytest.fixture(scope="module")
def extractor():
    return EfficientNetLite0()


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


@pytest.mark.parametrize("size", [16, 64, 80])
def test_efficientnet_gives_1280_features_an_image_always_the_same(extractor, size):
    images = pictures(3, 3, size, size)
    features = extractor(images)
    assert features.shape == (3, 1280)
    assert features.dtype == torch.float32
    assert torch.equal(features, extractor(images))
    assert torch.equal(features, EfficientNetLite0()(images))
    assert features.isfinite().all()
    assert (features[0] - features[1]).abs().max() > 1e-3
    torch.testing.assert_close(features[1:2], extractor(images[1:2]), rtol=1e-4, atol=1e-4)


def test_efficientnet_takes_grey_for_rgb_without_colour(extractor):
    grey = pictures(2, 1, 32, 32)
    assert torch.equal(extractor(grey), extractor(grey.expand(-1, 3, -1, -1)))


def test_efficientnet_says_nothing_when_it_loads(capfd):
    EfficientNetLite0()
    assert capfd.readouterr() == ("", "")


def test_features_of_batches_are_those_of_the_whole(extractor):
    images = pictures(6, 3, 16, 16)
    torch.testing.assert_close(extractor.all(images.split(4)), extractor(images), rtol=1e-4, atol=1e-4)


class Means:
    """Features anybody can check: the mean of each channel."""

    name = "means"

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
    (item,) = FrechetDistance(num=16, extractor="mine").compute(context).items()
    assert item == ("fd16_means", pytest.approx(0, abs=1e-6))
    assert asked == ["mine", 16]

    others = MetricContext(lambda _: iter([dataset.images[dataset.val_indices]]), dataset, lambda _: Means(), seed=0)
    expected = frechet_distance(Means().all([dataset.images[dataset.val_indices]]), Means().all([training]))
    assert FrechetDistance().compute(others)["fd500_means"] == pytest.approx(expected)
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
    result = cli("train", *cli.small_run, "--metrics", "fd(num=8)", "--outdir", tmp_path)
    assert result.code == 0, result.err
    (run,) = tmp_path.iterdir()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows] == [8, 16]
    for row in rows:
        assert row["metric"] == "fd(num=8)"
        assert row["seconds"] >= 0
        assert math.isfinite(row["results"]["fd8_efficientnet-lite0"])


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


def test_the_default_extractor_is_registered():
    features = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).features
    assert features["efficientnet-lite0"].value is EfficientNetLite0
