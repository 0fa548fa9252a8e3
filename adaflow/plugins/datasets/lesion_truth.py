"""What a drawn skin lesion is: its ground truth, as a pure function of (seed, index)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

PICTURES_VERSION = 1
"""Grows by one whenever the same seed and index come out as another picture."""
CLASS_NAMES = ("benign", "melanoma")
MELANOMA_RATE = 0.25
HAIR_RATE = 0.25
MAX_HAIRS = 12
RULER_RATE = 0.08
VIGNETTE_RATE = 0.15
BUBBLE_RATE = 0.05
SIDES = ("bottom", "left", "right", "top")
SIDE_RATES = (0.70, 0.15, 0.10, 0.05)


@dataclass(frozen=True)
class Lesion:
    """The ground truth of one image. Lengths and positions are fractions of the image's side, angles degrees.

    Args:
        seed: the data set's seed; with `index` it fixes everything drawn below the level of these values.
        index: number of the image, 0 or more.
        label: 0 benign, 1 melanoma.
        skin_tone: 0 lightest to 1 darkest.
        redness: 0 pale to 1 flushed skin.
        exposure: overall brightness as a natural logarithm; 0 is neutral.
        warmth: white balance as a shift of optical density from blue to red; 0 is neutral.
        light_direction: where the light comes from, counter-clockwise from the right; 90 is the upper border.
        light_gradient: relative fall of the light across the image.
        centre: (x, y) of the lesion, from the upper left corner.
        size: radius of the disc that has the lesion's area.
        aspect: short over long axis, in (0, 1].
        orientation: direction of the long axis, counter-clockwise from the horizontal, in [0, 180).
        asymmetry: 0 symmetric in shape and colour to 1 not at all.
        irregularity: 0 smooth border to 1 ragged.
        softness: width of the border's fading, relative to the lesion's radius.
        depth: how dense the lesion's melanin is, from 0.28 light brown to 2 almost black.
        colours: what the lesion shows, the main colour ("tan", "brown", "dark brown") first, then patches of others
            ("black", "red", "blue-grey", "white" or one of the first three).
        network: strength of the reticular pigment network, 0 for none.
        network_cell: width of its meshes.
        globules: how many dark dots.
        hairs: how many hairs, 0 to 12.
        ruler: the border a ruler lies along ("bottom", "left", "right", "top"), or None.
        vignette: radius of the round field of view outside which the image is black, or 0 for none.
        bubbles: how many bubbles in the immersion gel.
    """

    seed: int
    index: int
    label: int
    skin_tone: float
    redness: float
    exposure: float
    warmth: float
    light_direction: float
    light_gradient: float
    centre: tuple[float, float]
    size: float
    aspect: float
    orientation: float
    asymmetry: float
    irregularity: float
    softness: float
    depth: float
    colours: tuple[str, ...]
    network: float
    network_cell: float
    globules: int
    hairs: int
    ruler: str | None
    vignette: float
    bubbles: int


def generator(seed: int, index: int, stream: str) -> np.random.Generator:
    """The random numbers of one aspect (`stream`) of one image, independent of all others."""
    digest = hashlib.blake2b(f"demo:lesions/{seed}/{index}/{stream}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def draw_lesion(seed: int, index: int) -> Lesion:
    """Draw the ground truth of image `index`.

    Melanomas tend to be larger, less symmetric, more ragged and more colourful (the "ABCD" of dermoscopy); the two
    classes overlap. The light mostly comes from above and rulers mostly lie at the bottom, so that rotations and
    flips which a generator has picked up can be told from those in the data.
    """
    rng = generator(seed, index, "truth")
    label = int(rng.random() < MELANOMA_RATE)
    melanoma = label == 1
    asymmetry = float(rng.beta(4.0, 3.0) if melanoma else rng.beta(2.0, 6.0))
    irregularity = float(rng.beta(3.5, 3.0) if melanoma else rng.beta(1.8, 5.0))
    size = float(np.clip(rng.lognormal(np.log(0.25 if melanoma else 0.185), 0.3), 0.08, 0.38))
    depth = float(np.clip(rng.lognormal(np.log(0.75 if melanoma else 0.6), 0.5), 0.28, 2.0))
    skin_tone, redness = float(rng.beta(1.5, 3.0)), float(rng.beta(2.0, 3.0))
    exposure = float(np.clip(rng.normal(-0.13, 0.12), -0.4, 0.12))
    warmth = float(np.clip(rng.normal(0.015, 0.06), -0.035, 0.14))
    light_direction, light_gradient = float(rng.normal(100.0, 30.0) % 360), float(rng.uniform(0.0, 0.22))
    offset = np.clip(rng.normal(0.0, 0.05, 2), -0.13, 0.13)
    aspect, orientation = float(1.0 - 0.42 * rng.beta(1.6, 2.2)), float(rng.uniform(0.0, 180.0))
    softness = float(rng.uniform(0.12, 0.7))
    colours = _draw_colours(rng, depth, melanoma)
    network = float(rng.uniform(0.25, 1.0)) if rng.random() < 0.55 else 0.0
    network_cell = float(rng.uniform(0.02, 0.036))
    globules = int(rng.integers(8, 60)) if rng.random() < 0.3 else 0
    hairs = int(min(rng.geometric(0.2), MAX_HAIRS)) if rng.random() < HAIR_RATE else 0
    ruler = str(rng.choice(SIDES, p=SIDE_RATES)) if rng.random() < RULER_RATE else None
    vignette = float(rng.uniform(0.47, 0.66)) if rng.random() < VIGNETTE_RATE else 0.0
    bubbles = int(rng.integers(1, 4)) if rng.random() < BUBBLE_RATE else 0
    return Lesion(
        seed=seed,
        index=index,
        label=label,
        skin_tone=skin_tone,
        redness=redness,
        exposure=exposure,
        warmth=warmth,
        light_direction=light_direction,
        light_gradient=light_gradient,
        centre=(float(0.5 + offset[0]), float(0.5 + offset[1])),
        size=size,
        aspect=aspect,
        orientation=orientation,
        asymmetry=asymmetry,
        irregularity=irregularity,
        softness=softness,
        depth=depth,
        colours=colours,
        network=network,
        network_cell=network_cell,
        globules=globules,
        hairs=hairs,
        ruler=ruler,
        vignette=vignette,
        bubbles=bubbles,
    )


def _draw_colours(rng: np.random.Generator, depth: float, melanoma: bool) -> tuple[str, ...]:
    """The main colour, which follows from the pigment's depth, then what else the lesion shows."""
    main = "tan" if depth < 0.5 else "brown" if depth < 1.0 else "dark brown"
    others: tuple[str, ...]
    rates: tuple[float, ...]
    if melanoma:
        others = ("tan", "dark brown", "black", "red", "blue-grey", "white")
        rates = (0.15, 0.27, 0.18, 0.12, 0.18, 0.10)
        count = int(rng.choice(5, p=(0.05, 0.3, 0.37, 0.2, 0.08)))
    else:
        others = ("tan", "dark brown", "black", "red")
        rates = (0.35, 0.42, 0.05, 0.18)
        count = int(rng.choice(3, p=(0.55, 0.37, 0.08)))
    drawn = rng.choice(others, size=count, replace=False, p=rates)
    return (main, *(str(colour) for colour in drawn if colour != main))
