"""Dermoscopy augmentations for adaflow: what lies on the skin, how it is lit, and what colours it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaflow import hookimpl
from adaflow_lesion.blur import LensBlur
from adaflow_lesion.hair import Hair
from adaflow_lesion.ink import Ink
from adaflow_lesion.light import Corners, Illumination, Vignette
from adaflow_lesion.pigment import Pigment
from adaflow_lesion.ruler import Ruler
from adaflow_lesion.sticker import Sticker
from adaflow_lesion.surface import Gel, Highlights

if TYPE_CHECKING:
    from adaflow.core.augment.transform import Transform
    from adaflow.plugin_manager import Register

TRANSFORMS: dict[str, type[Transform]] = {
    "lesion-pigment": Pigment,
    "lesion-ink": Ink,
    "lesion-sticker": Sticker,
    "lesion-hair": Hair,
    "lesion-ruler": Ruler,
    "lesion-gel": Gel,
    "lesion-highlights": Highlights,
    "lesion-illumination": Illumination,
    "lesion-corners": Corners,
    "lesion-lensblur": LensBlur,
    "lesion-vignette": Vignette,
}
"""All transforms, in the order in which they act: from the skin to the sensor."""


@hookimpl
def register_augmentations(register: Register[type[Transform]]) -> None:
    """Offer them all, `lesion-artefacts`, `lesion-light`, and `lesion` for everything."""
    for name, transform in TRANSFORMS.items():
        register(name, transform)
    register.alias(
        "lesion-artefacts", "lesion-ink,lesion-sticker,lesion-hair,lesion-ruler,lesion-gel,lesion-highlights"
    )
    register.alias("lesion-light", "lesion-illumination,lesion-corners,lesion-lensblur,lesion-vignette")
    register.alias("lesion", "lesion-pigment,lesion-artefacts,lesion-light")
