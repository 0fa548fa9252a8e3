"""LeakBench, transforms: traces of all images under all transforms and conditions, computed once."""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaflow.core.augment.build import build_pipeline
from adaflow.core.augment.pipeline import ActiveTransform, AugmentPipeline
from adaflow.core.augment.transform import Transform
from adaflow.core.data.dataset import DataConfig, load_dataset
from adaflow.core.draw import RandomDraws
from adaflow.core.images import to_float, to_uint8
from adaflow.core.leaks.distortions import bank, blurred_and_compressed, distort_randomly, softened
from adaflow.core.leaks.reference import among_others, apply_surely
from adaflow.core.leaks.statistics import statistics
from adaflow.core.leaks.traces import traces
from adaflow.core.memory import keep_memory
from adaflow.errors import DataError
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.leak_detectors.augmentation import KNOWN, TRIED
from benchmarks.leakbench.innocent import conditions

TRANSFORMS = (
    *("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac", "brightness", "contrast", "lumaflip", "hue"),
    *("saturation", "band1", "band2", "band3", "band4", "noise", "cutout", "vignette", "hair"),
)
PLUGINS = [Path(__file__).with_name("contributed.py")]
UNDOING = ("principal components", "autoencoder")
"""These take most of a transform away again, so it comes after them; the others come after the transform."""
BUILT_IN = TRANSFORMS[:18]
EVERY = 2
EVERY_AFTER = 4
"""One image of so many is there under each transform as well, for leaks and for the detector."""
EVERY_TRIAL = 2 * EVERY_AFTER
"""One image of so many is planted in trials, as it is and softened; those between help to find it."""
TOGETHER = (0.2, 0.6)
"""Each of the built-in transforms with such a p, as in training."""
TOGETHER_UNDER = ("clean", "combined")
GROUPS = {
    "blit": TRANSFORMS[:3],
    "geom": TRANSFORMS[3:7],
    "color": TRANSFORMS[7:12],
    "filter": TRANSFORMS[12:16],
}
"""All transforms of a list at once, as if its leak had p = 1."""


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


def group_job(data: DataConfig, resolution: int, folder: Path, name: str) -> None:
    """Traces of some fakes under a condition, after all transforms of each group."""
    torch.set_num_threads(1)
    images = load(data, resolution)
    apply = conditions(images)[name] if name != "clean" else lambda x: x
    see, registry, some = stages(), PluginManager().augmentations, images[::EVERY]
    found = []
    for group in GROUPS:
        draws = RandomDraws(99, f"leakbench {group}", torch.arange(len(some)))
        changed = some if name not in UNDOING else apply(some)
        changed = to_uint8(build_pipeline(group, registry)(to_float(changed), 1.0, draws))
        found.append(traces(changed if name in UNDOING else apply(changed), see))
    save(folder / f"groups {name}.npy", torch.stack(found))


def after_job(data: DataConfig, resolution: int, folder: Path, name: str) -> None:
    """Traces of some fakes under a condition that the detector transforms, as they are and softened.

    For once, the transform comes after the condition. Half of them are softened more, too, for trials.
    """
    torch.set_num_threads(1)
    images = load(data, resolution)
    some = images[::EVERY_AFTER]
    some = conditions(images)[name](some) if name != "clean" else some
    see, known = stages(), transforms()
    changed = [apply_surely(known[transform], transform, some, 98)[0] for transform in TRANSFORMS]
    tried = [part[:: EVERY_TRIAL // EVERY_AFTER] for part in changed]

    def soft(images: Tensor) -> Tensor:
        return torch.stack([traces(part, see) for part in softened(images, KNOWN)], 1)

    save(folder / f"untouched {name}.npy", soft(some))
    save(folder / f"softened {name}.npy", torch.stack([soft(part) for part in changed]))
    softer = [traces(blurred_and_compressed(part, TRIED), see) for part in tried]
    save(folder / f"trial {name}.npy", torch.stack(softer))
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
    jobs += [(f"groups {name}", partial(group_job, name=name)) for name in names]
    with ProcessPoolExecutor(arguments.workers, initializer=keep_memory) as pool:
        left = [job for file, job in jobs if not (arguments.folder / f"{file}.npy").exists()]
        for result in [pool.submit(job, data, arguments.resolution, arguments.folder) for job in left]:
            result.result()


def conditions_names() -> tuple[str, ...]:
    return (
        *("principal components", "checkerboard", "smooth", "jpeg", "combined", "autoencoder", "grain", "resized"),
        *("cast", "low-pass", "median", "very smooth"),
    )
