"""The command line: help, exit codes, what each command does, and every mistake in one sentence."""

import json
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from adaflow.cli import plain_switches
from adaflow.core.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from adaflow.core.snapshot import save_network

pytest_plugins = ["tests.command_line"]

CHECKOUT = Path(__file__).parents[1]
DATA = ("--data", "demo:lesions,resolution=16,images=32")
DRY = ("train", *DATA, "--dry-run")


def files_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Path:
    """A folder with `plain.pkl` and `labelled.pkl`, networks at 16×16 that are not trained."""
    folder = tmp_path_factory.mktemp("networks")
    for name, c_dim in (("plain", 0), ("labelled", 2)):
        torch.manual_seed(1)
        shape = {"c_dim": c_dim, "img_resolution": 16, "channel_base": 128, "channel_max": 8}
        G = Generator(GeneratorConfig(**shape, z_dim=8, w_dim=8, mapping_layers=2))
        for parameter in G.parameters():
            parameter.data += torch.randn_like(parameter) * 0.1
        save_network(folder / f"{name}.pkl", G, Discriminator(DiscriminatorConfig(**shape)), G, {})
    return folder


# Help and versions


def commands(app: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every command and group."""
    nested = [words for name, sub in getattr(app, "commands", {}).items() for words in commands(sub, (*path, name))]
    return [path, *nested]


def test_help_of_every_command_is_quick_and_without_torch():
    from adaflow.cli import app, augs, data, generate, plugins, train  # noqa: F401

    every = commands(typer.main.get_command(app))
    assert {("train",), ("resume",), ("generate",), ("augs", "preview"), ("data", "prepare")} <= set(every)
    script = f"""
import sys
from adaflow.cli import main
for words in {every!r}:
    for flag in ("-h", "--help"):
        sys.argv = ["adaflow", *words, flag]
        try:
            main()
        except SystemExit as end:
            assert not end.code, words
heavy = {{"torch", "numpy", "PIL"}} & set(sys.modules)
assert not heavy, heavy
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("Usage:") == 2 * len(every)
    for word in ("--p-controller", "--val-fraction", "--seeds", "RUN.pkl", "--columns"):
        assert word in shown.stdout


@pytest.mark.parametrize("start", [["cli.py"], ["-m", "adaflow"]])
def test_it_starts_from_a_checkout_and_as_a_module(start):
    shown = subprocess.run(
        [sys.executable, *start, "--version"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "adaflow 0.1.0\n"
    helped = subprocess.run(
        [sys.executable, *start, "--help"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert "Train a generator" in helped.stdout


# Mistakes: usage is 2, bad data, configuration or plugins 3; one sentence, no traceback

MISTAKES = {
    "no data": (["train"], 2, "no data set is named"),
    "an unknown option": ([*DRY, "--nonsense"], 2, "No such option"),
    "an unknown command": (["trian"], 2, "No such command"),
    "a value of the wrong type": ([*DRY, "--batch", "many"], 2, "--batch"),
    "no process": ([*DRY, "--gpus", "0"], 2, "--gpus"),
    "an unknown preset": ([*DRY, "--cfg", "paper64"], 3, "there is no preset 'paper64'"),
    "an unknown augmentation": ([*DRY, "--augs", "blit,geon"], 3, "Did you mean geom?"),
    "an augmentation spec": ([*DRY, "--augs", "blit,geom*x"], 2, "(character 11)"),
    "a setting of an augmentation": ([*DRY, "--augs", "noise(sdt=1)"], 3, "'noise' has no setting 'sdt'"),
    "an unknown controller": ([*DRY, "--p-controller", "pid"], 3, "there is no p controller named 'pid'"),
    "an unknown metric": ([*DRY, "--metrics", "fdd"], 3, "Did you mean fd"),
    "an unknown logger": ([*DRY, "--loggers", "jason"], 3, "Did you mean jsonl"),
    "a weight on a metric": ([*DRY, "--metrics", "fd*2"], 2, "has no weight"),
    "p out of range": ([*DRY, "--p", "1.5"], 3, "augment.p (1.5)"),
    "p above its cap": ([*DRY, "--p", "0.9"], 3, "augment.p_max (0.8)"),
    "a target without rt or rv": ([*DRY, "--p", "0.2", "--target", "0.5"], 2, "fixed has no target"),
    "rv without validation images": ([*DRY, "--p-controller", "rv"], 3, "--val-fraction 0.1"),
    "a batch for no group": ([*DRY, "--batch", "7"], 3, "no multiple of the minibatch-std group"),
    "a batch for no number of processes": (
        [*DRY, "--batch", "32", "--gpus", "3"],
        3,
        "cannot be shared by 3 processes",
    ),
    "more frozen layers than there are": ([*DRY, "--freezed", "400"], 3, "400 layers are to be frozen"),
    "too large a subset": ([*DRY, "--subset", "33"], 3, "has 32 images"),
    "length that is no number": ([*DRY, "--kimg", "nan"], 3, "schedule.kimg is nan"),
    "an override without value": ([*DRY, "--set", "loss.r1_gamma"], 2, "not of the form section.name=value"),
    "an unknown setting": ([*DRY, "--set", "loss.r1_gama=3"], 3, "Did you mean loss.r1_gamma"),
    "no such data": (["train", "--data", "nowhere", "--dry-run"], 3, "there is no data set at nowhere"),
    "an option of the demo data": (["train", "--data", "demo:lesions,size=3", "--dry-run"], 3, "no option 'size'"),
    "no such configuration": ([*DRY, "--config", "nowhere.toml"], 3, "No such file"),
    "no such plugin": ([*DRY, "--plugin", "nowhere.py"], 3, "there is no file 'nowhere.py'"),
    "both starts": ([*DRY, "--resume", "a.pkl", "--init-from", "b.pkl"], 2, "Give one of them"),
    "a start from nothing": ([*DRY, "--init-from", "nowhere.pkl"], 3, "there is no file"),
    "a resume of nothing": ([*DRY, "--resume", "nowhere"], 3, "there is no run folder or network nowhere"),
    "a resume of no run": (["resume", "."], 3, "is not a run folder"),
    "a resume of no run, the other way": (["train", "--resume", "."], 3, "is not a run folder"),
    "a resume with other settings": (["train", "--resume", ".", "--batch-gpu", "4"], 2, "without --batch-gpu"),
    "images from nothing": (["generate", "nowhere.pkl"], 3, "there is no file"),
    "preview of an unknown transform": (["augs", "preview", "--data", DATA[1], "--augs", "hu"], 3, "Did you mean hue"),
    "preview at no probability": (["augs", "preview", "--data", DATA[1], "--p", "1.5"], 2, "is not between 0 and 1"),
    "preview at words": (["augs", "preview", "--data", DATA[1], "--p", "some"], 2, "no list of probabilities"),
    "data for no resolution": (["data", "prepare", DATA[1], "--dest", "x.zip"], 2, "--resolution"),
    "data from nothing": (
        ["data", "prepare", "nowhere", "--dest", "x.zip", "--resolution", "16"],
        3,
        "there is no data set at nowhere",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_answered_in_one_sentence(case, cli, tmp_path, monkeypatch):
    arguments, code, words = MISTAKES[case]
    monkeypatch.chdir(tmp_path)
    result = cli(*arguments)
    assert result.code == code, result.err
    assert words in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    assert len(result.err.splitlines()) <= 6
    assert not any(tmp_path.iterdir())


def test_mistakes_that_show_late_leave_no_run_folder_behind(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options in (("--batch", "7"), ("--p-controller", "rv"), ("--augs", "nothing"), ("--init-from", "x.pkl")):
        assert cli("train", *DATA, "--kimg", "0.01", *options).code == 3
    assert not any(tmp_path.iterdir())


def test_an_outdir_that_cannot_be_written(cli, tmp_path):
    (tmp_path / "file").touch()
    result = cli("train", *cli.small_run, "--outdir", tmp_path / "file" / "runs")
    assert (result.code, "cannot create a run folder" in result.err) == (3, True)


def test_data_without_labels(cli, tmp_path):
    for name in "abc":
        Image.new("RGB", (16, 16), name and (9, 9, 9)).save(tmp_path / f"{name}.png")
    result = cli("train", "--data", tmp_path, "--cond", "--dry-run")
    assert result.code == 3
    assert "has no label" in result.err
    assert "without --cond" in result.err


def test_ctrl_c_has_a_code_of_its_own(cli, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("adaflow.core.augment.describe.describe_transforms", interrupt)
    assert cli("augs", "list").code == 130


def test_a_bug_of_ours_shows_where_it_is(cli, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("adaflow.core.augment.describe.describe_transforms", fail)
    with pytest.raises(ZeroDivisionError):
        cli("augs", "list")


# Foreign files


class Trap:
    """Its pickle would create a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("arguments", [("generate",), (*DRY, "--init-from"), (*DRY, "--resume")])
@pytest.mark.parametrize("kind", ["pickle", "torch", "text", "empty", "other"])
def test_nothing_in_a_foreign_file_is_executed(kind, arguments, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sprung, path = tmp_path / "sprung", tmp_path / "network.pkl"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap(sprung)))
    elif kind == "torch":
        torch.save({"G_ema": Trap(sprung)}, path)
    elif kind == "other":
        torch.save({"format": "something else"}, path)
    else:
        path.write_text("hello" * (kind == "text"))
    result = cli(*arguments, path)
    assert result.code == 3
    assert "is not a network of adaflow" in result.err
    assert not sprung.exists()
    assert list(tmp_path.iterdir()) == [path]


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


# Training


def test_a_dry_run_shows_everything_and_touches_nothing(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugin = tmp_path / "watch.py"
    plugin.write_text("import adaflow\n@adaflow.hookimpl\ndef tick(run): pass\n")
    result = cli(*DRY, "--plugin", plugin, "--augs", "blit,hue*0.5", "--outdir", "elsewhere", "--freezed", "2")
    assert result.code == 0, result.err
    assert files_under(tmp_path) == {"watch.py"}
    for words in (
        'controller = "rt"',
        "train_images   32",
        "{'benign': 17, 'melanoma': 15}",
        f"watch (file {plugin}): ok",
        "augmentations  xflip,rotate90,xint(max=0.125),hue(max=1.0)*0.5",
        "Would write to elsewhere/<number>-lesions16-tiny-blit_hue_0.5-rt/. Nothing was written.",
    ):
        assert words in result.out
    rows = [line.replace("│", " ").replace(",", "").split() for line in result.out.splitlines() if line.startswith("│")]
    counts = {name: (int(all_), int(trained)) for name, all_, trained in rows}
    shape = {"img_resolution": 16, "channel_base": 128, "channel_max": 64}
    G, D = Generator(GeneratorConfig(**shape, mapping_layers=2)), Discriminator(DiscriminatorConfig(**shape))
    number = {name: sum(p.numel() for p in network.parameters()) for name, network in (("G", G), ("D", D))}
    assert counts["G"] == (number["G"], number["G"])
    assert counts["D"][0] == number["D"] > counts["D"][1] > 0


def test_all_customary_words_are_accepted(cli, tmp_path):
    words = [
        *("--outdir", tmp_path, *DATA, "--gpus", "2", "--snap", "3", "--metrics", "none", "--seed", "5", "--cond"),
        *("--subset", "20", "--mirror", "--cfg", "stylegan2", "--gamma", "2.5", "--kimg", "40", "--batch", "8"),
        *("--p-controller", "rt", "--p", "0.1", "--target", "0.7", "--augpipe", "bgcfnc", "--freezed", "1"),
        *("--workers", "3", "--mirrory", "--val-fraction", "0.2", "--p-max", "0.7", "--batch-gpu", "4", "--tick", "2"),
        *("--keep", "4", "--lr", "0.001", "--cbase", "64", "--cmax", "8", "--map-layers", "3", "--loggers", "jsonl"),
    ]
    result = cli("train", "--dry-run", *words)
    assert result.code == 0, result.err
    config = tomllib.loads(result.out.partition("\n")[2].partition("\n───")[0])
    assert config["preset"] == "stylegan2"
    assert config["metrics"] == []
    assert config["loggers"] == ["jsonl"]
    assert config["data"] == {
        **{"source": DATA[1], "cond": True, "subset": 20, "mirror": True, "mirrory": True},
        **{"val_fraction": 0.2, "workers": 3, "balance": False, "cache": True},
    }
    assert config["augment"] == {
        **{"augs": "bgcfnc", "controller": "rt(target=0.7)", "p": 0.1, "p_max": 0.7, "interval": 4},
    }
    schedule = config["schedule"]
    assert (schedule["snap"], schedule["seed"], schedule["kimg"], schedule["batch"]) == (3, 5, 40, 8)
    assert (schedule["batch_gpu"], schedule["tick_kimg"], schedule["keep"]) == (4, 2, 4)
    assert config["loss"]["r1_gamma"] == 2.5
    assert (config["optimizer"]["g_lr"], config["optimizer"]["d_lr"]) == (0.001, 0.001)
    G, D = config["generator"], config["discriminator"]
    assert (G["channel_base"], G["channel_max"], G["mapping_layers"], G["c_dim"]) == (64, 8, 3, 2)
    assert (D["channel_base"], D["channel_max"], D["freeze_layers"], D["c_dim"]) == (64, 8, 1, 2)


def test_prepare_then_train_then_resume_then_draw(cli, tmp_path):
    pack = tmp_path / "lesions.zip"
    prepared = cli("data", "prepare", "demo:lesions,resolution=32,images=16", "--dest", pack, "--resolution", "16")
    assert prepared.code == 0, prepared.err
    assert f"16 of 16 images written to {pack} at 16×16" in prepared.out
    result = cli("train", *cli.small_run, "--data", pack, "--cond", "--outdir", tmp_path / "runs")
    assert result.code == 0, result.err
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name == "00000-lesions-cond-tiny-bgc-rt"
    assert tomllib.loads((run / "config.toml").read_text())["generator"]["c_dim"] == 2
    assert "Finished. Draw images with" in result.out

    again = cli("train", "--resume", run, "--kimg", "0.024")
    assert again.code == 0, again.err
    lines = (run / "stats.jsonl").read_text().splitlines()
    assert [json.loads(line)["Progress/images"]["mean"] for line in lines] == [8, 16, 24]
    drawn = cli("generate", run / "run.pkl", "--seeds", "3", "--class", "1", "--outdir", tmp_path / "out")
    assert drawn.code == 0, drawn.err
    assert pixels(tmp_path / "out" / "seed0003.png").shape == (16, 16, 3)

    second = cli(
        "train", *cli.small_run, "--data", pack, "--cond", "--resume", run / "run.pkl", "--outdir", tmp_path / "runs"
    )
    assert second.code == 0, second.err
    assert "Starting a new run from the weights of" in second.err
    assert "name its folder" in second.err
    config = tomllib.loads(
        (tmp_path / "runs" / "00001-lesions-cond-tiny-bgc-rt_kimg_100.0" / "config.toml").read_text()
    )
    assert config["init_from"] == str(run / "run.pkl")


# Images


def test_a_seed_gives_the_same_image_whatever_the_others_are(cli, networks, tmp_path):
    for noise in ("const", "random", "none"):
        many, one = tmp_path / f"many-{noise}", tmp_path / f"one-{noise}"
        assert cli("generate", networks / "plain.pkl", "--seeds", "0-19", "--outdir", many, "--noise", noise).code == 0
        assert cli("generate", networks / "plain.pkl", "--seeds", "17,4", "--outdir", one, "--noise", noise).code == 0
        assert files_under(one) == {"seed0004.png", "seed0017.png"}
        for name in files_under(one):
            assert (pixels(one / name) == pixels(many / name)).all()
        images = [pixels(path).tobytes() for path in many.iterdir()]
        assert len(set(images)) == 20
    assert (pixels(tmp_path / "one-const" / "seed0004.png") != pixels(tmp_path / "one-random" / "seed0004.png")).any()


def test_without_truncation_room_all_images_are_the_average(cli, networks, tmp_path):
    def draw(*options: str) -> list[np.ndarray]:
        assert cli("generate", networks / "plain.pkl", "--seeds", "0-3", "--outdir", tmp_path, *options).code == 0
        return [pixels(tmp_path / f"seed000{seed}.png") for seed in range(4)]

    average, half, full = draw("--trunc", "0"), draw("--trunc", "0.5"), draw()
    for image in average[1:]:
        assert (image == average[0]).all()
    assert (half[0] != half[1]).any()
    assert (half[0] != full[0]).any()


def test_the_grid_holds_all_images_in_order(cli, networks, tmp_path):
    result = cli("generate", networks / "plain.pkl", "--seeds", "2,0,7,1,5", "--grid", "--outdir", tmp_path)
    assert result.code == 0, result.err
    sheet = pixels(tmp_path / "grid.png")
    assert sheet.shape == (3 * 16, 2 * 16, 3)
    for place, seed in enumerate((2, 0, 7, 1, 5)):
        row, column = divmod(place, 2)
        tile = sheet[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
        assert (tile == pixels(tmp_path / f"seed000{seed}.png")).all()
    assert (sheet[32:, 16:] == 0).all()


def test_classes_are_drawn_and_checked(cli, networks, tmp_path):
    for label in "01":
        options = ("--seeds", "0", "--class", label, "--outdir", tmp_path / label)
        assert cli("generate", networks / "labelled.pkl", *options).code == 0
    assert (pixels(tmp_path / "0" / "seed0000.png") != pixels(tmp_path / "1" / "seed0000.png")).any()


@pytest.mark.parametrize(
    ("network", "options", "words"),
    [
        ("plain", ["--class", "0"], "this network was trained without labels"),
        ("labelled", [], "this network was trained with labels"),
        ("labelled", ["--class", "2"], "there is no class 2"),
        ("labelled", ["--class", "-1"], "there is no class -1"),
        ("plain", ["--seeds", "x"], "'x' is no list of seeds"),
        ("plain", ["--seeds", ""], "'' is no list of seeds"),
        ("plain", ["--seeds", "5-3"], "runs backwards"),
        ("plain", ["--seeds", "-3"], "is no list of seeds"),
        ("plain", ["--seeds", "0-99999999999"], "goes too far"),
        ("plain", ["--seeds", "9223372036854775808"], "goes too far"),
        ("plain", ["--noise", "pink"], "there is no noise 'pink'"),
        ("plain", ["--trunc", "nan"], "a truncation of nan"),
        ("plain", ["--trunc", "much"], "--trunc"),
    ],
)
def test_drawing_refuses_what_it_cannot_do(network, options, words, cli, networks, tmp_path):
    result = cli("generate", networks / f"{network}.pkl", *options, "--outdir", tmp_path / "out")
    assert result.code == 2
    assert words in result.err
    assert not (tmp_path / "out").exists()


def test_results_that_cannot_be_written(cli, networks, tmp_path):
    (tmp_path / "file").touch()
    drawn = cli("generate", networks / "plain.pkl", "--seeds", "0", "--outdir", tmp_path / "file")
    assert (drawn.code, "cannot create the folder" in drawn.err) == (3, True)
    sheet = cli("augs", "preview", *DATA, "--columns", "2", "--out", tmp_path / "file" / "sheet.png")
    assert (sheet.code, "cannot create the folder" in sheet.err) == (3, True)


# Augmentations


def test_augs_list_names_every_transform_with_its_settings_and_plugin(cli):
    listed = json.loads(cli("augs", "list", "--json").out)
    rows = {row["name"]: row for row in listed["transforms"]}
    assert len([name for name in rows if not name.startswith("kornia.")]) == 18
    assert rows["scale"] == {
        **{"name": "scale", "kind": "geometry", "settings": "std=0.2", "plugin": "geom"},
        "summary": "Enlarges or shrinks both axes alike.",
    }
    assert rows["kornia.RandomHue"]["settings"] == "hue=(-0.5, 0.5)"
    assert {row["kind"] for row in rows.values()} == {"geometry", "color", "filter", "image"}
    assert listed["aliases"]["bg"] == "blit,geom"
    text = cli("augs", "list").out
    assert all(name in text for name in [*rows, *listed["aliases"]])
    assert max(map(len, text.splitlines())) <= 80


def test_switches_with_values_as_stylegan_users_write_them(cli):
    assert plain_switches(["train", "--mirror=1", "--cond=true", "--mirrory=0", "--kimg=1", "--mirror"]) == [
        *("train", "--mirror", "--cond", "--kimg=1", "--mirror")
    ]
    result = cli("train", *DATA, "--mirror=maybe")
    assert result.code == 2
    assert "--mirror=maybe is neither yes nor no" in result.err
