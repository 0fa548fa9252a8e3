"""How fast are training images read? Batches from the cache of decoded images against a plain loop over a zip.

    python -m benchmarks.data_reading --sides 64,256,1024 --json reading.json

The loop is what one writes first: `zipfile.read`, `PIL.Image.open`, `numpy.asarray`, and nothing else. It reads what
`adaflow data prepare` writes, PNG without compression, and the same images as customary compressed PNG. The cache gives
batches of 32 in random order, every other image flipped, its file being in memory. Both have one thread and take turns;
each number is the median over several turns, in images for a second of the processor.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image

from adaflow.core.data.dataset import DataConfig, Dataset, load_dataset
from adaflow.core.memory import keep_memory
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.datasets.lesion_painter import paint_lesion

IMAGES = {64: 2000, 256: 500, 1024: 40}
"""Side → how many images the set has."""
BATCH = 32


def write_sets(folder: Path, side: int, count: int) -> dict[str, Path]:
    """The same painted lesions as two zips, of PNG that are not compressed and that are."""
    paths = {name: folder / f"{name}{side}.zip" for name in ("stored", "compressed")}
    archives = {name: zipfile.ZipFile(path, "w") for name, path in paths.items()}
    for index in range(count):
        image = Image.fromarray(paint_lesion(0, index, side)[0].transpose(1, 2, 0))
        for archive, level in zip(archives.values(), (0, 6), strict=True):
            data = io.BytesIO()
            image.save(data, "png", compress_level=level)
            archive.writestr(f"{index:06}.png", data.getvalue())
    for archive in archives.values():
        archive.close()
    return paths


def plain_loop(path: Path, count: int) -> Callable[[int], None]:
    """Reads so many images in random order."""
    archive = zipfile.ZipFile(path)
    names = np.array(archive.namelist())

    def read(turn: int) -> None:
        order = np.random.default_rng(turn).integers(0, len(names), count)
        for name in names[order]:
            np.asarray(Image.open(io.BytesIO(archive.read(name))))

    return read


def cached_batches(dataset: Dataset, count: int) -> Callable[[int], None]:
    """Reads so many images in batches."""

    def read(turn: int) -> None:
        for first in range(turn * count, (turn + 1) * count, BATCH):
            dataset.batch(torch.arange(first, first + BATCH))

    return read


def measure(side: int, folder: Path, turns: int) -> dict[str, Any]:
    """Images per second of each way to read, and how many times the cache is faster than the loops."""
    paths = write_sets(folder, side, IMAGES[side])
    readers = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).datasets
    dataset = load_dataset(DataConfig(str(paths["stored"]), mirror=True), readers, seed=0)
    pixels_a_turn = 2**23
    few = max(pixels_a_turn // side**2 // 4, 8)
    many = max(pixels_a_turn * 8 // side**2 // BATCH, 4) * BATCH
    ways = {name: (plain_loop(path, few), few) for name, path in paths.items()}
    ways["cache"] = (cached_batches(dataset, many), many)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, (read, count) in ways.items():
            begin = time.process_time()
            read(turn)
            if turn:  # the first one warms up
                seconds[name].append((time.process_time() - begin) / count)
    rate = {name: 1 / statistics.median(values) for name, values in seconds.items()}
    return {
        "side": side,
        "images": IMAGES[side],
        "images_per_second": rate,
        "times_stored": rate["cache"] / rate["stored"],
        "times_compressed": rate["cache"] / rate["compressed"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default="64,256,1024")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    arguments = parser.parse_args()
    keep_memory()  # as training does
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(int(side), Path(folder), arguments.turns) for side in arguments.sides.split(",")]
    print("images per second on one core")
    print("| side | images | loop, PNG not compressed | loop, compressed PNG | cache | times | times |")
    print("|--|--|--|--|--|--|--|")
    for row in rows:
        rate = row["images_per_second"]
        print(
            f"| {row['side']} | {row['images']} | {rate['stored']:,.0f} | {rate['compressed']:,.0f} "
            f"| {rate['cache']:,.0f} | {row['times_stored']:.1f} | {row['times_compressed']:.1f} |"
        )
    if arguments.json:
        machine = {
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
        }
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
