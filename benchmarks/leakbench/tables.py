"""LeakBench: what was found in all cases, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from adaflow.core.leaks.strangeness import STRANGE
from adaflow.plugins.leak_detectors.augmentation import AugmentationDetector


def summary(rows: list[dict[str, Any]], transforms: Sequence[str]) -> str:
    """Tables by transform and by condition: false alarms, detections, errors, cover, other transforms accused.

    "Covered": how often the interval holds a share of 10 %. It holds 0 wherever no leak is called, for there it begins.
    """
    least = smallest_by_condition(rows)
    lines = [
        "| transform | told | false alarms | seen at 10 % | undistorted | called clean | share found | covered | "
        "undistorted | accused for others |",
        "|--" * 10 + "|",
    ]
    for name in transforms:
        here = [row for row in rows if name in row["found"]]
        told = [any(row["seed"] == seed for row in here) for seed in {row["seed"] for row in rows}]
        innocent = [row for row in here if not row["planted"]]
        planted = [row for row in rows if row["planted"] == {name: 0.1}]
        guilty = [row for row in planted if name in row["found"]]
        single = [row for row in here if set(row["planted"]) <= set(transforms)]
        others = [row for row in single if len(row["planted"]) == 1 and name not in row["planted"]]
        shares = [row["found"][name]["share"] for row in guilty] or [np.nan]
        cells = [
            percent(told),
            percent(row["found"][name]["leak"] for row in innocent),
            percent(row in guilty and row["found"][name]["leak"] for row in planted),
            percent(row in guilty and row["found"][name]["leak"] for row in planted if row["condition"] == "clean"),
            percent(called_clean(row, name, least) for row in guilty),
            f"{np.mean(shares):.3f} ± {np.std(shares):.3f}",
            percent(covers(row, name, 0.1, least) for row in guilty),
            percent(covers(row, name, 0.1, least) for row in guilty if row["condition"] == "clean"),
            percent(row["found"][name]["leak"] for row in others),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| condition | false alarms | seen at 10 % | called clean | misfit | strangeness |", "|--" * 6 + "|"]
    for condition in dict.fromkeys(row["condition"] for row in rows):
        here = [row for row in rows if row["condition"] == condition]
        innocent = [found["leak"] for row in here if not row["planted"] for found in row["found"].values()]
        guilty = [
            (row["found"][name]["leak"], called_clean(row, name, least))
            for row in here
            for name, share in row["planted"].items()
            if name in row["found"] and (share == 0.1 or len(row["planted"]) > 1)
        ]
        fits = np.mean([row["misfit"] for row in here if len(row["planted"]) != 1], axis=0)
        lines.append(
            f"| {condition} | {percent(innocent)} | {percent(leak for leak, _ in guilty)} | "
            f"{percent(clean for _, clean in guilty)} | {fits[0]:.3f}, {fits[1]:.3f} | "
            f"{max(row['strangeness'] for row in here):.2f} |"
        )
    return "\n".join(lines)


def by_group(rows: list[dict[str, Any]], groups: Mapping[str, Sequence[str]]) -> str:
    """A table of groups of transforms, planted together: how often one of them is accused, and how often others are.

    Args:
        rows: of the cases.
        groups: names of transforms, by group.
    """
    lines = ["| group | seen at 10 % | undistorted | each of them accused | accused for it |", "|--" * 5 + "|"]
    for group, names in groups.items():
        here = [row for row in rows if row["planted"] == {group: 0.1}]
        accused = [{name for name, found in row["found"].items() if found["leak"]} for row in here]
        cells = [
            percent(bool(some & set(names)) for some in accused),
            percent(
                bool(some & set(names)) for some, row in zip(accused, here, strict=True) if row["condition"] == "clean"
            ),
            ", ".join(f"{name} {percent(name in some for some in accused)}" for name in names),
            percent(
                name in some
                for some, row in zip(accused, here, strict=True)
                for name in row["found"]
                if name not in names
            ),
        ]
        lines.append(f"| {group} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sweep(rows: list[dict[str, Any]], transforms: Sequence[str]) -> str:
    """How often a transform of a share of the fakes is called a leak, for each condition with more than one share."""
    single = [row for row in rows if len(row["planted"]) == 1 and set(row["planted"]) <= set(transforms)]
    seeds = {row["seed"] for row in single for share in row["planted"].values() if share != 0.1}
    single = [row for row in single if row["seed"] in seeds]
    shares = sorted({share for row in single for share in row["planted"].values()})
    swept = {row["condition"] for row in single for share in row["planted"].values() if share != 0.1}
    lines = []
    for condition in sorted(swept):
        lines += ["", f"| {condition} | {' | '.join(f'{100 * share:g} %' for share in shares)} |"]
        lines.append("|--" * (1 + len(shares)) + "|")
        for name in transforms:
            cells = [
                percent(
                    name in row["found"] and row["found"][name]["leak"]
                    for row in single
                    if row["condition"] == condition and row["planted"] == {name: share}
                )
                for share in shares
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def smallest_by_condition(rows: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """(condition, transform) → the smallest rate that would have been seen, in the worst seed; infinite: none."""
    least: dict[tuple[str, str], float] = {}
    for row in rows:
        for name, rate in row.get("smallest", {}).items():
            key = row["condition"], name
            least[key] = max(least.get(key, 0.0), np.inf if rate is None else rate)
    return least


def called_clean(row: dict[str, Any], name: str, least: dict[tuple[str, str], float]) -> bool:
    """Whether the detector says "clean"."""
    found, wanted = row["found"][name], AugmentationDetector().rate
    seen = least.get((row["condition"], name), np.inf)
    told = row["strangeness"] < STRANGE and not found["leak"] and not found["beside"]
    return bool(told and found["interval"][1] <= wanted and seen < wanted)


def covers(row: dict[str, Any], name: str, truth: float, least: dict[tuple[str, str], float]) -> bool:
    """Whether the interval holds the true share; half a per cent is nothing.

    Where no leak is called, it reaches as far as one might not have been seen.
    """
    low, high = row["found"][name]["interval"]
    if not row["found"][name]["leak"]:
        high = max(high, least.get((row["condition"], name), 0.0))
    return bool(low - 0.005 <= truth <= high)


def percent(values: Iterable[bool]) -> str:
    """How many are true."""
    some = list(values)
    return f"{100 * np.mean(some):.1f} %" if some else "–"
