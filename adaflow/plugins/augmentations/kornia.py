"""`kornia.<Class>`: the classes of `kornia.augmentation` that suit training, listed in docs/kornia.md.

kornia is imported when one of them is first used, not when plugins are loaded.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from adaflow.core.augment.transform import Transform
    from adaflow.plugin_manager import Register

CLASSES = (
    "ColorJiggle",
    "ColorJitter",
    "RandomAffine",
    "RandomAutoContrast",
    "RandomBoxBlur",
    "RandomBrightness",
    "RandomChannelDropout",
    "RandomChannelShuffle",
    "RandomContrast",
    "RandomCrop",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFisheye",
    "RandomGaussianBlur",
    "RandomGaussianIllumination",
    "RandomGaussianNoise",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomHue",
    "RandomInvert",
    "RandomJPEG",
    "RandomJigsaw",
    "RandomLinearCornerIllumination",
    "RandomLinearIllumination",
    "RandomMedianBlur",
    "RandomMotionBlur",
    "RandomPerspective",
    "RandomPlanckianJitter",
    "RandomPlasmaBrightness",
    "RandomPlasmaContrast",
    "RandomPlasmaShadow",
    "RandomRGBShift",
    "RandomRain",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomRotation90",
    "RandomSaltAndPepperNoise",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomSnow",
    "RandomSolarize",
    "RandomThinPlateSpline",
    "RandomTranslate",
    "RandomVerticalFlip",
)


@hookimpl
def register_augmentations(register: Register[type[Transform]]) -> None:
    """Offer each of them."""
    for name in CLASSES:
        register.lazy(f"kornia.{name}", partial(_load, name))


def _load(name: str) -> type[Transform]:
    from adaflow.plugins.augmentations.kornia_transform import kornia_transform

    return kornia_transform(name)
