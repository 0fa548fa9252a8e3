"""Finds for each image the training image that it may be a copy of: flipped, turned, cropped a little, encoded again.

Thumbnails without their coarse shading are compared by correlation, after whitening: what all images of a kind share,
such as a round lesion in the middle, counts little, and what is rare counts much. All flips and turns, and crops on a
grid, are tried; the best candidates again on a finer grid. What counts in the end is not how near the nearest training
image is, for to a smooth image all are near, but how much nearer than the next ones (the ratio of Carlini et al. 2023,
arXiv 2301.13188).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

Progress = Callable[[int, int], None]
Crop = tuple[float, float, float]
"""Side as a share of the image's, and where it lies: 0 … 1 from the top, 0 … 1 from the left."""

CANDIDATES = 6
"""The nearest one, and five to compare with."""

LOOKED_THROUGH = 24
"""So many of the nearest ones are looked through for candidates that do not show the same as the nearest one."""

SAME = 0.85
"""Correlation from which on two training images count as one: twins would hide how near a copy of both is.

Measured at 64 pixels: exact, noisy or blurred twins and those of JPEG quality 60 have 0.96 and more, crops of 90 % 0.87
and more in 95 of 100 cases; of images that show different things, 1 of 100 has a neighbour with 0.84.
"""

MOST_FITTED = 2000
"""Whitening is fitted to so many images at most."""

COARSE_SIDE, FINE_SIDE = 16, 24
"""Of thumbnails, in pixels."""

MIDDLE = 0.5, 0.85
"""Agreement of the middle up to which two images are no copies, and from which on it says nothing against it.

Measured: of 60 copies each, cropped, encoded again, or blended, 0.91, 0.97 and 0.59 at least; of the closest pairs that
are no copies, 0.76 at most.
"""

PLAIN = 1.0
"""Standard deviation, in grey levels, of details of which there are none to speak of."""

MOST_PIXELS = 64
"""Larger images are reduced to this height and width first."""

AT_ONCE = 256
ROWS = 8
"""Images refined at a time."""

AT_A_TIME = 1 << 22
"""Correlations in memory at a time: 16 MB."""

TURNS = 8
"""Number k mod 4 quarter turns; from 4 on, of the image flipped left to right."""


@dataclass(frozen=True)
class Matches:
    """What was found for N images.

    Args:
        closeness: float [N], the logarithm of how many times nearer the best candidate is than those after it.
        candidates: int64 [N, 6], places among the training images, the best one first.
        turn: int64 [N], which of the 8 turns of the image lies on the best one.
        crop: float [N, 3], which `Crop` of the best one.
        refined: bool [N], whether the finer grid was tried.
        middle: float [N], how well the details in the middle of both agree, -1 to 1; 1 where that was not looked at.
    """

    closeness: Tensor
    candidates: Tensor
    turn: Tensor
    crop: Tensor
    refined: Tensor
    middle: Tensor

    @property
    def score(self) -> Tensor:
        """Closeness, less where the middle does not agree: rims and frames make images alike that are no copies."""
        low, high = MIDDLE
        return self.closeness * ((self.middle - low) / (high - low)).clamp(0, 1)

    @property
    def source(self) -> Tensor:
        """The place of the best candidate, int64 [N]."""
        return self.candidates[:, 0]


class Thumbnails:
    """Whitened thumbnails of images, fitted to a set of them.

    Args:
        images: the set, grey float [N, H, W].
        side: of a thumbnail, pixels.
        width: of what is kept after whitening.
    """

    def __init__(self, images: Tensor, side: int, width: int) -> None:
        self.side = side
        line = torch.arange(side, device=images.device)
        near = torch.exp(-(((line[:, None] - line) / (side / 8)) ** 2) / 2)
        self._blur = near / near.sum(1, keepdim=True)
        self._whiten: Tensor | None = None
        vectors = self.turned(images[:: -(-len(images) // MOST_FITTED)]).flatten(0, 1)
        spread, directions = torch.linalg.eigh((vectors.T @ vectors / len(vectors)).double())
        spread, directions = spread.flip(0)[:width], directions.flip(1)[:, :width]
        # Of an image without structure nothing should be enlarged.
        self._whiten = (directions / (spread.clamp(min=0) + 1e-3 * spread[0] + 1e-12).sqrt()).float()

    def turned(self, images: Tensor) -> Tensor:
        """The whole images [N, H, W] in 8 turns: unit vectors [N, 8, D]."""
        small = self._resized(images, [(1, 0, 0)])[:, 0]
        return self._vectors(torch.stack([turned(small, k) for k in range(TURNS)], 1))

    def cropped(self, images: Tensor, crops: Sequence[Crop]) -> Tensor:
        """Crops of images [N, H, W]: unit vectors [N, crops, D]."""
        return self._vectors(self._resized(images, crops))

    def _resized(self, images: Tensor, crops: Sequence[Crop]) -> Tensor:
        size = images.shape[-1]
        keys = {key for scale, y, x in crops for key in ((scale, y), (scale, x))}
        lines = {key: crop_line(size, self.side, *key).to(images.device) for key in keys}
        return torch.stack([lines[s, y] @ images @ lines[s, x].T for s, y, x in crops], 1)

    def details(self, small: Tensor) -> Tensor:
        """Thumbnails [..., side, side] without their coarse shading."""
        return small - self._blur @ small @ self._blur.T

    def _vectors(self, small: Tensor) -> Tensor:
        detail = self.details(small).flatten(-2)
        detail = F.normalize(detail - detail.mean(-1, keepdim=True), dim=-1, eps=1e-3)
        return detail if self._whiten is None else F.normalize(detail @ self._whiten, dim=-1)


class CopySearch:
    """Looks for copies of training images.

    Measured on 1,999 dermoscopy images (ISIC 2017) at 64 pixels, 1,000 of them for training, copies by flip, turn, crop
    of 90 %, JPEG of quality 60, blur of 0.8 pixels, blend with 20 % of another image: the source of the copy is the
    best candidate for 99 % of each kind or more.

    Args:
        train: uint8 [M, C, H, W], M > 6.
        device: where to compute.
    """

    def __init__(self, train: Tensor, device: torch.device) -> None:
        self.train = as_grey(train, device)
        self._coarse = Thumbnails(self.train, COARSE_SIDE, 128)
        self._fine = Thumbnails(self.train, FINE_SIDE, 256)
        self._views = torch.cat([self._coarse.cropped(part, COARSE) for part in torch.split(self.train, AT_ONCE)])

    def nearest(self, images: Tensor, same: bool = False, progress: Progress = lambda done, total: None) -> Matches:
        """The candidates of each image, on the coarse grid.

        Args:
            images: uint8 [N, C, H, W].
            same: they are the training images, and none is its own copy.
            progress: told as images are compared.
        """
        parts = []
        views = self._views.flatten(0, 1).T
        rows = max(min(AT_A_TIME // len(self.train) // len(COARSE), AT_ONCE), 1)
        for start in range(0, len(images), rows):
            turns = self._coarse.turned(as_grey(images[start : start + rows], self.train.device)).transpose(0, 1)
            best = turns[0] @ views
            for turn in turns[1:]:
                torch.maximum(best, turn @ views, out=best)
            likeness = best.view(-1, len(self.train), len(COARSE)).amax(2)
            if same:
                likeness.diagonal(start).fill_(-1)
            parts.append(self._without_twins(*likeness.topk(min(LOOKED_THROUGH, len(self.train) - same), dim=1)))
            progress(min(start + rows, len(images)), len(images))
        n = len(images)
        return Matches(
            closeness=closeness(torch.cat([likeness for likeness, _ in parts]).cpu()),
            candidates=torch.cat([places for _, places in parts]).cpu(),
            turn=torch.zeros(n, dtype=torch.int64),
            crop=torch.tensor([1.0, 0.0, 0.0]).repeat(n, 1),
            refined=torch.zeros(n, dtype=torch.bool),
            middle=torch.ones(n),
        )

    def _without_twins(self, likeness: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest training image, and the next ones that do not show the same as that one.

        Args:
            likeness: [n, k], the highest first.
            places: [n, k], of training images.

        Returns:
            Both for 6 candidates, [n, 6]. Where there are too few others, twins come last.
        """
        first = self._coarse.turned(self.train[places[:, 0]])
        alike = torch.einsum("ntd,nkcd->nktc", first, self._views[places]).amax((2, 3))
        alike[:, 0] = -1
        order = (alike >= SAME).sort(dim=1, stable=True).indices[:, :CANDIDATES]
        return likeness.gather(1, order), places.gather(1, order)

    def refine(self, images: Tensor, found: Matches, chosen: Tensor, progress: Progress = lambda d, t: None) -> Matches:
        """The matches of `images` with those of the `chosen` ones, bool [N], found again on the fine grid."""
        found = replace(found, **{name: getattr(found, name).clone() for name in Matches.__dataclass_fields__})
        places = chosen.nonzero()[:, 0]
        fine = torch.tensor(FINE)
        for done, part in enumerate(torch.split(places, ROWS) if len(places) else ()):
            device = self.train.device
            turns = self._fine.turned(as_grey(images[part], device))
            candidates = self.train[found.candidates[part].to(device)]
            crops = self._fine.cropped(candidates.flatten(0, 1), FINE).view(*candidates.shape[:2], len(FINE), -1)
            likeness = torch.einsum("ntd,nkcd->nktc", turns, crops)
            best = likeness.flatten(2).max(2)
            values, order = (x.cpu() for x in best.values.sort(dim=1, descending=True))
            way = best.indices.cpu().gather(1, order[:, :1])[:, 0]
            found.closeness[part] = closeness(values)
            found.candidates[part] = found.candidates[part].gather(1, order)
            found.turn[part], found.crop[part] = way // len(FINE), fine[way % len(FINE)]
            found.refined[part] = True
            found.middle[part] = self._middle(images[part], found, part)
            progress(min((done + 1) * ROWS, len(places)), len(places))
        return found

    def _middle(self, images: Tensor, found: Matches, rows: Tensor) -> Tensor:
        """How well the middle of images agrees with that of the crops they match."""
        side, size = FINE_SIDE, self.train.shape[-1]
        grey = as_grey(images, self.train.device)
        pairs = []
        for image, row in zip(grey, rows.tolist(), strict=True):
            for part, (scale, y, x) in (
                (image, (1.0, 0.0, 0.0)),
                (self.train[found.source[row]], found.crop[row].tolist()),
            ):
                down, right = (crop_line(size, side, scale, offset).to(part.device) for offset in (y, x))
                pairs.append(down @ part @ right.T)
            pairs[-1] = turned_back(pairs[-1], int(found.turn[row]))
        first, second = self._fine.details(torch.stack(pairs)).view(len(grey), 2, side, side).unbind(1)
        return middle_agreement(first, second).cpu()

    def laid_over(self, images: Tensor, sources: Tensor, found: Matches, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Some images and the crops they match, as they lie on each other.

        Args:
            images: all N images that were searched for, uint8 [N, C, H, W].
            sources: the training images, uint8 [M, C, H, W].
            found: their matches.
            rows: which of the images.

        Returns:
            uint8 [n, C, H, W] twice: the images as they are, and the crops, turned and resized to them.
        """
        pairs = []
        for row in rows:
            scale, y, x = found.crop[row].tolist()
            source = sources[int(found.source[row])].float()
            size = source.shape[-1]
            cut = crop_line(size, size, scale, y) @ source @ crop_line(size, size, scale, x).T
            pairs.append(turned_back(cut, int(found.turn[row])).round().clamp(0, 255).to(torch.uint8))
        return images[list(rows)], torch.stack(pairs)


def closeness(likeness: Tensor) -> Tensor:
    """How many times nearer the first of some candidates is than the others, as a logarithm.

    Args:
        likeness: correlations [N, k], the highest first.

    Returns:
        float [N]: 0 and more. The others count with their median: one may yet be a twin of the first.
    """
    distance = (1 - likeness).clamp(min=1e-4)
    return (distance[:, 1:].median(1).values / distance[:, 0]).log()


def middle_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Correlation [N] of the middle of thumbnails [N, S, S]; of the whole where the middle is plain."""
    edge = first.shape[-1] // 4
    whole, middle = ([F.pad(x, (-cut,) * 4).flatten(1) for x in (first, second)] for cut in (0, edge))
    plain = torch.maximum(*(x.std(1) for x in middle)) < PLAIN
    return torch.where(plain, _correlation(*whole), _correlation(*middle))


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """Of rows [N, D]."""
    x, y = (F.normalize(v - v.mean(1, keepdim=True), dim=1, eps=1e-3) for v in (x, y))
    return (x * y).sum(1)


def as_grey(images: Tensor, device: torch.device) -> Tensor:
    """uint8 [N, C, H, W] → float [N, h, w], the mean of the channels, at most 64 pixels high: 16 kB an image."""
    parts = []
    for part in torch.split(images, AT_ONCE):
        grey = part.to(device).float().mean(1, keepdim=True)
        if grey.shape[-1] > MOST_PIXELS:
            grey = F.interpolate(grey, (MOST_PIXELS, MOST_PIXELS), mode="bilinear", antialias=True)
        parts.append(grey[:, 0])
    return torch.cat(parts)


def turned(images: Tensor, k: int) -> Tensor:
    """Images [..., H, W] in turn k."""
    return (images.flip(-1) if k & 4 else images).rot90(k % 4, (-2, -1))


def turned_back(images: Tensor, k: int) -> Tensor:
    """What `turned` makes these images [..., H, W] of."""
    images = images.rot90(-(k % 4), (-2, -1))
    return images.flip(-1) if k & 4 else images


def crop_line(size: int, side: int, scale: float, offset: float) -> Tensor:
    """The matrix [side, size] that cuts a part out of a line of pixels and resizes it, linear and antialiased.

    Args:
        size: pixels of the line.
        side: pixels wanted.
        scale: share of the line in the part.
        offset: where the part lies, 0 … 1.
    """
    step = scale * size / side
    centres = offset * (1 - scale) * size + (torch.arange(side) + 0.5) * step - 0.5
    weights = (1 - (torch.arange(size) - centres[:, None]).abs() / max(step, 1)).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


def crop_grid(places: dict[float, int]) -> list[Crop]:
    """The whole image, and crops of some sizes, each at so many × so many places."""
    grid = [(1.0, 0.0, 0.0)]
    for scale, count in places.items():
        steps = [k / (count - 1) for k in range(count)]
        grid += [(scale, y, x) for y in steps for x in steps]
    return grid


COARSE = crop_grid({0.95: 3, 0.9: 3})
FINE = crop_grid({0.97: 3, 0.94: 3, 0.91: 4, 0.88: 4, 0.85: 5})
