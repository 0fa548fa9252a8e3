"""`step`: a training step, whole phases, and what it comes to for an image with the regularisers at their intervals.

adaflow's phases are not timed one by one, for it may do parts of them together. A step without regularisers is
Dmain + Gmain with all that goes with them; the others follow from steps at which they are due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import torch

from adaflow.core.graphs import WARM_UP, Graphs
from adaflow.core.images import to_float
from adaflow.core.precision import allow_tf32
from adaflow.core.run import Run
from adaflow.core.run_config import RunConfig
from adaflow.core.training_step import training_step
from benchmarks.baselines.chain import Chain
from benchmarks.baselines.networks import Modulation, PlainDiscriminator, PlainGenerator
from benchmarks.baselines.step import Augment, PlainStep, StepSettings
from benchmarks.harness import Case, Clock, Result, Side, measure
from benchmarks.options import OURS, REFERENCE, TORCH, Options, on_reference
from benchmarks.ours import AUTO, SMALL, Setup, new_run

GROUPED = "torch, grouped"
P = 0.2
STEPS = {"Dmain + Gmain": 1, "with Gpl": 4, "with Gpl and Dr1": 16}
"""Kind of step → a number of the step at which it is such, by the usual intervals of 4 and 16."""
ALL_PHASES = "with Gpl and Dr1"

Step = Callable[[int], object]


def results(options: Options, rounds: int, least: float, clock: Clock) -> Iterator[Result]:
    """Without augmentation and with `bgc`, in float32 and in bfloat16; milliseconds for one image."""
    setups = (SMALL,) if options.device.type == "cpu" or options.quick else AUTO
    for setup in setups:
        for augs in ("none",) if options.quick else ("none", "bgc"):
            for precision in ("fp32",) if options.quick else ("fp32", "bf16"):
                steps = dict(steps_for(setup, augs, precision, options))
                batch = new_run(setup, "none", 0.0, "fp32", torch.device("cpu")).config.schedule.batch
                name = f"{setup.name}, batch {batch}, {augs}, {precision}"
                kinds = [(side, kind) for side in steps for kind in STEPS]
                sides = [Side(f"{side}|{kind}", at(steps[side], STEPS[kind]), batch) for side, kind in kinds]
                whole = measure(Case("step", name, sides, single=True), (rounds + 1) // 2, least, clock)
                yield from in_phases(whole, list(steps))


def in_phases(whole: Result, sides: list[str]) -> Iterator[Result]:
    """The phases and their amortised sum from the times of whole steps, round by round."""
    phases: dict[str, dict[str, list[float]]] = {}
    for side in sides:
        plain, with_pl, with_both = (whole.values[f"{side}|{kind}"] for kind in STEPS)
        rounds = list(zip(plain, with_pl, with_both, strict=True))
        times = {
            "amortised (= s/kimg)": [a + (b - a) / 4 + (c - b) / 16 for a, b, c in rounds],
            "Dmain + Gmain": plain,
            "Gpl": [b - a for a, b, _ in rounds],
            "Dr1": [c - b for _, b, c in rounds],
        }
        for phase, values in times.items():
            phases.setdefault(phase, {})[side] = values
    for phase, columns in phases.items():
        yield Result(whole.subject, f"{whole.case}: {phase}", whole.unit, columns)


def steps_for(setup: Setup, augs: str, precision: str, options: Options) -> Iterator[tuple[str, Step]]:
    """Side → a function that trains for one step with a certain number. The baselines are in float32 always."""
    yield OURS, our_step(setup, augs, precision, options.device)
    if REFERENCE in options.sides:
        step = our_step(setup, augs, precision, options.device, graphs=False)
        yield REFERENCE, on_reference(step)
    if TORCH in options.sides:
        yield TORCH, plain_step(setup, augs, options, "scaled")
        yield GROUPED, plain_step(setup, augs, options, "grouped")
    if options.foreign:
        foreign = foreign_step(setup, augs, options)
        if foreign is not None:
            yield options.foreign.name, foreign


def tasks_for(
    setup: Setup, augs: str, precision: str, kind: str, options: Options
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Side → a step of one kind."""
    for side, step in steps_for(setup, augs, precision, options):
        yield side, at(step, STEPS[kind])


def at(step: Step, number: int) -> Callable[[], object]:
    """The step with this number, again and again."""
    return lambda: step(number)


def our_step(setup: Setup, augs: str, precision: str, device: torch.device, graphs: bool = True) -> Step:
    """adaflow's step; on a GPU with its phases as CUDA graphs, recorded already."""
    run = new_run(setup, augs, P if augs != "none" else 0.0, precision, device)
    if not graphs:
        run.graphs = Graphs(None, print)

    def step(number: int) -> None:
        allow_tf32(precision)  # a setting of the whole process, and the sides have different ones
        run.state.step = number
        training_step(run)

    if run.graphs.recorder is not None:
        for _ in range(WARM_UP + 1):
            step(STEPS[ALL_PHASES])
    return step


def plain_step(setup: Setup, augs: str, options: Options, modulation: Modulation) -> Step:
    """The step in plain torch, on the same first weights and images."""
    run = new_run(setup, augs, 0.0, "fp32", options.device)
    G, G_ema = (PlainGenerator(run.state.G, modulation) for _ in range(2))
    D = PlainDiscriminator(run.state.D)
    augment = Chain(augs, P, options.device) if augs != "none" else (lambda images: images)
    return on_images(PlainStep(G, G_ema, D, run.config.generator.z_dim, augment, settings(run.config)), run)


def foreign_step(setup: Setup, augs: str, options: Options) -> Step | None:
    """The step in plain torch with the networks and augmentation of another implementation, where it has all."""
    assert options.foreign is not None
    run = new_run(setup, augs, 0.0, "fp32", options.device)
    G, G_ema = (options.foreign.generator(options.device, **network_settings(run.config)) for _ in range(2))
    D = options.foreign.discriminator(options.device, **network_settings(run.config))
    augment: Augment | None = lambda images: images  # noqa: E731
    if augs != "none":
        augment = options.foreign.augment_pipe(augs, P, options.device)
    if G is None or D is None or augment is None:
        return None
    return on_images(PlainStep(G, G_ema, D, run.config.generator.z_dim, augment, settings(run.config)), run)


def on_images(step: PlainStep, run: Run) -> Step:
    """The step on images of the run's data set that are on the device already."""
    batch = run.config.schedule.batch
    reals = run.dataset.batch(torch.arange(run.config.schedule.batch * 4), "train", run.world.device)[0]
    parts = count()

    def train(number: int) -> None:
        allow_tf32("fp32")
        part = next(parts) % 4
        step(to_float(reals[part * batch : (part + 1) * batch]), number)

    return train


def network_settings(config: RunConfig) -> dict[str, int]:
    """What an adapter is told about the networks."""
    names = ("z_dim", "w_dim", "img_resolution", "img_channels", "mapping_layers", "channel_base", "channel_max")
    return {name: getattr(config.generator, name) for name in names}


def settings(config: RunConfig) -> StepSettings:
    """The losses and rates of a run."""
    loss, optimizer = config.loss, config.optimizer
    return StepSettings(
        loss.r1_gamma,
        loss.r1_interval,
        loss.pl_weight,
        loss.pl_interval,
        loss.pl_decay,
        loss.pl_batch_shrink,
        loss.style_mixing,
        optimizer.g_lr,
        optimizer.beta2,
    )
