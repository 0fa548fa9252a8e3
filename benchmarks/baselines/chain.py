"""The augmentations as the customary chain of torch operations.

Every transform draws for the whole batch, one after the other, and makes a batch of matrices; where its gate does not
fire the parameter is neutral. Then the whole batch runs through all operations, whether anything fired or not: reflect
padding by what the batch needs, doubling with sym6 by depthwise convolution, `affine_grid`, `grid_sample`, halving,
a batched 3×3 product of the colours, a depthwise convolution with a filter per image, noise, a mask
(arXiv 2006.06676, App. B).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from adaflow.core.augment.wavelets import band_filters, sym6_lowpass

GROUPS = {
    "blit": ("xflip", "rotate90", "xint"),
    "geom": ("scale", "rotate", "aniso", "rotate_after", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("filter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
LISTS = {
    "bg": ("blit", "geom"),
    "bgc": ("blit", "geom", "color"),
    "bgcfnc": ("blit", "geom", "color", "filter", "noise", "cutout"),
}
SUPPORT = 3
"""Pixels that half a low-pass filter reaches."""
BAND_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)


class Chain:
    """Augments batches of images [N, C, H, W] with a group or a list of groups.

    Args:
        name: a key of `GROUPS` or `LISTS`.
        p: probability that a transform acts on an image.
        device: where the images are.
    """

    def __init__(self, name: str, p: float, device: torch.device | str = "cpu") -> None:
        self.active = {transform for group in LISTS.get(name, (name,)) for transform in GROUPS[group]}
        self.p = p
        self.lowpass = torch.from_numpy(sym6_lowpass()).float().to(device)
        self.bands = torch.from_numpy(band_filters().copy()).float().to(device)

    def __call__(self, images: Tensor) -> Tensor:
        n, channels, height, width = images.shape
        if self.active & {*GROUPS["blit"], *GROUPS["geom"]}:
            images = resample(images, self.draw_geometry(n, height, width, images.device), self.lowpass)
        if self.active & {*GROUPS["color"]}:
            images = recolor(images, self.draw_color(n, channels, images.device))
        if "filter" in self.active:
            images = filter_each(images, self.draw_taps(n, images.device))
        if "noise" in self.active:
            images = add_noise(images, self.either(torch.randn(n, device=images.device).abs() * 0.1, 0.0))
        if "cutout" in self.active:
            centre = torch.rand(n, 2, device=images.device)
            images = cut_out(images, centre, self.either(torch.full((n,), 0.5, device=images.device), 0.0))
        return images

    def either(self, drawn: Tensor, neutral: float, p: float | None = None) -> Tensor:
        """The drawn parameters [n, ...] of the images for which a gate fires, the neutral ones elsewhere."""
        fires = torch.rand(len(drawn), device=drawn.device) < (self.p if p is None else p)
        return torch.where(fires.view(-1, *[1] * (drawn.dim() - 1)), drawn, torch.full_like(drawn, neutral))

    def draw_geometry(self, n: int, height: int, width: int, device: torch.device) -> Tensor:
        """[n, 3, 3]: from output to input, in pixels from the centre, x right, y down."""
        size = torch.tensor([width, height], device=device, dtype=torch.float32)
        # a rotation before and one after the stretch: each fires so often that one of them does with probability p
        p_rotate = 1 - math.sqrt(1 - self.p)

        def normal(*shape: int) -> Tensor:
            return torch.randn(n, *shape, device=device)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(n, *shape, device=device)

        def angle() -> Tensor:
            return self.either((uniform() * 2 - 1) * math.pi, 0.0, p_rotate)

        def stretch() -> Tensor:
            factor = self.either((normal() * 0.2).exp2(), 1.0)
            return scale(1 / factor, factor)

        def zoom() -> Tensor:
            factor = self.either((normal() * 0.2).exp2(), 1.0)
            return scale(1 / factor, 1 / factor)

        def flip() -> Tensor:
            sign = 1 - 2 * self.either((uniform() * 2).floor(), 0.0)
            return scale(sign, torch.ones_like(sign))

        inverses: dict[str, Callable[[], Tensor]] = {
            "xflip": flip,
            "rotate90": lambda: turn(self.either((uniform() * 4).floor(), 0.0) * (math.pi / 2)),
            "xint": lambda: move(-(self.either((uniform(2) * 2 - 1) * 0.125, 0.0) * size).round()),
            "scale": zoom,
            "rotate": lambda: turn(angle()),
            "aniso": stretch,
            "rotate_after": lambda: turn(angle()),
            "xfrac": lambda: move(-self.either(normal(2) * 0.125, 0.0) * size),
        }
        return product([inverse() for name, inverse in inverses.items() if name in self.active], 3, n, device)

    def draw_color(self, n: int, channels: int, device: torch.device) -> Tensor:
        """[n, 4, 4]: a map of colours (r, g, b, 1)."""
        luma = torch.full((3, 3), 1 / 3, device=device)
        identity = torch.eye(3, device=device)
        cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], device=device) / math.sqrt(3)

        def normal() -> Tensor:
            return torch.randn(n, device=device)

        def brightness() -> Tensor:
            offset = self.either(normal() * 0.2, 0.0)
            return affine(identity.expand(n, 3, 3), offset[:, None].expand(n, 3))

        def contrast() -> Tensor:
            return affine(self.either((normal() * 0.5).exp2(), 1.0)[:, None, None] * identity)

        def lumaflip() -> Tensor:
            flip = self.either((torch.rand(n, device=device) * 2).floor(), 0.0)
            return affine(identity - 2 * flip[:, None, None] * luma)

        def hue() -> Tensor:
            angle = self.either((torch.rand(n, device=device) * 2 - 1) * math.pi, 0.0)[:, None, None]
            return affine(luma + angle.cos() * (identity - luma) + angle.sin() * cross)

        def saturation() -> Tensor:
            factor = self.either(normal().exp2(), 1.0)[:, None, None]
            return affine(luma + factor * (identity - luma))

        maps: dict[str, Callable[[], Tensor]] = {"brightness": brightness, "contrast": contrast, "lumaflip": lumaflip}
        if channels == 3:
            maps |= {"hue": hue, "saturation": saturation}
        # colours are columns: what comes later stands on the left
        return product([make() for name, make in maps.items() if name in self.active][::-1], 4, n, device)

    def draw_taps(self, n: int, device: torch.device) -> Tensor:
        """[n, taps]: the filter of each image."""
        power = torch.tensor(BAND_POWER, device=device)
        gains = torch.ones(n, 4, device=device)
        for band in range(4):
            one = torch.ones(n, 4, device=device)
            one[:, band] = self.either(torch.randn(n, device=device).exp2(), 1.0)
            gains = gains * one / (one.square() * power).sum(1, keepdim=True).sqrt()
        return gains @ self.bands


def resample(images: Tensor, inverse: Tensor, lowpass: Tensor) -> Tensor:
    """Images under affine maps, antialiased, reflected as far as the corners of the batch reach.

    Args:
        images: [N, C, H, W].
        inverse: [N, 3, 3], from output to input, in pixels from the centre.
        lowpass: [12], the taps of sym6 with sum 1.
    """
    height, width = images.shape[2:]
    left, right, top, bottom = margins(inverse, height, width)
    images = F.pad(images, (left, right, top, bottom), mode="reflect")
    doubled = upsample(images, lowpass)

    # Normalised coordinates of both grids, of a canvas with room for the filter: 1 is half its size in pixels. The
    # filters move by a quarter pixel to and fro, and the maps act in between, about the middle of the unpadded image.
    canvas = torch.tensor([width + 2 * SUPPORT, height + 2 * SUPPORT], device=images.device, dtype=torch.float32)
    padded = torch.tensor([images.shape[3], images.shape[2]], device=images.device, dtype=torch.float32)
    middle = torch.tensor([(right - left) / 2, (bottom - top) / 2], device=images.device)
    linear = inverse[:, :2, :2]
    offset = inverse[:, :2, 2] + linear.sum(2) * 0.25 - 0.25 - middle
    theta = torch.cat((linear * canvas, 2 * offset[:, :, None]), dim=2) / padded[:, None]
    shape = [*images.shape[:2], 2 * (height + 2 * SUPPORT), 2 * (width + 2 * SUPPORT)]
    grid = F.affine_grid(theta, shape, align_corners=False)
    sampled = F.grid_sample(doubled, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return downsample(sampled, lowpass)


def margins(inverse: Tensor, height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels (left, right, top, bottom) that any image of the batch is looked up in beyond its borders."""
    x, y = (width - 1) / 2, (height - 1) / 2
    corners = torch.tensor([[-x, -y, 1], [x, -y, 1], [x, y, 1], [-x, y, 1]], device=inverse.device)
    seen = (inverse[:, :2] @ corners.T).transpose(0, 1).flatten(1)
    half = torch.tensor([x, y], device=inverse.device)
    beyond = torch.stack((-seen.amin(1) - half, seen.amax(1) - half), dim=1) + 2 * SUPPORT
    limits = torch.tensor([[width - 1], [height - 1]], device=inverse.device)
    wanted = torch.minimum(beyond.ceil().clamp(min=0), limits).int()
    left, right, top, bottom = wanted.flatten().tolist()
    return left, right, top, bottom


def upsample(images: Tensor, lowpass: Tensor) -> Tensor:
    """[N, C, H, W] → [N, C, 2H, 2W]: zeros between the pixels, then the low-pass along both axes."""
    n, channels, height, width = images.shape
    spread = images.new_zeros(n, channels, height, 2, width, 2)
    spread[:, :, :, 0, :, 0] = images
    spread = F.pad(spread.reshape(n, channels, 2 * height, 2 * width), (6, 5, 6, 5))
    return depthwise(spread, 2 * lowpass.flip(0))


def downsample(images: Tensor, lowpass: Tensor) -> Tensor:
    """[N, C, 2(H + 6), 2(W + 6)] → [N, C, H, W]: the low-pass, turned round, then every other sample of the middle."""
    return depthwise(images[:, :, 1:-1, 1:-1], lowpass, stride=2)


def depthwise(images: Tensor, taps: Tensor, stride: int = 1) -> Tensor:
    """Correlate every channel with `taps` along both axes, without padding."""
    channels = images.shape[1]
    row = taps.view(1, 1, 1, -1).repeat(channels, 1, 1, 1)
    images = F.conv2d(images, row, stride=(1, stride), groups=channels)
    return F.conv2d(images, row.transpose(2, 3), stride=(stride, 1), groups=channels)


def recolor(images: Tensor, matrix: Tensor) -> Tensor:
    """Images [N, C, H, W], C 1 or 3, under maps of colours [N, 4, 4]."""
    n, channels, height, width = images.shape
    pixels = images.reshape(n, channels, height * width)
    if channels == 3:
        pixels = matrix[:, :3, :3] @ pixels + matrix[:, :3, 3:]
    else:
        grey = matrix[:, :3].mean(dim=1)
        pixels = pixels * grey[:, None, :3].sum(dim=2, keepdim=True) + grey[:, None, 3:]
    return pixels.reshape(n, channels, height, width)


def filter_each(images: Tensor, taps: Tensor) -> Tensor:
    """Each image of [N, C, H, W] filtered along both axes with its own taps [N, odd], reflected at its borders."""
    n, channels, height, width = images.shape
    reach = taps.shape[1] // 2
    weight = taps[:, None].repeat(1, channels, 1).view(n * channels, 1, 1, -1)
    images = F.pad(images.reshape(1, n * channels, height, width), (reach,) * 4, mode="reflect")
    images = F.conv2d(images, weight, groups=n * channels)
    images = F.conv2d(images, weight.transpose(2, 3), groups=n * channels)
    return images.reshape(n, channels, height, width)


def add_noise(images: Tensor, sigma: Tensor) -> Tensor:
    """White noise of deviation `sigma` [N]."""
    return images + torch.randn_like(images) * sigma.view(-1, 1, 1, 1)


def cut_out(images: Tensor, centre: Tensor, size: Tensor) -> Tensor:
    """Zeros in a rectangle around `centre` [N, 2] of `size` [N], in shares of width and height."""
    height, width = images.shape[2:]
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height
    kept_x = (x - centre[:, :1]).abs() >= size[:, None] / 2
    kept_y = (y - centre[:, 1:]).abs() >= size[:, None] / 2
    return images * (kept_y[:, :, None] | kept_x[:, None, :])[:, None].to(images.dtype)


def scale(x: Tensor, y: Tensor) -> Tensor:
    """[n, 3, 3] from factors [n]."""
    return torch.diag_embed(torch.stack((x, y, torch.ones_like(x)), dim=1))


def turn(angle: Tensor) -> Tensor:
    """[n, 3, 3]: the inverse of a rotation that turns what one sees by `angle` [n], counter-clockwise."""
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    sin, cos = angle.sin(), angle.cos()
    return torch.stack((cos, -sin, zero, sin, cos, zero, zero, zero, one), dim=1).view(-1, 3, 3)


def move(offset: Tensor) -> Tensor:
    """[n, 3, 3]: a translation by `offset` [n, 2]."""
    zero, one = torch.zeros_like(offset[:, 0]), torch.ones_like(offset[:, 0])
    rows = (one, zero, offset[:, 0], zero, one, offset[:, 1], zero, zero, one)
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def affine(linear: Tensor, offset: Tensor | None = None) -> Tensor:
    """[n, 4, 4] from a linear part [n, 3, 3] and an offset [n, 3]."""
    matrix = torch.eye(4, device=linear.device).repeat(len(linear), 1, 1)
    matrix[:, :3, :3] = linear
    if offset is not None:
        matrix[:, :3, 3] = offset
    return matrix


def product(matrices: list[Tensor], size: int, n: int, device: torch.device) -> Tensor:
    """The product of [n, size, size] matrices, from left to right."""
    return reduce(torch.matmul, matrices, torch.eye(size, device=device).repeat(n, 1, 1))
