"""Another implementation, through an adapter that its user writes: `docs/benchmarks.md` says how.

Loading an adapter runs it, and what it imports.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from adaflow.errors import UsageError

FUNCTIONS = ("augment_pipe", "generator", "discriminator")


@dataclass(frozen=True)
class Adapter:
    """An adapter, loaded.

    Args:
        name: of the folder; it heads the column.
        module: the adapter itself.
    """

    name: str
    module: ModuleType

    def augment_pipe(self, name: str, p: float, device: torch.device) -> Callable[[Tensor], Tensor] | None:
        """A function of images [N, 3, H, W]; None where the other implementation has no such group."""
        return self._make("augment_pipe", name, p, device)  # type: ignore[no-any-return]

    def generator(self, device: torch.device, **settings: Any) -> Any:
        """A module with `mapping(z)` and `synthesis(ws)`; None where there is none."""
        return self._make("generator", device=device, **settings)

    def discriminator(self, device: torch.device, **settings: Any) -> Any:
        """A module that gives the logits of images; None where there is none."""
        return self._make("discriminator", device=device, **settings)

    def _make(self, function: str, *arguments: Any, **settings: Any) -> Any:
        make = getattr(self.module, function, None)
        return None if make is None else make(*arguments, **settings)


def load_adapter(folder: Path, file: Path | None = None) -> Adapter:
    """Load an adapter, with the folder of the other implementation first on the path of imports.

    Args:
        folder: the other implementation.
        file: the adapter; None for `adapter.py` in the folder.

    Raises:
        UsageError: there is no such folder or file, or it has none of the functions of an adapter.
    """
    file = file or folder / "adapter.py"
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder", "--compare takes torch, reference, kornia, or the folder of an implementation."
        )
    if not file.is_file():
        raise UsageError(f"there is no {file}", "docs/benchmarks.md says how to write one; --adapter names another.")
    sys.path.insert(0, str(folder.resolve()))
    spec = importlib.util.spec_from_file_location("adaflow_benchmark_adapter", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not any(hasattr(module, function) for function in FUNCTIONS):
        raise UsageError(f"{file} has none of {', '.join(FUNCTIONS)}", "docs/benchmarks.md describes them.")
    return Adapter(folder.resolve().name, module)
