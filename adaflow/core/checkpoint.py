"""Checkpoints: the whole state of a run, so that it can go on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from adaflow.core.files import committed, verify_zip
from adaflow.errors import FileError

FORMAT = "adaflow-checkpoint"
VERSION = 1


def checkpoint_path(folder: Path, images: int) -> Path:
    """`checkpoints/checkpoint-<images, 10 digits>.pt` in the run folder."""
    return folder / "checkpoints" / f"checkpoint-{images:010d}.pt"


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run folder, oldest first."""
    return sorted((folder / "checkpoints").glob("checkpoint-*.pt"))


def save_checkpoint(folder: Path, state: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint whole, then remove all but the newest `keep`."""
    path = checkpoint_path(folder, state["images"])
    path.parent.mkdir(exist_ok=True)
    content = {"format": FORMAT, "version": VERSION, "state": state}
    with committed(path) as file:
        torch.save(content, file)
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def load_newest_checkpoint(folder: Path, device: torch.device, say: Callable[[str], None]) -> dict[str, Any]:
    """The state in the newest checkpoint that is whole; damaged ones are named and passed over.

    Raises:
        FileError: there is none.
    """
    for path in reversed(list_checkpoints(folder)):
        try:
            verify_zip(path)
            content = torch.load(path, map_location=device, weights_only=True)
        except Exception as error:
            say(f"{path.name} is damaged and passed over: {str(error).splitlines()[0]}")
            continue
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            raise FileError(f"{path} was written by another version of adaflow", "Resume with that version.")
        state: dict[str, Any] = content["state"]
        return state
    raise FileError(
        f"{folder} holds no valid checkpoint to resume from",
        "Start a new run from its weights with --init-from, if it has a run.pkl.",
    )
