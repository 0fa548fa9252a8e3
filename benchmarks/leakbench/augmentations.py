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

import torch

from adaflow.core.leaks.mixture import Shares
from adaflow.core.leaks.planting import smallest_rate
from adaflow.core.leaks.search import Search, Seen, Transformed
from adaflow.core.leaks.strangeness import STRANGE
from adaflow.core.memory import keep_memory
from benchmarks.leakbench.bench import Bench, computed
from benchmarks.leakbench.tables import by_group, could_be_clean, summary, sweep
from benchmarks.leakbench.traces import BUILT_IN, GROUPS, TOGETHER, TOGETHER_UNDER, TRANSFORMS, compute

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
EXTRA_SEEDS = 6
"""In so many divisions groups are planted, and other shares."""


def seed_job(folder: Path, images: int, sweep: bool, seeds: range, seed: int) -> list[dict[str, Any]]:
    """All cases of one seed."""
    torch.set_num_threads(1)
    bench, first, extra = Bench(folder, seed), seed == seeds[0], seed in seeds[:EXTRA_SEEDS]
    search = bench.search()
    rows: list[dict[str, Any]] = []
    for condition in computed(folder):
        transformed = bench.transformed(condition, search)
        trial = bench.trial(condition, search)
        cases: list[dict[str, float]] = [{}] + [{name: 0.1} for name in TRANSFORMS]
        if sweep and extra and condition in TOGETHER_UNDER:
            cases += [{name: share} for name in TRANSFORMS for share in SHARES if share != 0.1]
        for shares in cases:
            fakes = search.see(bench.fakes(condition, images, shares))
            rows.append(_row(search, fakes, transformed, seed, condition, shares))
            tried = {name for name, share in shares.items() if share == 0.1}
            _try(rows[-1], search, fakes, trial, set(search.suspects) if first and not shares else tried)
        for group in GROUPS if extra else ():
            fakes = search.see(bench.fakes_of_a_group(condition, images, group, 0.1))
            rows.append(_row(search, fakes, transformed, seed, condition, {group: 0.1}))
        if condition in TOGETHER_UNDER:
            for p in TOGETHER:
                name, planted = f"{condition}, all at p = {p}", dict.fromkeys(BUILT_IN, p)
                fakes = search.see(bench.together(condition, images, p))
                rows.append(_row(search, fakes, transformed, seed, name, planted))
    print(f"seed {seed}", flush=True)
    return rows


def _try(
    row: dict[str, Any],
    search: Search,
    fakes: Seen,
    trial: tuple[dict[str, Transformed], dict[str, list[Seen]]],
    names: set[str],
) -> None:
    """How small a leak would have been seen, of those that could be called clean then."""
    known, to_plant = trial
    for name in names & set(row["found"]):
        if could_be_clean(row, name):
            row["found"][name]["smallest"] = smallest_rate(search, fakes, known, to_plant[name], name)


def _row(
    search: Search,
    fakes: Seen,
    transformed: dict[str, Transformed],
    seed: int,
    condition: str,
    planted: dict[str, float],
) -> dict[str, Any]:
    look = search.look(fakes, transformed, times=60)
    leaks = search.leaks(look, fakes, transformed) if look.strangeness < STRANGE else {}
    found = {}
    for answer, name in enumerate(search.suspects, start=1):
        place, beside = leaks.get(name, answer), [leaks[one] for one in search.looks_like(name) if one in leaks]
        found[name] = {
            "leak": name in leaks,
            "named": name in leaks or any(of_a_sum >= len(search.answers) for of_a_sum in beside),
            "place": place,
            "beside": bool(beside),
            "share": look.share(place),
            "interval": search.reach(look, fakes, transformed, name, leaks),
            "alarms": look.alarms()[:, place].tolist(),
            "raw": evidence(look.raw, place),
            "aligned": evidence(look.aligned, place),
            "at_most": search.bounds(fakes, transformed[name], name),
            "area": search.area[name],
            "sure": search.sure[name],
            "shows": search.shows(fakes, transformed[name].sharp, name),
        }
    misfit = [float(shares.misfit[: len(search.answers)].mean()) for shares in (look.raw, look.aligned)]
    return {
        "seed": seed,
        "condition": condition,
        "planted": planted,
        "found": found,
        "misfit": misfit,
        "strangeness": look.strangeness,
    }


def evidence(shares: Shares, place: int) -> list[float]:
    """Value, lower bound, what chance gives, and misfit."""
    parts = (shares.value, shares.bounds()[0], shares.by_chance, shares.misfit)
    return [float(part[place]) for part in parts]


def table(arguments: argparse.Namespace) -> None:
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    job = partial(seed_job, arguments.folder, arguments.images, arguments.sweep, seeds)
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(arguments.workers, initializer=keep_memory) as pool:
        for some in pool.map(job, seeds):
            rows += some
            arguments.json.write_text(json.dumps(rows))
    print(summary(rows, TRANSFORMS))
    print(by_group(rows, GROUPS))
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
    second.add_argument("--first-seed", type=int, default=0, help="the rules were settled on divisions 0 to 19")
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
