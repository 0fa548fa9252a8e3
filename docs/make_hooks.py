"""Makes the reference in docs/hooks.md from adaflow/hookspecs.py: `python docs/make_hooks.py`. A test compares it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from adaflow import hookspecs

PAGE = Path(__file__).parent / "hooks.md"
BEGIN = "## Every hook\n"


def reference() -> str:
    """Every hook, in the order of a run's life: its signature, and what hookspecs.py says of it."""
    parts = [BEGIN, "Made from `adaflow/hookspecs.py`, in the order of a run's life.\n"]
    for name, hook in vars(hookspecs).items():
        if hasattr(hook, "adaflow_spec"):
            signature = re.sub(r"'|adaflow\.", "", str(inspect.signature(hook)))
            parts.append(
                f"### {name}\n\n```python\n@hookimpl\ndef {name}{signature}: ...\n```\n\n{inspect.getdoc(hook)}\n"
            )
    return "\n".join(parts)


def page(text: str) -> str:
    """The page with its reference, which is the last thing on it, made anew."""
    return text.split(BEGIN)[0].rstrip("\n") + "\n\n" + reference()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
