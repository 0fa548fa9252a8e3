"""Does it learn? Several seeds of the tiny preset on a folder or zip of 32×32 images, as a table of Fréchet distances.

    python -m benchmarks.small_runs --data lesions32.zip --seeds 0,1,2 --outdir small-runs

Each run sees 50 kimg without augmentation: five minutes on one core. FD is between 500 fakes and all reals, on
efficientnet-lite0 features; it is no Inception FID.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

OPTIONS = ["--cfg", "tiny", "--mirror", "--augs", "none", "--kimg", "50", "--snap", "5", "--metrics", "fd(num=500)"]


def train(data: str, seed: int, outdir: Path) -> Path:
    """The run folder of one seed, trained if it is not there."""
    folder = outdir / f"seed{seed}"
    if not list(folder.glob("*/metrics.jsonl")):
        command = ["train", "--data", data, "--seed", str(seed), "--outdir", str(folder), *OPTIONS]
        subprocess.run([sys.executable, "-m", "adaflow", *command], check=True)
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
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    curves = [distances(train(arguments.data, seed, arguments.outdir)) for seed in seeds]
    print("| kimg |" + "".join(f" seed {seed} |" for seed in seeds))
    print("|--|" + "--|" * len(seeds))
    for kimg in curves[0]:
        print(f"| {kimg:.1f} |" + "".join(f" {curve[kimg]:.0f} |" for curve in curves))
    late = [statistics.mean(fd for kimg, fd in curve.items() if kimg >= 35) for curve in curves]
    print("| mean of 35–50 |" + "".join(f" {value:.0f} |" for value in late))


if __name__ == "__main__":
    main()
