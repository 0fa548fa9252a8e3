"""`inception` and `vgg16-lpips`: networks published as TorchScript, by which customary metrics are defined.

A TorchScript file is a program. It is loaded from bytes that have been compared with their SHA-256, and from no others.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from adaflow.core.features import INCEPTION, FeatureExtractor, as_rgb
from adaflow.core.weights import WeightsFile, digest
from adaflow.errors import FileError
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.plugin_manager import Register

PLACE = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics"


class TorchScriptExtractor(FeatureExtractor):
    """A network in a TorchScript file.

    Args:
        device: where it computes.

    Raises:
        FileError: the file is not here, is another one, or cannot be loaded.
    """

    weights: ClassVar[WeightsFile]

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        content = self.weights.read()
        self.version = digest(content)
        try:
            self.network = torch.jit.load(  # type: ignore[no-untyped-call]
                io.BytesIO(content), map_location=self.device
            ).eval()
        except RuntimeError as error:
            raise FileError(f"{self.weights.name} is no TorchScript that this version of torch can load") from error

    @classmethod
    def check(cls) -> None:
        """See that the weights are here."""
        cls.weights.check()


class Inception(TorchScriptExtractor):
    """Pooled features of the Inception network of 2015-12-05, 2048 numbers an image. It resizes images itself."""

    name = INCEPTION
    weights = WeightsFile(
        INCEPTION,
        "inception-2015-12-05.pt",
        f"{PLACE}/inception-2015-12-05.pt",
        "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
        96,
    )

    def __call__(self, images: Tensor) -> Tensor:
        """Features [N, 2048] of images [N, 1 or 3, H, W]."""
        features: Tensor = self.network(as_rgb(images.to(self.device)), return_features=True)
        return features.float()

    def probabilities(self, images: Tensor) -> Tensor:
        """Of its 1008 classes, [N, 1008], without the bias of the last layer, as the Inception score is defined."""
        probabilities: Tensor = self.network(as_rgb(images.to(self.device)), no_output_bias=True)
        return probabilities.float()


class LPIPS(TorchScriptExtractor):
    """Activations of VGG16, weighted so that squared distances are LPIPS (Zhang et al. 2018, arXiv 1801.03924)."""

    name = "vgg16-lpips"
    weights = WeightsFile(
        name,
        "vgg16.pt",
        f"{PLACE}/vgg16.pt",
        "b437eb095feaeb0b83eb3fa11200ebca4548ee39a07fb944a417ddc516cc07c3",
        553,
    )

    def __call__(self, images: Tensor) -> Tensor:
        """Features of images [N, 1 or 3, H, W], as many as the size of the images gives."""
        x = as_rgb(images.to(self.device, torch.float32))
        features: Tensor = self.network(x, resize_images=False, return_lpips=True)
        return features.float()


@hookimpl
def register_feature_extractors(register: Register[type[FeatureExtractor]]) -> None:
    """Offer `inception` and `vgg16-lpips`."""
    register(INCEPTION, Inception)
    register("vgg16-lpips", LPIPS)
