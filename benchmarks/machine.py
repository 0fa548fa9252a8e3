"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

TELLING_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "bf16", "sve")
"""CPU flags that decide which kernels run."""


def describe(threads: int) -> dict[str, Any]:
    """Processor, GPU, and the versions of what runs on them."""
    return {
        "platform": platform.platform(),
        **processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "compiler": first_line(os.environ.get("CXX", "g++"), "--version"),
        "nvcc": first_line("nvcc", "--version", line=-1),
        "gpu": gpu(),
        "ops": os.environ.get("ADAFLOW_OPS", "auto"),
    }


def processor() -> dict[str, Any]:
    """Its name, and which of the telling flags it has."""
    file = Path("/proc/cpuinfo")
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = fields.get("flags", fields.get("Features", "")).split()
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in TELLING_FLAGS if flag in flags],
    }


def gpu() -> dict[str, Any] | None:
    """Its name, memory and capability."""
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "gib": round(properties.total_memory / 2**30, 1),
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
    }


def first_line(command: str, argument: str, line: int = 0) -> str | None:
    """One line of what a program says of itself; None where there is no such program."""
    if shutil.which(command) is None:
        return None
    said = subprocess.run([command, argument], capture_output=True, text=True, check=False).stdout.strip()
    return said.splitlines()[line] if said else None
