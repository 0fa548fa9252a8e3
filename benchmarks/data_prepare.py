"""How many images a second `adaflow data prepare` makes ready, against a bare loop over Pillow and zipfile.

    python -m benchmarks.data_prepare --json data_prepare.json

500 JPEG files of 300×400 pixels become 256×256 pixels: central square, Lanczos, uncompressed PNG in a stored zip. All
sides take their turn in every round, on the same files; the median of the rounds counts. The rate of one core is per
second of processor time, all threads together: other work on the machine disturbs it less.
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

import numpy as np
import PIL
from PIL import Image

from adaflow.core.data.prepare import PrepareConfig, prepare
from adaflow.plugin_manager import PluginManager

SIDE = 256


def make_photos(folder: Path, count: int) -> None:
    """Smooth noise with fine grain, about 45 KB each, as a photo of skin has."""
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(40, 216, (9, 12, 3), dtype=np.uint8)).resize(
            (400, 300), Image.Resampling.BICUBIC
        )
        grain = rng.normal(0, 4, (300, 400, 1))
        pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:04d}.jpg", quality=95)


def bare_loop(source: Path, dest: Path) -> None:
    """What one writes in ten lines: no reports, no checks, no second thread."""
    with zipfile.ZipFile(dest, "w", zipfile.ZIP_STORED) as archive:
        for number, path in enumerate(sorted(source.iterdir())):
            with Image.open(path) as file:
                image = file.convert("RGB")
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            png = io.BytesIO()
            image.save(png, "png", compress_level=0)
            archive.writestr(f"{number:08d}.png", png.getvalue())


def measure(rounds: int, images: int) -> dict[str, list[tuple[float, float]]]:
    """Images a second, and a second of one core, of each side in each round."""
    readers = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).datasets

    def ours(workers: int) -> Callable[[Path, Path], object]:
        return lambda source, dest: prepare(PrepareConfig(str(source), dest, SIDE, workers=workers), readers)

    sides = {"bare loop": bare_loop, "prepare, 1 worker": ours(1), "prepare, 2 workers": ours(2)}
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "photos"
        source.mkdir()
        make_photos(source, images)
        for number in range(rounds + 1):
            for side, run in sides.items():
                dest = Path(name) / "out.zip"
                began, began_core = time.perf_counter(), time.process_time()
                run(source, dest)
                if number:  # the first round warms up
                    seconds, core_seconds = time.perf_counter() - began, time.process_time() - began_core
                    rates[side].append((images / seconds, images / core_seconds))
                dest.unlink()
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rates = measure(arguments.rounds, arguments.images)
    median = {side: [statistics.median(values) for values in zip(*pairs, strict=True)] for side, pairs in rates.items()}
    print("| side | images/s | of the bare loop | images/s of one core | of the bare loop |\n|--|--|--|--|--|")
    bare = median["bare loop"]
    for side, (rate, core_rate) in median.items():
        print(f"| {side} | {rate:.0f} | {rate / bare[0]:.2f}× | {core_rate:.0f} | {core_rate / bare[1]:.2f}× |")
    if arguments.json:
        machine = {
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "pillow": PIL.__version__,
        }
        arguments.json.write_text(
            json.dumps({"machine": machine, "images_per_s_and_core_s": rates, "median": median}, indent=2)
        )


if __name__ == "__main__":
    main()
