"""Phases of a step as CUDA graphs: recorded once, then launched as a whole, with no work for the host between kernels.

A phase is a function that takes nothing, and whose result nobody wants. It may be recorded if

- it reads what changes from step to step from tensors that stay where they are, and leaves its results in such tensors,
- it never asks the device for a number, and brings none there from the host,
- it has no random numbers but those that follow from its inputs, and
- nothing of what it does on the host must happen again at the next step.

All graphs share one pool of memory. That is safe in any order, because nothing in the pool outlives a phase.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

import torch

Phase = Callable[[], object]

WARM_UP = 3
"""How often a phase runs before it is recorded: libraries are loaded, caches filled, optimizer states made by then."""


class Recorder(Protocol):
    """Makes graphs of phases."""

    def warm_up(self, phase: Phase) -> None:
        """Run a phase under the conditions under which it will be recorded."""
        ...

    def record(self, phase: Phase) -> Phase:
        """What runs the phase from now on. The phase itself is called, and its work on the device is not done yet.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        ...


class CudaRecorder:
    """Records CUDA graphs, by the rules at https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()

    def warm_up(self, phase: Phase) -> None:
        """See `Recorder`."""
        here = torch.cuda.current_stream()
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            phase()
        here.wait_stream(self.stream)

    def record(self, phase: Phase) -> Phase:
        """See `Recorder`."""
        here = torch.cuda.current_stream()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                phase()
        finally:
            torch.cuda.set_stream(here)  # where recording failed, torch stays on the other one
        return graph.replay


class Graphs:
    """Runs phases by name, and records them when they are warm.

    Args:
        recorder: None where phases are to be run as they are.
        say: told when a phase cannot be recorded. It is then run as it is.
        why_none: why there is no recorder where one would expect it; said when the first phase is run.
    """

    def __init__(self, recorder: Recorder | None, say: Callable[[str], None], why_none: str = "") -> None:
        self.recorder = recorder
        self.say = say
        self.why_none = why_none
        self.recorded: dict[str, Phase] = {}
        self.unfit: set[str] = set()
        self._runs: Counter[str] = Counter()

    def run(self, name: str, phase: Phase) -> None:
        """Run a phase once, in whichever way it can be run by now. The same name stands for the same phase always."""
        if self.why_none:
            self.say(f"No CUDA graphs, so steps take longer: {self.why_none}.")
            self.why_none = ""
        if self.recorder is None or name in self.unfit:
            phase()
        elif self._runs[name] < WARM_UP:
            self._runs[name] += 1
            self.recorder.warm_up(phase)
        elif name in self.recorded or self._record(self.recorder, name, phase):
            self.recorded[name]()
        else:
            phase()

    def _record(self, recorder: Recorder, name: str, phase: Phase) -> bool:
        try:
            self.recorded[name] = recorder.record(phase)
        except RuntimeError as error:
            self.unfit.add(name)
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self.say(f"The {name.replace('_', ' ')} is no CUDA graph, and takes longer: {reason}")
            return False
        return True
