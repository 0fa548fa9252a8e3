"""What the tests of this package share."""

import torch
from adaflow_lesion import TRANSFORMS

from adaflow.core.augment import AugmentPipeline, build_pipeline
from adaflow.core.draw import RandomDraws
from adaflow.plugin_manager import PluginManager

torch.set_num_threads(1)  # small tensors are slower on more

MANAGER = PluginManager(["adaflow_lesion"], environ={"ADAFLOW_NO_PLUGINS": "1"})
REGISTRY = MANAGER.augmentations
NAMES = list(TRANSFORMS)


def pipeline(spec: str) -> AugmentPipeline:
    return build_pipeline(spec, REGISTRY)


def draws(n: int, seed: int = 0, first: int = 0) -> RandomDraws:
    return RandomDraws(seed, "test", torch.arange(first, first + n))


def random_images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


def skin(n: int, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Plain skin, [n, 3, size, size]."""
    return (torch.tensor([0.78, 0.60, 0.52], dtype=dtype) * 2 - 1).view(1, 3, 1, 1).repeat(n, 1, size, size)
