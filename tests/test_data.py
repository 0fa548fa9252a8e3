"""Images and labels: reading, preparing, loading, sampling."""

import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from adaflow.core.data import dataset as dataset_module
from adaflow.core.data.dataset import DataConfig, load_dataset
from adaflow.core.data.decode import decode_image
from adaflow.core.data.labels import parse_dataset_json, read_labels
from adaflow.core.data.parallel import ordered_map
from adaflow.core.data.prepare import PrepareConfig, prepare
from adaflow.core.data.sampler import EpochSampler
from adaflow.core.data.source import ImageSource, open_source
from adaflow.errors import ConfigError, DataError, FileError
from adaflow.plugins.datasets.folder import FolderReader, FolderSource
from adaflow.plugins.datasets.zipped import ZipReader, ZipSource
from adaflow.registry import Registry
from tests.golden import Golden

ISIC = Path(__file__).parents[2] / "shared" / "data" / "isic2017_128"


@pytest.fixture
def readers():
    registry = Registry("dataset reader")
    registry.add("folder", FolderReader(), "folder")
    registry.add("zip", ZipReader(), "zip")
    return registry


def pixels(seed, height=16, width=16, channels=3):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(folder, name, array, **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Six 16x16 RGB images in two sub-folders with labels 0, 1, 2, 0, 1, 2."""
    folder = tmp_path / "images"
    labels = []
    for index in range(6):
        name = f"{'ab'[index % 2]}/{index}.png"
        save(folder, name, pixels(index))
        labels.append([name, index % 3])
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def zip_folder(folder, path, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


def break_image(path):
    path.write_bytes(path.read_bytes()[:-100])


def load(readers, source, seed=0, **config):
    return load_dataset(DataConfig(str(source), **config), readers, seed)


# Decoding


def encode(image, form="png", **options):
    data = io.BytesIO()
    image.save(data, form, **options)
    return io.BytesIO(data.getvalue())


def test_rgb_and_grey_come_out_as_they_went_in():
    rgb, grey = pixels(0, 5, 7), pixels(1, 5, 7, channels=1)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(rgb)), "x"), rgb.transpose(2, 0, 1))
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(grey)), "x"), grey[None])


def test_decoded_arrays_can_become_tensors_without_a_warning(recwarn):
    for channels in (1, 3):
        torch.from_numpy(decode_image(encode(Image.fromarray(pixels(0, channels=channels))), "x"))
    assert not recwarn.list


def test_sixteen_bit_grey_is_scaled():
    wide = np.array([[0, 128, 129, 65535, 257 * 100]], dtype=np.uint16)
    for form in ("png", "tiff"):
        np.testing.assert_array_equal(decode_image(encode(Image.fromarray(wide), form), "x"), [[[0, 0, 1, 255, 100]]])


def test_transparency_is_shown_over_black():
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 51]]], dtype=np.uint8)
    decoded = decode_image(encode(Image.fromarray(rgba)), "x")
    np.testing.assert_array_equal(decoded[:, 0].T, [[200, 100, 50], [0, 0, 0], [40, 20, 10]])


def test_grey_with_alpha_palettes_bilevel_and_cmyk():
    grey_alpha = Image.fromarray(np.array([[[90, 255], [90, 0]]], dtype=np.uint8), "LA")
    np.testing.assert_array_equal(decode_image(encode(grey_alpha), "x")[:, 0].T, [[90] * 3, [0] * 3])
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    np.testing.assert_array_equal(decode_image(encode(palette), "x")[:, 0].T, [[10, 20, 30], [40, 50, 60]])
    np.testing.assert_array_equal(decode_image(encode(palette, transparency=1), "x")[:, 0].T, [[10, 20, 30], [0, 0, 0]])
    bilevel = Image.fromarray(np.array([[True, False]]))
    np.testing.assert_array_equal(decode_image(encode(bilevel), "x"), [[[255, 0]]])
    assert decode_image(encode(Image.new("CMYK", (4, 4)), "jpeg"), "x").shape == (3, 4, 4)


def test_exif_orientation_turns_the_image_upright():
    array = pixels(0, 2, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: to be turned clockwise for display
    decoded = decode_image(encode(Image.fromarray(array), exif=exif), "x")
    np.testing.assert_array_equal(decoded.transpose(1, 2, 0), np.rot90(array, -1))


@pytest.mark.parametrize(
    "data", [b"", b"no image", b"\x89PNG\r\n\x1a\n", encode(Image.new("RGB", (9, 9))).getvalue()[:-30]]
)
def test_broken_images_are_named(data):
    with pytest.raises(DataError, match=r"image sub/x\.png is broken"):
        decode_image(io.BytesIO(data), "sub/x.png")


def test_floating_point_images_are_refused():
    with pytest.raises(DataError, match="no fixed range"):
        decode_image(encode(Image.new("F", (4, 4)), "tiff"), "x.tif")


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"image x\.png has more than 200 pixels"):
        decode_image(encode(Image.new("L", (20, 20))), "x.png")


# Folders and zips


def test_a_folder_is_read_in_order_with_its_labels(folder):
    source = FolderSource(folder)
    assert [source.image_name(i) for i in range(len(source))] == [
        f"{d}/{i}.png" for d, i in zip("aaabbb", (0, 2, 4, 1, 3, 5), strict=True)
    ]
    assert [source.label(i) for i in range(6)] == [0, 2, 1, 1, 0, 2]
    np.testing.assert_array_equal(source.read(3), pixels(1).transpose(2, 0, 1))
    assert (source.name, source.ignored, source.class_names) == ("images", 0, None)


def test_junk_is_passed_over_and_other_files_are_counted(folder):
    for name in (".hidden.png", "._0.png", ".git/a.png", "__MACOSX/a.png", "a/.DS_Store"):
        save(folder, name, pixels(0), format="png")
    (folder / "notes.txt").write_text("hello")
    (folder / "a" / "table.csv").write_text("hello")
    source = FolderSource(folder)
    assert (len(source), source.ignored) == (6, 2)
    archive = ZipSource(zip_folder(folder, folder.parent / "x.zip"))
    assert (len(archive), archive.ignored) == (6, 2)


def test_links_that_lead_in_circles_end(folder):
    (folder / "a" / "up").symlink_to(folder)
    (folder / "again").symlink_to(folder / "b")
    assert len(FolderSource(folder)) == 6


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_equals_its_folder(folder, tmp_path, compression):
    files = FolderSource(folder)
    with ZipSource(zip_folder(folder, tmp_path / "set one.zip", compression)) as archive:
        assert archive.name == "set_one"
        assert archive.names == files.names
        for index in range(6):
            assert archive.label(index) == files.label(index)
            np.testing.assert_array_equal(archive.read(index), files.read(index))


def read_all(source):
    for index in range(len(source)):
        np.testing.assert_array_equal(
            source.read(index), pixels(int(Path(source.image_name(index)).stem)).transpose(2, 0, 1)
        )


def test_a_zip_is_read_by_many_threads(folder, tmp_path):
    source = ZipSource(zip_folder(folder, tmp_path / "x.zip", zipfile.ZIP_DEFLATED))
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(read_all, source) for _ in range(100)]:
            future.result()


def test_threads_take_turns_at_the_file_of_a_zip(folder, tmp_path):
    source = ZipSource(zip_folder(folder, tmp_path / "x.zip"))
    with ThreadPoolExecutor(1) as pool:
        with source._archive.lock:
            reading = pool.submit(read_all, source)
            with pytest.raises(TimeoutError):
                reading.result(timeout=0.2)
        reading.result(timeout=20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_zip_is_read_after_a_fork_in_the_middle_of_reading(folder, tmp_path):
    source = ZipSource(zip_folder(folder, tmp_path / "x.zip"))
    child = multiprocessing.get_context("fork").Process(target=read_all, args=(source,))
    with source._archive.lock:  # as if another thread were reading
        child.start()
    child.join(timeout=20)
    if child.is_alive():
        child.kill()
    assert child.exitcode == 0
    read_all(source)


def test_encrypted_zips_are_refused(folder, tmp_path):
    path = zip_folder(folder, tmp_path / "x.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="is encrypted"):
        ZipSource(path)


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/x.png", "\\x.png", "a\\..\\..\\x.png", "C:\\x.png", "C:/x.png"]
)
def test_paths_out_of_the_archive_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, encode(Image.fromarray(pixels(0))).getvalue())
    with pytest.raises(DataError, match="leads out of the archive"):
        ZipSource(tmp_path / "x.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_listed_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x.png", b"1")
        archive.writestr("x.png", b"2")
    with pytest.raises(DataError, match="twice"):
        ZipSource(tmp_path / "x.zip")


def test_a_member_with_a_changed_byte_is_named(folder, tmp_path):
    path = zip_folder(folder, tmp_path / "x.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a/0\.png in .* cannot be read: Bad CRC-32"):
        ZipSource(path).read(0)


def test_a_huge_member_is_refused_before_it_is_unpacked(folder, tmp_path):
    source = ZipSource(zip_folder(folder, tmp_path / "x.zip"))
    source.members["a/0.png"].file_size = 1 << 31
    with pytest.raises(DataError, match="larger than 1 GiB"):
        source.read(0)


def test_no_images_no_zip_no_data_set(readers, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.zip").write_bytes(b"not a zip")
    (tmp_path / "file.txt").write_text("")
    for name, message in {
        "empty": "has no images",
        "bad.zip": "cannot be opened",
        "file.txt": "no data set reader understands",
        "missing": "there is no data set at",
    }.items():
        with pytest.raises(DataError, match=message):
            open_source(str(tmp_path / name), readers)


def test_fingerprints_depend_on_names_contents_and_labels_alone(folder, tmp_path):
    original = FolderSource(folder).fingerprint()
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    os.utime(copy / "a/0.png", (0, 0))
    (copy / "unrelated.txt").write_text("x")
    assert FolderSource(copy).fingerprint() == original

    seen = {original}
    save(copy, "a/0.png", pixels(99))
    seen.add(FolderSource(copy).fingerprint())
    (copy / "a/0.png").rename(copy / "a/0b.png")
    seen.add(FolderSource(copy).fingerprint())
    (copy / "dataset.json").unlink()
    seen.add(FolderSource(copy).fingerprint())
    assert len(seen) == 4

    stored = ZipSource(zip_folder(folder, tmp_path / "1.zip")).fingerprint()
    os.utime(folder / "a/0.png", (10**9, 10**9))
    assert ZipSource(zip_folder(folder, tmp_path / "2.zip", zipfile.ZIP_DEFLATED)).fingerprint() == stored
    (folder / "dataset.json").unlink()
    assert ZipSource(zip_folder(folder, tmp_path / "3.zip")).fingerprint() != stored


# Labels


def test_dataset_json_with_classes_vectors_and_without_labels():
    assert parse_dataset_json(b'{"labels": null}', "x").by_name == {}
    parsed = parse_dataset_json(b'{"labels": [["a.png", 3], ["b.png", 0]], "class_names": ["w", "x", "y", "z"]}', "x")
    assert (parsed.by_name, parsed.class_names) == ({"a.png": 3, "b.png": 0}, ("w", "x", "y", "z"))
    assert parse_dataset_json(b'{"labels": [["a.png", [1, 0.5]]]}', "x").by_name == {"a.png": (1.0, 0.5)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "is not JSON"),
        (b'"\xff"', "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b'{"labels": 3}', "is not a list"),
        (b'{"labels": ["a.png"]}', "in place of"),
        (b'{"labels": [["a.png", -1]]}', r"the label of a\.png in x is -1"),
        (b'{"labels": [["a.png", true]]}', "is true"),
        (b'{"labels": [["a.png", "nevus"]]}', 'is "nevus"'),
        (b'{"labels": [["a.png", [NaN]]]}', "is "),
        (b'{"labels": [["a.png", 1], ["a.png", 2]]}', "two different labels"),
        (b'{"labels": null, "class_names": "ab"}', "class_names"),
    ],
)
def test_malformed_dataset_json_is_explained(text, message):
    with pytest.raises(DataError, match=message):
        parse_dataset_json(text, "x")


def table(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tables_of_all_dialects(tmp_path, delimiter, newline, encoding):
    rows = [
        ["image_name", "note", "target"],
        ["x.png", "a", "1"],
        ["y", '"b,;c"', "0"],
        ["", "", ""],
        ["z.JPG", "", "1.0"],
    ]
    labels = read_labels(table(tmp_path, newline.join(delimiter.join(row) for row in rows), encoding))
    assert (labels.classes, labels.class_names) == ({"x": 1, "y": 0, "z": 1}, None)


def test_names_of_classes_are_numbered_in_sorted_order(tmp_path):
    path = table(tmp_path, "file,diagnosis\na,nevus\nb,melanoma\nc,nevus\nd,\n")
    labels = read_labels(path, "file", "diagnosis")
    assert (labels.classes, labels.class_names) == ({"a": 1, "b": 0, "c": 1}, ("melanoma", "nevus"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'image_name'"),
        ("image_name,label\na,1\n", "has no column 'target'"),
        ("image_name,target\na,1\nb\n", "line 3 has 1 fields"),
        ("image_name,target\na,1\na.png,0\n", "two labels for a: 1 and 0"),
        ("image_name,target\na,-1\n", "gives a the class -1"),
    ],
)
def test_unusable_tables_are_explained(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_labels(table(tmp_path, text))


def test_a_missing_column_lists_those_there_are(tmp_path):
    with pytest.raises(DataError) as error:
        read_labels(table(tmp_path, "name;class\na;1\n"))
    assert "name, class" in error.value.hint


def test_tables_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_labels(tmp_path / "none.csv")
    with pytest.raises(DataError, match="not UTF-8"):
        read_labels(table(tmp_path, "image_name,target\nä,1\n", "latin-1"))


def test_rows_fit_images_with_and_without_folders_and_extensions(tmp_path):
    labels = read_labels(table(tmp_path, "image_name,target\nx,1\nsets\\one\\y.png,2\n./b/z.v2,3\n"))
    assert labels.assign(["deep/x.jpg", "one/y.jpeg", "b/z.v2.png"]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/x.png", "a/w.png"], r"image a/w\.png has no label"),
        (["a/xx.png"], r"image a/xx\.png has no label"),
        (["aa/y.png"], r"image aa/y\.png has no label"),
        (["y.png"], r"image y\.png fits several rows"),
        (["a/x.png", "b/x.png"], r"'x' in .* fits both a/x\.png and b/x\.png"),
    ],
)
def test_images_without_one_clear_row_are_errors(tmp_path, names, message):
    labels = read_labels(table(tmp_path, "image_name,target\nx,1\na/y,2\nb/y,3\n"))
    with pytest.raises(DataError, match=message):
        labels.assign(names)


# Preparing


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


# Loading


def test_a_loaded_set_holds_the_images(readers, folder):
    data = load(readers, folder)
    assert (data.images.dtype, data.images.shape) == (torch.uint8, (6, 3, 16, 16))
    for image, name in zip(data.images, data.names, strict=True):
        np.testing.assert_array_equal(image, pixels(int(Path(name).stem)).transpose(2, 0, 1))
    assert (data.resolution, data.channels, data.c_dim, data.labels.shape) == (16, 3, 0, (6, 0))
    assert (data.name, data.left_out, data.class_counts) == ("images", [], {"0": 2, "1": 2, "2": 2})
    assert data.fingerprint == FolderSource(folder).fingerprint()


def test_labels_become_one_hot(readers, folder):
    data = load(readers, folder, cond=True)
    assert data.labels.dtype == torch.float32
    assert data.labels.tolist() == torch.eye(3)[[0, 2, 1, 1, 0, 2]].tolist()


def test_class_names_widen_the_labels(readers, folder):
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, "class_names": ["p", "q", "r", "s"]}))
    data = load(readers, folder, cond=True)
    assert (data.c_dim, data.class_counts) == (4, {"p": 2, "q": 2, "r": 2})


def test_vectors_are_labels_as_they_are(readers, folder):
    vectors = {f"{'ab'[i % 2]}/{i}.png": [i / 4, -1.0] for i in range(6)}
    (folder / "dataset.json").write_text(json.dumps({"labels": list(vectors.items())}))
    data = load(readers, folder, cond=True)
    assert data.labels.tolist() == [vectors[name] for name in data.names]
    assert data.class_counts == {}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a/2.png": None}, r"image a/2\.png of images has no label"),
        ({"b/1.png": [0.5]}, "both classes and vectors"),
        ({"b/1.png": 10**9}, "has a class 1000000000"),
        ({f"{'ab'[i % 2]}/{i}.png": [0.5] * (1 + (i == 3)) for i in range(6)}, r"the label of b/3\.png has 2 numbers"),
    ],
)
def test_unusable_labels_are_explained(readers, folder, labels, message):
    content = dict(json.loads((folder / "dataset.json").read_text())["labels"]) | labels
    content = [[name, label] for name, label in content.items() if label is not None]
    (folder / "dataset.json").write_text(json.dumps({"labels": content}))
    with pytest.raises(DataError, match=message):
        load(readers, folder, cond=True)
    load(readers, folder)


def test_broken_and_odd_images_are_left_out_with_their_labels(readers, folder):
    break_image(folder / "a/2.png")
    save(folder, "b/1.png", pixels(0, 32, 32))
    save(folder, "b/3.png", pixels(0, channels=1))
    data = load(readers, folder, cond=True)
    assert data.names == ("a/0.png", "a/4.png", "b/5.png")
    np.testing.assert_array_equal(data.images[2], pixels(5).transpose(2, 0, 1))
    assert data.labels.argmax(1).tolist() == [0, 1, 2]
    reasons = dict(data.left_out)
    assert list(reasons) == ["a/2.png", "b/1.png", "b/3.png"]
    assert "broken" in reasons["a/2.png"]
    assert reasons["b/1.png"] == "it is 32x32 RGB, most are 16x16 RGB"
    assert reasons["b/3.png"] == "it is 16x16 grey, most are 16x16 RGB"


def test_the_majority_decides_even_when_the_first_images_are_odd(readers, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "PROBED_IMAGES", 2)
    for index in range(7):
        save(tmp_path / "in", f"{index}.png", pixels(index, *((8, 8) if index < 3 else (16, 16))))
    data = load(readers, tmp_path / "in")
    assert data.names == ("3.png", "4.png", "5.png", "6.png")
    np.testing.assert_array_equal(data.images[0], pixels(3).transpose(2, 0, 1))
    assert [name for name, _ in data.left_out] == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("size", [(16, 8), (12, 12), (4, 4)])
def test_sizes_that_cannot_be_trained_on(readers, tmp_path, size):
    for index in range(3):
        save(tmp_path / "in", f"{index}.png", pixels(index, *size))
    with pytest.raises(DataError, match=f"are {size[1]}x{size[0]} RGB, not square") as error:
        load(readers, tmp_path / "in")
    assert "adaflow data prepare" in error.value.hint
    assert "--resolution" in error.value.hint


def test_fewer_than_two_images(readers, folder):
    for name in ("a/0", "a/2", "a/4", "b/1", "b/3"):
        break_image(folder / f"{name}.png")
    with pytest.raises(DataError, match=r"fewer than 2 usable images; the first left out: image a/0\.png"):
        load(readers, folder)


class HugeSource(ImageSource):
    name = "huge"

    def __init__(self):
        self.reads = 0

    def __len__(self):
        return 10**9

    def image_name(self, index):
        return str(index)

    def read(self, index):
        self.reads += 1
        return np.zeros((3, 1024, 1024), dtype=np.uint8)

    def fingerprint(self):
        return "0"


def test_a_set_that_does_not_fit_is_refused_before_it_is_decoded():
    source = HugeSource()
    with pytest.raises(DataError, match=r"huge needs 2929687\.5 GiB of memory") as error:
        dataset_module._decode(source, range(10**9), 1, None)
    assert source.reads == dataset_module.PROBED_IMAGES
    assert "--subset" in error.value.hint
    assert "--resolution" in error.value.hint


def test_the_limit_is_a_share_of_the_available_memory(readers, folder, monkeypatch):
    needed = 6 * 3 * 16 * 16
    for available, fits in ((needed / 0.69, True), (needed / 0.71, False)):
        memory = type("Memory", (), {"available": available})
        monkeypatch.setattr(dataset_module.psutil, "virtual_memory", lambda memory=memory: memory)
        if fits:
            load(readers, folder)
        else:
            with pytest.raises(DataError, match="can be used"):
                load(readers, folder)


@pytest.mark.parametrize(
    "change",
    [{"source": ""}, {"subset": 1}, {"val_fraction": -0.1}, {"val_fraction": 0.95}, {"workers": 0}, {"workers": 65}],
)
def test_data_settings_are_checked(change):
    with pytest.raises(ConfigError):
        DataConfig(**{"source": "x", **change})


def test_a_subset_depends_on_the_seed_only(readers, folder):
    chosen = {seed: load(readers, folder, seed, subset=3).names for seed in range(10)}
    assert all(len(names) == 3 for names in chosen.values())
    assert len(set(chosen.values())) > 3
    assert load(readers, folder, 4, subset=3, workers=5).names == chosen[4]
    with pytest.raises(DataError, match="a subset of 7 is asked for"):
        load(readers, folder, subset=7)


def test_labels_keep_their_width_in_a_subset(readers, folder):
    assert {load(readers, folder, seed, subset=2, cond=True).c_dim for seed in range(5)} == {3}


def test_validation_images_are_never_trained_on(readers, folder):
    parts = set()
    for seed in range(10):
        data = load(readers, folder, seed, val_fraction=0.34)
        train, val = data.train_indices.tolist(), data.val_indices.tolist()
        assert len(val) == 2
        assert sorted(train + val) == list(range(6))
        assert train == sorted(train)
        seen, _ = data.batch(torch.arange(12))
        assert not any(torch.equal(image, data.images[index]) for image in seen for index in val)
        parts.add(tuple(val))
        assert load(readers, folder, seed, val_fraction=0.34).val_indices.tolist() == val
    assert len(parts) > 3


def test_a_small_fraction_still_keeps_one_image_out(readers, folder):
    assert len(load(readers, folder, val_fraction=0.01).val_indices) == 1
    assert len(load(readers, folder, val_fraction=0.9).train_indices) == 1
    assert len(load(readers, folder).val_indices) == 0


def test_a_set_without_validation_images_says_so(readers, folder):
    with pytest.raises(DataError, match="no images in its 'val' part"):
        load(readers, folder).batch(torch.arange(2), "val")


@pytest.mark.parametrize(
    ("mirror", "mirrory", "axes"),
    [
        (False, False, [()]),
        (True, False, [(), (2,)]),
        (False, True, [(), (1,)]),
        (True, True, [(), (1,), (2,), (1, 2)]),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_epoch_has_every_mirrored_form_once(readers, folder, mirror, mirrory, axes, split):
    data = load(readers, folder, mirror=mirror, mirrory=mirrory, cond=True, val_fraction=0.34)
    indices = data.train_indices if split == "train" else data.val_indices
    assert data.entries(split) == len(indices) * len(axes)
    images, labels = data.batch(torch.arange(data.entries(split)) + data.entries(split), split)
    expected = Counter(
        (data.images[i].flip(axis).numpy().tobytes(), tuple(data.labels[i].tolist())) for i in indices for axis in axes
    )
    got = Counter((image.numpy().tobytes(), tuple(label)) for image, label in zip(images, labels.tolist(), strict=True))
    assert got == expected


def test_a_batch_leaves_the_set_as_it_is(readers, folder):
    data = load(readers, folder, mirror=True)
    before = data.images.clone()
    batch, _ = data.batch(torch.arange(12))
    batch.zero_()
    assert torch.equal(data.images, before)


def test_the_summary_is_plain_json(readers, folder):
    break_image(folder / "a/2.png")
    summary = load(readers, folder, seed=3, cond=True, mirror=True, val_fraction=0.2).summary()
    assert json.loads(json.dumps(summary)) == summary
    expected = {"images": 5, "train_images": 4, "val_images": 1, "entries": 8, "c_dim": 3, "seed": 3, "mirror": True}
    assert expected.items() <= summary.items()
    assert summary["left_out"][0][0] == "a/2.png"


# Sampling


def test_every_epoch_is_a_fresh_order_of_all_entries():
    sampler = EpochSampler(50, seed=1)
    epochs = [sampler.indices(torch.arange(50) + 50 * epoch).tolist() for epoch in range(4)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_order_is_a_function_of_seed_stream_and_counter():
    whole = EpochSampler(7, seed=3).indices(torch.arange(100))
    sampler = EpochSampler(7, seed=3)
    for counters in ([93, 2, 50], [99], [0], [93]):
        assert sampler.indices(torch.tensor(counters)).tolist() == whole[counters].tolist()
    assert sampler.indices(61).tolist() == [whole[61].item()]
    assert EpochSampler(7, seed=4).indices(torch.arange(100)).tolist() != whole.tolist()
    assert EpochSampler(7, seed=3, stream="val").indices(torch.arange(100)).tolist() != whole.tolist()


def test_the_order_does_not_touch_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    EpochSampler(7, seed=3).indices(torch.arange(20))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_choice_stays_the_same_between_versions(readers, folder):
    """A change here makes runs of earlier versions resume with other images."""
    data = load(readers, folder, subset=5, val_fraction=0.4)
    assert (data.names[0], data.names[1], data.val_indices.tolist()) == ("a/2.png", "a/4.png", [1, 2])
    assert EpochSampler(1000, seed=0).indices(torch.arange(998, 1004)).tolist() == [350, 49, 189, 220, 578, 418]


@pytest.mark.slow
@pytest.mark.skipif(not ISIC.is_dir(), reason="needs the ISIC 2017 images at 128 pixels")
def test_isic_2017(readers, tmp_path):
    config = PrepareConfig(str(ISIC / "images"), tmp_path / "isic64.zip", 64, labels=ISIC / "train.csv")
    report = prepare(config, readers)
    assert (report.written, report.left_out, report.class_counts) == (1999, [], {"0": 1626, "1": 373})
    data = load(readers, tmp_path / "isic64.zip", cond=True)
    assert (data.images.shape, data.labels.sum(0).tolist()) == ((1999, 3, 64, 64), [1626, 373])


def test_neither_readers_nor_preparing_load_torch():
    code = "import sys, adaflow.core.data.prepare, adaflow.plugins.datasets.zipped; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
