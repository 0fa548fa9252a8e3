"""The augmentation pipeline: gates, composition and order of the transforms (arXiv 2006.06676, App. B).

Every transform fires for every image by itself, with probability p × weight. Geometry is composed into one map and one
resampling, colour into one map, filter bands into one filter; transforms of pixels come last. What happens to an image
depends on its draws alone, not on the rest of the batch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from adaflow.core.augment.bands import band_taps, filter_bands, filters, normalised_gains
from adaflow.core.augment.colors import is_rgb, map_colors
from adaflow.core.augment.matrices import invert
from adaflow.core.augment.resample import copy_pixels, moves_whole_pixels, resample
from adaflow.core.augment.transform import ColorTransform, FilterTransform, GeometryTransform, ImageTransform, Transform
from adaflow.core.draw import Draw, Draws, RandomDraws
from adaflow.cuda.augment import FORMULAS, MOST_PLACES, Places, Plan, augment, compose, draw_plan, with_filters
from adaflow.cuda.library import native
from adaflow.errors import PluginError

KINDS = (GeometryTransform, ColorTransform, FilterTransform, ImageTransform)
Kind = TypeVar("Kind", bound=Transform)


@dataclass(frozen=True)
class ActiveTransform:
    """A transform that a pipeline applies.

    Args:
        name: under which it was registered; it names its random numbers, too.
        transform: the transform.
        weight: factor on p, at least 0.
    """

    name: str
    transform: Transform
    weight: float = 1.0


@dataclass(frozen=True)
class Place(Generic[Kind]):
    """One of the places in the order where a transform acts.

    Args:
        name, weight: as for `ActiveTransform`.
        transform: the transform.
        number: which of the transform's places this is, from 0.
        order: where it stands among the places of its kind.
    """

    name: str
    transform: Kind
    weight: float
    number: int
    order: float

    @property
    def stream(self) -> tuple[str, int]:
        """What names its draw."""
        return self.name, self.number


class AugmentPipeline:
    """Augments batches of images.

    Args:
        transforms: what to apply. Their order is of no consequence. Their settings are read once, here.

    Raises:
        PluginError: one of them is of none of the four kinds.
    """

    def __init__(self, transforms: Sequence[ActiveTransform]) -> None:
        for active in transforms:
            if not isinstance(active.transform, KINDS):
                raise PluginError(
                    f"augmentation {active.name!r} is no transform",
                    f"Inherit from one of {', '.join(kind.__name__ for kind in KINDS)}.",
                )
        self._active = tuple(transforms)
        self.factors: dict[str, float] = {}
        """What `weigh` was told."""
        self._arrange()

    def _arrange(self) -> None:
        """Put the places of all transforms in order, with their present weights."""
        transforms = [
            dataclasses.replace(active, weight=active.weight * self.factors.get(active.name, 1.0))
            for active in self._active
        ]
        self.geometry_places = _in_order(
            [(a, a.transform) for a in transforms if isinstance(a.transform, GeometryTransform)]
        )
        self.color_places = _in_order([(a, a.transform) for a in transforms if isinstance(a.transform, ColorTransform)])
        self.filter_places = _in_order(
            [(a, a.transform) for a in transforms if isinstance(a.transform, FilterTransform)]
        )
        self.image_places = _in_order([(a, a.transform) for a in transforms if isinstance(a.transform, ImageTransform)])
        self.map_places: list[Place[Any]] = [*self.geometry_places, *self.color_places, *self.filter_places]
        places: list[Place[Any]] = [*self.map_places, *self.image_places]
        self.streams = [place.stream for place in places]
        given = {active.name: active for active in self._active}
        self.transforms = [given[place.name] for place in places if place.number == 0]
        self.names = tuple(active.name for active in self.transforms)
        # The first of them may be drawn and done by one native kernel, which keeps what it knows of them for good.
        self.known_places = [] if self.factors else _known(self.map_places, self.image_places)
        self.known = Places(
            tuple(FORMULAS.index(_formula(place) or "") for place in self.known_places),
            tuple(_first_setting(place.transform) for place in self.known_places),
            tuple(place.weight for place in self.known_places),
        )
        self.known_streams = tuple(place.stream for place in self.known_places)

    def weigh(self, factors: Mapping[str, float]) -> None:
        """Multiply the weights that transforms were given by factors of at least 0. Those not named have their own.

        Raises:
            PluginError: there is no transform of such a name here, or a factor is no number of at least 0.
        """
        bad = [value for value in factors.values() if not (isinstance(value, int | float) and 0 <= value < math.inf)]
        if bad:
            raise PluginError(f"{bad[0]!r} is no factor on p", "A factor is a number of at least 0.")
        unknown = [name for name in factors if name not in self.names]
        if unknown:
            raise PluginError(
                f"there is no p for {', '.join(map(repr, unknown))}, which this run does not use",
                f"It uses {', '.join(self.names) or 'no augmentation'}.",
            )
        if factors != self.factors:
            self.factors = dict(factors)
            self._arrange()

    def fired(self, p: float | Tensor, draws: Draws, channels: int) -> dict[str, Tensor]:
        """For each transform the images, [N] bool, for which it fires when the pipeline is called with the same draws.

        One that means nothing for images of so many channels fires for none.
        """
        fired: dict[str, Tensor] = {}
        places: list[Place[Any]] = [*self.map_places, *self.image_places]
        if places:
            for place, gate in zip(places, _gates(places, p, draws)[1], strict=True):
                gate = gate & (not _skips(place, channels))
                fired[place.name] = fired[place.name] | gate if place.name in fired else gate
        return fired

    def __call__(self, images: Tensor, p: float | Tensor, draws: Draws) -> Tensor:
        """Augment a batch.

        Args:
            images: [N, C, H, W], floating point, nominally in [-1, 1]. Not modified.
            p: the probability that a transform of weight 1 acts on an image, a number or a 0-d tensor; cut to [0, 1].
            draws: the draws of these N images.

        Returns:
            [N, C, H, W], differentiable in `images` to any order. Images for which nothing fired are the same
            bit for bit; with p = 0, unless it is a tensor, it is `images` itself.

        Raises:
            PluginError: a transform returns something of the wrong shape.
        """
        if not self.streams or len(images) == 0 or (not isinstance(p, Tensor) and p <= 0):
            return images
        image_places = self.image_places
        kernels = native(images.device) is not None
        if kernels and self.known_places and type(draws) is RandomDraws:
            images = augment(images, self._drawn(images, p, draws))
            image_places = image_places[len(self.known_places) - len(self.map_places) :]
        else:
            draws.prefetch(self.streams)
            if kernels and self.map_places and max(len(self.geometry_places), len(self.color_places)) <= MOST_PLACES:
                images = augment(images, self._composed(images, p, draws))
            else:
                images = self._reference(images, p, draws)
        for place in image_places:
            images = self._apply(place, images, p, draws)
        return images

    def geometry(self, p: float | Tensor, draws: Draws, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """The map of each image.

        Returns:
            [N, 3, 3] float32, from output to input, in pixels from the centre, x right, y down; [N] bool, whether any
            transform fired; [N] bool, whether one fired that needs resampling.
        """
        opened, gates = _gates(self.geometry_places, p, draws)
        matrices = self._planar(opened, height, width)
        copies = torch.tensor([[place.transform.pixel_copy] for place in self.geometry_places], device=gates.device)
        forward, any_fired = _compose(matrices, gates)
        return invert(forward), any_fired, (gates & ~copies).any(0)

    def color(self, p: float | Tensor, draws: Draws, channels: int) -> tuple[Tensor, Tensor]:
        """The map of the colours of each image, [N, 4, 4] float32, and whether any transform fired, [N] bool."""
        opened, gates = _gates(self.color_places, p, draws)
        skipped = torch.tensor([[_skips(place, channels)] for place in self.color_places], device=gates.device)
        return _compose(self._mixing(opened), gates & ~skipped)

    def band_gains(self, p: float | Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """The gains of the filter bands of each image, [N, 4] float32, and whether any transform fired, [N] bool."""
        opened, gates = _gates(self.filter_places, p, draws)
        gains = []
        for place, draw, fired in zip(self.filter_places, opened, gates, strict=True):
            gain = _checked(place, place.transform.gain(draw), (draw.n,))
            gains.append(torch.where(fired[:, None], normalised_gains(place.transform.band, gain), 1.0))
        return torch.stack(gains).prod(0), gates.any(0)

    def spec(self) -> str:
        """What to write to get this pipeline: every transform with all of its settings; "none" when there are none."""
        return ",".join(_spec(active) for active in self.transforms) or "none"

    def _drawn(self, images: Tensor, p: float | Tensor, draws: RandomDraws) -> Plan:
        """What the known places do to the images, drawn by a native kernel."""
        device, keys = images.device, draws.keys(self.known_streams)
        # A number is filled in, for to bring it to a GPU would take waiting.
        base = p if isinstance(p, Tensor) else torch.full((), p, dtype=torch.float64, device=device)
        return draw_plan(
            self.known, base.to(device, torch.float64), keys, draws.images, filters(device), *images.shape[1:]
        )

    def _composed(self, images: Tensor, p: float | Tensor, draws: Draws) -> Plan:
        """What is done to the images before the transforms of pixels, drawn by the transforms one by one."""
        channels, height, width = images.shape[1:]
        places: list[Place[Any]] = [*self.geometry_places, *self.color_places]
        no_gates = torch.empty(0, len(images), dtype=torch.bool, device=images.device)
        opened, gates = _gates(places, p, draws) if places else ([], no_gates)
        geometry_count = len(self.geometry_places)
        plan = compose(
            self._planar(opened[:geometry_count], height, width),
            self._mixing(opened[geometry_count:]),
            gates,
            [not place.transform.pixel_copy for place in self.geometry_places],
            [_skips(place, channels) for place in self.color_places],
            height,
            width,
        )
        if self.filter_places:
            gains, fired = self.band_gains(p, draws)
            plan = with_filters(plan, band_taps(gains), fired)
        return plan

    def _reference(self, images: Tensor, p: float | Tensor, draws: Draws) -> Tensor:
        """Geometry, colours and filter bands, in pure torch."""
        channels, height, width = images.shape[1:]
        if self.geometry_places:
            images = self._move(images, *self.geometry(p, draws, height, width))
        if self.color_places:
            matrix, fired = self.color(p, draws, channels)
            images = torch.where(fired.view(-1, 1, 1, 1), map_colors(images, matrix), images)
        if self.filter_places:
            gains, fired = self.band_gains(p, draws)
            index = fired.nonzero().squeeze(1)
            if len(index):
                images = images.index_copy(0, index, filter_bands(images[index], gains[index]))
        return images

    def _planar(self, opened: Sequence[Draw], height: int, width: int) -> list[Tensor]:
        """The map that each place of the geometry drew, [N, 3, 3]."""
        return [
            _checked(place, place.transform.matrix(draw, height, width), (draw.n, 3, 3))
            for place, draw in zip(self.geometry_places, opened, strict=True)
        ]

    def _mixing(self, opened: Sequence[Draw]) -> list[Tensor]:
        """The map that each place of the colours drew, [N, 4, 4]."""
        return [
            _checked(place, place.transform.matrix(draw), (draw.n, 4, 4))
            for place, draw in zip(self.color_places, opened, strict=True)
        ]

    def _move(self, images: Tensor, inverse: Tensor, fired: Tensor, blurred: Tensor) -> Tensor:
        blurred = blurred | (fired & ~moves_whole_pixels(inverse, *images.shape[2:]))
        for chosen, move in ((blurred, resample), (fired & ~blurred, copy_pixels)):
            index = chosen.nonzero().squeeze(1)
            if len(index) == len(images):
                return move(images, inverse)
            if len(index):
                images = images.index_copy(0, index, move(images[index], inverse[index]))
        return images

    def _apply(self, place: Place[ImageTransform], images: Tensor, p: float | Tensor, draws: Draws) -> Tensor:
        (draw,), (fired,) = _gates([place], p, draws)
        if images.is_cuda:
            # To know how many fired, the host would have to wait for the GPU.
            changed = _checked(place, place.transform.apply(images, draw), images.shape)
            return torch.where(fired.view(-1, 1, 1, 1), changed.to(images.dtype), images)
        index = fired.nonzero().squeeze(1)
        if len(index) == 0:
            return images
        chosen = images[index]
        changed = _checked(place, place.transform.apply(chosen, draw.select(index)), chosen.shape)
        return images.index_copy(0, index, changed.to(images.dtype))


def _in_order(transforms: Sequence[tuple[ActiveTransform, Kind]]) -> list[Place[Kind]]:
    """The places of transforms of one kind."""
    places = []
    for active, transform in transforms:
        orders = transform.order if isinstance(transform.order, tuple) else (transform.order,)
        places += [Place(active.name, transform, active.weight, number, order) for number, order in enumerate(orders)]
    return sorted(places, key=lambda place: (place.order, place.name))


def _gates(places: Sequence[Place[Any]], p: float | Tensor, draws: Draws) -> tuple[list[Draw], Tensor]:
    """The draws of K places, and the images for which their transforms fire, [K, N] bool."""
    if isinstance(p, Tensor):
        probabilities = [place.transform.gate((p * place.weight).clamp(0.0, 1.0)) for place in places]
    else:
        probabilities = [place.transform.gate(min(max(p * place.weight, 0.0), 1.0)) for place in places]
    return draws.open([place.stream for place in places], probabilities)


def _known(map_places: Sequence[Place[Any]], image_places: Sequence[Place[Any]]) -> list[Place[Any]]:
    """The places, from the first on, that a native kernel can draw and do: none, or all those of maps, and noise and
    cutout where they come next."""
    if not all(_formula(place) for place in map_places):
        return []
    known = list(map_places)
    for wanted in ("noise", "cutout"):
        following = image_places[len(known) - len(map_places) :][:1]
        known += [place for place in following if _formula(place) == wanted]
    return known


def _formula(place: Place[Any]) -> str | None:
    """The formula that the very class of its transform has, not one that it inherits and may have changed."""
    formula: str | None = vars(type(place.transform)).get("formula")
    return formula


def _first_setting(transform: Transform) -> float:
    """Its one setting, or 0."""
    return next((float(getattr(transform, setting.name)) for setting in dataclasses.fields(transform)), 0.0)


def _skips(place: Place[Any], channels: int) -> bool:
    """Whether a transform means nothing for images of so many channels."""
    return getattr(place.transform, "needs_rgb", False) and not is_rgb(channels)


def _compose(matrices: list[Tensor], fired: Tensor) -> tuple[Tensor, Tensor]:
    """The product of those matrices that fired [K, N], the first one acting first, and whether any did, [N] bool."""
    stack = torch.stack(matrices)
    size = stack.shape[-1]
    stack = torch.where(fired[..., None, None], stack, torch.eye(size, device=stack.device))
    product = stack[0]
    for matrix in stack[1:]:
        product = matrix @ product
    return product, fired.any(0)


def _checked(place: Place[Any], value: Any, shape: Sequence[int]) -> Tensor:
    if isinstance(value, Tensor) and tuple(value.shape) == tuple(shape):
        return value
    found = list(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
    raise PluginError(
        f"augmentation {place.name!r} returned {found} where {list(shape)} was wanted",
        "Its base class says which shape each method returns.",
    )


def _spec(active: ActiveTransform) -> str:
    settings = [
        f"{setting.name}={getattr(active.transform, setting.name)!r}"
        for setting in dataclasses.fields(active.transform)
    ]
    weight = "" if active.weight == 1.0 else f"*{active.weight!r}"
    return active.name + (f"({', '.join(settings)})" if settings else "") + weight
