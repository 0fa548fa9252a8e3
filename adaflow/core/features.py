"""What a feature extractor is: a network that turns images into vectors for metrics to compare."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaflow.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from adaflow.registry import Registry

DEFAULT_EXTRACTOR = "efficientnet-lite0"
INCEPTION = "inception"
"""The extractor that FID and KID are defined by."""


class FeatureExtractor(ABC):
    """Images in, features out. Constructing one loads its weights from this machine, never from the network."""

    name: str
    """Carried beside every number it takes part in."""

    version: str = ""
    """Changes whenever the features do for another reason than the code of the class, such as other weights."""

    device: torch.device = torch.device("cpu")
    """Where features are computed and compared."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: uint8 [N, C, H, W], 1 or 3 channels, any size. The metric `ppl` hands over float32, 0 … 255.

        Returns:
            float32 [N, D].
        """

    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities of images [N, C, H, W], float32 [N, classes].

        Raises:
            ConfigError: this extractor knows no classes.
        """
        raise ConfigError(f"the feature extractor {self.name} knows no classes", "Choose another one.")

    def stages(self, images: Tensor) -> list[Tensor]:
        """Maps [N, c, h, w] of some stages of the network, the earliest first. Default: its features, as one map.

        Args:
            images: uint8 [N, C, H, W].
        """
        return [self(images)[:, :, None, None]]

    def all(self, batches: Iterable[Tensor]) -> Tensor:
        """Features of many batches, [sum of N, D], on the CPU."""
        with torch.no_grad():
            return torch.cat([self(batch).cpu() for batch in batches])

    @classmethod  # noqa: B027
    def check(cls) -> None:
        """See that what the constructor loads is here.

        Raises:
            AdaflowError: it is not.
        """

    def identity(self) -> dict[str, Any]:
        """Plain values that change when features may: they name what is kept in the cache."""
        return {
            "name": self.name,
            "version": self.version,
            "code": [_source_digest(kind) for kind in type(self).__mro__ if issubclass(kind, FeatureExtractor)],
            "torch": torch.__version__,
            "device": self.device.type,
        }


class NetworkExtractor(FeatureExtractor):
    """The base of most extractors: it resizes and scales images, a subclass says how and brings the network.

        class Tiny(adaflow.NetworkExtractor):
            name = "tiny"
            size = 64
            input_range = (-1, 1)

            def load(self):
                return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 32))

    Args:
        device: where it computes.
    """

    size: ClassVar[int | None] = 224
    """Images are resized to this height and width, antialiased; None leaves them as they are."""

    input_range: ClassVar[tuple[float, float]] = (0, 1)
    """What black and white become."""

    mean: ClassVar[tuple[float, ...]] = (0,)
    """Taken off afterwards, one number for each channel or one for all."""

    std: ClassVar[tuple[float, ...]] = (1,)
    """What is then divided by."""

    resampling: ClassVar[str] = "bicubic"
    """How images are resized: "bicubic" or "bilinear"."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.network = self.load().eval().requires_grad_(False).to(self.device)

    @abstractmethod
    def load(self) -> nn.Module:
        """The network, with its weights."""

    def features(self, images: Tensor) -> Tensor:
        """Features [N, D] of prepared images, float32 [N, 3, size, size]. Default: what the network returns."""
        features: Tensor = self.network(images)
        return features

    def __call__(self, images: Tensor) -> Tensor:
        """Features [N, D] of images [N, 1 or 3, H, W]."""
        return self.features(self.prepare(images)).float()

    def prepare(self, images: Tensor) -> Tensor:
        """Images 0 … 255, [N, 1 or 3, H, W] → float32 [N, 3, size, size], scaled as the network wants it."""
        x = as_rgb(images.to(self.device, torch.float32))
        if self.size is not None and x.shape[2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode=self.resampling, antialias=True).clamp(0, 255)
        low, high = self.input_range
        x = low + x * ((high - low) / 255)
        mean, std = (torch.tensor(values, device=self.device).view(-1, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std


class Extractors:
    """Feature extractors by name, "" for the default one, each loaded once.

    Args:
        registry: all there are.
        device: where they compute.
    """

    def __init__(self, registry: Registry[Any], device: torch.device) -> None:
        self._registry = registry
        self._device = device
        self._loaded: dict[str, FeatureExtractor] = {}

    def __call__(self, name: str = "") -> FeatureExtractor:
        """The extractor of that name.

        Raises:
            PluginError, FileError: it is unknown or goes by another name, or its weights are not here.
        """
        name = name or DEFAULT_EXTRACTOR
        if name not in self._loaded:
            loaded: FeatureExtractor = self._registry[name].value(self._device)
            if loaded.name != name:  # results carry its name, and features are kept under it
                raise PluginError(
                    f"the feature extractor {name!r} of plugin {self._registry[name].provider} calls itself "
                    f"{loaded.name!r}",
                    f"Set name = {name!r} in its class.",
                )
            self._loaded[name] = loaded
        return self._loaded[name]


def as_rgb(images: Tensor) -> Tensor:
    """Grey images [N, 1, H, W] three times over; others as they are."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _source_digest(kind: type) -> str:
    """Which code a class has."""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (TypeError, OSError):  # it was defined in no file
        return kind.__qualname__
