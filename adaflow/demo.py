"""`make demo`: a small network learns drawn lesions in a few minutes on a CPU."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

OPTIONS = [
    *("--data", "demo:lesions,resolution=32,images=1000"),
    *("--cfg", "tiny", "--mirror", "--augs", "blit,geom"),
    *("--p-controller", "rt(target=0.3, kimg=40)"),
    *("--kimg", "40", "--tick", "2", "--snap", "5"),
]
BARS = "▁▂▃▄▅▆▇█"


def curve(values: list[float]) -> str:
    """A line of bars, the highest for the largest value."""
    top = max(max(values), 1e-9)
    return "".join(BARS[min(int(value / top * len(BARS)), len(BARS) - 1)] for value in values)


def main(outdir: str = "demo") -> int:
    """Train, draw images, and say what to look at."""
    # Ctrl-C goes to the training, which saves; this process waits for it.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    adaflow = [sys.executable, "-m", "adaflow"]
    print(
        "adaflow", "train", *(f'"{word}"' if "(" in word else word for word in OPTIONS), "--outdir", outdir, flush=True
    )
    code = subprocess.run([*adaflow, "train", *OPTIONS, "--outdir", outdir], check=False).returncode
    if code:
        return code
    run = max(Path(outdir).glob("[0-9]*-*"))
    drawn = [
        *adaflow,
        "generate",
        str(run / "run.pkl"),
        "--seeds",
        "0-35",
        "--grid",
        "--outdir",
        str(run / "generated"),
    ]
    code = subprocess.run(drawn, check=False).returncode
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    p = [row["Progress/augment"]["mean"] for row in rows]
    print(f"""
p went from 0 to {p[-1]:.2f}, at most {max(p):.2f}: {curve(p)}

Look at
  {run}/reals.png             what the network was shown
  {sorted(run.glob("fakes-*.png"))[-1]}      what it draws now; fakes-000000.png is where it began
  {run}/generated/grid.png    drawn by `adaflow generate`
  {run}/stats.jsonl           the numbers; or: tensorboard --logdir {outdir}
Try next
  adaflow resume {run} --kimg 100                             let it learn on
  adaflow augs preview --augs bgc --p 0.1,0.5,0.8 --out sheet.png   what augmentations do
  adaflow train --data my-images.zip --augs blit,geom               your own images; see README.md""")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
