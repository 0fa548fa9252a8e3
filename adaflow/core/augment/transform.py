"""What an augmentation is: the base classes that plugins inherit from.

A transform says how to draw its parameters and what they do to an image. Whether it fires for an image is the
pipeline's business. An augmentation of one's own is a dataclass of its settings:

    @dataclass
    class Stripes(ImageTransform):
        std: float = parameter(0.1)

        def apply(self, images, draw):
            return images + draw.normal(self.std, shape=(1, 1, images.shape[-1]))
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from adaflow.core.draw import Draw
from adaflow.errors import ConfigError


def parameter(default: Any, low: float = 0.0, high: float = math.inf) -> Any:
    """A number among a transform's settings that must lie between `low` and `high`, both included."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


@dataclass
class Transform(ABC):  # noqa: B024
    """One augmentation. Inherit from one of the four kinds below, not from this.

    Raises:
        ConfigError: a setting is outside of its range.
    """

    order: ClassVar[float | tuple[float, ...]] = 100.0
    """Place among the transforms of the same kind, lower first, then by name. A tuple: it acts at each of these places,
    with a gate and a draw for each."""

    formula: ClassVar[str | None] = None
    """Of built-in transforms, the name in `adaflow.cuda.augment.FORMULAS` of native code that has the same gate, and
    that draws the same from the same numbers. A subclass does not inherit it."""

    capturable: ClassVar[bool] = True
    """False when its Python code must run at every step, for it counts its calls, say. Otherwise the work it gives to a
    GPU is recorded once and repeated, with new images and new numbers from its draws."""

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            low, high = setting.metadata.get("low", -math.inf), setting.metadata.get("high", math.inf)
            value = getattr(self, setting.name)
            if setting.metadata and setting.type in (int, "int") and value != int(value):
                raise ConfigError(
                    f"{setting.name} is {value!r}", f"It is a whole number, {setting.default!r} by default."
                )
            if setting.metadata and not low <= value <= high:
                raise ConfigError(
                    f"{setting.name} is {value!r}, which is out of range",
                    f"It lies between {low:g} and {high:g}; the default is {setting.default!r}.",
                )

    def gate(self, p: float | Tensor) -> float | Tensor:
        """The probability of each of its gates, given the probability that it acts at all."""
        return p

    def group_parameter(self, draw: Draw) -> tuple[Tensor, float] | None:
        """For `adaflow augs safety`: the number that adds up when it acts twice, if there is one.

        Matrices, gains, and noise that is added are understood without. Another transform of pixels that can be
        undone may say here what it draws: the logarithm of a factor on optical density, say, or the hour of a clock.

        Args:
            draw: numbers for n images, as its own method takes them.

        Returns:
            [n], and the period after which it does the same again, `math.inf` when never. None when there is no such
            number, or when it can be seen.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """What it wants to survive a resume: plain values and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what `state_dict` gave."""


class GeometryTransform(Transform):
    """An affine map of the image plane. All of them are composed into one, and the image is resampled once."""

    pixel_copy: ClassVar[bool] = False
    """True when it always maps pixel centres to pixel centres, so that an image can be copied without resampling."""

    @abstractmethod
    def matrix(self, draw: Draw, height: int, width: int) -> Tensor:
        """[n, 3, 3] float32: where a point of the image goes, as (x, y, 1).

        Units are pixels from the centre of the image, x to the right, y down. The last row is 0, 0, 1. The images are
        `height` by `width` pixels. `adaflow.core.augment.matrices` has the usual ones.
        """


class ColorTransform(Transform):
    """An affine map of the colours. All of them are composed into one.

    Images of 1 or 2 channels, or of more than 4, have each channel mapped as an average grey is; a fourth channel is
    left alone.
    """

    needs_rgb: ClassVar[bool] = False
    """True when it means nothing for images without three colours; these skip it."""

    @abstractmethod
    def matrix(self, draw: Draw) -> Tensor:
        """[n, 4, 4] float32: where a colour, (r, g, b, 1), goes. Colours lie in [-1, 1]; the last row is 0, 0, 0, 1."""


class FilterTransform(Transform):
    """A gain for one of the four bands of the image filter. All of them are composed into one filter."""

    band: ClassVar[int]
    """0 (the lowest frequencies) to 3 (the highest octave)."""

    @abstractmethod
    def gain(self, draw: Draw) -> Tensor:
        """[n] float32: the gain of the band before the filter's power is normalised."""


class ImageTransform(Transform):
    """Anything that is done to pixels. It comes last, one transform after the other."""

    order: ClassVar[float | tuple[float, ...]] = 10.0

    @abstractmethod
    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The transformed images.

        Args:
            images: [n, C, H, W] in the range [-1, 1], only those for which it fired. Not to be modified in place.
            draw: numbers for these n images.

        Returns:
            [n, C, H, W], twice differentiable in `images`.
        """
