"""Configuration: presets against the published table, TOML out and in again, precedence, and mistakes."""

import dataclasses
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaflow.config import check_keys, from_table, merge, parse_overrides, read_toml, to_table, to_toml
from adaflow.core.data.dataset import DataConfig, Dataset, load_dataset
from adaflow.core.presets import NAMES, preset_table
from adaflow.core.resolve import describe, resolve_config, resolve_data, resolve_plugins
from adaflow.core.run_config import RunConfig, shard_count
from adaflow.errors import ConfigError, UsageError
from adaflow.plugin_manager import PluginManager

pytest_plugins = ["tests.command_line"]

PLUGINS = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
SOURCE = "demo:lesions,resolution=16,images=8"
DRY = ("train", "--data", SOURCE, "--dry-run")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(DataConfig(SOURCE), PLUGINS.datasets, 0)


def resolved(dataset: Dataset, table: dict[str, Any], processes: int = 1, on_gpu: bool = False) -> RunConfig:
    table = merge({"data": {"source": SOURCE}}, table)
    return resolve_config(table, resolve_data(table), dataset, PLUGINS, processes, on_gpu)


def plan(outcome) -> dict[str, Any]:
    """The configuration that `--dry-run` shows."""
    assert outcome.code == 0, outcome.err
    return tomllib.loads(outcome.out.partition(" configuration ")[2].partition("\n")[2].partition("\n───")[0])


# arXiv 2006.06676, appendix C, and the settings its authors published:
# kimg, batch, mbstd group, channel base, lr, gamma, EMA kimg, EMA ramp-up, mapping layers
PUBLISHED = {
    "stylegan2": (25000, 32, 4, 32768, 0.002, 10, 10, None, 8),
    "paper256": (25000, 64, 8, 16384, 0.0025, 1, 20, None, 8),
    "paper512": (25000, 64, 8, 32768, 0.0025, 0.5, 20, None, 8),
    "paper1024": (25000, 32, 4, 32768, 0.002, 2, 10, None, 8),
    "cifar": (100000, 64, 32, 32768, 0.0025, 0.01, 500, 0.05, 2),
}

# The same for auto, by resolution and number of GPUs, worked out by hand from its formulas.
AUTO = {
    (32, 8): (25000, 64, 4, 16384, 0.0025, 0.0032, 20, 0.05, 2),
    (256, 1): (25000, 16, 4, 16384, 0.0025, 0.8192, 5, 0.05, 2),
    (256, 32): (25000, 64, 2, 16384, 0.0025, 0.2048, 20, 0.05, 2),
    (512, 2): (25000, 16, 4, 32768, 0.0025, 3.2768, 5, 0.05, 2),
    (1024, 1): (25000, 4, 4, 32768, 0.002, 52.4288, 1.25, 0.05, 2),
    (1024, 8): (25000, 32, 4, 32768, 0.002, 6.5536, 10, 0.05, 2),
}


def row(name: str, resolution: int, gpus: int) -> tuple[Any, ...]:
    table = merge({"data": {"source": "x"}}, preset_table(name, resolution, 3, 0, gpus))
    config = from_table(RunConfig, table)
    G, D, schedule, optimizer = config.generator, config.discriminator, config.schedule, config.optimizer
    assert (G.architecture, D.architecture) == ("skip", "orig" if name == "cifar" else "resnet")
    assert (config.loss.pl_weight, config.loss.style_mixing) == ((0, 0) if name == "cifar" else (2, 0.9))
    assert (config.loss.r1_interval, config.loss.pl_interval, config.loss.pl_decay) == (16, 4, 0.01)
    assert (G.channel_base, G.channel_max) == (D.channel_base, D.channel_max)
    assert (G.channel_max, G.z_dim, G.w_dim, G.lr_multiplier) == (512, 512, 512, 0.01)
    assert (optimizer.g_lr, optimizer.beta1, optimizer.beta2, optimizer.eps) == (optimizer.d_lr, 0.0, 0.99, 1e-8)
    assert (schedule.tick_kimg, schedule.snap) == (4, 50)
    return (
        *(schedule.kimg, schedule.batch, D.mbstd_group_size, G.channel_base, optimizer.g_lr, config.loss.r1_gamma),
        *(schedule.ema_kimg, schedule.ema_rampup, G.mapping_layers),
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_are_the_published_ones(name):
    assert row(name, 256, 8) == PUBLISHED[name]


@pytest.mark.parametrize(("resolution", "gpus"), AUTO)
def test_auto_follows_resolution_and_gpus(resolution, gpus):
    assert row("auto", resolution, gpus) == pytest.approx(AUTO[resolution, gpus], rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_that_wants_none_gets_none(name):
    # Tables drop None, so None must be the default of every setting that a preset sets to None.
    table = preset_table(name, 64, 3, 0, 1)
    wanted = {(part, key) for part, values in table.items() if part != "preset" for key in values}
    nones = {(part, key) for part, key in wanted if table[part][key] is None}
    config = from_table(RunConfig, merge({"data": {"source": "x"}}, table))
    for part, key in nones:
        assert getattr(getattr(config, part), key) is None
    assert ("schedule", "ema_rampup") in wanted


def test_the_default_preset_depends_on_the_device(dataset):
    assert resolved(dataset, {}, on_gpu=True).preset == "auto"
    tiny = resolved(dataset, {})
    assert tiny.preset == "tiny"
    assert tiny.generator.channel_max == 64


def test_auto_recomputes_what_follows_from_the_batch(dataset):
    config = resolved(dataset, {"preset": "auto", "schedule": {"batch": 8}}, on_gpu=True)
    assert config.loss.r1_gamma == pytest.approx(0.0002 * 16**2 / 8)
    assert config.schedule.ema_kimg == pytest.approx(2.5)
    given_gamma = {"preset": "auto", "schedule": {"batch": 8}, "loss": {"r1_gamma": 3}}
    assert resolved(dataset, given_gamma).loss.r1_gamma == 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("processes", [1, 4])
def test_every_preset_goes_to_toml_and_back(dataset, name, processes):
    config = resolved(dataset, {"preset": name}, processes)
    text = to_toml(config)
    assert from_table(RunConfig, tomllib.loads(text)) == config
    # The resolved file gives the same run again.
    assert resolved(dataset, tomllib.loads(text), processes) == config


def test_unusual_values_go_to_toml_and_back():
    data = DataConfig('a "b" \\ ü\n', cond=True, subset=7, val_fraction=0.1)
    config = RunConfig(data, metrics=("fd(num=3)", 'x(y="z")'), plugins=("/a b/c.py",), loggers=())
    config = dataclasses.replace(
        config,
        generator=dataclasses.replace(config.generator, embed_features=5, resample_filter=(1, 2, 1), conv_clamp=256),
        augment=dataclasses.replace(config.augment, augs=""),
    )
    again = from_table(RunConfig, tomllib.loads(to_toml(config)))
    assert again == config
    assert again.generator.resample_filter == (1, 2, 1)
    assert "embed_features" not in to_table(RunConfig(data))["generator"]


values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
tables = st.recursive(
    st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), values | inner, max_size=3),
    max_leaves=6,
)


@given(tables, tables)
def test_merging_lets_the_later_table_win_leaf_by_leaf(first, second):
    def check(result: dict[str, Any], below: dict[str, Any], above: dict[str, Any]) -> None:
        for key in below.keys() | above.keys():
            low, high = below.get(key), above.get(key)
            if isinstance(high, dict):
                check(result[key], low if isinstance(low, dict) else {}, high)
            elif high is not None:
                assert result[key] == high
            elif low is not None and not isinstance(low, dict):
                assert result[key] == low

    check(merge(first, second), first, second)
    assert merge(first, {}) == merge(first)


def test_overrides_are_toml_values_or_text():
    table = parse_overrides(
        ["loss.r1_gamma = 2", "augment.augs=bg", 'preset="tiny"', "metrics=['fd']", "data.cond=true"]
    )
    assert table == {
        "loss": {"r1_gamma": 2},
        "augment": {"augs": "bg"},
        "preset": "tiny",
        "metrics": ["fd"],
        "data": {"cond": True},
    }
    assert parse_overrides(["a.b=1", "a.c=2", "a.b=3"]) == {"a": {"b": 3, "c": 2}}
    assert parse_overrides(["a.b=x=y"]) == {"a": {"b": "x=y"}}


@pytest.mark.parametrize("item", ["foo", "=3", "a..b=3", ".a=3", "a.=3", ""])
def test_overrides_that_cannot_be_read(item):
    with pytest.raises(UsageError, match="is not of the form"):
        parse_overrides([item])


@pytest.mark.parametrize(
    ("table", "message", "hint"),
    [
        ({"los": {}}, "there is no setting los", "Did you mean loss or loggers?"),
        ({"loss": {"r1_gama": 1}}, "there is no setting loss.r1_gama", "Did you mean loss.r1_gamma"),
        ({"loss": {"zzz": 1}}, "there is no setting loss.zzz", "Known: r1_gamma"),
        ({"loss": {"r1_gamma": "much"}}, "loss.r1_gamma: input should be a valid number", ""),
        ({"schedule": {"batch": 2.5}}, "schedule.batch: input should be a valid integer", ""),
        ({"loss": 3}, "loss is a section, not a value (got 3)", "Set loss.r1_gamma"),
        ({"metrics": "fd"}, "metrics: input should be a valid tuple", ""),
        ({"loss": {"r1_gamma": float("nan")}}, "loss.r1_gamma is nan", ""),
        ({"optimizer": {"g_lr": float("inf")}}, "optimizer.g_lr is inf", ""),
        ({"optimizer": {"g_lr": 0}}, "optimizer.g_lr, optimizer.d_lr and optimizer.eps must be positive", ""),
        ({"augment": {"p": 0.9}}, "augment.p (0.9) and augment.p_max (0.8)", ""),
        ({"augment": {"interval": 0}}, "augment.interval starts at 1", ""),
        ({"schedule": {"batch": 0}}, "schedule.batch", ""),
        ({"schedule": {"kimg": 0}}, "schedule.kimg", ""),
        ({"schedule": {"snap": 0}}, "schedule.snap", ""),
        ({"loss": {"style_mixing": 2}}, "loss.style_mixing", ""),
        ({"generator": {"img_resolution": 48}}, "img_resolution is 48", ""),
    ],
)
def test_mistakes_are_named_by_their_setting(table, message, hint):
    with pytest.raises(ConfigError) as error:
        from_table(RunConfig, merge({"data": {"source": "x"}}, table))
    assert message in error.value.message
    assert hint in error.value.hint


def test_a_section_read_by_itself_names_the_whole_setting():
    with pytest.raises(ConfigError, match=r"data\.subset: input"):
        from_table(DataConfig, {"source": "x", "subset": "all"}, "data.")
    with pytest.raises(ConfigError, match=r"no setting data\.colour"):
        check_keys(DataConfig, {"colour": 1}, "data.")


def test_shapes_follow_from_the_data(dataset):
    with pytest.raises(ConfigError, match=r"generator\.img_resolution follows from the data, where it is 16"):
        resolved(dataset, {"generator": {"img_resolution": 32}})
    with pytest.raises(UsageError, match="no data set is named"):
        resolve_data({})


@pytest.mark.parametrize(
    ("schedule", "processes", "expected"),
    [
        ({"batch": 32}, 1, 1),
        ({"batch": 32}, 4, 4),
        ({"batch": 32, "batch_gpu": 8}, 2, 4),
        ({"batch": 32, "batch_gpu": 10}, 2, 4),
        ({"batch": 32}, 5, "a batch of 32 cannot be shared by 5 processes"),
        ({"batch": 36, "batch_gpu": 8}, 1, "36 images per process cannot be cut into equal portions of at most 8"),
        ({"batch": 6}, 1, "no multiple of the minibatch-std group of 4"),
    ],
)
def test_batches_are_cut_into_equal_portions(dataset, schedule, processes, expected):
    config = resolved(dataset, {"schedule": schedule})
    if isinstance(expected, int):
        assert shard_count(config, processes) == expected
    else:
        with pytest.raises(ConfigError, match=expected):
            shard_count(config, processes)


def test_plugins_and_paths_are_written_whole(tmp_path, monkeypatch):
    (tmp_path / "mine.py").touch()
    monkeypatch.chdir(tmp_path)
    assert resolve_plugins({"plugins": ["mine.py", "some.module"]}) == ([str(tmp_path / "mine.py"), "some.module"], [])
    assert resolve_plugins({"block": ["cutout"]}) == ([], ["cutout"])
    assert resolve_data({"data": {"source": "."}}).source == str(tmp_path)
    with pytest.raises(ConfigError, match="plugins is no list of texts"):
        resolve_plugins({"plugins": "mine.py"})


def test_precedence_is_preset_then_file_then_flags_then_set(tmp_path, cli):
    file = tmp_path / "mine.toml"
    file.write_text(
        'preset = "tiny"\nmetrics = ["fd(num=8)"]\nblock = ["cutout"]\n'
        "[schedule]\nkimg = 7\nbatch = 8\nsnap = 3\n[loss]\nr1_gamma = 5\n"
    )
    config = plan(cli(*DRY, "--config", file, "--batch", "16", "--gamma", "6", "--set", "loss.r1_gamma=7"))
    assert config["schedule"]["tick_kimg"] == 1  # the preset's
    assert (config["schedule"]["kimg"], config["schedule"]["snap"]) == (7, 3)
    assert config["schedule"]["batch"] == 16
    assert config["loss"]["r1_gamma"] == 7
    assert config["metrics"] == ["fd(num=8)"]
    assert config["block"] == ["cutout"]
    assert plan(cli(*DRY, "--config", file, "--metrics", "none", "--block", "noise"))["metrics"] == []
    assert plan(cli(*DRY, "--config", file, "--cfg", "paper256"))["preset"] == "paper256"


def test_p_alone_stays_fixed_and_a_controller_starts_from_it(tmp_path, cli):
    def augment(*options: object) -> tuple[str, float]:
        part = plan(cli(*DRY, *options))["augment"]
        return part["controller"], part["p"]

    assert augment() == ("rt", 0.0)
    assert augment("--p", "0.3") == ("fixed", 0.3)
    assert augment("--p", "0.3", "--p-controller", "rt") == ("rt", 0.3)
    assert augment("--p", "0.3", "--p-controller", "fixed") == ("fixed", 0.3)
    assert augment("--target", "0.5") == ("rt(target=0.5)", 0.0)
    file = tmp_path / "mine.toml"
    file.write_text('[augment]\ncontroller = "rv"\n[data]\nval_fraction = 0.25\n')
    assert augment("--config", file, "--p", "0.2") == ("rv", 0.2)


def test_p_that_nothing_makes_use_of_stays_zero_and_is_not_in_the_name(dataset):
    def controller(augs: str, *methods: str, target: float | None = None, **augment: Any) -> tuple[str, str]:
        table = {"data": {"source": SOURCE}, "augment": {"augs": augs, **augment}, "methods": list(methods)}
        config = resolve_config(table, resolve_data(table), dataset, PLUGINS, 1, False, target)
        return config.augment.controller, describe(config, dataset).partition("-tiny-")[2]

    assert controller("blit") == ("rt", "blit-rt")
    assert controller("none") == controller("") == ("fixed", "none")
    assert controller("none", "apa") == ("rt", "none-rt-apa")  # APA shows fakes as reals with probability p
    assert controller("none", target=0.5) == ("rt(target=0.5)", "none")
    assert controller("none", controller="rt") == ("rt", "none")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[schedule\n", "is not TOML"),
        ('data = "folder"\n', "data is a section, not a value"),
        ("schedule = 3\n", "schedule is a section"),
        ('[schedule]\nseed = "x"\n', "schedule.seed: input should be a valid integer"),
        ('[schedule]\nbatch = "x"\n', "schedule.batch: input should be a valid integer"),
        ('plugins = "a.py"\n', "plugins is no list of texts"),
        ("[schedul]\n", "there is no setting schedul"),
    ],
)
def test_files_with_mistakes(tmp_path, cli, text, words):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    result = cli(*DRY, "--config", file)
    assert (result.code, result.out) == (3, "")
    assert words in result.err


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_toml(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_toml(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not TOML"):
        read_toml(tmp_path / "bytes.toml")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gpus", [1, 2, 3, 5, 6, 7, 8])
def test_presets_can_be_shared_by_any_number_of_processes(name, gpus):
    table = preset_table(name, 64, 3, 0, gpus)
    batch, group = table["schedule"]["batch"], table["discriminator"]["mbstd_group_size"]
    assert batch % gpus == 0
    assert (batch // gpus) % min(group, batch // gpus) == 0
