"""`adaflow data show`: contact sheets."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from adaflow.core.data import contact_sheet
from adaflow.core.data.contact_sheet import COLUMNS, LINE, ShowConfig, draw_sheet, most_unusual, show
from adaflow.core.features import FeatureExtractor
from adaflow.errors import DataError
from tests.images import save
from tests.test_check import Memory

pytest_plugins = ["tests.images", "tests.command_line"]

SIDE = 64


def plain(value, height=SIDE, width=SIDE, channels=3):
    return np.full((channels, height, width), value, np.uint8)


class MeanColour(FeatureExtractor):
    """The mean of each channel."""

    name = "mean-colour"

    def __call__(self, images):
        return images.float().mean(dim=(2, 3))


def tile(path, place, captions=False):
    sheet = np.asarray(Image.open(path))
    x, y = place % COLUMNS * SIDE, LINE + place // COLUMNS * (SIDE + LINE * captions)
    return sheet[y : y + SIDE, x : x + SIDE]


def test_one_sheet_a_class_with_its_images(tmp_path):
    source = Memory([plain(10 * index) for index in range(20)], [index % 2 for index in range(20)], ("benign", "x/y"))
    paths = show(source, ShowConfig(tmp_path))
    assert [path.name for path in paths] == ["set-benign.png", "set-x_y.png"]
    for label, path in enumerate(paths):
        assert Image.open(path).size == (COLUMNS * SIDE, LINE + 2 * SIDE)
        shown = [tile(path, place) for place in range(10)]
        assert all(len(np.unique(image)) == 1 for image in shown)
        values = [int(image[0, 0, 0]) for image in shown]
        assert sorted(values) == [10 * index for index in range(20) if index % 2 == label]
        assert values != sorted(values)
        assert not tile(path, 15).any()
        assert np.asarray(Image.open(path))[:LINE].any()


def test_order_follows_the_seed(tmp_path):
    source = Memory([plain(10 * index) for index in range(20)])

    def drawn(folder, **options):
        (tmp_path / folder).mkdir()
        (path,) = show(source, ShowConfig(tmp_path / folder, **options))
        assert path.name == "set-all.png"
        return path.read_bytes()

    assert drawn("a") == drawn("b")
    assert drawn("c", seed=1) != drawn("a2")


def test_no_more_images_than_asked_for(tmp_path):
    (path,) = show(Memory([plain(10 * index) for index in range(20)]), ShowConfig(tmp_path, per_class=3))
    assert Image.open(path).size == (COLUMNS * SIDE, LINE + SIDE)
    assert tile(path, 2).any()
    assert not tile(path, 3).any()


def test_images_of_other_sizes_keep_their_aspect(tmp_path):
    sizes = [(SIDE, SIDE), (SIDE, 2 * SIDE), (2 * SIDE, SIDE)]
    images = [plain(200, *size) for size in sizes] + [plain(200, channels=1)]
    monochrome = Memory(images, [0, 1, 2, 3])
    paths = {path.stem[-1]: path for path in show(monochrome, ShowConfig(tmp_path))}
    side = Image.open(paths["0"]).width // COLUMNS
    areas = []
    for label in "0123":
        first = np.asarray(Image.open(paths[label]))[LINE:, :side] > 100
        areas.append(float(first.mean()))
    assert areas == [1, 0.5, 0.5, 1]


def test_images_without_a_label_and_broken_ones(tmp_path):
    images = [plain(10 * index) for index in range(1, 7)]
    images[3] = DataError("broken")
    paths = show(Memory(images, [0, 0, 0, 0, None, None]), ShowConfig(tmp_path))
    assert [path.name for path in paths] == ["set-class_0.png", "set-without_label.png"]
    assert {int(tile(paths[0], place)[0, 0, 0]) for place in range(4)} == {10, 20, 30, 0}
    with pytest.raises(DataError, match="no image of set can be read: broken"):
        show(Memory([DataError("broken")]), ShowConfig(tmp_path))


def test_names_of_files_are_safe_and_distinct(tmp_path):
    names = ("../up", "..", "A b", "a_b", "unusual", "\n", "é" * 300, "con/..")
    source = Memory([plain(index) for index in range(1, 9)], list(range(8)), names)
    paths = show(source, ShowConfig(tmp_path), MeanColour())
    assert len({path.name.lower() for path in paths}) == 9
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert paths[-1].name == "set-unusual.png"
    assert all(len(path.name) < 80 for path in paths)


def test_the_strangest_come_first(tmp_path):
    images = [plain(100 + index) for index in range(10)] + [plain(250), plain(10)]
    source = Memory(images)
    order = most_unusual(source, range(12), MeanColour())
    assert order[:2] == [10, 11]
    assert sorted(order) == list(range(12))
    paths = show(source, ShowConfig(tmp_path, unusual=2), MeanColour())
    assert Image.open(paths[-1]).size == (COLUMNS * SIDE, LINE + SIDE + LINE)
    assert (tile(paths[-1], 0, captions=True) == 250).all()
    assert (tile(paths[-1], 1, captions=True) == 10).all()
    caption = np.asarray(Image.open(paths[-1]))[LINE + SIDE :]
    assert caption[:, :SIDE].any()
    assert not caption[:, 2 * SIDE :].any()


def test_strangeness_is_the_mean_distance_to_the_nearest(monkeypatch):
    features = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    distances = np.linalg.norm(features[:, None] - features[None], axis=-1)
    expected = np.sort(distances, axis=1)[:, 1:6].mean(axis=1)
    np.testing.assert_allclose(contact_sheet._distances(features), expected, rtol=1e-3)
    np.testing.assert_allclose(contact_sheet._distances(features[:2]), [distances[0, 1]] * 2, rtol=1e-3)


def test_only_some_of_many_are_compared(tmp_path):
    seen = []
    source = Memory([plain(index) for index in range(40)])
    show(source, ShowConfig(tmp_path, features_of=10), MeanColour(), lambda *done: seen.append(done))
    assert seen[-1] == (10, 10)


def test_broken_images_are_not_unusual():
    images = [plain(index) for index in range(6)]
    images[2] = DataError("broken")
    assert sorted(most_unusual(Memory(images), range(6), MeanColour())) == [0, 1, 3, 4, 5]
    assert most_unusual(Memory([DataError("broken"), plain(1)]), range(2), MeanColour()) == []


def test_long_and_strange_captions_stay_in_their_tile():
    black = Image.new("RGB", (SIDE, SIDE))
    captions = ["x" * 400, "", "a\nb", "\x1b[31m", "漢字" * 50]
    sheet = np.asarray(draw_sheet([black] * 5, SIDE, "漢" * 1000, captions))
    assert sheet.shape == (LINE + SIDE + LINE, COLUMNS * SIDE, 3)
    below = sheet[LINE + SIDE :]
    for place, caption in enumerate(captions):
        assert below[:, place * SIDE : (place + 1) * SIDE].any() == bool(caption)
        assert not below[:, (place + 1) * SIDE - 2 : (place + 1) * SIDE].any()
    assert not sheet[LINE : LINE + SIDE].any()


def test_on_the_command_line(cli, tmp_path):
    for index in range(6):
        save(tmp_path / "in" / "ab"[index % 2], f"{index}.png", plain(40 * index).transpose(1, 2, 0))
    outcome = cli("data", "show", tmp_path / "in", "--out", tmp_path / "out", "--unusual", 0)
    assert outcome.code == 0
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["in-a.png", "in-b.png"]
    assert "Look for" in outcome.out
    assert str(tmp_path / "out" / "in-a.png") in outcome.out
    assert cli("data", "show", tmp_path / "in", "--out", tmp_path / "in" / "a" / "0.png").code == 3
    assert cli("data", "show", tmp_path / "in", "--out", tmp_path / "out", "--per-class", 0).code == 2


def test_columns_of_tables_are_named_as_for_prepare(cli, tmp_path):
    for index in range(4):
        save(tmp_path / "in", f"{index}.png", plain(40 * index).transpose(1, 2, 0))
    (tmp_path / "in" / "t.csv").write_text("picture,grade,p\n0,x,u\n1,x,u\n2,y,v\n3,y,v\n")
    columns = ("--name-column", "picture", "--label-column", "grade")
    outcome = cli("data", "show", tmp_path / "in", "--out", tmp_path / "out", "--unusual", 0, *columns)
    assert outcome.code == 0
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["in-x.png", "in-y.png"]
    outcome = cli("data", "check", tmp_path / "in", *columns, "--group-column", "p", "--json")
    report = json.loads(outcome.out)
    assert (report["class_counts"], report["groups"]) == ({"x": 2, "y": 2}, 2)
    assert cli("data", "check", tmp_path / "in", "--labels", "none", *columns).code == 2


def test_check_says_that_a_dataset_json_fits_no_image(cli, tmp_path):
    save(tmp_path / "in", "0.png", plain(40).transpose(1, 2, 0))
    (tmp_path / "in" / "dataset.json").write_text('{"labels": [["old.png", 1]]}')
    for index in range(2):
        (tmp_path / "in" / f"{index}.dcm").touch()
    outcome = cli("data", "check", tmp_path / "in", "--json")
    findings = {finding["kind"]: finding for finding in json.loads(outcome.out)["findings"]}
    assert (outcome.code, findings["labels"]["level"]) == (3, "problem")
    assert "fits none of its images" in findings["labels"]["sentence"]
    assert findings["ignored"]["sentence"] == "2 files not read: .dcm 2"
    assert "more than the images" in findings["ignored"]["hint"]


def test_unusual_images_by_the_default_extractor(cli, tmp_path):
    for index in range(6):
        save(tmp_path / "in", f"{index}.png", plain(100 + index).transpose(1, 2, 0))
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    save(tmp_path / "in", "odd.png", noise)
    outcome = cli("data", "show", tmp_path / "in", "--out", tmp_path / "out", "--features-of", 7, "--unusual", 1)
    assert outcome.code == 0
    np.testing.assert_array_equal(tile(tmp_path / "out" / "in-unusual.png", 0, captions=True), noise)


def test_without_an_extractor_the_sheet_is_left_out_with_a_word(cli, tmp_path):
    save(tmp_path / "in", "0.png", plain(100).transpose(1, 2, 0))
    outcome = cli("data", "show", tmp_path / "in", "--out", tmp_path / "out", "--block", "efficientnet")
    assert outcome.code == 0
    assert "no sheet of unusual images" in outcome.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["in-all.png"]


def test_feature_batches_are_images():
    shapes = []

    class Recorder(MeanColour):
        def __call__(self, images):
            shapes.append((tuple(images.shape), images.dtype))
            return super().__call__(images)

    most_unusual(Memory([plain(index, 30, 50, 1) for index in range(40)]), range(40), Recorder())
    assert shapes == [((32, 3, 128, 128), torch.uint8), ((8, 3, 128, 128), torch.uint8)]
