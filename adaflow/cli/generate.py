"""`adaflow generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adaflow.cli import app
from adaflow.cli.options import make_folder, parse_range, progress_bar

BATCH = 16
"""Images drawn and written at a time."""


@app.command()
def generate(
    network: Annotated[Path, typer.Argument(metavar="RUN.pkl", help="A network snapshot.")],
    seeds: Annotated[str, typer.Option(help="One image a seed: 0-35 or 1,4,7.")] = "0-35",
    class_: Annotated[
        int | None, typer.Option("--class", help="Class to draw, for networks trained with labels.")
    ] = None,
    trunc: Annotated[float, typer.Option(help="Truncation ψ: 1 is full variety, 0 the average image.")] = 1.0,
    noise: Annotated[str, typer.Option(help="Pixel noise: const, random or none.")] = "const",
    precision: Annotated[
        str, typer.Option(help="fp32; or tf32 (GPUs) or bf16: faster, pixels differ by a step or two.")
    ] = "fp32",
    outdir: Annotated[Path, typer.Option(help="Where the images go.")] = Path("out"),
    grid: Annotated[
        bool, typer.Option("--grid", metavar="", help="One picture with all images, grid.png, too.")
    ] = False,
) -> None:
    """Draw images from a trained generator: `seed0000.png` and so on."""
    import torch

    from adaflow.core.generate import generate_images
    from adaflow.core.grid import join_images, save_png
    from adaflow.core.memory import keep_memory
    from adaflow.core.precision import allow_tf32, check_precision, choose_precision, set_precision
    from adaflow.core.snapshot import load_network

    keep_memory()
    numbers = parse_range(seeds)
    check_precision(precision)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_network(network, device)
    precision = choose_precision(precision, device == "cuda", loaded.G_ema.config)
    set_precision(loaded.G_ema, precision)
    allow_tf32(precision)
    progress = progress_bar("drawing")
    drawn = []
    for start in range(0, len(numbers), BATCH):
        chunk = numbers[start : start + BATCH]
        images = generate_images(loaded.G_ema, chunk, class_, trunc, noise)
        make_folder(outdir)
        for number, image in zip(chunk, images, strict=True):
            save_png(outdir / f"seed{number:04d}.png", image)
        if grid:
            drawn.append(images)
        progress(start + len(chunk), len(numbers))
    if grid:
        columns = max(round(len(numbers) ** 0.5), 1)
        save_png(outdir / "grid.png", join_images(torch.cat(drawn), columns))
    typer.echo(f"{len(numbers)} images in {outdir}" + (f", all of them in {outdir / 'grid.png'}" if grid else ""))
