"""The inventory of the public API: names and signatures, as text.

python -m tests.public_api > tests/public_api.txt    # after a change that is meant
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import adaflow
from adaflow import conformance, hookspecs


def inventory() -> str:
    """Public names of adaflow with their signatures, members indented below, then the hooks."""
    lines = [line for name in sorted(adaflow.__all__) if name != "__version__" for line in described(adaflow, name)]
    found = (line for name in conformance.__all__ for line in described(conformance, name))
    lines += [line if line.startswith(" ") else f"conformance.{line}" for line in found]
    hooks = (name for name, value in vars(hookspecs).items() if hasattr(value, "adaflow_spec"))
    lines += [f"hook {name}{inspect.signature(getattr(hookspecs, name))}" for name in hooks]
    return "\n".join(lines) + "\n"


def described(module: ModuleType, name: str) -> Iterator[str]:
    value = getattr(module, name)
    yield f"{name}{signature(value)}"
    if not isinstance(value, type):
        return
    for member in sorted(
        {name for kind in value.__mro__ if kind.__module__.startswith("adaflow.") for name in vars(kind)}
    ):
        if member.startswith("_"):
            continue
        found = inspect.getattr_static(value, member)
        if isinstance(found, property):
            yield f"    {member} (property)"
        elif callable(getattr(value, member)):
            yield f"    {member}{signature(getattr(value, member))}"
        elif not type(found).__name__.startswith("member_descriptor"):
            yield f"    {member}"


def signature(value: Any) -> str:
    try:
        text = str(inspect.signature(value)).replace("adaflow.", "").replace("'", "")
    except (TypeError, ValueError):
        return ""
    text = re.sub(r"ForwardRef\((\w+)\)", r"\1", text)
    return re.sub(r"<function (\w+) at 0x\w+>", r"\1", text)


if __name__ == "__main__":
    print(inventory(), end="")
