"""`launches`: what the host asks of a GPU in a training step: kernels, graphs, copies, waits. Nothing on a CPU.

Phases are CUDA graphs by the time that calls are counted. Every fourth step the p controller asks for numbers; what
that costs is counted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness import Clock, Result
from benchmarks.options import OURS, TORCH, Options
from benchmarks.ours import AUTO
from benchmarks.subjects.step import STEPS, at, steps_for

WARM_UP = 8
STEADY = 4
WITH_CONTROLLER = {"Dmain + Gmain, p adapted": 3}
"""After step 3 come 4 steps done, at which the controller is asked by the usual interval."""
KINDS = {
    "kernel launches": ("cudaLaunchKernel", "cuLaunchKernel"),
    "graph launches": ("cudaGraphLaunch",),
    "copies": ("cudaMemcpy",),
    "waits": ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cuStreamSynchronize"),
}
"""What is counted → how the names of such calls begin."""


def results(options: Options, rounds: int, least: float, clock: Clock) -> Iterator[Result]:
    """Calls in a step without and with the regularisers, with `bgc`."""
    if options.device.type != "cuda":
        return
    for setup in AUTO[:1] if options.quick else AUTO:
        for kind, number in {**STEPS, **WITH_CONTROLLER}.items():
            tasks = [(side, at(step, number)) for side, step in steps_for(setup, "bgc", "bf16", options)]
            counts = {side: calls(run) for side, run in tasks if side in (OURS, TORCH)}
            for what in KINDS:
                values = {side: [count[what]] for side, count in counts.items()}
                yield Result("launches", f"{setup.name}, {kind}: {what}", "calls", values)


def calls(run: Callable[[], object]) -> dict[str, float]:
    """Calls of each kind in one run, when all is warm."""
    for _ in range(WARM_UP):
        run()
    steps, nothing = profiled(run, STEADY), profiled(run, 0)
    return {what: (count - nothing[what]) / STEADY for what, count in steps.items()}


def profiled(run: Callable[[], object], times: int) -> dict[str, int]:
    """Calls of each kind in so many runs, and those of the profiler itself."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(times):
            run()
    return tally({event.key: event.count for event in profiler.key_averages()})


def tally(names: Mapping[str, int]) -> dict[str, int]:
    """Calls of each kind from calls by name."""
    return {
        what: sum(count for name, count in names.items() if name.startswith(beginnings))
        for what, beginnings in KINDS.items()
    }
