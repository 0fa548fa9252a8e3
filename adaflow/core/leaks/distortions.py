"""Innocent distortions: what generators do to images although nothing has leaked.

Generated images are smoother or sharper than real ones, have a checkerboard or noise of their own, a colour cast, the
marks of JPEG in the training data. Whoever looks for augmentations in them must not take that for one. Every distortion
takes images [N, C, H, W] in [0, 1] and a strength in [0, 1] for each; values that leave the range are for the caller to
clip.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from adaflow.core.random import normal, stream_key, uniform

Distortion = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images, strengths [N], numbers of the images [N]) → images."""
OfASet = Callable[[Tensor, Tensor], Tensor]
"""(uint8 images, numbers of the images [N]) → uint8 images."""

CASTS = {
    "darker": (-1.0, -1.0, -1.0),
    "brighter": (1.0, 1.0, 1.0),
    "redder": (1.0, -0.4, -0.8),
    "bluer": (-1.0, 0.4, 0.8),
    "greener": (-0.6, 0.8, -0.4),
    "pinker": (0.6, -0.8, 0.4),
}
"""Directions of a colour cast, for a whole set of images."""

LARGEST = 128
"""Larger images are made smaller: traces of augmentations are seen at every size, and time grows with pixels."""

COMPONENTS = (60, 200)
"""Principal components that images are rebuilt from."""

CHANCE = 0.25
"""Of each distortion, to be among those that `distort_randomly` applies to an image."""


def reduced(images: Tensor) -> Tensor:
    """Images uint8 [N, C, H, W], made smaller if they are larger than `LARGEST`."""
    if max(images.shape[2:]) <= LARGEST:
        return images
    size = [round(side * LARGEST / max(images.shape[2:])) for side in images.shape[2:]]
    small = [
        to_bytes(F.interpolate(part.float() / 255, size, mode="bilinear", antialias=True))
        for part in torch.split(images, 100)
    ]
    return torch.cat(small)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, with a standard deviation in pixels for each image; borders are reflected."""
    n, c, h, w = images.shape
    radius = max(1, int(3 * float(sigma.max()) + 0.5))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernels = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(c, 0)
    x = F.pad(images.reshape(1, n * c, h, w), (radius,) * 4, mode="reflect")
    x = F.conv2d(x, kernels[:, None, None, :], groups=n * c)
    return F.conv2d(x, kernels[:, None, :, None], groups=n * c).view(n, c, h, w)


def smooth(images: Tensor, strength: Tensor, numbers: Tensor) -> Tensor:
    """Blurred by 0.3 to 1.1 pixels."""
    return blur(images, 0.3 + 0.8 * strength)


def sharpen(images: Tensor, strength: Tensor, numbers: Tensor) -> Tensor:
    """Edges stressed, with halos."""
    return images + 0.8 * strength[:, None, None, None] * (images - blur(images, torch.ones(len(images))))


def grain(images: Tensor, strength: Tensor, numbers: Tensor) -> Tensor:
    """Gaussian noise of up to 2 % of the range, in every number by itself."""
    noise = normal(stream_key(0, "leaks", "grain"), numbers, tuple(images.shape[1:]))
    return images + 0.02 * strength[:, None, None, None] * noise


def checkerboard(images: Tensor, strength: Tensor, numbers: Tensor) -> Tensor:
    """A checkerboard of up to 1.5 % contrast, as transposed convolutions leave it."""
    h, w = images.shape[2:]
    board = (torch.arange(h)[:, None] + torch.arange(w)).remainder(2) * 2.0 - 1
    return images * (1 + 0.015 * strength[:, None, None, None] * board)


def cast(images: Tensor, strength: Tensor, numbers: Tensor) -> Tensor:
    """A little brighter, darker or tinted, in a direction of the image's own."""
    shift, gain = normal(stream_key(0, "leaks", "cast"), numbers, (2, images.shape[1], 1, 1)).unbind(1)
    amount = 0.04 * strength[:, None, None, None]
    return images * (1 + amount * gain) + amount * shift


def resize(images: Tensor, strength: Tensor, numbers: Tensor) -> Tensor:
    """Made smaller, down to 60 %, and larger again."""
    size = images.shape[2:]
    smaller = [tuple(max(4, round(s * (1 - 0.4 * value))) for s in size) for value in strength.tolist()]
    result = torch.empty_like(images)
    for shape in set(smaller):
        chosen = torch.tensor([shape == other for other in smaller])
        small = F.interpolate(images[chosen], shape, mode="bilinear", antialias=True)
        result[chosen] = F.interpolate(small, size, mode="bicubic")
    return result


def jpeg(images: Tensor, strength: Tensor, numbers: Tensor) -> Tensor:
    """Compressed as JPEG, of quality 95 down to 55."""
    pixels = to_bytes(images).permute(0, 2, 3, 1).numpy()
    decoded = []
    for pixel, value in zip(pixels, strength.tolist(), strict=True):
        file = io.BytesIO()
        Image.fromarray(pixel[:, :, 0] if pixel.shape[2] == 1 else pixel[:, :, :3]).save(
            file, "JPEG", quality=round(95 - 40 * value)
        )
        decoded.append(np.asarray(Image.open(file)).reshape(*pixel.shape[:2], -1))
    result = images.clone()
    result[:, :3] = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).float() / 255
    return result


KINDS: dict[str, Distortion] = {
    "smooth": smooth,
    "resize": resize,
    "sharpen": sharpen,
    "checkerboard": checkerboard,
    "cast": cast,
    "grain": grain,
    "jpeg": jpeg,
}
"""By name, in the order in which they are applied."""


def to_bytes(images: Tensor) -> Tensor:
    """[0, 1] → uint8, rounded and clipped."""
    return images.mul(255).round_().clamp_(0, 255).to(torch.uint8)


def distort_randomly(images: Tensor, numbers: Tensor, seed: int) -> Tensor:
    """Every distortion, with `CHANCE` and at a random strength, for each image by itself.

    Args:
        images: uint8 [N, C, H, W].
        numbers: [N] int64, which decide what is drawn.
        seed: of the draws.

    Returns:
        uint8 [N, C, H, W].
    """
    x = images.float() / 255
    for place, distortion in enumerate(KINDS.values()):
        fires, strength = uniform(stream_key(seed, "leaks", "distort"), numbers, (2,), call=place).unbind(1)
        hit = (fires < CHANCE).nonzero().flatten()
        if len(hit):
            x[hit] = distortion(x[hit], strength[hit], numbers[hit]).clamp_(0, 1)
    return to_bytes(x)


def bank(reals: Tensor) -> dict[str, OfASet]:
    """Distortions of a whole set of images, weak and strong, by name.

    Args:
        reals: uint8 [M, C, H, W], the images that they are for; images with a number come from there.
    """
    functions: dict[str, OfASet] = {}
    for name, distortion in KINDS.items():
        if name != "cast":
            functions |= {f"{name} {level}": _at(distortion, level) for level in (0.35, 0.8)}
    for name, direction in CASTS.items():
        functions[name] = _cast_towards(direction)
    for count in COMPONENTS:
        functions[f"{count} components"] = partial(rebuild, reals, count)
    return functions


def softened(images: Tensor, strength: float) -> list[Tensor]:
    """Images blurred, compressed, and both, as a generator may show what it learned of a transform.

    Args:
        images: uint8 [N, C, H, W].
        strength: 0 to 1.
    """
    blurred = distorted_by("smooth", images, strength)
    return [blurred, distorted_by("jpeg", images, strength), distorted_by("jpeg", blurred, strength)]


def blurred_and_compressed(images: Tensor, strength: float) -> Tensor:
    """The last of `softened`."""
    return distorted_by("jpeg", distorted_by("smooth", images, strength), strength)


def distorted_by(name: str, images: Tensor, strength: float) -> Tensor:
    """uint8 images [N, C, H, W] after the distortion of `KINDS`, all at one strength."""
    return _at(KINDS[name], strength)(images, torch.arange(len(images)))


def rebuild(reals: Tensor, count: int, images: Tensor, numbers: Tensor) -> Tensor:
    """Images rebuilt from principal components, as a generator does that knows what images have in common.

    The components for images of an even number are those of real images of an odd one, and the other way round.

    Args:
        reals: uint8 [M, C, H, W].
        count: of components; at most half of the images that they are computed from.
        images: uint8 [N, C, H, W].
        numbers: [N] of the images among `reals`.
    """
    result = torch.empty(images.shape)
    for fold in (0, 1):
        known, chosen = reals[1 - fold :: 2].flatten(1).float(), numbers % 2 == fold
        mean = known.mean(0)
        known -= mean
        values, vectors = torch.linalg.eigh(known @ known.T)
        kept = min(count, len(known) // 2)
        directions = known.T @ (vectors[:, -kept:] / values[-kept:].clamp(min=1).sqrt())
        flat = (images[chosen].flatten(1) - mean) @ directions @ directions.T + mean
        result[chosen] = flat.view(-1, *images.shape[1:])
    return to_bytes(result / 255)


def _at(distortion: Distortion, strength: float) -> OfASet:
    def apply(images: Tensor, numbers: Tensor) -> Tensor:
        return to_bytes(distortion(images.float() / 255, torch.full((len(images),), strength), numbers))

    return apply


def _cast_towards(direction: tuple[float, ...]) -> OfASet:
    def apply(images: Tensor, numbers: Tensor) -> Tensor:
        colour = torch.tensor(direction if images.shape[1] == 3 else direction[:1] * images.shape[1])
        return to_bytes(images.float() / 255 + 0.025 * colour.view(-1, 1, 1))

    return apply
