"""Real images and fakes for tests of leak detectors: drawn lesions, and features that cost nothing."""

from functools import cache

import torch
import torch.nn.functional as F

from adaflow.core.data.dataset import DataConfig, load_dataset
from adaflow.core.features import FeatureExtractor
from adaflow.core.leak_detector import LeakContext
from adaflow.plugin_manager import PluginManager

TRAIN, HELD_OUT = 240, 120


class Thumbnail(FeatureExtractor):
    """4 × 4 pixels."""

    name = "thumbnail"

    def __call__(self, images):
        return F.adaptive_avg_pool2d(images.float(), 4).flatten(1) / 255


@cache
def lesions(resolution=32):
    """480 different images, uint8 [480, 3, H, H]."""
    plugins = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}, only="datasets")
    config = DataConfig(f"demo:lesions,resolution={resolution},images=480")
    return load_dataset(config, plugins.datasets, 0).images


def parts(resolution=32):
    """Training images, held-out images, and others to pass for fakes."""
    return torch.split(lesions(resolution), [TRAIN, HELD_OUT, 480 - TRAIN - HELD_OUT])


def context(fakes=None, **fields):
    """What a detector sees: by default fakes are real images that were neither trained on nor held out."""
    train, held_out, others = parts()
    known = {"train": train, "held_out": held_out, "extractor": lambda name: Thumbnail(), "device": torch.device("cpu")}
    return LeakContext(fakes=others if fakes is None else fakes, **(known | fields))
