"""Preview sheets: what is in which row, and the words beside it."""

import numpy as np
import pytest
import torch
from PIL import Image

from adaflow.core.augment import build_pipeline
from adaflow.core.augment.preview import preview_sheet
from adaflow.core.data.source import open_source
from adaflow.core.draw import PercentileDraws
from adaflow.core.grid import label_rows
from adaflow.core.images import to_float, to_uint8
from adaflow.plugin_manager import PluginManager

pytest_plugins = ["tests.command_line"]
MANAGER = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
DATA = "demo:lesions,resolution=16,images=5"
PLUGIN = """
from dataclasses import dataclass
from adaflow import ImageTransform, hookimpl

@dataclass
class Dots(ImageTransform):
    def apply(self, images, draw):
        return images * 0 + draw.uniform(-1, 1).view(-1, 1, 1, 1)

@hookimpl
def register_augmentations(register):
    register("dots", Dots)
"""


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def tiles(sheet, rows, columns=5, size=16):
    """[rows, columns, size, size, 3]: the images of a sheet, without the words at the left."""
    assert sheet.shape[0] == rows * size
    images = sheet[:, sheet.shape[1] - columns * size :]
    return images.reshape(rows, size, columns, size, 3).swapaxes(1, 2)


@pytest.fixture(scope="module")
def originals():
    with open_source(DATA, MANAGER.datasets) as source:
        return np.stack([source.read(index) for index in range(5)])


def test_the_originals_are_on_top_and_a_row_follows_for_each_p(cli, tmp_path, originals):
    out = tmp_path / "new" / "sheet.png"
    options = ("augs", "preview", "--data", DATA, "--augs", "bgcfnc", "--p", "0,1,0.5", "--columns", "5", "--out")
    result = cli(*options, out)
    assert result.code == 0, result.err
    assert "row 1 as it is, then p = 0, 1, 0.5" in result.out
    images = tiles(pixels(out), 4)
    assert (images[0] == originals.transpose(0, 2, 3, 1)).all()
    assert (images[1] == images[0]).all()
    assert (images[2] != images[0]).any((1, 2, 3)).all()
    assert cli(*options, tmp_path / "b.png").code == 0
    assert (pixels(tmp_path / "b.png") == pixels(out)).all()


def test_rows_of_strength_have_every_draw_at_a_percentile(cli, tmp_path, originals):
    out = tmp_path / "sheet.png"
    result = cli("augs", "preview", "bgc", "--data", DATA, "--strength", "5,95", "--columns", "5", "--out", out)
    assert result.code == 0, result.err
    images = tiles(pixels(out), 3)
    pipeline = build_pipeline("bgc", MANAGER.augmentations)
    for row, q in ((1, 0.05), (2, 0.95)):
        expected = to_uint8(pipeline(to_float(torch.from_numpy(originals)), 1.0, PercentileDraws(q, 5)))
        assert (images[row] == expected.numpy().transpose(0, 2, 3, 1)).all()
    # Rows of both, when both are asked for.
    cli("augs", "preview", "bgc", "--data", DATA, "--p", "1", "--strength", "5,95", "--columns", "5", "--out", out)
    assert (tiles(pixels(out), 4)[2:] == images[1:]).all()


def test_a_name_is_short_for_augs_and_may_be_of_a_plugin(cli, tmp_path):
    plugin = tmp_path / "dots_plugin.py"
    plugin.write_text(PLUGIN)
    out = tmp_path / "sheet.png"
    options = ("--plugin", plugin, "--data", DATA, "--strength", "25", "--columns", "5", "--out", out)
    assert cli("augs", "preview", "dots", *options).code == 0
    assert (tiles(pixels(out), 2)[1] == 64).all()
    result = cli("augs", "preview", "dots", "--augs", "hue", *options)
    assert result.code == 2
    assert "both dots and --augs hue" in result.err


@pytest.mark.parametrize(
    ("strength", "message"), [("0", "not between 0 and 100"), ("5,100", "not between"), ("much", "no list of perc")]
)
def test_percentiles_that_are_none(cli, tmp_path, strength, message):
    result = cli("augs", "preview", "hue", "--strength", strength, "--out", tmp_path / "x.png")
    assert result.code == 2
    assert message in result.err


@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_words_stand_beside_their_rows(size, channels):
    """Black on white, as high as can be read, within their row; the images are as they were."""
    sheet = torch.randint(0, 256, (channels, 3 * size, 2 * size), dtype=torch.uint8)
    labelled = label_rows(sheet, ["original", "", "95 %"])
    assert labelled.shape[:2] == sheet.shape[:2]
    assert (labelled[:, :, -2 * size :] == sheet).all()
    margin = labelled[0, :, : -2 * size]
    assert margin.shape[1] > 30
    inked = [int((row < 128).any(1).sum()) for row in margin.split(size)]
    assert inked[0] >= 8
    assert inked[1] == 0
    assert inked[2] >= 7
    assert (margin[:, :3] == 255).all()


def test_images_of_two_and_four_channels_are_shown():
    class Channels:
        def __init__(self, channels):
            self.image = np.zeros((channels, 16, 16), np.uint8)

        def __len__(self):
            return 2

        def read(self, index):
            return self.image

        def image_name(self, index):
            return str(index)

    pipeline = build_pipeline("hue", MANAGER.augmentations)
    for channels, shown in ((1, 1), (2, 1), (3, 3), (4, 3)):
        assert preview_sheet(pipeline, Channels(channels), 2, [0.5]).shape[:2] == (shown, 32)
