"""`adaflow metrics`: the numbers of a run again, names and intervals, and every mistake in one sentence."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from adaflow.core import feature_cache, weights
from adaflow.core.evaluate import build_metrics, data_of, draw_fakes
from adaflow.core.measured import Measured
from adaflow.core.metric import MetricContext
from adaflow.core.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from adaflow.core.snapshot import load_network, save_network
from adaflow.errors import ConfigError
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.metrics.path_length import PathLength
from tests.runs import small_run

pytest_plugins = ["tests.command_line"]

DOCS = Path(__file__).parents[1] / "docs"
PLUGINS = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
EXTRACTOR = """
import adaflow, torch

class Thumbnail(adaflow.NetworkExtractor):
    name = "thumbnail"
    size = 4

    def load(self):
        return torch.nn.Flatten()

    def probabilities(self, images):
        return self(images)[:, :10].softmax(1)

@adaflow.hookimpl
def register_feature_extractors(register):
    register("thumbnail", Thumbnail)
"""
DATA = "demo:lesions,resolution=16,images=60"
EVERY = "fd,kd,pr,dc,is,vendi,authenticity,ct(cells=1),ppl"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    for module in (feature_cache, weights):
        monkeypatch.setattr(module, "user_cache", lambda part: tmp_path / "cache" / part)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with `run.pkl`, a network that is not trained, that says what it would have been trained on."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(1)
    shape = {"img_resolution": 16, "channel_base": 128, "channel_max": 8}
    G = Generator(GeneratorConfig(**shape, z_dim=8, w_dim=8, mapping_layers=2))
    info = {
        "images": 0,
        "config": {"data": {"source": DATA, "val_fraction": 0.3}, "schedule": {"seed": 3}},
    }
    save_network(folder / "run.pkl", G, Discriminator(DiscriminatorConfig(**shape)), G, info)
    save_network(folder / "silent.pkl", G, Discriminator(DiscriminatorConfig(**shape)), G, {})
    (folder / "thumbnail.py").write_text(EXTRACTOR)
    return folder


@pytest.fixture
def measured(cli, run):
    def measure(*arguments, network="run.pkl"):
        options = ("--plugin", run / "thumbnail.py", "--extractor", "thumbnail", "--num", 40)
        return cli("metrics", run / network, *options, *arguments)

    return measure


def test_every_metric_has_a_name_with_the_extractor_and_counts(measured):
    result = measured("--metrics", EVERY, "--json")
    assert result.code == 0, result.err
    results = json.loads(result.out)["results"]
    names = ["fd40", "kd40", "precision40", "recall40", "density40", "coverage40", "is40", "vendi40", "vendi40_reals"]
    assert set(results) == {f"{name}_thumbnail" for name in [*names, "authenticity40", "ct40_cells1", "ppl40"]}
    for name, row in results.items():
        assert np.isfinite(row["value"]), name
        assert row["fakes"] == 40
        assert row.get("split") == {"is40": None, "ppl40": None, "ct40": "both"}.get(name.split("_")[0], "train")
        has_interval = not name.startswith(("vendi", "ct"))
        assert (row["interval"] is not None) == has_interval, name
        if has_interval:
            assert row["interval"][0] <= row["value"] <= row["interval"][1] + 1e-12
    assert results["fd40_thumbnail"]["reals"] == 42
    assert results["ct40_cells1_thumbnail"]["reals"] == 60


def test_the_extractor_and_the_metric_of_the_docs_work(tmp_path, measured):
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in blocks] == ["colours.py", "brightness.py"]
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    plugins = [word for name, _ in blocks for word in ("--plugin", tmp_path / name)]
    result = measured(*plugins, "--extractor", "colours", "--metrics", "fd,pr(k=5),brightness", "--json")
    assert result.code == 0, result.err
    results = json.loads(result.out)["results"]
    assert set(results) == {"fd40_colours", "precision40_k5_colours", "recall40_k5_colours", "brightness"}
    assert -255 < results["brightness"]["value"] < 255


def test_every_metric_and_extractor_is_in_the_docs():
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    names = [entry.name for kind in (PLUGINS.metrics, PLUGINS.features) for entry in kind]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_table_fits_80_columns(measured):
    result = measured("--metrics", "fd,is,fd(reference='val')")
    assert result.code == 0, result.err
    assert "fd40_val_thumbnail" in result.out
    assert "18 val" in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    assert result.err == ""


def test_the_command_gives_the_numbers_of_the_run(tmp_path, cli):
    cli(
        "train",
        *cli.small_run,
        "--outdir",
        tmp_path / "runs",
        "--metrics",
        "fd(num=8),kd(num=8)",
        "--val-fraction",
        0.3,
    )
    (folder,) = (tmp_path / "runs").iterdir()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    during = {name: value for row in rows if row["images"] == 16 for name, value in row["results"].items()}
    result = cli("metrics", folder, "--metrics", "kd,fd", "--num", 8, "--json")
    assert result.code == 0, result.err
    after = {name: row["value"] for name, row in json.loads(result.out)["results"].items()}
    assert len(after) == 2
    assert after == pytest.approx(during, rel=1e-9)
    other = json.loads(cli("metrics", folder, "--metrics", "kd,fd", "--num", 8, "--json", "--seed", 1).out)["results"]
    assert all(row["value"] != pytest.approx(during[name], rel=1e-3) for name, row in other.items())


def test_fakes_of_a_seed_are_the_same_whatever_their_number(run):
    network = load_network(run / "run.pkl")
    dataset = data_of(network, "", PLUGINS, print)
    some, more = (torch.cat(list(draw_fakes(network.G_ema, dataset, 3, n, lambda *_: None))) for n in (5, 40))
    assert torch.equal(some, more[:5])
    assert some.dtype == torch.uint8
    assert len(more.flatten(1).unique(dim=0)) == 40
    other = torch.cat(list(draw_fakes(network.G_ema, dataset, 4, 5, lambda *_: None)))
    assert not torch.equal(some, other)


def test_path_length_of_a_straight_generator_is_the_length_of_its_path(tmp_path):
    """Images linear in w, features linear in images: any step gives |A·(w1 − w0)|², however small."""

    class Straight(torch.nn.Module):
        config = GeneratorConfig(img_resolution=16, z_dim=8, w_dim=8)

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.linspace(0.5, 1, 8, dtype=torch.float64))

        def mapping(self, z, c):
            return z.double()

        def synthesis(self, ws, noise):
            return (ws * self.weight)[:, None, None, :]

    class Last:
        name = "last"

        def __call__(self, images):
            return images[:, 0, 0] / 127.5

    dataset = small_run(tmp_path).dataset
    context = MetricContext(lambda n: iter(()), dataset, lambda _: Last(), seed=0, generator=Straight())
    coarse, fine = (PathLength(num=300, step=step).lengths(context) for step in (1e-1, 1e-4))
    torch.testing.assert_close(coarse, fine, rtol=1e-6, atol=0)
    expected = 2 * float(context.generator.weight.detach().square().sum())
    assert float(coarse.mean()) == pytest.approx(expected, rel=0.15)
    (item,) = PathLength(num=300).compute(context).items()
    assert item[0] == "ppl300_last"
    assert isinstance(item[1], Measured)
    images_only = MetricContext(lambda n: iter(()), dataset, lambda _: Last(), seed=0)
    with pytest.raises(ConfigError, match="needs a network"):
        PathLength().compute(images_only)


def test_settings_of_the_command_are_for_metrics_that_have_them_and_say_nothing():
    metrics = build_metrics("fd,kd(num=7),fid50k_full", PLUGINS, num=5, extractor="x")
    chosen = [(metric.num, metric.extractor) for metric in metrics.values()]
    assert chosen == [(5, "x"), (7, "x"), (50_000, "inception")]


def test_an_extractor_that_goes_by_another_name_is_refused(measured, tmp_path):
    (tmp_path / "other.py").write_text(EXTRACTOR.replace('register("thumbnail"', 'register("other"'))
    result = measured("--plugin", tmp_path / "other.py", "--metrics", "fd(num=8)", "--extractor", "other")
    assert result.code == 3
    assert "calls itself 'thumbnail'" in " ".join(result.err.split())


MISTAKES = {
    "an unknown metric": (["--metrics", "fdd"], 3, "Did you mean"),
    "no metric": (["--metrics", ""], 2, "no metric is named"),
    "a weight": (["--metrics", "fd*2"], 2, "no weight"),
    "an unknown extractor": (["--extractor", "nobody"], 3, "no feature extractor named 'nobody'"),
    "one fake": (["--num", 1], 2, "greater than or equal to 2"),
    "too few held out for each cell": (["--metrics", "ct"], 3, "no cell has 10 held-out images"),
    "k too large": (["--metrics", "pr(k=50)"], 3, "k is 50"),
    "too few reals": (["--metrics", "pr(k=39,reference='val')"], 3, "18 real images"),
    "an unknown part": (["--metrics", "fd(reference='test')"], 3, "Known: train, val"),
    "FID without weights": (["--metrics", "fid50k_full"], 3, "adaflow features fetch inception"),
    "all names of others": (["--metrics", "kid50k_full,pr50k3_full,is50k,ppl2_wend"], 3, "are not on this machine"),
    "LPIPS without weights": (["--metrics", "ppl2_wend"], 3, "adaflow features fetch vgg16-lpips"),
    "FID with settings": (["--metrics", "fid50k_full(num=5)"], 3, "has no setting 'num'"),
    "FID of another network": (["--metrics", "fid(extractor='thumbnail')"], 3, "has no setting 'extractor'"),
    "weights that are not there": (["--weights", "nowhere.pt"], 3, "there is no file 'nowhere.pt'"),
    "data of another size": (["--data", "demo:lesions,resolution=32,images=60"], 3, "colour images of 32 pixels"),
    "data that are not there": (["--data", "nowhere"], 3, "nowhere"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(measured, case):
    arguments, code, sentence = MISTAKES[case]
    result = measured(*arguments)
    assert result.code == code, result.err
    assert sentence in result.err.replace("\n", " ")
    assert "Traceback" not in result.err


def test_mistakes_with_the_network(measured, run, tmp_path, cli):
    result = measured(network="silent.pkl")
    assert (result.code, "does not say what it was trained on" in result.err) == (2, True)
    assert measured("--data", DATA, network="silent.pkl").code == 0
    result = measured("--metrics", "ct", "--data", DATA, network="silent.pkl")
    assert (result.code, "no images were kept out of training" in result.err) == (3, True)
    result = cli("metrics", tmp_path)
    assert (result.code, "has no run.pkl" in result.err) == (3, True)
    result = cli("metrics", run / "thumbnail.py")
    assert (result.code, "not a network of adaflow" in result.err) == (3, True)


def test_data_need_the_classes_of_the_network(tmp_path, cli):
    shape = {"img_resolution": 16, "channel_base": 128, "channel_max": 8, "c_dim": 3}
    G = Generator(GeneratorConfig(**shape, z_dim=8, w_dim=8, mapping_layers=2))
    save_network(tmp_path / "run.pkl", G, Discriminator(DiscriminatorConfig(**shape)), G, {})
    result = cli("metrics", tmp_path, "--data", DATA)
    assert (result.code, "knows 3 classes, and the data have 2" in result.err) == (3, True), result.err


def test_data_that_moved_are_asked_for(tmp_path, run, measured):
    loaded = load_network(run / "run.pkl")
    info = {**loaded.info, "config": {"data": {"source": str(tmp_path / "gone")}}}
    save_network(run / "moved.pkl", loaded.G, loaded.D, loaded.G_ema, info)
    result = measured(network="moved.pkl")
    assert (result.code, "no longer at" in result.err, "--data" in result.err) == (3, True, True)


def test_other_images_are_named_as_such(run, measured):
    loaded = load_network(run / "run.pkl")
    info = {**loaded.info, "data": {"fingerprint": "another"}}
    save_network(run / "other.pkl", loaded.G, loaded.D, loaded.G_ema, info)
    result = measured("--metrics", "fd", network="other.pkl")
    assert result.code == 0
    assert "not the images that the network was trained on" in result.err


def test_features_of_fakes_and_reals_are_computed_once_for_all_metrics(tmp_path):
    dataset = small_run(tmp_path, {"data": {"val_fraction": 0.25}}).dataset
    calls = []

    class Means:
        name, device = "means", torch.device("cpu")

        def all(self, batches):
            calls.append(len(images := torch.cat(list(batches))))
            return images.float().mean((2, 3))

    fakes = dataset.images[dataset.train_indices]
    context = MetricContext(lambda n: iter([fakes[:n]]), dataset, lambda _: Means(), seed=0)
    for text, metric in build_metrics("fd,kd,pr,dc,vendi,authenticity", PLUGINS, num=48).items():
        assert metric.compute(context), text
    assert sorted(calls) == [48, 48]
    with pytest.raises(ConfigError, match="there are 48 fakes, and 50 are asked for"):
        context.fake_features(50)
