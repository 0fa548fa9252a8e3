"""`samples`: draws `reals.png` at the start and `fakes-<kimg>.png` at every snapshot, from fixed latents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from adaflow.core.grid import grid_size, join_images, save_png
from adaflow.core.images import to_uint8
from adaflow.core.random import normal
from adaflow.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from adaflow.core.run import Run


def row_labels(run: Run) -> Tensor:
    """Label of each image of the sheet, [rows·columns, c_dim]: that of the real image at the same place."""
    columns, rows = grid_size(run.dataset.resolution)
    return run.dataset.labels[real_indices(run, columns, rows)].to(run.world.device)


def real_indices(run: Run, columns: int, rows: int) -> Tensor:
    """Which training images the sheet of reals shows: with classes, row k shows class k, k + 1 … in turn."""
    train = run.dataset.train_indices
    order = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(run.config.schedule.seed))]
    labels = run.dataset.labels[order]
    if run.dataset.class_counts and run.dataset.c_dim:
        classes = labels.argmax(1)
        members = [order[classes == k] for k in range(run.dataset.c_dim) if bool((classes == k).any())]
    else:
        members = [order]
    cycles = [members[row % len(members)] for row in range(rows)]
    shown = [0] * len(members)
    rows_of_indices = []
    for row, pool in enumerate(cycles):
        start = shown[row % len(members)]
        rows_of_indices.append(pool[torch.arange(start, start + columns) % len(pool)])
        shown[row % len(members)] = start + columns
    return torch.cat(rows_of_indices)


@hookimpl
def run_started(run: Run) -> None:
    """Draw the sheet of reals once."""
    path = run.folder / "reals.png"
    if not path.exists():
        columns, rows = grid_size(run.dataset.resolution)
        save_png(path, join_images(run.dataset.take(real_indices(run, columns, rows)), columns))


@hookimpl
def snapshot_saved(run: Run, path: Path) -> None:
    """Draw the sheet of fakes of this snapshot."""
    labels = row_labels(run)
    counters = torch.arange(len(labels), device=run.world.device)
    latents = normal(run.key("samples", "z"), counters, (run.config.generator.z_dim,))
    with torch.no_grad():
        fakes = [
            to_uint8(run.state.G_ema(z, c, noise="const")).cpu()
            for z, c in zip(torch.split(latents, 32), torch.split(labels, 32), strict=True)
        ]
    columns, _ = grid_size(run.dataset.resolution)
    save_png(run.folder / f"fakes-{run.state.images // 1000:06d}.png", join_images(torch.cat(fakes), columns))
