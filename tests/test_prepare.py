"""`adaflow.core.data.prepare`: what goes into a set, what is left out, and what the report says."""

import csv
import io
import json
import os
import shutil
import subprocess
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from adaflow.core.data.dataset import DataConfig, load_dataset
from adaflow.core.data.parallel import ordered_map
from adaflow.core.data.prepare import PrepareConfig, prepare
from adaflow.core.data.source import open_source
from adaflow.errors import ConfigError, DataError, UsageError
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.datasets.zipped import ZipSource
from tests.golden import Golden
from tests.images import ISIC, break_image, pixels, save, table

pytest_plugins = ["tests.images"]


@pytest.fixture(scope="module")
def golden():
    return Golden("dataset")


@pytest.fixture
def make(readers, tmp_path):
    """Prepare the folder of six images (the fixture `folder`), or another source, into `out.zip` or elsewhere."""

    def run(source=tmp_path / "images", dest="out.zip", resolution=8, **settings):
        if "size" in settings:
            resolution = None
        return prepare(PrepareConfig(str(source), tmp_path / dest, resolution, **settings), readers)

    return run


def all_pixels(readers, path):
    with open_source(str(path), readers) as source:
        return [source.read(index) for index in range(len(source))]


def dataset_json(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("dataset.json"))


CASES = {
    "centercrop32_lanczos": {"size": (32, 32)},
    "centercrop32_box": {"size": (32, 32), "filter": "box"},
    "scale32_lanczos": {"size": (32, 32), "crop": "none"},
    "scale32_box": {"size": (32, 32), "crop": "none", "filter": "box"},
    "wide_32x16": {"size": (32, 16), "crop": "wide"},
    "gray32": {"size": (32, 32), "crop": "none"},
}


@pytest.mark.parametrize("case", CASES)
def test_prepared_zips_equal_the_golden_ones(golden, make, tmp_path, case):
    sources = [key for key in golden.keys("src__") if ("gray" in key) == (case == "gray32")]
    for key in sources:
        save(tmp_path / "in", key.removeprefix("src__") + ".png", golden[key].numpy())
    assert make(tmp_path / "in", **CASES[case]).written == len(sources)
    expected = next(item for item in golden.cases["cases"] if item["name"] == case)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == expected["zip_names"]
        assert {member.compress_type for member in archive.infolist()} == {expected["zip_compress_type"]}
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("dataset.json")) == expected["dataset_json"]
        for name in expected["zip_names"][:-1]:
            image = Image.open(archive.open(name))
            np.testing.assert_array_equal(np.asarray(image), golden[f"out__{case}__{Path(name).stem}"].numpy())
            assert archive.getinfo(name).file_size > image.width * image.height * len(image.getbands())


# Labels, groups, divisions


def test_a_prepared_zip_carries_labels_and_names(make, folder, tmp_path):
    path = table(tmp_path, "image_name,target\n" + "".join(f"{i},{'xyz'[i % 3]}\n" for i in range(6)))
    report = make(labels=str(path))
    with ZipSource(tmp_path / "out.zip") as source:
        assert [source.label(i) for i in range(6)] == [0, 2, 1, 1, 0, 2]
        assert source.class_names == ("x", "y", "z")
        assert source.fingerprint() == report.fingerprint
    assert report.class_counts == {"x": 2, "y": 2, "z": 2}


def test_labels_of_the_source_are_kept_and_can_be_dropped(make, folder, tmp_path):
    rows = [[f"{'ab'[i % 2]}/{i}.png", [i, 0.25]] for i in (0, 2, 4, 1, 3, 5)]
    (folder / "dataset.json").write_text(json.dumps({"labels": rows}))
    make()
    written = dataset_json(tmp_path / "out.zip")["labels"]
    assert written == [[f"00000/img{k:08d}.png", label] for k, (_, label) in enumerate(rows)]
    report = make(labels="none", force=True)
    assert dataset_json(tmp_path / "out.zip") == {"labels": None}
    assert (report.written, report.class_counts) == (6, {})


def test_an_image_without_a_label_is_left_out_by_name(make, folder, tmp_path):
    path = table(tmp_path, "image_name,target\n" + "".join(f"{i},0\n" for i in range(6) if i not in (1, 4)) + "99,1\n")
    report = make(labels=str(path))
    assert (report.read, report.written) == (6, 4)
    assert [name for name, _ in report.left_out] == ["a/4.png", "b/1.png"]
    assert len(dataset_json(tmp_path / "out.zip")["labels"]) == 4
    assert list(report.members.values()) == ["a/0.png", "a/2.png", "b/3.png", "b/5.png"]
    assert len(report.unused_rows) == 1
    assert "99" in report.unused_rows[0]
    with pytest.raises(DataError):
        make(labels=str(path), dest="new/out.zip", strict=True)
    assert not (tmp_path / "new").exists()


def test_groups_become_numbers_and_splits_keep_them_whole(make, readers, folder, tmp_path):
    rows = [(f"{i}", i % 2, f"PATIENT-{'xxyyzz'[i]}") for i in range(6)]
    path = table(tmp_path, "image,target,patient_id\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    report = make(labels=str(path), group_column="patient_id", val_fraction=0.4, seed=3)
    assert report.groups == 3
    content = dataset_json(tmp_path / "out.zip")
    group_of = {report.members[name].split("/")[1][0]: number for name, number in content["groups"]}
    assert group_of["0"] == group_of["1"] != group_of["2"] == group_of["3"] != group_of["4"] == group_of["5"]
    apart = {report.members[name].split("/")[1][0] for name in content["validation"]}
    assert 0 < len(apart) == report.validation < 6
    assert all((str(i) in apart) == (str(i + 1) in apart) for i in (0, 2, 4))
    assert b"PATIENT" not in (tmp_path / "out.zip").read_bytes()
    with open_source(str(tmp_path / "out.zip"), readers) as source:
        assert source.fingerprint() == report.fingerprint
        assert sum(bool(source.is_validation(i)) for i in range(6)) == report.validation
    again = make(tmp_path / "out.zip", dest="again.zip", resolution=None)
    assert dataset_json(tmp_path / "again.zip") == content
    assert (again.groups, again.validation, again.fingerprint) == (3, report.validation, report.fingerprint)


def test_a_division_that_is_not_possible_is_refused_before_the_work(make, folder, tmp_path):
    path = table(tmp_path, "image,target,patient_id\n" + "".join(f"{i},0,same\n" for i in range(6)))
    with pytest.raises(DataError, match="they all belong to one group"):
        make(dest="new/out.zip", labels=str(path), group_column="patient_id", val_fraction=0.5)
    assert not (tmp_path / "new").exists()


# What is left out


def test_broken_images_are_left_out_and_named(make, folder, tmp_path):
    break_image(folder / "a/2.png")
    report = make()
    assert (report.read, report.written) == (6, 5)
    assert [name for name, _ in report.left_out] == ["a/2.png"]
    assert "broken" in report.left_out[0][1]
    with ZipSource(tmp_path / "out.zip") as source:
        assert source.names == [f"00000/img{i:08d}.png" for i in range(5)]
        assert [source.label(i) for i in range(5)] == [0, 1, 1, 0, 2]
        assert source.fingerprint() == report.fingerprint
    assert json.loads(report.to_json())["left_out"] == [list(report.left_out[0])]


def test_strict_stops_at_the_first_broken_image(make, folder, tmp_path):
    for name in ("a/2.png", "b/3.png"):
        break_image(folder / name)
    with pytest.raises(DataError, match=r"a/2\.png"):
        make(dest="new/out.zip", strict=True)
    assert not any((tmp_path / "new").iterdir())


@pytest.mark.parametrize("channels", [None, 3])
def test_a_source_without_a_usable_image_is_an_error(make, tmp_path, channels):
    save(tmp_path / "in", "a.png", pixels(0))
    break_image(tmp_path / "in" / "a.png")
    with pytest.raises(DataError, match=r"no image of in can be read: image a\.png is broken"):
        make(tmp_path / "in", channels=channels)
    assert os.listdir(tmp_path) == ["in"]


def test_a_thousand_unreadable_files_do_not_stop_it(make, tmp_path):
    for index in range(1000):
        path = tmp_path / "in" / f"{index:04d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image %d" % index)
    save(tmp_path / "in", "0500.png", pixels(0))
    report = make(tmp_path / "in")
    assert (report.read, report.written, len(report.left_out)) == (1001, 1, 1000)


KINDS = ("good", "grey", "broken", "script", "empty", "text", "junk")
NAMES = st.text("ab é'\n.", min_size=1, max_size=6).filter(lambda name: name.strip(".") and not name.startswith("."))


@settings(max_examples=40)
@given(
    files=st.dictionaries(
        st.tuples(st.sampled_from(["", "x/", "x/y/", "z/"]), NAMES), st.sampled_from(KINDS), max_size=7
    ),
    labelled=st.sets(st.integers(0, 6)),
    strange=st.booleans(),
)
def test_no_image_is_lost(tmp_path_factory, files, labelled, strange):
    """For any tree of files: every image is written or left out by name, and every other file is named as ignored."""
    base = tmp_path_factory.mktemp("tree")
    source, images, others, good = base / "in", [], [], []
    for number, ((folder, stem), kind) in enumerate(files.items()):
        name = f"{folder}{stem}{number}" + {"text": ".doc", "junk": ".mp4"}.get(kind, ".png")
        if kind in ("good", "grey"):
            save(source, name, pixels(number, channels=1 if kind == "grey" else 3))
            good.append(name)
        else:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            content = {"broken": b"\x89PNG\r\n\x1a\n\0\0", "script": b"#!/bin/sh\necho"}.get(kind, b"")
            (source / name).write_bytes(content)
        (others if kind in ("text", "junk") else images).append(name)
    chosen = [name for number, name in enumerate(images) if number in labelled]
    with open(base / "labels.csv", "w", newline="") as file:
        rows = [(name.replace("\n", "?") if strange else name, "01"[len(name) % 2]) for name in chosen]
        csv.writer(file).writerows([("image", "target"), *rows])
    readers = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).datasets
    labels = str(base / "labels.csv") if chosen else "none"
    try:
        config = PrepareConfig(str(source), base / "out.zip", 8, labels=labels, channels=3, workers=2)
        report = prepare(config, readers)
    except DataError:
        assert sorted(os.listdir(base)) in (["in", "labels.csv"], ["labels.csv"])
        assert strange or not [name for name in good if name in chosen or not chosen]
    else:
        assert report.read == report.written + len(report.left_out) == len(images)
        assert sorted([*report.members.values(), *(name for name, _ in report.left_out)]) == sorted(images)
        assert sorted(report.ignored) == sorted(others)
        assert strange or set(report.members.values()) == {name for name in good if name in chosen or not chosen}
        assert json.loads((base / "out.report.json").read_bytes()) == json.loads(report.to_json())
    shutil.rmtree(base)


# What is kept and what is thrown away


def test_equal_input_gives_an_equal_file_whatever_the_workers(make, folder, tmp_path):
    reports = [make(dest=f"{workers}.zip", workers=workers) for workers in (1, 2, 5)]
    assert len({report.sha256 for report in reports}) == 1
    digest = subprocess.check_output(["sha256sum", tmp_path / "1.zip"], text=True)
    assert digest.startswith(reports[0].sha256)


def secret_files(folder):
    """Images of several formats that carry a secret in every place that has room for one."""
    folder.mkdir()
    exif = Image.Exif()
    for tag in (0x010E, 0x010F, 0x013B, 0x8298):
        exif[tag] = "SECRET"
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0SECRET"
    thumbnail = io.BytesIO()
    Image.new("RGB", (8, 8)).save(thumbnail, "jpeg", comment=b"SECRET")
    exif._data = {**exif}
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", "SECRET")
    text.add_text("Long", "x" * 99 + "SECRET", zip=False)
    text.add_itxt("XML:com.adobe.xmp", "<x>SECRET</x>")
    text.add(b"prVt", b"SECRET")
    profile = b"SECRET" * 30
    every = {"exif": exif, "icc_profile": profile}
    image = Image.fromarray(pixels(0))
    image.save(folder / "SECRET-1.jpg", quality=90, comment=b"SECRET", xmp=b"SECRET", **every)
    image.save(folder / "SECRET-2.png", pnginfo=text, **every)
    image.save(folder / "SECRET-3.webp", lossless=True, xmp=b"SECRET", **every)
    image.save(folder / "SECRET-4.tif", description="SECRET", artist="SECRET", software="SECRET", **every)
    image.convert("P").save(folder / "SECRET-5.gif", comment=b"SECRET")
    image.save(folder / "SECRET-6.jpg", quality=90, progressive=True, comment=b"SECRET")
    for path in list(folder.iterdir()):
        assert b"SECRET" in path.read_bytes(), path
        with open(path, "ab") as file:
            file.write(thumbnail.getvalue() + b"SECRET")
    return folder


@pytest.mark.parametrize("resolution", [8, 16])
@pytest.mark.parametrize("codec", ["png", "webp", "keep"])
def test_neither_metadata_nor_names_go_into_the_set(make, readers, tmp_path, codec, resolution):
    report = make(secret_files(tmp_path / "in"), codec=codec, resolution=resolution)
    assert report.written == 6, report.left_out
    assert b"SECRET" not in (tmp_path / "out.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        for name in archive.namelist()[:-1]:
            image = Image.open(archive.open(name))
            assert {key for key in image.info if key not in ("jfif", "jfif_version", "jfif_unit", "jfif_density")} <= {
                *("loop", "timestamp", "progressive", "progression", "background", "duration")
            }
            assert not image.getexif()
    assert "SECRET" in report.to_json()  # the report stays with the user


def test_enlarged_images_are_named(make, tmp_path):
    for name, size in {"a": (16, 16), "b": (15, 40), "c": (40, 15), "d": (17, 40)}.items():
        save(tmp_path / "in", f"{name}.png", pixels(0, *size))
    for crop in ("center", "none"):
        report = make(tmp_path / "in", dest=f"{crop}.zip", resolution=16, crop=crop)
        assert report.enlarged == ["b.png", "c.png"]


def test_grey_and_colour_together(make, readers, tmp_path):
    save(tmp_path / "in", "a.png", pixels(0, channels=1))
    save(tmp_path / "in", "b.png", pixels(1))
    source, out = tmp_path / "in", tmp_path / "out.zip"
    for channels in (1, None, 3):
        report = make(source, resolution=16, channels=channels, force=True)
        assert [image.shape for image in all_pixels(readers, out)] == [(channels or 3, 16, 16)] * 2
        assert report.notes == {"colour made grey" if channels == 1 else "grey made RGB": 1}
    np.testing.assert_array_equal(all_pixels(readers, out)[0], np.repeat(pixels(0, channels=1)[None], 3, axis=0))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_colour_image_that_turns_up_late_in_a_grey_set(readers, tmp_path, channels):
    """It is not among the 64 that are looked at first."""
    for index in range(130):
        save(tmp_path / "in", f"{index:03d}.png", pixels(index, 8, 8, 3 if index == 101 else 1))
    said = []

    def run(**settings):
        return prepare(
            PrepareConfig(str(tmp_path / "in"), tmp_path / "out.zip", 8, **settings), readers, None, said.append
        )

    with pytest.raises(DataError, match=r"both grey and colour images; the first in colour is 101\.png") as error:
        run(workers=1)
    assert "With --channels 1 it goes on from there" in error.value.hint
    assert said == ["the images looked at first are grey: so will be the set"]
    said.clear()
    report = run(channels=channels)
    assert report.notes == ({"colour made grey": 1} if channels == 1 else {"grey made RGB": 129})
    assert (report.continued_from > 90) == (channels == 1)
    assert ("thrown away" in said[0]) == (channels == 3)


@pytest.mark.parametrize("place", [1, 40, 63])
def test_colour_anywhere_in_a_small_set_makes_it_rgb(make, tmp_path, place):
    for index in range(64):
        save(tmp_path / "in", f"{index:02d}.png", pixels(index, 8, 8, 3 if index == place else 1))
    report = make(tmp_path / "in")
    assert (report.channels, report.notes) == (3, {"grey made RGB": 63})


def test_of_many_rows_without_images_the_report_has_the_first(make, folder, tmp_path):
    rows = "".join(f"{index},0\n" for index in range(5000))
    report = make(labels=str(table(tmp_path, "image_name,target\n" + rows)))
    assert (len(report.unused_rows), report.unused_row_count) == (1000, 4994)
    assert json.loads((tmp_path / "out.report.json").read_bytes())["unused_row_count"] == 4994


def test_a_grey_image_in_a_set_of_colour_becomes_rgb(make, readers, tmp_path):
    save(tmp_path / "in", "a.png", pixels(0))
    save(tmp_path / "in", "b.png", pixels(1, channels=1))
    report = make(tmp_path / "in", resolution=16)
    assert (report.channels, report.notes) == (3, {"grey made RGB": 1})
    assert [image.shape[0] for image in all_pixels(readers, tmp_path / "out.zip")] == [3, 3]


def test_what_was_done_to_images_is_counted(make, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "in", "a.png", pixels(0))
    save(tmp_path / "in", "b.jpg", pixels(1), exif=exif)
    Image.fromarray(pixels(2, channels=4)).save(tmp_path / "in" / "c.png")
    Image.fromarray(pixels(3)).convert("P").save(tmp_path / "in" / "d.png")
    report = make(tmp_path / "in")
    assert report.notes == {"palette": 1, "transparent": 1, "turned upright": 1}


def test_exact_copies_are_named(make, tmp_path):
    for name, seed in {"a.png": 0, "b.png": 1, "c.bmp": 0, "d.png": 2, "e.tif": 1, "f.png": 0}.items():
        save(tmp_path / "in", name, pixels(seed))
    report = make(tmp_path / "in")
    assert report.duplicates == [["a.png", "c.bmp", "f.png"], ["b.png", "e.tif"]]
    assert report.written == 6


@pytest.mark.parametrize("dest", ["first.zip", "first"])
@pytest.mark.parametrize("codec", ["png", "webp", "keep"])
def test_a_prepared_set_loads_and_prepares_again_to_equal_pixels(make, readers, folder, tmp_path, codec, dest):
    first = make(dest=dest, codec=codec)
    second = make(tmp_path / dest, dest="second.zip", resolution=None)
    assert (second.width, second.height, second.written, second.class_counts) == (8, 8, 6, first.class_counts)
    for one, two in zip(
        all_pixels(readers, tmp_path / dest), all_pixels(readers, tmp_path / "second.zip"), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    with open_source(str(tmp_path / dest), readers) as source:
        assert source.fingerprint() == first.fingerprint
        assert [source.label(i) for i in range(6)] == [0, 2, 1, 1, 0, 2]
        assert source.ignored == []


def test_kept_files_are_smaller_than_pixels(make, readers, tmp_path):
    smooth = np.asarray(Image.fromarray(pixels(0, 4, 4)).resize((64, 64), Image.Resampling.BICUBIC))
    for index in range(4):
        save(tmp_path / "in", f"{index}.jpg", np.roll(smooth, index, axis=0), quality=85)
    for codec in ("png", "keep"):
        make(tmp_path / "in", dest=f"{codec}.zip", resolution=64, codec=codec)
    assert (tmp_path / "keep.zip").stat().st_size * 3 < (tmp_path / "png.zip").stat().st_size
    kept, plain = (all_pixels(readers, tmp_path / f"{codec}.zip") for codec in ("keep", "png"))
    np.testing.assert_array_equal(kept, plain)


@pytest.mark.slow
@pytest.mark.skipif(not ISIC.is_dir(), reason="needs the ISIC 2017 images at 128 pixels")
def test_isic_2017_finds_its_table_by_itself(make, tmp_path):
    report = make(ISIC, resolution=128)
    assert (report.read, report.written, report.left_out) == (1999, 1999, [])
    assert list(report.class_counts.values()) == [1626, 373]
    assert "train.csv" in report.labels_from
    assert not any(report.notes.values())
    assert len(dataset_json(tmp_path / "out.zip")["labels"]) == 1999


# Settings, progress, names


@pytest.mark.parametrize(
    "change",
    [
        *({"resolution": 4}, {"resolution": 48}, {"resolution": 16384}, {"size": (16, 16)}, {"crop": "left"}),
        *({"filter": "cubic"}, {"codec": "jpg"}, {"channels": 2}, {"workers": 0}, {"val_fraction": 1.0}),
        *({"resolution": None, "size": (4, 16)}, {"resolution": None, "size": (16, 9000)}),
    ],
)
def test_prepare_settings_are_checked(change):
    with pytest.raises(ConfigError):
        PrepareConfig(**{"source": "x", "dest": Path("x.zip"), "resolution": 16, **change})


def test_other_archives_and_missing_sizes_are_refused(make, folder):
    with pytest.raises(ConfigError, match="neither a zip nor a folder"):
        make(dest="x.tar")
    with pytest.raises(UsageError, match="neither --resolution nor --size"):
        make(resolution=None)


def test_progress_counts_up(readers, folder, tmp_path):
    seen = []
    prepare(PrepareConfig(str(folder), tmp_path / "out.zip", 8), readers, lambda *done: seen.append(done))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_names_that_are_no_text_can_be_reported(make, folder, tmp_path):
    try:
        shutil.copy(folder / "a" / "0.png", os.fsencode(folder) + b"/\xff\xfe\n.png")
    except OSError:
        pytest.skip("this file system has only names that are text")
    report = make(dest="\udcff.zip", labels="none")
    written = json.loads((tmp_path / "\udcff.report.json").read_bytes())
    assert written["dest"] == str(tmp_path / "\udcff.zip")
    assert written["duplicates"] == report.duplicates
    assert len(report.duplicates[0]) == 2
    assert report.to_json().encode().decode("ascii")


def test_ordered_map_keeps_order_and_does_not_run_ahead():
    begun = []

    def work(item):
        begun.append(item)
        return item * 2

    with ThreadPoolExecutor(1):
        results = ordered_map(work, range(1000), workers=3)
        assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
        assert len(begun) <= 5 + 4 * 3
        results.close()
    assert len(begun) <= 5 + 4 * 3
    assert threading.active_count() < 10
    assert list(ordered_map(work, range(50), workers=3)) == list(range(0, 100, 2))


def test_a_set_that_was_prepared_trains(readers, make, folder, tmp_path):
    make()
    assert load_dataset(DataConfig(str(tmp_path / "out.zip")), readers, 0).images.shape[1:] == (3, 8, 8)
