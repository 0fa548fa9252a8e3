"""LeakBench: what was found in all cases, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from adaflow.core.leaks.strangeness import STRANGE
from adaflow.plugins.leak_detectors.augmentation import AugmentationDetector


def summary(rows: list[dict[str, Any]], transforms: Sequence[str]) -> str:
    """Tables by transform and by condition: false alarms, detections, errors, cover, other transforms accused.

    "Covered": how often the interval of what is called a leak holds the share of 10 %.
    """
    lines = [
        "| transform | told | false alarms | seen at 10 % | undistorted | called clean | share found | covered | "
        "undistorted | width | accused for others |",
        "|--" * 11 + "|",
    ]
    for name in transforms:
        here = [row for row in rows if name in row["found"]]
        told = [any(row["seed"] == seed for row in here) for seed in {row["seed"] for row in rows}]
        innocent = [row for row in rows if not row["planted"]] if here else []
        planted = [row for row in rows if row["planted"] == {name: 0.1}]
        guilty = [row for row in planted if name in row["found"]]
        single = [row for row in rows if set(row["planted"]) <= set(transforms)] if here else []
        others = [row for row in single if len(row["planted"]) == 1 and name not in row["planted"]]
        shares = [row["found"][name]["share"] for row in guilty] or [np.nan]
        called = [row for row in guilty if row["found"][name]["leak"]]
        widths = [np.diff(row["found"][name]["interval"]) for row in called] or [np.nan]
        cells = [
            percent(told),
            percent(accused(row, name) for row in innocent),
            percent(accused(row, name) for row in planted),
            percent(accused(row, name) for row in planted if row["condition"] == "clean"),
            percent(called_clean(row, name) for row in guilty),
            f"{np.mean(shares):.3f} ± {np.std(shares):.3f}",
            percent(covers(row, name, 0.1) for row in called),
            percent(covers(row, name, 0.1) for row in called if row["condition"] == "clean"),
            f"{np.median(widths):.2f}",
            percent(accused(row, name) for row in others),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    innocent = [row for row in rows if not row["planted"]]
    alarmed = percent(any(accused(row, name) for name in row["found"]) for row in innocent)
    tried = [called_clean(row, name) for row in innocent for name in row["found"] if row["seed"] == rows[0]["seed"]]
    lines += ["", f"False alarms in {alarmed} of the sets; clean in division {rows[0]['seed']}: {percent(tried)}."]
    lines += ["", "| condition | false alarms | seen at 10 % | called clean | misfit | strangeness |", "|--" * 6 + "|"]
    for condition in dict.fromkeys(row["condition"] for row in rows):
        here = [row for row in rows if row["condition"] == condition]
        innocent = [accused(row, name) for row in here if not row["planted"] for name in row["found"]]
        guilty = [
            (row, name)
            for row in here
            for name, share in row["planted"].items()
            if name in row["found"] and (share == 0.1 or len(row["planted"]) > 1)
        ]
        fits = np.mean([row["misfit"] for row in here if len(row["planted"]) != 1], axis=0)
        cells = [
            percent(innocent),
            percent(accused(row, name) for row, name in guilty),
            percent(called_clean(row, name) for row, name in guilty if len(row["planted"]) == 1),
            f"{fits[0]:.3f}, {fits[1]:.3f}",
            f"{max(row['strangeness'] for row in here):.2f}",
        ]
        lines.append(f"| {condition} | {' | '.join(cells)} |")
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
        all_named = [{name for name in row["found"] if accused(row, name)} for row in here]
        undistorted = [named for named, row in zip(all_named, here, strict=True) if row["condition"] == "clean"]
        others = [
            name in named for named, row in zip(all_named, here, strict=True) for name in set(row["found"]) - set(names)
        ]
        cells = [
            percent(bool(named & set(names)) for named in all_named),
            percent(bool(named & set(names)) for named in undistorted),
            ", ".join(f"{name} {percent(name in named for named in all_named)}" for name in names),
            percent(others),
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
                    accused(row, name)
                    for row in single
                    if row["condition"] == condition and row["planted"] == {name: share}
                )
                for share in shares
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def accused(row: dict[str, Any], name: str) -> bool:
    """Whether a transform is called a leak, or named with one that it looks like; one that cannot be told never is."""
    return name in row["found"] and bool(row["found"][name]["named"])


def could_be_clean(row: dict[str, Any], name: str) -> bool:
    """Whether the detector says "clean" if a smaller share than the wanted one would have been seen."""
    found = row["found"][name]
    quiet = row["strangeness"] < STRANGE and not found["leak"] and not found["beside"]
    return bool(quiet and found["interval"][1] < AugmentationDetector().rate)


def called_clean(row: dict[str, Any], name: str) -> bool:
    """Whether the detector says "clean": nothing is found, and would have been in a trial with these very images."""
    smallest = row["found"][name].get("smallest")
    return could_be_clean(row, name) and smallest is not None and smallest < AugmentationDetector().rate


def covers(row: dict[str, Any], name: str, truth: float) -> bool:
    """Whether the interval holds the true share; half a per cent is nothing."""
    low, high = row["found"][name]["interval"]
    return bool(low - 0.005 <= truth <= high)


def percent(values: Iterable[bool]) -> str:
    """How many are true."""
    some = list(values)
    return f"{100 * np.mean(some):.1f} %" if some else "–"
