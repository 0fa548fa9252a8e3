"""A class of `kornia.augmentation` as a transform: its settings, its numbers, its derivatives.

kornia draws from torch's global generator. Here every image gets a seed from its own draw, and its parameters are drawn
with that seed while the generator is put aside. They are then joined, and kornia is applied once to all images, except
for classes whose parameters cannot be joined.

Images are brought from [-1, 1] to kornia's [0, 1] and back. Settings are in kornia's units: black is 0 and white is 1.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from adaflow.core.augment.colors import is_rgb
from adaflow.core.augment.transform import ImageTransform
from adaflow.core.draw import Draw
from adaflow.cuda.grid_sample import TwiceDifferentiable
from adaflow.errors import ConfigError, PluginError

NOT_SETTINGS = ("p", "p_batch", "same_on_batch", "keepdim", "data_keys", "order")
"""What kornia's classes are given besides settings: the pipeline decides for which images they act, and `order` is the
place of a transform among others."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "ColorJiggle": {"brightness": (0.8, 1.2), "contrast": (0.8, 1.2), "saturation": (0.5, 1.5), "hue": (-0.1, 0.1)},
    "ColorJitter": {"brightness": (0.8, 1.2), "contrast": (0.8, 1.2), "saturation": (0.5, 1.5), "hue": (-0.1, 0.1)},
    "RandomAffine": {"degrees": (-30.0, 30.0)},
    "RandomBrightness": {"brightness": (0.8, 1.2)},
    "RandomContrast": {"contrast": (0.8, 1.2)},
    "RandomCrop": {"padding": 4},
    "RandomFisheye": {"center_x": (-0.3, 0.3), "center_y": (-0.3, 0.3), "gamma": (0.9, 1.1)},
    "RandomGamma": {"gamma": (0.8, 1.25)},
    "RandomGaussianBlur": {"kernel_size": (9, 9), "sigma": (0.1, 2.0)},
    "RandomHue": {"hue": (-0.5, 0.5)},
    "RandomJPEG": {"jpeg_quality": (50.0, 50.0)},
    "RandomMotionBlur": {"kernel_size": 7, "angle": (-180.0, 180.0), "direction": (-1.0, 1.0)},
    "RandomRain": {"number_of_drops": (10, 40)},
    "RandomRotation": {"degrees": (-180.0, 180.0)},
    "RandomRotation90": {"times": (0, 3)},
    "RandomSaturation": {"saturation": (0.5, 1.5)},
    "RandomSharpness": {"sharpness": (0.0, 0.5)},
    "RandomShear": {"shear": (-20.0, 20.0)},
    "RandomSolarize": {"thresholds": (0.4, 0.6), "additions": (-0.1, 0.1)},
    "RandomTranslate": {"translate_x": (-0.1, 0.1), "translate_y": (-0.1, 0.1)},
}
"""Class → settings that kornia leaves open or at a value that changes nothing; the number of raindrops, which else
cover a small image; ranges where kornia's default is a number that stands for one, so that others can be given."""

NEEDS_RGB = (
    *("ColorJiggle", "ColorJitter", "RandomGrayscale", "RandomHue", "RandomJPEG", "RandomPlanckianJitter"),
    *("RandomRGBShift", "RandomSaturation", "RandomSnow"),
)
"""These mean nothing for images without three colours."""

ALONE = (
    *("ColorJiggle", "ColorJitter", "RandomChannelDropout", "RandomGaussianNoise", "RandomMotionBlur"),
    *("RandomPlasmaBrightness", "RandomPlasmaContrast", "RandomPlasmaShadow", "RandomRain"),
)
"""These are applied image by image: they have parameters that belong to a batch, not to an image, or in some versions
of kornia draw while they are applied."""

CLIPPED = "kornia clips colours between its steps: where two channels of a pixel are clipped, its hue has a kink"
TIES = "which pixel is the median changes at a step of any size somewhere in an image of noise"
SMALL = "its drops are up to 20 pixels high"
EXPECTED_FAILURES = {
    "ColorJiggle": {"gradient": CLIPPED, "gradient_of_gradient": CLIPPED},
    "RandomJigsaw": {"odd_sizes": "it cuts images into 4 by 4 equal pieces"},
    "RandomMedianBlur": {"gradient": TIES, "gradient_of_gradient": TIES},
    "RandomRain": dict.fromkeys(("finite", "input_untouched", "any_draw", "gate_rate", "paths_agree"), SMALL),
}
"""Class → the checks of adaflow.conformance that it does not pass, and why."""

PAIRS = {"RandomElasticTransform": ("kernel_size", "sigma", "alpha")}
"""Class → settings where a number stands for two of it."""

TENSORS = {"RandomFisheye": ("center_x", "center_y", "gamma"), "RandomGrayscale": ("rgb_weights",)}
"""Class → settings that kornia wants as tensors."""


class KorniaTransform(ImageTransform):
    """What the transforms made of kornia's classes have in common; their fields are kornia's settings."""

    capturable: ClassVar[bool] = False
    kornia_class: ClassVar[Callable[..., Any]]
    needs_rgb: ClassVar[bool]
    """True when images without three colours are left alone, as by our own transforms of that name."""
    alone: ClassVar[bool]

    def __post_init__(self) -> None:
        """Try the settings: kornia checks many of them only when it is applied, and some need a large image."""
        super().__post_init__()
        try:
            try:
                self._try(64)
            except Exception:  # of any sort: some settings need a large image
                self._try(1024)
        except Exception as error:
            settings = [(f.name, getattr(self, f.name), f.default) for f in dataclasses.fields(self)]
            given = ", ".join(f"{name}={value!r}" for name, value, default in settings if value != default)
            raise ConfigError(
                f"kornia does not take {given or 'its defaults'}", f"kornia says: {_words(error)}."
            ) from error

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images as kornia changes them, computed in float32 at least; a fourth channel besides RGB stays."""
        channels, height, width = images.shape[1:]
        if self.needs_rgb and not is_rgb(channels):
            return images
        colors = images[:, :3] if self.needs_rgb else images
        unit = (colors.to(torch.promote_types(images.dtype, torch.float32)) + 1) / 2
        try:
            changed = self._changed(unit, _seeds(draw)) * 2 - 1
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            size = f"{channels} channels, {height}×{width} pixels"
            raise ConfigError(
                f"kornia.{type(self).__name__} cannot be applied to images of {size}", f"kornia says: {_words(error)}."
            ) from error
        return changed if colors is images else torch.cat((changed, images[:, 3:]), dim=1)

    def _changed(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """[n, C, H, W] in [0, 1], each image changed with the numbers of its seed."""
        module = self._module(*images.shape[2:])  # a new one, for it keeps what it was applied to
        devices = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices), TwiceDifferentiable():
            if self.alone:
                each = [_seeded(seed, module, image[None]) for seed, image in zip(seeds, images, strict=True)]
                return torch.cat(each)
            one = (1, *images.shape[1:])
            parameters = [_seeded(seed, module.forward_parameters, one) for seed in seeds]
            together: Tensor = module(images, params=_joined(parameters))
            return together

    def _module(self, height: int, width: int) -> Any:
        """The object of kornia, for images of this size."""
        name = type(self).__name__
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for setting in PAIRS.get(name, ()):
            if not isinstance(settings[setting], tuple | list):
                settings[setting] = (settings[setting], settings[setting])
            if len(settings[setting]) != 2:
                raise ValueError(f"{setting} is a number, or two")
        for setting in TENSORS.get(name, ()):
            if settings[setting] is not None:
                settings[setting] = torch.tensor(settings[setting])
        if "size" in inspect.signature(self.kornia_class).parameters:
            settings["size"] = (height, width)
        return self.kornia_class(**settings, p=1.0)

    @torch.no_grad()
    def _try(self, size: int) -> None:
        image = torch.linspace(0, 1, 3 * size * size).view(1, 3, size, size)
        if not self._changed(image, [0]).isfinite().all():
            raise ValueError("the result is not finite")


def kornia_transform(name: str) -> type[KorniaTransform]:
    """The transform made of a class of `kornia.augmentation`.

    Raises:
        PluginError: this kornia has no such class.
    """
    import kornia.augmentation  # takes a second

    kornia_class = getattr(kornia.augmentation, name, None)
    if kornia_class is None:
        raise PluginError(f"kornia {kornia.__version__} has no {name}", "A newer one has: pip install -U kornia")
    parameters = inspect.signature(kornia_class).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD} | DEFAULTS.get(name, {})
    fields = [(s, Any, d) for s, d in defaults.items() if s not in (*NOT_SETTINGS, "size")]
    members = {
        "__module__": __name__,
        "__doc__": (inspect.getdoc(kornia_class) or "").split("\n")[0],
        "kornia_class": kornia_class,
        "needs_rgb": name in NEEDS_RGB,
        "alone": name in ALONE,
        "expected_failures": EXPECTED_FAILURES.get(name, {}),
    }
    return dataclasses.make_dataclass(name, fields, bases=(KorniaTransform,), namespace=members)


def _seeds(draw: Draw) -> list[int]:
    """For each image a number of 63 bits."""
    high, middle, low = draw.unit((3,)).double().mul_(2**21).long().unbind(1)
    seeds: list[int] = ((high << 42) + (middle << 21) + low).tolist()
    return seeds


def _seeded(seed: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives that draws from torch's generators; kornia before 0.9 draws on the GPU, too."""
    torch.manual_seed(seed)
    return function(*arguments)


def _joined(parameters: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The parameters of a batch from those of its images."""
    joined = {name: torch.cat([of_image[name] for of_image in parameters]) for name in parameters[0]}
    shape = parameters[0]["forward_input_shape"].clone()
    shape[0] = len(parameters)
    return joined | {"forward_input_shape": shape}


def _words(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
