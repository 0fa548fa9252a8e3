"""Does it learn? Several seeds of the tiny preset on a folder or zip of 32×32 images, as a table of Fréchet distances.

    python -m benchmarks.small_runs --data lesions32.zip --seeds 0,1,2 --outdir small-runs
    python -m benchmarks.small_runs --data lesions32.zip --seeds 0,1,2 --outdir same-start --start customary

Each run sees 50 kimg without augmentation: some minutes on one core. FD is between 500 fakes and all reals, on
efficientnet-lite0 features; it is no Inception FID. Seeds differ by hundreds: compare means of several, and from the
same initial weights where there is something to compare with.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from adaflow.core.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from adaflow.core.presets import preset_table
from adaflow.core.snapshot import save_network

OPTIONS = ["--cfg", "tiny", "--mirror", "--augs", "none", "--snap", "5", "--metrics", "fd(num=500)"]
LATE = 35
"""kimg from which distances are averaged."""


def customary_start(seed: int, path: Path) -> Path:
    """Write the untrained networks that the customary implementation starts from with this seed.

    Layers draw their weights in the same order here and there; but before it makes G and D, its data loader takes an
    integer from the same generator.
    """
    preset = preset_table("tiny", resolution=32, channels=3, c_dim=0, gpus=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.empty((), dtype=torch.int64).random_()
        G = Generator(GeneratorConfig(**preset["generator"]))
        D = Discriminator(DiscriminatorConfig(**preset["discriminator"]))
    save_network(path, G, D, G, info={})
    return path


def train(data: str, seed: int, folder: Path, start: str, kimg: float) -> Path:
    """The run folder of one seed, trained to its end; what was interrupted goes on."""
    runs = list(folder.glob("0*"))
    if runs:
        command = ["resume", str(runs[0])]
    else:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["train", "--data", data, "--seed", str(seed), "--outdir", str(folder), "--kimg", str(kimg), *OPTIONS]
        if start == "customary":
            command += ["--init-from", str(customary_start(seed, folder / "start.pkl"))]
    code = subprocess.run([sys.executable, "-m", "adaflow", *command]).returncode
    if code:
        sys.exit(code)  # the reason has been said
    return next(folder.glob("0*"))


def distances(run: Path) -> dict[float, float]:
    """kimg → FD."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {row["images"] / 1000: next(iter(row["results"].values())) for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--outdir", type=Path, default=Path("small-runs"))
    parser.add_argument("--start", choices=["own", "customary"], default="own", help="whose initial weights")
    parser.add_argument("--kimg", type=float, default=50.0)
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    folders = [arguments.outdir / f"seed{seed}" for seed in seeds]
    curves = [
        distances(train(arguments.data, seed, folder, arguments.start, arguments.kimg))
        for seed, folder in zip(seeds, folders, strict=True)
    ]
    print("| kimg |" + "".join(f" seed {seed} |" for seed in seeds))
    print("|--|" + "--|" * len(seeds))
    for kimg in curves[0]:
        print(f"| {kimg:.1f} |" + "".join(f" {curve[kimg]:.0f} |" for curve in curves))
    late = [[fd for kimg, fd in curve.items() if kimg >= LATE] for curve in curves]
    if all(late):
        means = [statistics.mean(values) for values in late]
        print(f"| mean from {LATE} on |" + "".join(f" {mean:.0f} |" for mean in means))
        if len(means) > 1:
            print(f"\n{statistics.mean(means):.0f} ± {statistics.stdev(means):.0f} (mean and deviation of the seeds)")


if __name__ == "__main__":
    main()
