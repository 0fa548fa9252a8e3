"""LeakBench, copies: `python -m benchmarks.leakbench.copies --data FOLDER --size 64 --seeds 20`.

In every seed the images are divided anew: half to train on, a quarter held out, the others pass for fakes; those that
show the same as a training image are set aside. Of 2,000 fakes 20 are copies of training images, the others are there
several times, as if flipped, which changes nothing here. In the rows "distorted" all fakes are, and the copies, half of
them flipped, as well. In the rows "clean" there are no copies, and each fake is there once.
"""

from __future__ import annotations

import argparse
import io
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from adaflow.core.copies import CopySearch, Matches
from adaflow.core.copy_counts import CopyCount, Nearness, Tail
from adaflow.core.data.dataset import DataConfig
from adaflow.core.leak_detector import exact_interval
from adaflow.plugins.leak_detectors.memorisation import looked_at_from, twins_of
from benchmarks.leakbench.traces import load

COPIES = 0.01
KINDS = ("exact", "flip", "turn", "crop 90 %", "JPEG q60", "blend 20 %", "blur 0.8 px")
DISTORTIONS = (
    *("blur 0.8", "blur 1.5", "JPEG 40", "drift", "noise 5 %", "checker", "PCA 200", "PCA 64", "resize 60 %"),
    "tenth blur 1.5",
)


def read_images(source: str, size: int) -> Tensor:
    """Images uint8 [N, 3, size, size] of a folder, reduced by Lanczos, or of another source."""
    if not Path(source).is_dir():
        return load(DataConfig(source), size)
    files = sorted(path for path in Path(source).rglob("*") if path.suffix in (".jpg", ".png"))
    images = [Image.open(path).convert("RGB").resize((size, size), Image.Resampling.LANCZOS) for path in files]
    return torch.from_numpy(np.stack([np.asarray(image) for image in images]).transpose(0, 3, 1, 2).copy())


def to_bytes(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


def jpeg(images: Tensor, quality: int) -> Tensor:
    decoded = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        decoded.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(decoded).transpose(0, 3, 1, 2).copy())


def blur(images: Tensor, sigma: float) -> Tensor:
    radius = max(round(3 * sigma), 1)
    line = torch.exp(-((torch.arange(-radius, radius + 1) / sigma) ** 2) / 2)
    line /= line.sum()
    channels = images.shape[1]
    x = F.pad(images.float(), (radius,) * 4, mode="reflect")
    x = F.conv2d(x, line.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return to_bytes(F.conv2d(x, line.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels))


def crop(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    size = images.shape[-1]
    side = round(size * share)
    parts = []
    for image in images:
        y, x = torch.randint(0, size - side + 1, (2,), generator=generator).tolist()
        part = image[None, :, y : y + side, x : x + side].float()
        parts.append(F.interpolate(part, (size, size), mode="bicubic", antialias=True)[0])
    return to_bytes(torch.stack(parts))


def copies_of(train: Tensor, kind: str, others: Tensor, generator: torch.Generator) -> Tensor:
    match kind.split():
        case ["exact"]:
            return train
        case ["flip"]:
            return train.flip(-1)
        case ["turn"]:
            return train.rot90(1, (2, 3))
        case ["crop", *_]:
            return crop(train, 0.9, generator)
        case ["JPEG", *_]:
            return jpeg(train, 60)
        case ["blur", *_]:
            return blur(train, 0.8)
        case _:
            guests = others[torch.randint(len(others), (len(train),), generator=generator)]
            return to_bytes(0.8 * train.float() + 0.2 * guests.float())


def distorted(images: Tensor, kind: str, train: Tensor, generator: torch.Generator) -> Tensor:
    size = images.shape[-1]
    match kind.split():
        case ["blur", sigma]:
            return blur(images, float(sigma) * size / 64)
        case ["tenth", "blur", sigma]:
            return torch.cat((blur(images[::10], float(sigma) * size / 64), images))[tenth_first(len(images))]
        case ["resize", share, _]:
            side = round(size * float(share) / 100)
            small = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
            return to_bytes(F.interpolate(small, (size, size), mode="bicubic"))
        case ["JPEG", quality]:
            return jpeg(images, int(quality))
        case ["drift"]:
            return to_bytes(images.float() + torch.tensor([3.8, 1.3, -3.8]).view(3, 1, 1))
        case ["noise", share, _]:
            return to_bytes(images.float() + 2.55 * float(share) * torch.randn(images.shape, generator=generator))
        case ["checker"]:
            line = torch.arange(size)
            return to_bytes(images.float() + 2.5 * (1 - 2 * ((line[:, None] + line) % 2)))
        case ["PCA", width]:
            flat = train.flatten(1).float()
            mean = flat.mean(0)
            directions = torch.svd_lowrank(flat - mean, int(width) + 20)[2][:, : int(width)]
            return to_bytes(((images.flatten(1).float() - mean) @ directions @ directions.T + mean).view(images.shape))
        case _:
            return images


class Split:
    """One division of the images, and what the detector makes of its parts."""

    def __init__(self, images: Tensor, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        order = torch.randperm(len(images), generator=self.generator)
        half, quarter = -(-len(images) // 2), len(images) // 4
        self.train, self.held_out, others = images[order].split([half, quarter, len(images) - half - quarter])
        self.search = CopySearch(self.train, torch.device("cpu"))
        reals = self.search.nearest(self.held_out)
        self.start = looked_at_from(reals)
        reals = self.search.refine(self.held_out, reals, reals.closeness >= self.start)
        twins = twins_of(self.search, self.held_out, self.train, reals)
        self.reals = reals.closeness[~twins]
        self.tail = Tail.of(self.reals)
        self.others = others[~twins_of(self.search, others, self.train, self.matches(others))]
        self.twins = int(twins.sum()) + len(others) - len(self.others)

    def some(self, fakes: int) -> Tensor:
        """Training images to copy, for so many fakes."""
        return torch.randperm(len(self.train), generator=self.generator)[: round(COPIES * fakes)]

    def matches(self, images: Tensor) -> Matches:
        found = self.search.nearest(images)
        return self.search.refine(images, found, found.closeness >= self.start)

    def row(self, copies: Matches, others: Matches, chosen: Tensor, fakes: int) -> dict[str, float]:
        """What is found in so many fakes, the first of them copies of the `chosen` training images."""
        times = -(-fakes // len(others.score)) if len(chosen) else 1
        score, closeness, source = (
            torch.cat((getattr(copies, name), getattr(others, name).repeat(times)))[:fakes]
            for name in ("score", "closeness", "source")
        )
        counted, nearness = CopyCount.of(score, self.tail), Nearness.of(self.reals, closeness, source)
        row = {
            "leak": counted.leak,
            "likely": counted.likely,
            "certain": counted.certain,
            "closeness": nearness.verdict == "leak",
            "z": nearness.z,
        }
        if len(chosen):
            listed = score.argsort(descending=True)[: len(chosen)] < len(chosen)
            right = (copies.source == chosen).double()
            row |= {"precision": float(listed.double().mean()), "source": float(right.mean())}
        return row


def tenth_first(count: int) -> Tensor:
    """Places in (every tenth image, changed; all images), for every tenth one to be taken from the first part."""
    places = torch.arange(count) + -(-count // 10)
    places[::10] = torch.arange(-(-count // 10))
    return places


def measure(images: Tensor, fakes: int, seed: int) -> dict[str, dict[str, float]]:
    """All rows of one division of the images."""
    split = Split(images, seed)
    clean = split.matches(split.others)
    rows: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        chosen = split.some(fakes)
        found = split.matches(copies_of(split.train[chosen], kind, split.others, split.generator))
        rows[kind] = split.row(found, clean, chosen, fakes)
    rows["clean, none"] = split.row(clean, clean, split.some(0), fakes) | {"twins": split.twins}
    for kind in DISTORTIONS:
        chosen = split.some(fakes)
        copies = split.train[chosen]
        copies[::2] = copies[::2].flip(-1)
        changed = distorted(torch.cat((copies, split.others)), kind, split.train, split.generator)
        found, others = split.matches(changed[: len(copies)]), split.matches(changed[len(copies) :])
        rows[f"distorted, {kind}"] = split.row(found, others, chosen, fakes)
        rows[f"clean, {kind}"] = split.row(others, others, split.some(0), fakes)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--fakes", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = read_images(options.data, options.size)
    columns: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in range(options.seeds):
        for row, results in measure(images, options.fakes, seed).items():
            for name, value in results.items():
                columns[row][name].append(float(value))
        if options.out:
            options.out.write_text(json.dumps(columns, indent=1))
    print(
        f"{len(images)} images at {options.size} pixels, {options.seeds} seeds; means, and 95 % intervals of verdicts"
    )
    first = round(COPIES * options.fakes)
    print(
        f"| fakes | copies: leak | likely | certain | first {first} are copies | right source | closeness: leak "
        "| largest Z |"
    )
    print("|--|--|--|--|--|--|--|--|")
    for row, results in columns.items():
        alarms, n = int(sum(results["leak"])), len(results["leak"])
        low, high = exact_interval(alarms, n)
        cells = [row, f"{alarms / n:.0%} ({low:.0%}–{high:.0%})"]
        cells += [f"{np.mean(results[name]):.1f}" for name in ("likely", "certain")]
        cells += [f"{np.mean(results[name]):.0%}" if name in results else "" for name in ("precision", "source")]
        cells += [f"{np.mean(results['closeness']):.0%}", f"{max(results['z']):.1f}"]
        print(f"| {' | '.join(cells)} |")
    print(f"\nReals set aside as twins of training images: {np.mean(columns['clean, none']['twins']):.1f} a seed.")


if __name__ == "__main__":
    main()
