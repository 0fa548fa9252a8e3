"""`loader`: training images from the cache of decoded images, against a plain loop over a zip; on one core."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.data_reading import IMAGES, measure
from benchmarks.harness import Clock, Result
from benchmarks.options import OURS, Options


def results(options: Options, rounds: int, least: float, clock: Clock) -> Iterator[Result]:
    """Processor time for one image, at each size."""
    for size in (64,) if options.quick else IMAGES:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(size, Path(folder), rounds)
        rates = row["images_per_second"]
        sides = {OURS: rates["cache"], "stored PNG": rates["stored"], "compressed PNG": rates["compressed"]}
        yield Result("loader", f"{size}²", "µs of a core", {name: [1e6 / rate] for name, rate in sides.items()})
