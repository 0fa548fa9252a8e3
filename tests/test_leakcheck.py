"""`adaflow leakcheck`: what is compared with what, the verdict, the report, and every mistake in a sentence."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import adaflow
from adaflow.cli.leakcheck import _StageBar
from adaflow.core import feature_cache, weights
from adaflow.core.data.dataset import DataConfig, load_dataset
from adaflow.core.grid import save_png
from adaflow.core.leak_detector import Finding, LeakContext, LeakDetector, Panel
from adaflow.core.leak_report import data_uri, to_html
from adaflow.core.leakcheck import LeakReport, _transforms, build_detectors, leak_fakes, network_context, run_detectors
from adaflow.core.leaks.reference import apply_surely
from adaflow.core.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from adaflow.core.snapshot import load_network, save_network
from adaflow.errors import AdaflowError, FileError, PluginError, UsageError
from adaflow.plugin_manager import PluginManager

pytest_plugins = ["tests.command_line"]

PLUGINS = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
DATA = "demo:lesions,resolution=16,images=200"
PLUGIN = """
import adaflow, torch
from dataclasses import dataclass

class Thumbnail(adaflow.NetworkExtractor):
    name = "thumbnail"
    size = 4

    def load(self):
        return torch.nn.Flatten()

@dataclass
class Says(adaflow.LeakDetector):
    verdict: str = "clean"

    def check(self, context):
        context.progress("saying", 1, 1)
        sentence = f"It is {self.verdict} & <i>so</i>."
        return [adaflow.Finding("says", "<b>subject</b>", self.verdict, sentence, "Do [this].")]

@dataclass
class Tells(adaflow.LeakDetector):
    def check(self, context):
        shapes = {name: list(getattr(context, name).shape) for name in ("fakes", "train")}
        held_out = None if context.held_out is None else list(context.held_out.shape)
        details = dict(
            shapes, held_out=held_out, transforms=sorted(context.transforms), used=sorted(context.used),
            spec=context.spec, mirrored=context.mirrored, names=[context.train_names[0], *context.fake_names[:2]],
            bright=float(context.fakes.float().mean()), key=context.data_key, bad=float("nan"),
        )
        return [adaflow.Finding("tells", "all", "clean", "Told.", details=details)]

@adaflow.hookimpl
def register_feature_extractors(register):
    register("thumbnail", Thumbnail)

@adaflow.hookimpl
def register_leak_detectors(register):
    register("says", Says)
    register("tells", Tells)
    register("nothing", lambda: object())
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    for module in (feature_cache, weights):
        monkeypatch.setattr(module, "user_cache", lambda part: tmp_path / "cache" / part)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with networks that are not trained, a plugin, and folders of images."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(1)
    shape = {"img_resolution": 16, "channel_base": 128, "channel_max": 8}
    G = Generator(GeneratorConfig(**shape, z_dim=8, w_dim=8, mapping_layers=2))
    D = Discriminator(DiscriminatorConfig(**shape))
    config = {
        "data": {"source": DATA, "val_fraction": 0.3, "mirror": True},
        "schedule": {"seed": 3},
        "augment": {"augs": "blit,hue*0,noise(std=0.2)"},
    }
    save_network(folder / "run.pkl", G, D, G, {"images": 0, "config": config})
    save_network(folder / "silent.pkl", G, D, G, {})
    (folder / "plugin.py").write_text(PLUGIN)
    images = load_dataset(DataConfig(DATA), PLUGINS.datasets, 0).images
    for name, part in (("reals", images[:110]), ("others", images[110:]), ("few", images[:20])):
        (folder / name).mkdir()
        for number, image in enumerate(part):
            save_png(folder / name / f"{number:03d}.png", image)
    (folder / "grey").mkdir()
    for number, image in enumerate(images[:110]):
        save_png(folder / "grey" / f"{number:03d}.png", image[:1])
    return folder


@pytest.fixture
def check(cli, folder, tmp_path):
    """`adaflow leakcheck` with the plugin; results go to a folder of their own."""

    def run(*arguments, network="run.pkl"):
        words = [folder / network] if network else []
        options = ("--plugin", folder / "plugin.py", "--out", tmp_path / "out", "--num", 120)
        return cli("leakcheck", *words, *options, *arguments)

    return run


def told(result):
    (finding,) = json.loads(result.out)["findings"]
    return finding["details"]


@pytest.mark.parametrize(
    ("detectors", "code"),
    [
        ("says", 0),
        ("says(verdict='leak')", 4),
        ("says(verdict='cannot tell')", 6),
        ("says(verdict='cannot tell'),says(verdict='leak')", 4),
        ("says,says(verdict='cannot tell')", 6),
    ],
)
def test_exit_codes(check, tmp_path, detectors, code):
    result = check("--detectors", detectors)
    assert result.code == code, result.err
    verdict = {0: "clean", 4: "leak", 6: "cannot tell"}[code]
    assert json.loads((tmp_path / "out" / "leakcheck.json").read_text())["verdict"] == verdict
    assert "Do [this]." in result.out
    assert max(len(line) for line in result.out.splitlines() if not line.startswith("Details: ")) <= 80


def test_a_network_brings_its_data_its_split_and_its_augmentations(check):
    details = told(check("--detectors", "tells", "--json"))
    assert details["fakes"] == [120, 3, 16, 16]
    assert details["train"] == [140, 3, 16, 16]
    assert details["held_out"] == [60, 3, 16, 16]
    assert details["mirrored"]
    assert {"xflip", "rotate90", "xint", "hue", "noise"} >= set(details["transforms"]) >= {"xflip", "noise"}
    assert "noise" in details["used"]
    assert "hue" not in details["used"]  # its weight was 0
    assert details["spec"] == "blit,hue*0,noise(std=0.2)"
    assert details["bad"] is None
    details = told(check("--detectors", "tells", "--json", "--augs", "hue,cutout"))
    assert details["transforms"] == ["cutout", "hue"]
    assert "noise" in details["used"]


def test_a_silent_network_is_told_everything(check):
    result = check("--detectors", "tells", "--json", "--data", DATA, network="silent.pkl")
    details = told(result)
    assert (details["train"], details["held_out"], details["transforms"]) == ([200, 3, 16, 16], None, [])
    assert "how its training augmented" in result.err


def test_images_in_place_of_a_network(check, folder):
    base = ("--fakes", folder / "reals", "--data", folder / "reals", "--detectors", "tells", "--json")
    details = told(check(*base, "--augs", "cutout", "--held-out", folder / "others", network=""))
    assert details["fakes"] == [110, 3, 16, 16]
    assert details["held_out"] == [90, 3, 16, 16]
    assert (details["used"], details["transforms"]) == (["cutout"], ["cutout"])
    assert details["names"][1:] == ["000.png", "001.png"]
    other = told(check(*base, "--augs", "cutout", network=""))
    assert other["held_out"] is None
    assert other["key"] != details["key"]
    some = told(check(*base, "--num", 100, network=""))
    assert some["fakes"] == [100, 3, 16, 16]


def test_fakes_have_noise_of_their_own_and_depend_on_the_seed_alone(folder):
    network = load_network(folder / "run.pkl")
    dataset = load_dataset(DataConfig(DATA), PLUGINS.datasets, 0)
    some, more, other = (
        leak_fakes(network.G_ema, dataset, count, seed, lambda *_: None) for count, seed in ((5, 0), (40, 0), (5, 1))
    )
    assert torch.equal(some, more[:5])
    assert not torch.equal(some, other)
    with torch.no_grad():  # nothing but noise is left to tell images apart
        for name, parameter in network.G_ema.named_parameters():
            parameter.fill_(0.5) if name.endswith("noise_strength") else None
            parameter.zero_() if name.startswith("mapping.") else None
    noisy = leak_fakes(network.G_ema, dataset, 3, 0, lambda *_: None)
    assert not torch.equal(noisy[0], noisy[1])


def test_of_many_images_only_so_many_are_read(check, folder):
    result = check(
        "--fakes", folder / "reals", "--data", DATA, "--num", 100, "--detectors", "tells", "--json", network=""
    )
    assert told(result)["fakes"][0] == 100


def test_the_report_says_what_was_checked(check, folder):
    facts = json.loads(check("--detectors", "says", "--json").out)
    assert facts["network"] == str(folder / "run.pkl")
    assert facts["trained_kimg"] == 0
    assert (facts["data"], len(facts["data_fingerprint"])) == ("lesions16", 64)
    assert facts["adaflow"] == adaflow.__version__
    other = check("--fakes", folder / "reals", "--data", DATA, "--detectors", "says", "--json", network="")
    facts = json.loads(other.out)
    assert facts["fakes_from"] == str(folder / "reals")


@pytest.mark.parametrize("info", [{"config": ["x"]}, {"config": {"augment": "bgc"}}, {"data": 3}])
def test_a_network_with_something_else_in_the_place_of_a_table_is_damaged(folder, tmp_path, info):
    network = load_network(folder / "run.pkl")
    save_network(tmp_path / "odd.pkl", network.G, network.D, network.G_ema, info)
    with pytest.raises(FileError, match="is damaged"):
        load_network(tmp_path / "odd.pkl")


def test_the_same_seed_gives_the_same_report(check):
    options = ("--detectors", "memorisation(extractor='thumbnail'),collapse(extractor='thumbnail')", "--json")
    first, second, other = (check(*options, "--seed", seed) for seed in (0, 0, 1))
    assert first.code in (0, 4, 6), first.err
    assert first.out == second.out
    assert json.loads(first.out)["findings"] != json.loads(other.out)["findings"]
    subjects = [finding["subject"] for finding in json.loads(first.out)["findings"]]
    assert subjects == ["copies", "closeness", "modes", "variety", "repeats"]


def test_results_lie_beside_the_network(cli, folder, tmp_path):
    options = ("--plugin", folder / "plugin.py", "--detectors", "says", "--num", 100)
    assert cli("leakcheck", folder, *options, "--no-html").code == 0
    assert (folder / "leakcheck.json").exists()
    assert not (folder / "leakcheck.html").exists()
    assert cli("leakcheck", folder / "run.pkl", *options).code == 0
    assert (folder / "leakcheck.html").exists()
    for name in ("leakcheck.json", "leakcheck.html"):
        (folder / name).unlink()


def test_the_page_stands_alone_and_shows_text_as_text(check, tmp_path):
    assert check("--detectors", "says,memorisation(extractor='thumbnail')").code in (0, 4, 6)
    page = (tmp_path / "out" / "leakcheck.html").read_text()
    assert "&lt;b&gt;subject&lt;/b&gt;" in page
    assert "<b>subject" not in page
    assert "<script" not in page.lower()
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:image/)""", page)
    assert "url(" not in page
    assert page.count("data:image/png;base64,") >= 12


def test_hostile_text_cannot_leave_its_place():
    evil = "\"' onerror='x' \"><script>alert(1)</script>"
    finding = Finding(evil, evil, "leak", evil, evil, panels=(Panel(evil, torch.zeros(3, 8, 8).byte(), evil),))
    page = to_html(LeakReport((finding,), {"augmentations": evil}), evil)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8
    assert "' onerror=" not in page


def test_pictures_are_whole_and_enlarged(tmp_path):
    import base64
    import io

    image = torch.arange(3 * 16 * 32).view(3, 16, 32).to(torch.uint8)
    for channels in (1, 3):
        kind, content = data_uri(image[:channels]).split(",")
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(content))).size == (192, 96)


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (None, "gives a NoneType, not a list"),
        (["leak"], "gives a str, not an adaflow.Finding"),
        ([Finding("x", "y", "Leak", "z.")], "has the verdict 'Leak'"),
        ([Finding("x", "y", "leak", "z.", rate=2.0)], "has a rate"),
        ([Finding("x", "y", "leak", "z.", rate=torch.ones(2))], "has a rate"),
        ([Finding("x", "y", "leak", "z.", interval=(0.4, 0.2))], "has no interval"),
        ([Finding("x", "y", "leak", None)], "has no text"),
        ([Finding("x", "y", "leak", "z.", details={"a": torch.ones(1)})], "has details that are no plain values"),
        ([Finding("x", "y", "leak", "z.", panels=(Panel("t", torch.zeros(2, 2)),))], "has a picture"),
    ],
)
def test_what_a_detector_gives_is_never_taken_for_clean_unseen(found, fault):
    class Wrong(LeakDetector):
        def check(self, context):
            return found

    with pytest.raises(PluginError, match=f"'wrong' is wrong: .*{fault}"):
        run_detectors(
            LeakContext(torch.empty(0, 3, 8, 8), torch.empty(0, 3, 8, 8), None, None, None), {"wrong": Wrong()}
        )


def test_the_worst_finding_decides():
    findings = [Finding("a", "b", verdict, "c") for verdict in ("clean", "cannot tell", "leak")]
    assert [int(LeakReport(tuple(findings[:n])).exit_code) for n in (1, 2, 3)] == [0, 6, 4]


def test_features_of_a_context_are_computed_once_and_those_of_reals_kept(tmp_path):
    calls = []

    class Means:
        name, device = "means", torch.device("cpu")

        def identity(self):
            return {"name": "means"}

        def all(self, batches):
            calls.append(len(images := torch.cat(list(batches))))
            return images.float().mean((2, 3))

    images = torch.randint(0, 256, (130, 3, 8, 8), dtype=torch.uint8)
    steps = []
    context = LeakContext(
        images,
        images[:70],
        None,
        lambda name: Means(),
        torch.device("cpu"),
        data_key="a",
        progress=lambda *step: steps.append(step),
    )
    for again in (context, replace(context, _known={})):
        for which in ("fakes", "train", "fakes"):
            assert torch.equal(again.features(which), getattr(context, which).float().mean((2, 3)))
    assert calls == [130, 70, 130]
    assert ("features of fakes images", 130, 130) in steps
    replace(context, _known={}, data_key="b").features("train")
    replace(context, _known={}, data_key="").features("train")
    assert calls[3:] == [70, 70]


def test_a_plugin_of_the_training_need_not_be_here_to_look_for_something_else():
    found = _transforms("hue,noise*0", "blit,lesion-hair", PLUGINS)
    assert list(found["transforms"]) == ["hue"]
    assert "lesion-hair" in found["used"]
    with pytest.raises(AdaflowError, match="lesion-hair"):
        _transforms("lesion-hair", "blit,lesion-hair", PLUGINS)


def test_a_detector_that_finds_nothing_to_look_for_is_said():
    class Nothing(LeakDetector):
        def check(self, context):
            return []

    network_like = LeakContext(torch.zeros(1), torch.zeros(1), None, lambda name: None, torch.device("cpu"))
    with pytest.raises(UsageError, match="nothing to look for"):
        run_detectors(network_like, {"nothing": Nothing()})


def test_progress_is_told_from_the_first_fake_to_the_last_detector(folder):
    steps = []
    network = load_network(folder / "run.pkl")
    context = network_context(network, PLUGINS, 100, say=print, progress=lambda *step: steps.append(step))
    assert steps[-1] == ("drawing fakes", 100, 100)
    run_detectors(context, build_detectors("memorisation", PLUGINS) | {"x": OneFinding()})
    assert {"memorisation", "looking for copies", "x"} <= {what for what, _, _ in steps}
    assert all(0 <= done <= total for _, done, total in steps)


class OneFinding(LeakDetector):
    def check(self, context):
        return [Finding("x", "y", "clean", "z")]


MISTAKES = {
    "neither network nor images": ("", [], 2, "Name a network, or images with --fakes"),
    "both": ("run.pkl", ["--fakes", "x"], 2, "and not both"),
    "images without data": ("", ["--fakes", "{others}"], 2, "--data"),
    "a file that is no network": ("plugin.py", [], 3, "not a network of adaflow"),
    "a network that is not there": ("gone.pkl", [], 3, "there is no file"),
    "an unknown detector": ("run.pkl", ["--detectors", "memorization"], 3, "Did you mean memorisation"),
    "an unknown setting": ("run.pkl", ["--detectors", "collapse(x=1)"], 3, "has no setting 'x'"),
    "a detector with a weight": ("run.pkl", ["--detectors", "collapse*2"], 2, "no weight"),
    "no detector": ("run.pkl", ["--detectors", ""], 2, "no leak detector is named"),
    "no detector at all": ("run.pkl", ["--detectors", "nothing"], 3, "is no LeakDetector"),
    "an unknown transform": ("run.pkl", ["--augs", "hu"], 3, "no augmentation named 'hu'"),
    "too few fakes": ("run.pkl", ["--num", 99], 3, "99 fakes are too few"),
    "no fakes": ("run.pkl", ["--num", 0], 2, "--num"),
    "too few reals": ("run.pkl", ["--data", "demo:lesions,resolution=16,images=80"], 3, "are too few"),
    "data of another size": ("run.pkl", ["--data", "demo:lesions,resolution=32,images=200"], 3, "of 32 pixels"),
    "data that are not there": ("run.pkl", ["--data", "nowhere"], 3, "nowhere"),
    "too few images in the folder": ("", ["--fakes", "{few}", "--data", DATA], 3, "20 fakes are too few"),
    "fakes of another size": (
        "",
        ["--fakes", "{others}", "--data", "demo:lesions,resolution=32,images=120"],
        3,
        "has colour images of 16 pixels, and the data have colour images of 32 pixels",
    ),
    "grey fakes": ("", ["--fakes", "{grey}", "--data", DATA], 3, "has grey images of 16 pixels"),
    "held-out images of another kind": ("run.pkl", ["--held-out", "{grey}"], 3, "has grey images"),
    "held-out images that are not there": ("run.pkl", ["--held-out", "nowhere"], 3, "nowhere"),
    "an unknown extractor": (
        "run.pkl",
        ["--detectors", "collapse(extractor='x')"],
        3,
        "no feature extractor named 'x'",
    ),
    "weights that are not there": ("run.pkl", ["--weights", "nowhere.pt"], 3, "there is no file 'nowhere.pt'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(check, folder, case):
    network, arguments, code, sentence = MISTAKES[case]
    places = {name: folder / name for name in ("reals", "others", "few", "grey")}
    words = [str(word).format(**places) for word in arguments]
    detectors = [] if "--detectors" in words else ["--detectors", "collapse(extractor='thumbnail')"]
    result = check(*words, *detectors, network=network)
    assert result.code == code, result.out + result.err
    assert sentence in " ".join(result.err.split())
    assert "Traceback" not in result.err


def test_no_held_out_images_is_a_sentence_with_a_way_out(check):
    result = check("--data", DATA, "--detectors", "memorisation(extractor='thumbnail')", network="silent.pkl")
    assert result.code == 6
    text = " ".join(result.out.split())
    assert "cannot be told" in text
    assert "--val-fraction" in text
    assert "--held-out" in text


def test_a_folder_that_cannot_be_written(check, tmp_path):
    (tmp_path / "out").write_text("a file")
    result = check("--detectors", "says")
    assert result.code == 3
    assert "cannot create the folder" in " ".join(result.err.split())
    assert "drawing fakes" not in result.err
    assert Path(tmp_path / "out").read_text() == "a file"


def test_the_detector_of_the_docs_works(tmp_path, check, folder):
    text = (Path(__file__).parents[1] / "docs" / "leakcheck.md").read_text(encoding="utf-8")
    ((name, code),) = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.DOTALL)
    (tmp_path / name).write_text(code)
    result = check("--plugin", tmp_path / name, "--detectors", "blank(spread=0.01),blank(spread=300)", "--json")
    assert result.code == 4
    clean, leak = json.loads(result.out)["findings"]
    assert (clean["verdict"], clean["rate"]) == ("clean", 0)
    assert (leak["verdict"], leak["rate"]) == ("leak", 1)


def test_stages_are_said_once_where_there_is_no_terminal(capsys):
    with _StageBar() as progress:
        for done in range(3):
            progress("drawing fakes", done, 3)
        progress("features", 0, 1)
    assert capsys.readouterr().err.splitlines() == ["drawing fakes ...", "features ..."]


@pytest.mark.slow
def test_from_images_to_verdicts_with_what_comes_built_in(cli, tmp_path):
    """Default detectors and extractor: a quarter of the fakes have a grey square, three are training images."""
    data = "demo:lesions,resolution=32,images=360"
    images = load_dataset(DataConfig(data), PLUGINS.datasets, 0).images
    fakes = load_dataset(DataConfig(data + ",seed=1"), PLUGINS.datasets, 0).images[:120].clone()
    cutout = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).augmentations["cutout"].value()
    fakes[:30], _ = apply_surely(cutout, "cutout", fakes[:30], 0)
    fakes[50:53] = images[7:10]
    (tmp_path / "fakes").mkdir()
    for number, image in enumerate(fakes):
        save_png(tmp_path / "fakes" / f"{number:03d}.png", image)
    options = ("--data", data, "--augs", "cutout", "--out", tmp_path / "out")
    result = cli("leakcheck", "--fakes", tmp_path / "fakes", *options)
    assert result.code == 4, result.err
    report = json.loads((tmp_path / "out" / "leakcheck.json").read_text())
    found = {(finding["detector"], finding["subject"]): finding for finding in report["findings"]}
    leak = found["augmentation", "cutout"]
    assert leak["verdict"] == "leak"
    assert leak["interval"][0] < 0.25 < leak["interval"][1]
    copies = found["memorisation", "copies"]  # nothing was held out, but these are equal pixel by pixel
    assert (copies["verdict"], copies["details"]["equal"]) == ("leak", 3)
    assert "Most like cutout" in (tmp_path / "out" / "leakcheck.html").read_text()
