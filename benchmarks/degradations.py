"""How distances on different features see known damage to real images: `python -m benchmarks.degradations --data SPEC`.

Half of the images are the reference. 500 of the others, damaged in some way, stand in for fakes. Printed is how far the
distance lies above that of 500 undamaged ones, in standard deviations of the latter over the divisions into halves.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaflow.core.data.dataset import DataConfig, load_dataset
from adaflow.core.features import FeatureExtractor, NetworkExtractor
from adaflow.plugin_manager import PluginManager
from adaflow.plugins.features.efficientnet import EfficientNetLite0
from adaflow.plugins.metrics.frechet import frechet_distance
from adaflow.plugins.metrics.kernel import kernel_distance

FAKES = 500
UNDAMAGED = "undamaged"
BATCH = 50


class Pixels(NetworkExtractor):
    """The images themselves."""

    name = "pixels"
    size = None

    def load(self) -> nn.Module:
        return nn.Flatten()


class RandomFeatures(EfficientNetLite0):
    """The same network with random weights."""

    name = "random efficientnet-lite0"

    def load(self) -> nn.Module:
        network = super().load()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                elif isinstance(module, nn.BatchNorm2d):
                    module.reset_running_stats()
                    module.reset_parameters()
        return network


def blurred(images: Tensor, sigma: float) -> Tensor:
    """uint8 [N, C, H, W] under a Gaussian of `sigma` pixels."""
    reach = int(4 * sigma + 0.5)
    taps = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum()).expand(images.shape[1], 1, 1, -1)
    x = F.pad(images.float(), (reach,) * 4, mode="reflect")
    x = F.conv2d(F.conv2d(x, taps, groups=len(taps)), taps.transpose(2, 3), groups=len(taps))
    return x.round().clamp(0, 255).to(torch.uint8)


def noisy(images: Tensor, sigma: float) -> Tensor:
    """uint8 [N, C, H, W] with independent Gaussian noise of `sigma` grey levels."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)) * sigma
    return (images + noise).round().clamp(0, 255).to(torch.uint8)


FILTERS: dict[str, Callable[[Tensor], Tensor]] = {
    UNDAMAGED: lambda images: images,
    **{f"blur, σ {sigma} px": lambda images, s=sigma: blurred(images, s) for sigma in (0.5, 1, 2)},  # type: ignore[misc]
    **{f"noise, σ {sigma} of 255": lambda images, s=sigma: noisy(images, s) for sigma in (5, 10, 20)},  # type: ignore[misc]
}


def selections(others: Tensor, brightness: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Damage to the choice of images: name, and 500 of `others`, the indices of some 1,000 images in random order."""
    bright = others[brightness[others].argsort()]
    for name, share in (("tenth", 0.1), ("quarter", 0.25), ("half", 0.5)):
        kept = bright[int(share * len(bright)) :]
        yield f"without the darkest {name}", kept[torch.randperm(len(kept), generator=seeded(2))[:FAKES]]
    for distinct in (250, 100, 25):
        yield f"{distinct} images, {FAKES // distinct} times each", others[:distinct].repeat(FAKES // distinct)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def measure(extractor: FeatureExtractor, images: Tensor, divisions: int) -> dict[str, dict[str, list[float]]]:
    """Damage → "fd" and "kd" → a distance for each division."""
    brightness = images.float().mean((1, 2, 3))
    features = {name: extractor.all(change(x) for x in images.split(BATCH)) for name, change in FILTERS.items()}
    found: dict[str, dict[str, list[float]]] = {}
    for division in range(divisions):
        order = torch.randperm(len(images), generator=seeded(division))
        reference, others = order[: len(order) // 2], order[len(order) // 2 :]
        sets = {name: values[others[:FAKES]] for name, values in features.items()}
        sets |= {name: features[UNDAMAGED][chosen] for name, chosen in selections(others, brightness)}
        for name, fakes in sets.items():
            row = found.setdefault(name, {"fd": [], "kd": []})
            row["fd"].append(frechet_distance(fakes, features[UNDAMAGED][reference]))
            row["kd"].append(kernel_distance(fakes, features[UNDAMAGED][reference]))
        print(f"{extractor.name}: division {division + 1} of {divisions}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser("python -m benchmarks.degradations", description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="1,000 images or more, as for adaflow train --data")
    parser.add_argument("--divisions", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    plugins = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"})
    images = load_dataset(DataConfig(options.data), plugins.datasets, 0).images
    kinds: list[type[NetworkExtractor]] = [EfficientNetLite0, RandomFeatures, Pixels]
    tables = {kind.name: measure(kind(), images, options.divisions) for kind in kinds}
    print(f"\n{len(images)} images of {images.shape[-1]} pixels, {options.divisions} divisions\n")
    titles = [f"{name}, {metric}" for name in tables for metric in ("fd", "kd")]
    print("| | " + " | ".join(titles) + " |\n|--|" + "--|" * len(titles))
    for damage in next(iter(tables.values())):
        cells = [
            standing(table[damage][metric], table[UNDAMAGED][metric])
            for table in tables.values()
            for metric in ("fd", "kd")
        ]
        print(f"| {damage} | " + " | ".join(cells) + " |", flush=True)


def standing(values: list[float], clean: list[float]) -> str:
    """How many standard deviations of the clean distances the others lie above them, on average."""
    return f"{(statistics.mean(values) - statistics.mean(clean)) / statistics.stdev(clean):.1f}"


if __name__ == "__main__":
    main()
