"""`band1` … `band4`: amplify or weaken one octave of the spectrum, as sharpening and blurring do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from adaflow.core.augment.transform import FilterTransform, parameter
from adaflow.core.draw import Draw
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.augment.transform import Transform
    from adaflow.plugin_manager import Register


@dataclass
class Band1(FilterTransform):
    """Amplifies or weakens the band below 1/8 of the highest frequency, against the others.

    Args:
        std: standard deviation of the binary logarithm of the gain.
    """

    order: ClassVar[float | tuple[float, ...]] = 1.0
    formula = "band1"
    band: ClassVar[int] = 0

    std: float = parameter(1.0)

    def gain(self, draw: Draw) -> Tensor:
        """A log-normal gain."""
        return draw.lognormal2(self.std)


@dataclass
class Band2(Band1):
    """Amplifies or weakens the band from 1/8 to 1/4 of the highest frequency, against the others.

    Args:
        std: standard deviation of the binary logarithm of the gain.
    """

    order: ClassVar[float | tuple[float, ...]] = 2.0
    formula = "band2"
    band: ClassVar[int] = 1


@dataclass
class Band3(Band1):
    """Amplifies or weakens the band from 1/4 to 1/2 of the highest frequency, against the others.

    Args:
        std: standard deviation of the binary logarithm of the gain.
    """

    order: ClassVar[float | tuple[float, ...]] = 3.0
    formula = "band3"
    band: ClassVar[int] = 2


@dataclass
class Band4(Band1):
    """Amplifies or weakens the band above 1/2 of the highest frequency, against the others.

    Args:
        std: standard deviation of the binary logarithm of the gain.
    """

    order: ClassVar[float | tuple[float, ...]] = 4.0
    formula = "band4"
    band: ClassVar[int] = 3


@hookimpl
def register_augmentations(register: Register[type[Transform]]) -> None:
    """Offer the four, `filter` or `imgfilter` for all of them, and `bgcf` for `blit,geom,color,filter`."""
    for band in (Band1, Band2, Band3, Band4):
        register(band.__name__.lower(), band)
    register.alias("filter", "band1,band2,band3,band4")
    register.alias("imgfilter", "filter")
    register.alias("bgcf", "bgc,filter")
