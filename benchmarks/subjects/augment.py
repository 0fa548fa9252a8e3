"""`augment`: the augmentation of a batch, forward, with its gradient, and with the gradient of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import torch
from torch import Tensor

from adaflow.core.augment import build_pipeline
from adaflow.core.draw import RandomDraws
from adaflow.plugin_manager import PluginManager
from benchmarks.baselines.chain import Chain
from benchmarks.baselines.kornia_pipe import kornia_pipe
from benchmarks.harness import Case, Side
from benchmarks.options import KORNIA, OURS, REFERENCE, TORCH, Options, on_reference

GROUPS = ("blit", "geom", "color", "filter", "noise", "cutout")
LISTS = ("bgc", "bgcfnc")
PROBABILITIES = (0.2, 0.6)
BATCH = {64: 16, 128: 16, 256: 8}
"""Width and height of the images → how many there are."""
PASSES = ("forward", "+ backward", "+ double backward")

Augment = Callable[[Tensor], Tensor]


def cases(options: Options) -> Iterator[Case]:
    """The lists at every size and p; each group at one size and p; time for one image."""
    if options.quick:
        chosen = [("bgc", 64, 0.2, PASSES[:2])]
    else:
        chosen = [(name, size, p, PASSES) for name in LISTS for size in BATCH for p in PROBABILITIES]
        chosen += [(name, 64, 0.6, PASSES[:2]) for name in GROUPS]
    for name, size, p, passes in chosen:
        for which in passes:
            tasks = tasks_for(name, size, p, which, options)
            yield Case("augment", f"{name} {size}², p {p:g}, {which}", [Side(*task, BATCH[size]) for task in tasks])


def tasks_for(
    name: str, size: int, p: float, which: str, options: Options
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Side → one pass over a batch, adaflow's first.

    Args:
        name: a group or list of groups.
        size: width and height of the images.
        p: probability of every transform.
        which: of `PASSES`.
        options: which sides there are.
    """
    images = torch.rand(BATCH[size], 3, size, size, device=options.device) * 2 - 1
    ours = one_pass(our_pipe(name, p, options.device), images, which)
    yield OURS, ours
    if REFERENCE in options.sides:
        yield REFERENCE, on_reference(ours)
    if TORCH in options.sides:
        yield TORCH, one_pass(Chain(name, p, options.device), images, which)
    if KORNIA in options.sides and name == "bgc":
        yield KORNIA, one_pass(kornia_pipe(p), images * 0.5 + 0.5, which)
    if options.foreign:
        foreign = options.foreign.augment_pipe(name, p, options.device)
        if foreign is not None:
            yield options.foreign.name, one_pass(foreign, images, which)


def our_pipe(name: str, p: float, device: torch.device) -> Augment:
    """adaflow's pipeline, with new random numbers for every batch, as in training."""
    pipeline = build_pipeline(name, PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).augmentations)
    batches = count()

    def augment(images: Tensor) -> Tensor:
        n = len(images)
        counters = torch.arange(n, device=device) + n * next(batches)
        return pipeline(images, p, RandomDraws(0, "benchmark", counters))

    return augment


def one_pass(augment: Augment, images: Tensor, which: str) -> Callable[[], Tensor]:
    """The output, the gradient of a product with it, or the gradient of that gradient."""
    cotangent, direction = torch.randn_like(images), torch.randn_like(images)

    def forward() -> Tensor:
        with torch.no_grad():
            return augment(images)

    def backward() -> Tensor:
        x = images.detach().requires_grad_()
        return torch.autograd.grad(augment(x), x, cotangent)[0]

    def double_backward() -> Tensor:
        # The augmentation is linear in the images: its second derivative is with respect to the cotangent, as in R1.
        x, y = images.detach().requires_grad_(), cotangent.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(augment(x), x, y, create_graph=True)
        return torch.autograd.grad(gradient, y, direction)[0]

    return dict(zip(PASSES, (forward, backward, double_backward), strict=True))[which]
