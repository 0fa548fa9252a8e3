"""The package: names, lists, order, documentation, and that it installs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lesion_helpers import MANAGER, NAMES, REGISTRY, pipeline

from adaflow.errors import ConfigError

PACKAGE = Path(__file__).parents[1]
README = (PACKAGE / "README.md").read_text(encoding="utf-8")


def test_all_names_have_the_prefix_and_are_registered():
    MANAGER.require_named()
    registered = MANAGER.infos[-1].registered
    assert sorted(NAMES) == registered["augmentation"]
    assert all(name.startswith("lesion") for names in registered.values() for name in names)


def test_lists():
    artefacts = ["ink", "sticker", "hair", "ruler", "gel", "highlights"]
    light = ["illumination", "corners", "lensblur", "vignette"]
    for alias, members in (
        ("lesion-artefacts", artefacts),
        ("lesion-light", light),
        ("lesion", ["pigment", *artefacts, *light]),
    ):
        assert [active.name for active in pipeline(alias).transforms] == [f"lesion-{name}" for name in members]


def test_they_act_from_the_skin_to_the_sensor():
    orders = [REGISTRY[name].value.order for name in NAMES]
    assert orders == sorted(set(orders))
    assert orders[-1] < REGISTRY["noise"].value.order
    assert [active.name for active in pipeline("noise,lesion").transforms] == [*NAMES, "noise"]


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="width is -1"):
        pipeline("lesion-hair(width=-1)")
    with pytest.raises(ConfigError, match="number is 0"):
        pipeline("lesion-gel(number=0)")


def test_the_readme_has_every_transform_with_its_order_and_settings_and_a_picture():
    rows = dict(re.findall(r"^\| `(lesion-\w+)` \|(.*)\|$", README, flags=re.MULTILINE))
    assert list(rows) == NAMES
    for name, row in rows.items():
        transform = REGISTRY[name].value()
        settings = ", ".join(f"`{key}={value!r}`" for key, value in vars(transform).items())
        assert row.split("|")[0].strip() == f"{transform.order:g}"
        assert row.split("|")[1].strip() == settings
        assert f"](images/{name}.jpg)" in README
    pictures = list((PACKAGE / "images").iterdir())
    assert {f"{name}.jpg" for name in NAMES} == {picture.name for picture in pictures}
    assert sum(picture.stat().st_size for picture in pictures) < 1_000_000


@pytest.mark.slow
def test_it_installs_and_is_found(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True, text=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ADAFLOW_")}
    elsewhere = [path for path in sys.path if Path(path) != PACKAGE]
    text = subprocess.run(
        [sys.executable, "-m", "adaflow", "plugins", "list", "--json"],
        env={**clean, "PYTHONPATH": os.pathsep.join((str(site), *elsewhere))},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    (row,) = [row for row in json.loads(text) if row["name"] == "lesion"]
    assert (row["status"], row["source"]) == ("ok", "package adaflow-lesion")
    assert row["registered"]["augmentation"] == sorted(NAMES)
