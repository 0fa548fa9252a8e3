"""LeakBench, lost modes: `python -m benchmarks.leakbench.collapse --data FOLDER --size 64 --seeds 40`.

In every seed the images are divided anew: three quarters real ones, the others pass for fakes: as they are, distorted,
or only a part of them: one class, one of two k-means cells, or a few of them again and again.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from adaflow.core.leak_detector import exact_interval
from adaflow.core.neighbours import nearest
from adaflow.plugins.features.efficientnet import EfficientNetLite0
from adaflow.plugins.leak_detectors.collapse import Against, compare, modes_verdict, thumbnails, variety_verdict
from adaflow.plugins.metrics.copying import k_means, principal
from benchmarks.leakbench.copies import distorted, read_images

DISTORTIONS = ("blur 0.8", "JPEG 40", "drift", "noise 5 %", "PCA 200")


def parts_of(others: Tensor, groups: dict[str, Tensor]) -> dict[str, Tensor]:
    """Which images pass for fakes, by name."""
    parts = {"as they are": others, "every second": others[::2]}
    parts |= {name: others[member[others]] for name, member in groups.items()}
    return parts | {
        f"{count} repeated": others[:count].repeat(max(len(others) // count, 1)) for count in (20, 100, 250)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--table", type=Path, help="CSV with a column diagnosis, in the order of the files")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = read_images(options.data, options.size)
    generator = torch.Generator().manual_seed(0)
    extractor = EfficientNetLite0()
    features = extractor.all(torch.split(images, 64))
    bad = {}
    for kind in DISTORTIONS:
        poor = distorted(images, kind, images[:1000], generator)
        bad[kind] = extractor.all(torch.split(poor, 64)), thumbnails(poor)
    mean, directions = principal(features, 16)
    near = (features.double() - mean) @ directions
    cells = nearest(near, k_means(near, 2, 0))[1]
    groups = {"first of two cells": cells == 0, "second of two cells": cells == 1}
    if options.table:
        diagnoses = [row["diagnosis"] for row in csv.DictReader(options.table.open())]
        groups |= {
            f"{name} only": torch.tensor([d == name for d in diagnoses]) for name, _ in Counter(diagnoses).most_common()
        }
    small = thumbnails(images)
    rows: dict[str, list[tuple[dict[str, Against], dict[str, Against]]]] = defaultdict(list)
    for seed in range(options.seeds):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        reals, others = order[: 3 * len(order) // 4], order[3 * len(order) // 4 :]

        def both_ways(
            made: Tensor, made_small: Tensor, reals: Tensor = reals, seed: int = seed
        ) -> tuple[dict[str, Against], dict[str, Against]]:
            return compare(made, features[reals], seed), compare(made_small, small[reals], seed)

        for name, part in parts_of(others, groups).items():
            rows[name].append(both_ways(features[part], small[part]))
        for kind in DISTORTIONS:
            rows[kind].append(both_ways(*(x[others] for x in bad[kind])))
    print(f"{len(images)} images at {options.size} pixels, {options.seeds} seeds")
    print("| fakes | lost: leak | unsure | coverage | of reals | at 8 × 8 | of reals | varied: leak | Vendi | reals |")
    print("|--|--|--|--|--|--|--|--|--|--|")
    for name, found in rows.items():
        modes = Counter(modes_verdict(scores["coverage"], small) for scores, small in found)
        variety = Counter(variety_verdict(scores["vendi"], small) for scores, small in found)
        features, tiny = zip(*found, strict=True)
        low, high = exact_interval(modes["leak"], len(found))
        share = 1 / len(found)
        print(
            f"| {name} | {modes['leak'] * share:.0%} ({low:.0%}–{high:.0%}) | {modes['cannot tell'] * share:.0%} "
            f"| {both(features, 'coverage', 2)} | {both(tiny, 'coverage', 2)} | {variety['leak'] * share:.0%} "
            f"| {both(features, 'vendi', 1)} |"
        )


def both(found: Sequence[dict[str, Against]], name: str, digits: int) -> str:
    """Means of the fakes' and of the reals' score."""
    scores = [each[name] for each in found]
    means = [sum(values) / len(scores) for values in ([s.fakes for s in scores], [s.reals for s in scores])]
    return " | ".join(f"{value:.{digits}f}" for value in means)


if __name__ == "__main__":
    main()
