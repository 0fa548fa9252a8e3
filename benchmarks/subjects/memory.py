"""`memory`: the most memory a pass takes beyond what was there before, each in a process of its own.

On a CPU it is the growth of the greatest resident size, as Linux counts it, on a GPU that of torch's tensors. A process
is told what to do by `python -m benchmarks.subjects.memory CASE SIDE DEVICE THREADS`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from adaflow.core.memory import keep_memory
from benchmarks.harness import Clock, Result, release_memory
from benchmarks.options import KORNIA, OURS, REFERENCE, TORCH, Options
from benchmarks.ours import SMALL
from benchmarks.subjects import augment, step

PASSES = 3
TASKS: dict[str, Callable[[Options], Iterator[tuple[str, Callable[[], object]]]]] = {
    "augment bgc 256², p 0.6, + backward": lambda options: augment.tasks_for("bgc", 256, 0.6, "+ backward", options),
    "step 64², bgc, p 0.2": lambda options: step.tasks_for(SMALL, "bgc", "fp32", step.ALL_PHASES, options),
}


def results(options: Options, rounds: int, least: float, clock: Clock) -> Iterator[Result]:
    """MiB, once for each case and side."""
    if options.device.type == "cpu" and not sys.platform.startswith("linux"):
        return
    for case in list(TASKS)[: 1 if options.quick else None]:
        wanted = [OURS, *(side for side in (REFERENCE, TORCH, KORNIA) if side in options.sides)]
        values = {side: value for side in wanted if (value := in_own_process(case, side, options)) is not None}
        yield Result("memory", case, "MiB", {side: [value] for side, value in values.items()})


def in_own_process(case: str, side: str, options: Options) -> float | None:
    """MiB; None where the case has no such side."""
    command = [sys.executable, "-m", __name__, case, side, str(options.device), str(options.threads)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return float(said[-1]) if said else None


def growth(case: str, side: str, device: torch.device) -> float | None:
    """MiB that some passes take beyond what is there before; None where the case has no such side."""
    options = Options(sides=() if side == OURS else (side,), device=device)
    run = dict(TASKS[case](options)).get(side)
    if run is None:
        return None
    release_memory()
    forget_peak(device)
    before = peak(device)
    for _ in range(PASSES):
        run()
    return peak(device) - before


def forget_peak(device: torch.device) -> None:
    """Let the greatest size so far be the present one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak(device: torch.device) -> float:
    """MiB, the most since then."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main(case: str, side: str, device: str, threads: str) -> None:
    """Measure one side in this process, and print the number."""
    keep_memory()
    torch.set_num_threads(int(threads))
    measured = growth(case, side, torch.device(device))
    if measured is not None:
        print(measured)


if __name__ == "__main__":
    main(*sys.argv[1:])
