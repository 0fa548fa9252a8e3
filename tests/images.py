"""Small image folders and zips for tests.

A test module takes the fixtures with `pytest_plugins = ["tests.images"]`.
"""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaflow.core.data.dataset import DataConfig, load_dataset
from adaflow.plugin_manager import PluginManager

ISIC = Path(__file__).parents[2] / "shared" / "data" / "isic2017_128"


@pytest.fixture
def readers():
    """The built-in readers."""
    return PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).datasets


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


def table(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


def encode(image, form="png", **options):
    data = io.BytesIO()
    image.save(data, form, **options)
    return io.BytesIO(data.getvalue())
