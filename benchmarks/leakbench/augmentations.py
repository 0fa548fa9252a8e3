"""LeakBench, transforms: fakes made from held-out real images, with known shares of each transform, are audited.

    python -m benchmarks.leakbench.augmentations traces --data isic.zip --resolution 64 --folder traces64
    python -m benchmarks.leakbench.augmentations table --folder traces64 --seeds 20 --json table.json

The first command computes the traces of all images under all transforms and conditions, once: half an hour on 2 cores.
The second one divides the images anew for each seed, into 1,000 that the detector may know and the rest that fakes are
made from, and counts: false alarms, detections, errors of the share, cover of the interval, other transforms accused.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaflow.core.augment.transform import Transform
from adaflow.core.data.dataset import DataConfig, load_dataset
from adaflow.core.leaks.distortions import bank, distort_randomly
from adaflow.core.leaks.planting import smallest_rates
from adaflow.core.leaks.reference import BANK_REALS, MOST_REALS, Reference, apply_surely
from adaflow.core.leaks.search import MARGIN, Look, Search, alarm
from adaflow.core.leaks.statistics import statistics
from adaflow.core.leaks.traces import traces
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.leak_detectors.augmentation import _interval
from benchmarks.leakbench.innocent import conditions

TRANSFORMS = (
    *("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac", "brightness", "contrast", "lumaflip", "hue"),
    *("saturation", "band1", "band2", "band3", "band4", "noise", "cutout", "vignette", "hair"),
)
PLUGINS = [Path(__file__).with_name("contributed.py")]
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def load(data: str, resolution: int) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, 3, H, W] of a resolution, and their classes [N], 0 where there are none."""
    dataset = load_dataset(DataConfig(source=data, cond=False), PluginManager().datasets, 0)
    images = dataset.take(dataset.train_indices)
    if images.shape[2] != resolution:
        images = images.float()
        images = torch.nn.functional.interpolate(images, (resolution, resolution), mode="bilinear", antialias=True)
        images = images.round().clamp(0, 255).to(torch.uint8)
    return images, torch.zeros(len(images), dtype=torch.int64)


def transforms() -> dict[str, Transform]:
    """The 18 of the built-in pipeline, and two contributed ones, at the strengths of training."""
    registry = PluginManager(PLUGINS).augmentations
    return {name: registry[name].value() for name in TRANSFORMS}


def stages() -> Any:
    """Of the default extractor."""
    return PluginManager().features["efficientnet-lite0"].value().stages


def save(path: Path, found: Tensor) -> None:
    np.save(path.with_suffix(".part.npy"), found.clamp(-6e4, 6e4).half().numpy())
    path.with_suffix(".part.npy").rename(path)
    print(path.name, flush=True)


def reference_job(data: str, resolution: int, folder: Path, name: str) -> None:
    """Traces that the detector learns from: of all images, for any choice among them."""
    torch.set_num_threads(1)
    images, _ = load(data, resolution)
    numbers = torch.arange(len(images))
    if name == "plain":
        changed = images
    elif name == "distorted":
        changed = distort_randomly(images, numbers, 1)
    elif name.startswith("bank "):
        changed = bank()[name.removeprefix("bank ")](images, numbers)
    else:
        place = TRANSFORMS.index(name)
        changed, _ = apply_surely(transforms()[name], name, images, 0)
        chosen = ~plain_ones(len(images))
        changed[chosen] = distort_randomly(changed[chosen], numbers[chosen], 2 + place)
    save(folder / f"reference {name}.npy", traces(changed, stages()))


def condition_job(data: str, resolution: int, folder: Path, name: str) -> None:
    """Traces of fakes under a condition: without a transform, with each, and with several as in training."""
    torch.set_num_threads(1)
    images, _ = load(data, resolution)
    apply = conditions(images)[name] if name != "clean" else lambda x: x
    see, known = stages(), transforms()
    rows = [traces(apply(images), see)]
    for transform in TRANSFORMS:
        changed, _ = apply_surely(known[transform], transform, images, 99)
        rows.append(traces(apply(changed), see))
    save(folder / f"condition {name}.npy", torch.stack(rows))


def plain_ones(count: int) -> Tensor:
    """The images whose transformed versions the detector sees undistorted."""
    return torch.arange(count) // 2 % 5 < 2


def compute(arguments: argparse.Namespace) -> None:
    arguments.folder.mkdir(parents=True, exist_ok=True)
    images, _ = load(arguments.data, arguments.resolution)
    width = statistics(images[:1]).shape[1]
    (arguments.folder / "about.json").write_text(json.dumps({"pixels": width, "images": len(images)}))
    references = ["plain", "distorted", *(f"bank {name}" for name in bank()), *TRANSFORMS]
    jobs = [partial(reference_job, name=name) for name in references]
    jobs += [partial(condition_job, name=name) for name in ("clean", *conditions_names())]
    with ProcessPoolExecutor(arguments.workers) as pool:
        running = []
        for job in jobs:
            kind = "reference" if job.func is reference_job else "condition"
            if not (arguments.folder / f"{kind} {job.keywords['name']}.npy").exists():
                running.append(pool.submit(job, arguments.data, arguments.resolution, arguments.folder))
        for result in running:
            result.result()


def conditions_names() -> tuple[str, ...]:
    return (
        *("principal components", "checkerboard", "smooth", "jpeg", "combined", "autoencoder", "grain", "resized"),
        *("cast", "low-pass", "median", "very smooth"),
    )


class Bench:
    """Traces from the folder, divided by a seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        about = json.loads((folder / "about.json").read_text())
        self.folder, self.count, self.pixels = folder, about["images"], about["pixels"]
        self.generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(self.count, generator=self.generator)
        reals = min(MOST_REALS, self.count // 2)
        self.reals, self.rest = order[:reals], order[reals:]
        self.seed = seed

    def rows(self, name: str, which: Tensor, part: int | None = None) -> Tensor:
        array = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        if part is not None:
            array = array[part]
        order = which.argsort()
        rows = torch.from_numpy(np.asarray(array[which[order].numpy()], dtype=np.float32))
        return rows[order.argsort()]

    def search(self) -> Search:
        few = self.reals[:BANK_REALS]
        return Search(
            Reference(
                self.rows("reference plain", self.reals),
                self.rows("reference distorted", self.reals),
                {name: self.rows(f"reference bank {name}", few) for name in bank()},
                {name: self.rows(f"reference {name}", self.reals) for name in TRANSFORMS},
                plain_ones(self.count)[self.reals],
                dict.fromkeys(TRANSFORMS, 1.0),
            ),
            self.pixels,
            self.seed,
        )

    def fakes(self, condition: str, images: int, shares: dict[str, float]) -> Tensor:
        """Traces of fakes: held-out images under a condition, shares of them transformed."""
        which = self.rest[torch.randint(len(self.rest), (images,), generator=self.generator)]
        tenth = condition == "tenth very smooth"
        found = self.rows("condition clean" if tenth else f"condition {condition}", which, 0)
        if tenth:
            found[: images // 10] = self.rows("condition very smooth", which[: images // 10], 0)
        start = 0
        order = torch.randperm(images, generator=self.generator)
        for name, share in shares.items():
            chosen = order[start : start + round(share * images)]
            start += len(chosen)
            source = "condition clean" if tenth else f"condition {condition}"
            found[chosen] = self.rows(source, which[chosen], 1 + TRANSFORMS.index(name))
        return found


def seed_job(folder: Path, images: int, sweep: bool, seed: int) -> list[dict[str, Any]]:
    """All cases of one seed."""
    torch.set_num_threads(1)
    bench = Bench(folder, seed)
    search = bench.search()
    rows: list[dict[str, Any]] = []
    for condition in ("clean", *conditions_names(), "tenth very smooth"):
        cases: list[dict[str, float]] = [{}] + [{name: 0.1} for name in TRANSFORMS]
        if sweep and condition in ("clean", "combined"):
            cases += [{name: share} for name in TRANSFORMS for share in SHARES if share != 0.1]
        for shares in cases:
            look = search.look(bench.fakes(condition, images, shares), times=100)
            rows.append(_row(search, look, seed, condition, shares))
            if not shares and condition == "clean":
                rows[-1]["smallest"] = smallest_rates(search, look, images)
    print(f"seed {seed}", flush=True)
    return rows


def _row(search: Search, look: Look, seed: int, condition: str, shares: dict[str, float]) -> dict[str, Any]:
    alarms, raw_alarms = look.alarms(), alarm(look.raw, MARGIN)
    found = {
        name: {
            "leak": bool(alarms[answer]),
            "suspicious": bool(raw_alarms[answer]),
            "share": float(look.raw.value[answer]),
            "interval": _interval(look, answer),
        }
        for answer, name in enumerate(search.suspects, start=1)
    }
    return {
        "seed": seed,
        "condition": condition,
        "planted": shares,
        "found": found,
        "area": search.area,
        "misfit": [look.raw.misfit, look.aligned.misfit],
    }


def table(arguments: argparse.Namespace) -> None:
    job = partial(seed_job, arguments.folder, arguments.images, arguments.sweep)
    with ProcessPoolExecutor(arguments.workers) as pool:
        rows = [row for rows in pool.map(job, range(arguments.seeds)) for row in rows]
    arguments.json.write_text(json.dumps(rows))
    print(summary(rows))


def summary(rows: list[dict[str, Any]]) -> str:
    """The table of false alarms, detections at 10 %, errors, cover and other transforms accused."""
    lines = [
        "| transform | told | false alarms | seen at 10 % | clean | share found | cover q=0 | cover q=.1 | accused |"
    ]
    lines.append("|--" * 9 + "|")
    for name in TRANSFORMS:
        here = [row for row in rows if name in row["found"]]
        told = len({row["seed"] for row in here}) / len({row["seed"] for row in rows})
        if not here:
            lines.append(f"| {name} | never |" + " – |" * 7)
            continue
        innocent = [row for row in here if not row["planted"]]
        guilty = [row for row in here if row["planted"] == {name: 0.1}]
        others = [row for row in here if row["planted"] and name not in row["planted"]]
        clean = [row for row in guilty if row["condition"] == "clean"]
        found = [row["found"][name]["share"] for row in guilty]

        def share(of: list[dict[str, Any]], name: str = name) -> str:
            return f"{100 * np.mean([row['found'][name]['leak'] for row in of]):.1f} %" if of else "–"

        def cover(of: list[dict[str, Any]], value: float, name: str = name) -> str:
            inside = [row["found"][name]["interval"] for row in of]
            return f"{100 * np.mean([low - 0.005 <= value <= high for low, high in inside]):.0f} %"

        lines.append(
            f"| {name} | {100 * told:.0f} % | {share(innocent)} | {share(guilty)} | {share(clean)} | "
            f"{np.mean(found):.3f} ± {np.std(found):.3f} | {cover(innocent, 0)} | {cover(guilty, 0.1)} | "
            f"{share(others)} |"
        )
    lines.append("")
    names = list(dict.fromkeys(row["condition"] for row in rows))
    lines += ["| condition | false alarms | suspicious | seen at 10 % | misfit |", "|--" * 5 + "|"]
    for condition in names:
        here = [row for row in rows if row["condition"] == condition]
        innocent = [found for row in here if not row["planted"] for found in row["found"].values()]
        guilty = [
            row["found"][name]["leak"]
            for row in here
            for name, share in row["planted"].items()
            if share == 0.1 and name in row["found"]
        ]
        fits = [row["misfit"] for row in here if not row["planted"]]
        lines.append(
            f"| {condition} | {100 * np.mean([f['leak'] for f in innocent]):.1f} % | "
            f"{100 * np.mean([f['suspicious'] for f in innocent]):.1f} % | {100 * np.mean(guilty):.0f} % | "
            f"{np.mean([fit[0] for fit in fits]):.1f}, {np.mean([fit[1] for fit in fits]):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("traces")
    first.add_argument("--data", required=True)
    first.add_argument("--resolution", type=int, default=64)
    first.set_defaults(run=compute)
    second = commands.add_parser("table")
    second.add_argument("--seeds", type=int, default=20)
    second.add_argument("--images", type=int, default=2000)
    second.add_argument("--sweep", action="store_true")
    second.add_argument("--json", type=Path, default=Path("leakbench.json"))
    second.set_defaults(run=table)
    for command in (first, second):
        command.add_argument("--folder", type=Path, required=True)
        command.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
