"""`adaflow data prepare`."""

import json
import os
import subprocess
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from adaflow.core.data.dataset import DataConfig, load_dataset
from adaflow.core.data.parallel import ordered_map
from adaflow.core.data.prepare import PrepareConfig, prepare
from adaflow.errors import ConfigError, DataError, FileError
from adaflow.plugins.datasets.zipped import ZipSource
from tests.golden import Golden
from tests.images import break_image, pixels, save, table

pytest_plugins = ["tests.images"]


@pytest.fixture(scope="module")
def golden():
    return Golden("dataset")


@pytest.mark.parametrize(
    ("case", "crop"), [("centercrop32_lanczos", "center"), ("scale32_lanczos", "none"), ("gray32", "none")]
)
def test_prepared_zips_equal_the_golden_ones(golden, readers, tmp_path, case, crop):
    sources = [key for key in golden.keys("src__") if ("gray" in key) == (case == "gray32")]
    for key in sources:
        save(tmp_path / "in", key.removeprefix("src__") + ".png", golden[key].numpy())
    config = PrepareConfig(str(tmp_path / "in"), tmp_path / "out.zip", 32, crop)
    assert prepare(config, readers).written == len(sources)
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


def test_a_prepared_zip_carries_labels_and_names(readers, folder, tmp_path):
    path = table(tmp_path, "image_name,target\n" + "".join(f"{i},{'xyz'[i % 3]}\n" for i in range(6)))
    report = prepare(PrepareConfig(str(folder), tmp_path / "out.zip", 8, labels=path), readers)
    with ZipSource(tmp_path / "out.zip") as source:
        assert [source.label(i) for i in range(6)] == [0, 2, 1, 1, 0, 2]
        assert source.class_names == ("x", "y", "z")
        assert source.fingerprint() == report.fingerprint
    assert report.class_counts == {"x": 2, "y": 2, "z": 2}


def test_labels_of_the_source_are_kept(readers, folder, tmp_path):
    for labels in ([["a/0.png", [0.25, 1.0]]], [["a/0.png", 1], ["b/5.png", 0]]):
        (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
        prepare(PrepareConfig(str(folder), tmp_path / "out.zip", 8, force=True), readers)
        with zipfile.ZipFile(tmp_path / "out.zip") as archive:
            written = json.loads(archive.read("dataset.json"))["labels"]
        assert written[0] == ["00000/img00000000.png", labels[0][1]]
        assert [label for _, label in written] == [label for _, label in labels]


def test_an_image_without_a_label_stops_before_anything_is_written(readers, folder, tmp_path):
    path = table(tmp_path, "image_name,target\n" + "".join(f"{i},0\n" for i in range(6) if i not in (1, 4)))
    with pytest.raises(DataError, match=r"image a/4\.png has no label"):
        prepare(PrepareConfig(str(folder), tmp_path / "new" / "out.zip", 8, labels=path), readers)
    assert not (tmp_path / "new").exists()


def test_broken_images_are_left_out_and_named(readers, folder, tmp_path):
    break_image(folder / "a/2.png")
    report = prepare(PrepareConfig(str(folder), tmp_path / "out.zip", 8), readers)
    assert (report.read, report.written) == (6, 5)
    assert [name for name, _ in report.left_out] == ["a/2.png"]
    assert "broken" in report.left_out[0][1]
    with ZipSource(tmp_path / "out.zip") as source:
        assert source.names == [f"00000/img{i:08d}.png" for i in range(5)]
        assert [source.label(i) for i in range(5)] == [0, 1, 1, 0, 2]
        assert source.fingerprint() == report.fingerprint
    assert json.loads(report.to_json())["left_out"] == [list(report.left_out[0])]


def test_a_source_without_a_usable_image_is_an_error(readers, tmp_path):
    save(tmp_path / "in", "a.png", pixels(0))
    break_image(tmp_path / "in" / "a.png")
    with pytest.raises(DataError, match=r"no image of in can be read: image a\.png is broken"):
        prepare(PrepareConfig(str(tmp_path / "in"), tmp_path / "out.zip", 8), readers)
    assert os.listdir(tmp_path) == ["in"]


def test_equal_input_gives_an_equal_file_whatever_the_workers(readers, folder, tmp_path):
    reports = [
        prepare(PrepareConfig(str(folder), tmp_path / f"{workers}.zip", 8, workers=workers), readers)
        for workers in (1, 2, 5)
    ]
    assert len({report.sha256 for report in reports}) == 1
    digest = subprocess.check_output(["sha256sum", tmp_path / "1.zip"], text=True)
    assert digest.startswith(reports[0].sha256)


def test_metadata_is_not_copied(readers, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "SECRET"
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", "SECRET")
    save(tmp_path / "in", "SECRET.png", pixels(0), exif=exif, pnginfo=text, icc_profile=b"SECRET" * 30)
    prepare(PrepareConfig(str(tmp_path / "in"), tmp_path / "out.zip", 16), readers)
    assert b"SECRET" in (tmp_path / "in" / "SECRET.png").read_bytes()
    assert b"SECRET" not in (tmp_path / "out.zip").read_bytes()


def test_enlarged_images_are_counted(readers, tmp_path):
    for name, size in {"a": (16, 16), "b": (15, 40), "c": (40, 15), "d": (17, 40)}.items():
        save(tmp_path / "in", f"{name}.png", pixels(0, *size))
    for crop in ("center", "none"):
        assert prepare(PrepareConfig(str(tmp_path / "in"), tmp_path / f"{crop}.zip", 16, crop), readers).upscaled == 2


def test_grey_and_colour_together(readers, tmp_path):
    save(tmp_path / "in", "a.png", pixels(0, channels=1))
    save(tmp_path / "in", "b.png", pixels(1))
    source, out = str(tmp_path / "in"), tmp_path / "out.zip"
    with pytest.raises(DataError, match=r"both grey and colour images; the first in colour is b\.png"):
        prepare(PrepareConfig(source, out, 16), readers)
    assert not out.exists()
    for channels in (1, 3):
        prepare(PrepareConfig(source, out, 16, channels=channels, force=True), readers)
        with ZipSource(out) as archive:
            assert [archive.read(i).shape for i in range(2)] == [(channels, 16, 16)] * 2
    np.testing.assert_array_equal(ZipSource(out).read(0), np.repeat(pixels(0, channels=1)[None], 3, axis=0))


def test_an_existing_file_is_kept_unless_forced(readers, folder, tmp_path):
    out = tmp_path / "out.zip"
    out.write_bytes(b"precious")
    with pytest.raises(FileError, match="exists already"):
        prepare(PrepareConfig(str(folder), out, 8), readers)
    assert out.read_bytes() == b"precious"
    prepare(PrepareConfig(str(folder), out, 8, force=True), readers)
    assert zipfile.is_zipfile(out)


def test_an_interrupt_leaves_the_old_file_and_no_other(readers, folder, tmp_path):
    out = tmp_path / "out" / "set.zip"
    out.parent.mkdir()
    out.write_bytes(b"precious")

    def interrupt(done, total):
        assert out.read_bytes() == b"precious"
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(PrepareConfig(str(folder), out, 8, force=True), readers, interrupt)
    assert os.listdir(out.parent) == ["set.zip"]
    assert out.read_bytes() == b"precious"


@pytest.mark.parametrize(
    "change",
    [{"resolution": 4}, {"resolution": 48}, {"crop": "left"}, {"channels": 2}, {"workers": 0}, {"dest": Path("x.tar")}],
)
def test_prepare_settings_are_checked(change):
    with pytest.raises(ConfigError):
        PrepareConfig(**{"source": "x", "dest": Path("x.zip"), "resolution": 16, **change})


def test_progress_counts_up(readers, folder, tmp_path):
    seen = []
    prepare(PrepareConfig(str(folder), tmp_path / "out.zip", 8), readers, lambda *done: seen.append(done))
    load_dataset(DataConfig(str(folder)), readers, 0, lambda *done: seen.append(done))
    assert seen == [(i, 6) for i in range(1, 7)] * 2


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
