"""Does it learn? Several seeds of the tiny preset on a folder or zip of 32×32 images, as a table of Fréchet distances.

    python -m benchmarks.small_runs --data lesions32.zip --seeds 0,1,2
    python -m benchmarks.small_runs --data lesions32.zip --seeds 0,10,11,12,13 --start 0

Each run sees 50 kimg without augmentation: some minutes on one core. FD is between 500 fakes and all reals, on
efficientnet-lite0 features; it is no Inception FID. Started again, a series goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import torch

from adaflow.core.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from adaflow.core.presets import preset_table
from adaflow.core.snapshot import save_network

OPTIONS = ["--cfg", "tiny", "--mirror", "--augs", "none", "--snap", "5", "--metrics", "fd(num=500)"]
LATE = 35
"""kimg from which distances are averaged."""

Curve = dict[float, float]
"""kimg → FD."""


def customary_start(seed: int, path: Path) -> Path:
    """Write the untrained networks that stylegan2-ada-pytorch starts from with this seed.

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


def train(data: str, seed: int, start: int | None, kimg: float, outdir: Path) -> Path:
    """The run folder of a seed, trained to its end. What is there already goes on."""
    series = outdir if start is None else outdir / f"start{start}"
    folder = series / f"seed{seed}"
    if runs := list(folder.glob("0*")):
        used = tomllib.loads((runs[0] / "config.toml").read_text(encoding="utf-8"))["data"]["source"]
        if used not in (data, str(Path(data).resolve())):
            sys.exit(f"The runs in {folder} were trained on {used}. Name another --outdir.")
        arguments = ["resume", str(runs[0]), "--kimg", str(kimg)]
    else:
        folder.mkdir(parents=True, exist_ok=True)
        arguments = ["train", "--data", data, "--seed", str(seed), "--outdir", str(folder), "--kimg", str(kimg)]
        arguments += OPTIONS
        if start is not None:
            arguments += ["--init-from", str(customary_start(start, series / "start.pkl"))]
    if code := run(arguments):
        sys.exit(code)  # the reason has been said
    return next(folder.glob("0*"))


def run(arguments: list[str]) -> int:
    """`adaflow …` in a process of its own. Ctrl-C reaches it, too: it saves, and is waited for."""
    with subprocess.Popen([sys.executable, "-m", "adaflow", *arguments]) as process:
        while process.poll() is None:
            with suppress(KeyboardInterrupt):
                process.wait()
    return process.returncode


def distances(folder: Path) -> Curve:
    """What a run measured."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {row["images"] / 1000: next(iter(row["results"].values())) for row in rows}


def table(curves: dict[int, Curve]) -> str:
    """The distances of all seeds in Markdown, and the means of the late ones."""
    lines = ["| kimg |" + "".join(f" seed {seed} |" for seed in curves), "|--|" + "--|" * len(curves)]
    for kimg in sorted({kimg for curve in curves.values() for kimg in curve}):
        cells = [f" {curve[kimg]:.0f} |" if kimg in curve else " – |" for curve in curves.values()]
        lines.append(f"| {kimg:.1f} |" + "".join(cells))
    late = [[fd for kimg, fd in curve.items() if kimg >= LATE] for curve in curves.values()]
    if all(late):
        means = [statistics.mean(values) for values in late]
        lines.append(f"| mean from {LATE} on |" + "".join(f" {mean:.0f} |" for mean in means))
        if len(means) > 1:
            spread = statistics.stdev(means)
            lines += [
                "",
                f"{statistics.mean(means):.0f} ± {spread:.0f} (mean and standard deviation of the runs' means)",
            ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", default="0,1,2", help="of the runs")
    parser.add_argument(
        "--start", type=int, metavar="SEED", help="all from the weights that stylegan2-ada-pytorch draws with this seed"
    )
    parser.add_argument("--outdir", type=Path, default=Path("small-runs"))
    parser.add_argument("--kimg", type=float, default=50.0)
    arguments = parser.parse_args()
    curves = {
        seed: distances(train(arguments.data, seed, arguments.start, arguments.kimg, arguments.outdir))
        for seed in map(int, arguments.seeds.split(","))
    }
    print(table(curves))


if __name__ == "__main__":
    main()
