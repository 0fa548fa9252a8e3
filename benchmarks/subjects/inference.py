"""`inference`: images from a generator, without gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch

from adaflow.core.generate import Painter
from adaflow.core.graphs import WARM_UP
from adaflow.core.networks import Generator
from adaflow.core.precision import allow_tf32, set_precision
from benchmarks.baselines.networks import PlainGenerator
from benchmarks.harness import Case, Side
from benchmarks.options import OURS, REFERENCE, TORCH, Options, on_reference
from benchmarks.ours import SMALL, new_run
from benchmarks.subjects.step import GROUPED, network_settings


def cases(options: Options) -> Iterator[Case]:
    """Batches and single images, in float32 and in bfloat16; time for one image. The baselines are in float32."""
    run = new_run(SMALL, "none", 0.0, "fp32", options.device)
    plain = {name: PlainGenerator(run.state.G, name) for name in ("scaled", "grouped")}
    foreign = foreign_generator(options, network_settings(run.config))
    for batch in (16,) if options.quick else (16, 1):
        z = torch.randn(batch, run.config.generator.z_dim, device=options.device)
        for precision in ("fp32",) if options.quick else ("fp32", "bf16"):
            G = copy.deepcopy(run.state.G_ema)
            set_precision(G, precision)
            tasks: dict[str, Callable[[], object]] = {OURS: without_gradients(G, z, precision)}
            if batch == 1 and options.device.type == "cuda":
                tasks[OURS] = single_images(G, precision)
            if REFERENCE in options.sides:
                tasks[REFERENCE] = on_reference(tasks[OURS])
            if TORCH in options.sides:
                tasks[TORCH] = without_gradients(plain["scaled"], z)
                tasks[GROUPED] = without_gradients(plain["grouped"], z)
            if options.foreign and foreign:
                tasks[options.foreign.name] = without_gradients(foreign, z)
            yield Case(
                "inference",
                f"{SMALL.name}, batch {batch}, {precision}",
                [Side(side, run, batch) for side, run in tasks.items()],
            )


def foreign_generator(options: Options, settings: dict[str, int]) -> Callable[[torch.Tensor], object] | None:
    """From z to images with another implementation's generator, where there is one."""
    if options.foreign is None:
        return None
    G = options.foreign.generator(options.device, **settings)
    return None if G is None else lambda z: G.synthesis(G.mapping(z))


def single_images(G: Generator, precision: str) -> Callable[[], object]:
    """One image from a seed, by a CUDA graph that is recorded already."""
    paint = Painter(G)

    def run() -> object:
        allow_tf32(precision)
        return paint([0])

    for _ in range(WARM_UP + 1):
        run()
    return run


def without_gradients(
    generate: Callable[[torch.Tensor], object], z: torch.Tensor, precision: str = "fp32"
) -> Callable[[], object]:
    """One batch of images from z."""

    def run() -> object:
        allow_tf32(precision)  # a setting of the whole process, and the sides have different ones
        with torch.no_grad():
            return generate(z)

    return run
