"""Small things for checks: drawn images, a data set and a generator of them, a quick feature extractor, a run."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from adaflow.core.data.dataset import DataConfig, Dataset, load_dataset
from adaflow.core.data.source import ImageSource
from adaflow.core.distributed import World
from adaflow.core.features import FeatureExtractor, as_rgb
from adaflow.core.networks import Generator
from adaflow.core.networks.config import GeneratorConfig
from adaflow.core.resolve import resolve_config
from adaflow.core.run import Run
from adaflow.plugin_manager import PluginManager
from adaflow.registry import Entry, Registry

SIZE = 32
REALS, FAKES = 190, 120
HELD_OUT_SHARE = 0.3


class DrawnImages(ImageSource):
    """Ellipses on shaded ground, different in size, place and colour; no two are alike.

    Args:
        count: how many.
        channels: 1 or 3.
        first: the number of the first.
    """

    name = "drawn"

    def __init__(self, count: int, channels: int = 3, first: int = 0) -> None:
        self.count, self.channels, self.first = count, channels, first

    def __len__(self) -> int:
        return self.count

    def image_name(self, index: int) -> str:
        """Its number."""
        return f"{index:04d}"

    def read(self, index: int) -> NDArray[np.uint8]:
        """[channels, SIZE, SIZE]."""
        random = np.random.default_rng(self.first + index)
        y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
        shade = 180 + random.normal(0, 20, 3)[:, None, None] + 20 * random.normal() * x + 20 * random.normal() * y
        x0, y0, width, height = random.uniform([-0.4, -0.4, 0.2, 0.2], [0.4, 0.4, 0.7, 0.7])
        inside = 1 / (1 + np.exp(8 * (((x - x0) / width) ** 2 + ((y - y0) / height) ** 2 - 1)))
        colour = random.uniform(20, 140, 3)[:, None, None]
        image = shade + inside * (colour - shade) + random.normal(0, 3, (3, SIZE, SIZE))
        pixels: NDArray[np.uint8] = np.clip(image[: self.channels], 0, 255).astype(np.uint8)
        return pixels

    def fingerprint(self) -> str:
        """Of what they follow from."""
        return hashlib.sha256(f"{self.count} {self.channels} {self.first}".encode()).hexdigest()


class DrawnReader:
    """Opens `drawn,1` and `drawn,3`: drawn images of so many channels."""

    def can_open(self, spec: str) -> bool:
        """Whether it is one of these."""
        return spec in ("drawn,1", "drawn,3")

    def open(self, spec: str) -> DrawnImages:
        """Open it."""
        return DrawnImages(REALS, int(spec[-1]))


@cache
def dataset(channels: int = 3) -> Dataset:
    """Drawn images, a part of them kept out of training."""
    readers: Registry[Any] = Registry("dataset reader")
    readers.add("drawn", DrawnReader(), "adaflow.conformance")
    return load_dataset(DataConfig(f"drawn,{channels}", val_fraction=HELD_OUT_SHARE, cache=False), readers, seed=0)


@cache
def fakes(channels: int = 3) -> Tensor:
    """Other drawn images, which pass for generated ones, uint8 [FAKES, channels, SIZE, SIZE]."""
    source = DrawnImages(FAKES, channels, first=REALS)
    return torch.stack([torch.from_numpy(source.read(index)) for index in range(FAKES)])


def generator(channels: int = 3) -> Generator:
    """An untrained generator, always the same."""
    config = GeneratorConfig(
        z_dim=8,
        w_dim=8,
        img_resolution=SIZE,
        img_channels=channels,
        mapping_layers=2,
        channel_base=64,
        channel_max=8,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Generator(config).requires_grad_(False).eval()


class StandIn(FeatureExtractor):
    """Features that cost nothing: 4 × 4 pixels. It stands in for every other extractor."""

    name = "stand-in"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def __call__(self, images: Tensor) -> Tensor:
        """[N, 48] of images [N, 1 or 3, H, W]."""
        return F.adaptive_avg_pool2d(as_rgb(images).float() / 255, 4).flatten(1)

    def probabilities(self, images: Tensor) -> Tensor:
        """Of as many classes, [N, 48]."""
        return (10 * self(images)).softmax(1)

    def stages(self, images: Tensor) -> list[Tensor]:
        """8 × 8 and 4 × 4 pixels."""
        return [F.adaptive_avg_pool2d(as_rgb(images).float() / 255, size) for size in (8, 4)]


class StandIns(Registry[Any]):
    """A registry of extractors in which every name is the stand-in's."""

    def __init__(self) -> None:
        super().__init__("feature extractor")

    def __getitem__(self, name: str) -> Entry[Any]:
        return Entry(name, StandIn, "adaflow.conformance")


def run(folder: Path) -> Run:
    """A run of small networks on drawn images that has not begun.

    Args:
        folder: an empty one, which becomes the run folder.
    """
    data = dataset()
    plugins = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
    networks = {"channel_base": 64, "channel_max": 8}
    table: dict[str, Any] = {
        "augment": {"augs": "none", "controller": "rt", "p": 0.2},
        "generator": {"z_dim": 8, "w_dim": 8, **networks},
        "discriminator": networks,
        "schedule": {"batch": 4, "kimg": 1.0},
        "metrics": [],
        "loggers": [],
    }
    config = resolve_config(table, data.config, data, plugins, processes=1, on_gpu=False)
    return Run(config, folder, World(0, 1, torch.device("cpu")), plugins, data)
