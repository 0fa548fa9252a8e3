"""What this machine has, which path each operation takes on it, and whether native and reference path agree."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

# Operations register their self-tests when these are imported.
from adaflow.core import run  # noqa: F401
from adaflow.core.augment import self_test as augment_self_test  # noqa: F401
from adaflow.cuda import library, self_test  # noqa: F401
from adaflow.cuda.build import NAMES, BuildError, Kind, cache_folders, find_compiler

LOG_LINES = 30
"""Of a failed build, how much of what the compiler wrote is shown."""

CPU_FEATURES = {"avx2": "avx2", "avx512f": "avx512", "avx512_bf16": "avx512-bf16", "amx_bf16": "amx-bf16"}
"""Name in /proc/cpuinfo → what we call it."""


@dataclass(frozen=True)
class Operation:
    """An operation on one device.

    Args:
        name: its public name.
        device: e.g. cpu, cuda:0.
        path: native or reference.
        why: why it is the reference path; otherwise empty.
        failure: how the native path differs from the reference path; otherwise empty.
    """

    name: str
    device: str
    path: str
    why: str
    failure: str = ""


@dataclass
class Examination:
    """What `examine` found.

    Args:
        facts: name → value, in the order to show them.
        libraries: the compiled libraries in the cache, with their sizes in bytes.
        operations: every operation on every device.
        problems: what must not be; none of them means that all is well.
    """

    facts: dict[str, str]
    libraries: dict[str, int] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def examine(build_ahead: bool = False) -> Examination:
    """Look at everything; builds the native kernels of the devices here, unless ADAFLOW_OPS=reference.

    Args:
        build_ahead: build what can be built, for GPUs too where there is none but an nvcc, whatever ADAFLOW_OPS says.

    Raises:
        UsageError: ADAFLOW_OPS has an unknown value.
    """
    mode = library.mode()
    devices = [torch.device("cpu"), *(torch.device("cuda", index) for index in range(torch.cuda.device_count()))]
    problems = _build_all(needed=len(devices) > 1) if build_ahead else []
    operations = []
    for device in devices:
        path, why = _path(device, mode)
        if mode == "native" and path == "reference":
            problems.append(f"ADAFLOW_OPS=native, but there are no native kernels for {device}: {why}")
        for name, test in sorted(library.self_tests.items()):
            row = _test(name, test, device) if path == "native" else Operation(name, str(device), path, why)
            operations.append(row)
            if row.failure:
                problems.append(f"{name} on {device}: {row.failure}")
    libraries = {
        str(path): path.stat().st_size
        for folder in cache_folders()
        for path in sorted(folder.glob("c*-*.so"))
    }  # fmt: skip
    return Examination(_facts(mode), libraries, operations, problems)


def _build_all(needed: bool) -> list[str]:
    """Build ahead, for CUDA where it is needed or there is an nvcc. Returns what went wrong."""
    problems = []
    kinds: list[Kind] = ["cpu", "cuda"] if needed or _compiler("cuda")[0] else ["cpu"]
    for kind in kinds:
        error = library.load(kind)
        if isinstance(error, BuildError):
            lines = [f"native {NAMES[kind]} kernels: {error.message}", *error.log.splitlines()[:LOG_LINES]]
            problems.append("\n".join(lines))
    return problems


def _path(device: torch.device, mode: library.Mode) -> tuple[str, str]:
    """The path that operations take on a device, and why it is the reference path."""
    if mode == "reference":
        return "reference", "ADAFLOW_OPS=reference"
    error = library.why_not(device)
    return ("native", "") if error is None else ("reference", error.message)


def _test(name: str, test: Callable[[torch.device], None], device: torch.device) -> Operation:
    """Run a self-test; one that cannot be run has failed. Where no kernel is called, the reference path is taken."""
    failure = ""
    with library.recorded_calls() as kernels:
        try:
            test(device)
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            failure = f"{type(error).__name__}: {' '.join(lines)[:300]}"
    path, why = ("native", "") if kernels else ("reference", "it has no kernel for this device")
    return Operation(name, str(device), path, why, failure)


def _facts(mode: library.Mode) -> dict[str, str]:
    facts = {
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads; Python {platform.python_version()}",
        "CPU": _processor(),
        "C++ compiler": _compiler("cpu")[1],
        "nvcc": _compiler("cuda")[1],
    }
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        facts[f"GPU {index}"] = (
            f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, compute capability {gpu.major}.{gpu.minor}, "
            f"torch for CUDA {torch.version.cuda}"
        )
    if not torch.cuda.device_count():
        facts["GPU"] = "none that torch sees"
    return facts | {"cache": str(cache_folders()[0]), "ADAFLOW_OPS": mode}


def _compiler(kind: Kind) -> tuple[bool, str]:
    """Whether there is a compiler, and what there is to say about it."""
    try:
        compiler = find_compiler(kind)
    except BuildError as error:
        return False, error.message
    lines = compiler.version.splitlines()
    release = next((line for line in lines if "release" in line), lines[0] if lines else "")
    return True, f"{release.strip()} ({compiler.command[0]})"


def _processor() -> str:
    """The CPU's name, number of cores that we may use, and what matters here of what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    features = [name for flag, name in CPU_FEATURES.items() if flag in flags]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{facts.get('model name') or platform.machine()}, {cores} cores; {' '.join(features) or 'no AVX2'}"
