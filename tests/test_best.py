"""The best snapshot of a run is kept, whatever becomes of the others, and a resumed run goes on comparing."""

import json
import math
import os
from types import SimpleNamespace

import pytest

from adaflow.core import feature_cache
from adaflow.core.best import deciding, keep_if_best, second_name
from adaflow.core.evaluate import build_metrics
from adaflow.core.metric import Metric
from adaflow.core.resolve import DEFAULT_METRICS
from adaflow.core.snapshot import load_network
from adaflow.core.train import train
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.metrics.copying import DataCopying
from adaflow.plugins.metrics.frechet import FrechetDistance
from adaflow.plugins.metrics.manifold import PrecisionRecall
from tests.runs import small_run

pytest_plugins = ["tests.command_line"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "user_cache", lambda part: tmp_path / "cache" / part)


class Told(Metric):
    """Gives what it is told to at each number of images."""

    def __init__(self, run, values, better="lower"):
        self.run, self.values, self.better = run, values, better

    def compute(self, context):
        return {"told": self.values[self.run.state.images], "other": 0.0}


def images_of(path):
    return load_network(path).info["images"]


def test_the_best_snapshot_outlives_its_name_and_a_resume(tmp_path):
    """All four snapshots have the same name here, 0 kimg, so that each takes the place of the one before."""
    for kimg, values in ((0.08, {40: 3.0, 80: 2.0}), (0.16, {120: 2.5, 160: 2.0})):
        run = small_run(tmp_path, {"schedule": {"snap": 1, "kimg": kimg}}, fresh=kimg == 0.08)
        run.metrics = {"told": Told(run, values)}
        train(run, resume=kimg == 0.16)
    assert (run.state.images, images_of(tmp_path / "run.pkl"), images_of(tmp_path / "best.pkl")) == (160, 160, 80)
    assert run.state.best == {"result": "told", "value": 2.0, "images": 80}
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows if row["best"]] == [40, 80]
    assert (tmp_path / "log.txt").read_text().count("the best so far") == 2


@pytest.mark.parametrize(
    ("better", "values", "best"),
    [
        ("lower", [3, 2, 5, 2], 1),
        ("lower", [-1, 0.5, -3], 2),
        ("higher", [3, 2, 5, 5], 2),
        ("higher", [-3, -2], 1),
        ("lower", [math.nan, 4, -math.inf, 5], 1),
        ("higher", [math.inf, 4, math.nan], 1),
    ],
)
def test_the_best_is_the_first_of_the_lowest_or_highest(tmp_path, better, values, best):
    run = SimpleNamespace(folder=tmp_path, state=SimpleNamespace(best={}, images=0))
    metric = Told(run, {}, better)
    kept = None
    for number, value in enumerate(values):
        (tmp_path / "snapshot").write_text(str(number))
        run.state.images = number
        if keep_if_best(run, metric, {"told": value, "other": 0.0}, tmp_path / "snapshot"):
            kept = number
        (tmp_path / "snapshot").unlink()
    assert (kept, run.state.best["images"], (tmp_path / "best.pkl").read_text()) == (best, best, str(best))


def test_a_metric_without_results_decides_nothing(tmp_path):
    run = SimpleNamespace(folder=tmp_path, state=SimpleNamespace(best={}, images=8))
    assert not keep_if_best(run, FrechetDistance(), {}, tmp_path / "gone")
    assert not list(tmp_path.iterdir())


def test_the_first_metric_that_knows_what_is_better_decides():
    metrics = {"ct": DataCopying(), "pr": PrecisionRecall(), "fd": FrechetDistance()}
    assert deciding(metrics) == "pr"
    assert deciding({"ct": DataCopying()}) is None
    assert deciding({}) is None


def test_a_second_name_is_a_copy_where_there_are_no_links(tmp_path, monkeypatch):
    first, name = tmp_path / "first", tmp_path / "name"
    first.write_text("one")
    second_name(first, name)
    assert os.path.samefile(first, name)

    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "other").write_text("two")
    second_name(tmp_path / "other", name)
    assert (name.read_text(), first.read_text()) == ("two", "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "name", "other"]


# What a run measures


def test_a_new_run_measures_kernel_and_frechet_distance_unless_told_otherwise(tmp_path):
    plugins = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
    assert small_run(tmp_path, {"metrics": list(DEFAULT_METRICS)}).config.metrics == DEFAULT_METRICS
    metrics = build_metrics(",".join(DEFAULT_METRICS), plugins)
    assert tuple(metrics) == DEFAULT_METRICS
    assert deciding(metrics) == DEFAULT_METRICS[0]
    assert [(metric.num, metric.most_reals) for metric in metrics.values()] == [(500, 2000)] * 2


def test_the_default_is_written_out_and_none_is_none(cli):
    dry = ("train", "--data", "demo:lesions,resolution=16,images=8", "--dry-run")
    assert "kd(num=500" in cli(*dry).out
    assert "metrics = []" in cli(*dry, "--metrics", "none").out


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        ("fid", "adaflow features fetch inception"),
        ("fd(extractor='nobody')", "no feature extractor named 'nobody'"),
        ("ct", "--val-fraction 0.1"),
        ("fd(num=1)", "num is 1"),
        ("fd(most_reals=1)", "most_reals is 1"),
    ],
)
def test_what_a_metric_lacks_is_said_before_a_run_begins(tmp_path, cli, metrics, sentence):
    result = cli("train", *cli.small_run, "--outdir", tmp_path / "runs", "--metrics", metrics)
    assert (result.code, sentence in result.err.replace("\n", " ")) == (3, True), result.err
    assert not (tmp_path / "runs").exists()
