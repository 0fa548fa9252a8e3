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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaflow.core.augment.pipeline import ActiveTransform, AugmentPipeline
from adaflow.core.augment.transform import Transform
from adaflow.core.data.dataset import DataConfig, load_dataset
from adaflow.core.draw import RandomDraws
from adaflow.core.images import to_float, to_uint8
from adaflow.core.leaks.distortions import bank, distort_randomly
from adaflow.core.leaks.planting import smallest_rates
from adaflow.core.leaks.reference import BANK_REALS, MOST_REALS, Reference, among_others, apply_surely
from adaflow.core.leaks.search import Search, Seen
from adaflow.core.leaks.statistics import statistics
from adaflow.core.leaks.strangeness import STRANGE
from adaflow.core.leaks.traces import traces
from adaflow.core.memory import keep_memory
from adaflow.errors import DataError
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.leak_detectors.augmentation import COMPARED, trials
from benchmarks.leakbench.innocent import conditions
from benchmarks.leakbench.tables import summary, sweep

TRANSFORMS = (
    *("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac", "brightness", "contrast", "lumaflip", "hue"),
    *("saturation", "band1", "band2", "band3", "band4", "noise", "cutout", "vignette", "hair"),
)
PLUGINS = [Path(__file__).with_name("contributed.py")]
UNDOING = ("principal components", "autoencoder")
"""These take most of a transform away again, so it comes after them; the others come after the transform."""
BUILT_IN = TRANSFORMS[:18]
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
EVERY = 2
EVERY_AFTER = 4
"""One image of so many is there under each transform as well, for leaks and for the detector."""
EVERY_TRIAL = 2 * EVERY_AFTER
"""One image of so many is planted in trials, as it is, blurred and compressed; those between help to find it."""
BASES = {"tenth very smooth": "clean", "class mix": "clean"}
"""Conditions that are made of others: a tenth of the fakes is very smooth; classes are equally often there."""
PLANTING_SEEDS = 1
"""In so many seeds it is found out how small a leak would have been seen."""
TOGETHER = (0.2, 0.6)
"""Each of the built-in transforms with such a p, as in training."""
TOGETHER_UNDER = ("clean", "combined")


def load(data: DataConfig, resolution: int) -> Tensor:
    """Images uint8 [N, 3, H, W] of a resolution."""
    dataset = load_dataset(data, PluginManager().datasets, 0)
    images = dataset.take(dataset.train_indices)
    if images.shape[2] != resolution:
        images = images.float()
        images = torch.nn.functional.interpolate(images, (resolution, resolution), mode="bilinear", antialias=True)
        images = images.round().clamp(0, 255).to(torch.uint8)
    return images


def classes(data: DataConfig) -> list[int]:
    """Of all images; all 0 where they have no labels."""
    try:
        dataset = load_dataset(replace(data, cond=True), PluginManager().datasets, 0)
    except DataError:
        return [0] * len(load_dataset(data, PluginManager().datasets, 0).train_indices)
    return [int(label) for label in dataset.labels[dataset.train_indices].argmax(1)]


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


def reference_job(data: DataConfig, resolution: int, folder: Path, name: str) -> None:
    """Traces that the detector learns from: of all images, for any choice among them."""
    torch.set_num_threads(1)
    images = load(data, resolution)
    numbers = torch.arange(len(images))
    if name == "plain":
        changed = images
    elif name == "distorted":
        changed = distort_randomly(images, numbers, 1)
    elif name.startswith("bank "):
        changed = bank(images)[name.removeprefix("bank ")](images, numbers)
    elif name.startswith("among "):
        changed = among_others(transforms(), name.removeprefix("among "), images, 0)
    else:
        place = TRANSFORMS.index(name)
        changed, _ = apply_surely(transforms()[name], name, images, 0)
        chosen = ~plain_ones(len(images))
        changed[chosen] = distort_randomly(changed[chosen], numbers[chosen], 2 + place)
    save(folder / f"reference {name}.npy", traces(changed, stages()))


def condition_job(data: DataConfig, resolution: int, folder: Path, name: str) -> None:
    """Traces of fakes under a condition: of all images as they are, of some under each transform, and under several."""
    torch.set_num_threads(1)
    images = load(data, resolution)
    apply = conditions(images)[name] if name != "clean" else lambda x: x
    see, known = stages(), transforms()
    some = images[::EVERY]
    if name in UNDOING:
        changed = [apply_surely(known[transform], transform, apply(some), 99)[0] for transform in TRANSFORMS]
    else:
        changed = [apply(apply_surely(known[transform], transform, some, 99)[0]) for transform in TRANSFORMS]
    save(folder / f"transformed {name}.npy", torch.stack([traces(part, see) for part in changed]))
    if name in TOGETHER_UNDER:
        pipeline = AugmentPipeline([ActiveTransform(transform, known[transform]) for transform in BUILT_IN])
        draws = RandomDraws(99, "leakbench", torch.arange(len(images)))
        several = [apply(to_uint8(pipeline(to_float(images), p, draws))) for p in TOGETHER]
        save(folder / f"together {name}.npy", torch.stack([traces(part, see) for part in several]))
    save(folder / f"condition {name}.npy", traces(apply(images), see))


def after_job(data: DataConfig, resolution: int, folder: Path, name: str) -> None:
    """Traces of some fakes under a condition that the detector transforms: for once, the transform comes last.

    For trials half of them are blurred and compressed after it.
    """
    torch.set_num_threads(1)
    images = load(data, resolution)
    some = images[::EVERY_AFTER]
    some = conditions(images)[name](some) if name != "clean" else some
    see, known = stages(), transforms()
    changed = [apply_surely(known[transform], transform, some, 98)[0] for transform in TRANSFORMS]
    softened = [[traces(part, see) for part in trials(part[:: EVERY_TRIAL // EVERY_AFTER])[1:]] for part in changed]
    save(folder / f"trial {name}.npy", torch.stack([torch.stack(parts, 1) for parts in softened]))
    save(folder / f"after {name}.npy", torch.stack([traces(part, see) for part in changed]))


def plain_ones(count: int) -> Tensor:
    """The images whose transformed versions the detector sees undistorted."""
    return torch.arange(count) // 2 % 5 < 2


def compute(arguments: argparse.Namespace) -> None:
    arguments.folder.mkdir(parents=True, exist_ok=True)
    data = DataConfig(source=arguments.data, subset=arguments.subset)
    images = load(data, arguments.resolution)
    width = statistics(images[:1]).shape[1]
    (arguments.folder / "about.json").write_text(json.dumps({"pixels": width, "classes": classes(data)}))
    references = ["plain", "distorted", *(f"bank {name}" for name in bank(images)), *TRANSFORMS]
    references += [f"among {name}" for name in TRANSFORMS]
    names = arguments.conditions.split(",") if arguments.conditions else ("clean", *conditions_names())
    jobs = [(f"reference {name}", partial(reference_job, name=name)) for name in references]
    jobs += [(f"after {name}", partial(after_job, name=name)) for name in names]
    jobs += [(f"condition {name}", partial(condition_job, name=name)) for name in names]
    with ProcessPoolExecutor(arguments.workers, initializer=keep_memory) as pool:
        left = [job for file, job in jobs if not (arguments.folder / f"{file}.npy").exists()]
        for result in [pool.submit(job, data, arguments.resolution, arguments.folder) for job in left]:
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
        self.folder, self.pixels, self.classes = folder, about["pixels"], torch.tensor(about["classes"])
        self.count = len(self.classes)
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
                {name: self.rows(f"reference bank {name}", few) for name in bank(torch.empty(0))},
                {name: self.rows(f"reference {name}", self.reals) for name in TRANSFORMS},
                {name: self.rows(f"reference among {name}", few) for name in TRANSFORMS},
                plain_ones(self.count)[self.reals],
                dict.fromkeys(TRANSFORMS, 1.0),
            ),
            self.pixels,
            self.seed,
        )

    def fakes(self, condition: str, images: int, shares: dict[str, float]) -> Tensor:
        """Traces of fakes: held-out images under a condition, shares of them transformed."""
        which = self._some(self.class_mix() if condition == "class mix" else self.rest, images)
        tenth = condition == "tenth very smooth"
        base = BASES.get(condition, condition)
        found = self.rows(f"condition {base}", which)
        if tenth:
            found[: images // 10] = self.rows("condition very smooth", which[: images // 10])
        start = 0
        order = torch.randperm(images, generator=self.generator)
        can_change = self.rest[self.rest % EVERY == 0] // EVERY
        for name, share in shares.items():
            chosen = order[start : start + round(share * images)]
            start += len(chosen)
            which = self._some(can_change, len(chosen))
            found[chosen] = self.rows(f"transformed {base}", which, TRANSFORMS.index(name))
        return found

    def class_mix(self) -> Tensor:
        """Numbers of images for fakes, repeated so that all classes are equally often there."""
        counts = torch.bincount(self.classes[self.rest])
        often = (counts.max() / counts.clamp(min=1)).round().long()[self.classes[self.rest]]
        return self.rest.repeat_interleave(often)

    def transformed(self, condition: str) -> dict[str, Tensor]:
        """Traces of some fakes after each transform."""
        return self._after(condition, self.rest % EVERY_AFTER == 0)

    def trial(self, condition: str) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
        """Traces of some fakes after each transform, and of others, as they are, blurred and compressed, to plant."""
        base = BASES.get(condition, condition)
        known = self._after(condition, self.rest % EVERY_TRIAL == EVERY_AFTER)
        sharp = self._after(condition, self.rest % EVERY_TRIAL == 0)
        which = self._even(self.rest[self.rest % EVERY_TRIAL == 0]) // EVERY_TRIAL
        soft = {name: self.rows(f"trial {base}", which, place) for place, name in enumerate(TRANSFORMS)}
        return known, {name: [sharp[name], *soft[name].unbind(1)] for name in TRANSFORMS}

    def _after(self, condition: str, chosen: Tensor) -> dict[str, Tensor]:
        base = BASES.get(condition, condition)
        which = self._even(self.rest[chosen]) // EVERY_AFTER
        return {name: self.rows(f"after {base}", which, place) for place, name in enumerate(TRANSFORMS)}

    @staticmethod
    def _even(numbers: Tensor) -> Tensor:
        """As many as a check compares, and an even number."""
        return numbers[: min(COMPARED, len(numbers)) // 2 * 2]

    def together(self, condition: str, images: int, p: float) -> Tensor:
        """Traces of fakes that show all built-in transforms, each with this p."""
        return self.rows(f"together {condition}", self._some(self.rest, images), TOGETHER.index(p))

    def _some(self, numbers: Tensor, count: int) -> Tensor:
        return numbers[torch.randint(len(numbers), (count,), generator=self.generator)]


def seed_job(folder: Path, images: int, sweep: bool, seed: int) -> list[dict[str, Any]]:
    """All cases of one seed."""
    torch.set_num_threads(1)
    bench = Bench(folder, seed)
    search = bench.search()
    rows: list[dict[str, Any]] = []
    for condition in computed(folder):
        transformed = {name: search.see(rows) for name, rows in bench.transformed(condition).items()}
        cases: list[dict[str, float]] = [{}] + [{name: 0.1} for name in TRANSFORMS]
        if sweep and condition in TOGETHER_UNDER:
            cases += [{name: share} for name in TRANSFORMS for share in SHARES if share != 0.1]
        for shares in cases:
            fakes = search.see(bench.fakes(condition, images, shares))
            rows.append(_row(search, fakes, transformed, seed, condition, shares))
            if not shares and seed < PLANTING_SEEDS:
                others, trial = bench.trial(condition)
                known = {name: search.see(part) for name, part in others.items()}
                planted = {name: [search.see(part) for part in parts] for name, parts in trial.items()}
                rows[-1]["smallest"] = smallest_rates(search, fakes, known, planted)
        if condition in TOGETHER_UNDER:
            for p in TOGETHER:
                name, planted = f"{condition}, all at p = {p}", dict.fromkeys(BUILT_IN, p)
                fakes = search.see(bench.together(condition, images, p))
                rows.append(_row(search, fakes, transformed, seed, name, planted))
    print(f"seed {seed}", flush=True)
    return rows


def computed(folder: Path) -> list[str]:
    """The conditions whose traces are in the folder."""
    names = [name for name in ("clean", *conditions_names()) if has_all(folder, name)]
    whole = {"clean", "very smooth"} <= set(names)
    return names + list(BASES) * whole


def has_all(folder: Path, condition: str) -> bool:
    return all((folder / f"{kind} {condition}.npy").exists() for kind in ("condition", "transformed", "after", "trial"))


def _row(
    search: Search, fakes: Seen, transformed: dict[str, Seen], seed: int, condition: str, planted: dict[str, float]
) -> dict[str, Any]:
    look = search.look(fakes, transformed, times=60)
    found = {}
    for answer, name in enumerate(search.suspects, start=1):
        leak = look.strangeness < STRANGE and search.leak(look, fakes, transformed[name], name)
        low, high = look.interval(answer)
        found[name] = {
            "leak": leak,
            "share": look.share(answer),
            "interval": (low if leak else 0.0, high),
            "alarms": look.alarms()[:, answer].tolist(),
            "at_most": search.at_most(fakes, transformed[name], name),
            "shows": search.shows(fakes, transformed[name], name),
        }
    misfit = [float(shares.misfit.mean()) for shares in (look.raw, look.aligned)]
    return {
        "seed": seed,
        "condition": condition,
        "planted": planted,
        "found": found,
        "misfit": misfit,
        "strangeness": look.strangeness,
    }


def table(arguments: argparse.Namespace) -> None:
    job = partial(seed_job, arguments.folder, arguments.images, arguments.sweep)
    with ProcessPoolExecutor(arguments.workers, initializer=keep_memory) as pool:
        rows = [row for rows in pool.map(job, range(arguments.seeds)) for row in rows]
    arguments.json.write_text(json.dumps(rows))
    print(summary(rows, TRANSFORMS))
    if arguments.sweep:
        print(sweep(rows, TRANSFORMS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("traces")
    first.add_argument("--data", required=True)
    first.add_argument("--resolution", type=int, default=64)
    first.add_argument("--subset", type=int, help="of so many images only")
    first.add_argument("--conditions", help="only these, comma-separated, for instance clean,jpeg,combined")
    first.set_defaults(run=compute)
    second = commands.add_parser("table")
    second.add_argument("--seeds", type=int, default=20)
    second.add_argument("--images", type=int, default=2000)
    second.add_argument("--sweep", action="store_true", help="other shares than 10 %%, too")
    second.add_argument("--json", type=Path, default=Path("leakbench.json"))
    second.set_defaults(run=table)
    for command in (first, second):
        command.add_argument("--folder", type=Path, required=True)
        command.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
