"""Which images are set apart for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from adaflow.errors import ConfigError, DataError


def validation_part(groups: Sequence[int | None], fraction: float, seed: int) -> list[int]:
    """Choose images for validation so that no group is divided; the same for equal arguments, always and everywhere.

    Groups come in an order that depends on the seed and on which images belong together, not on the groups' numbers.
    One after the other is taken if that brings the number of images nearer to `fraction` of all.

    Args:
        groups: for each image the number of its patient or lesion; None is a group of its own.
        fraction: share of the images, from 0 to below 1. More than 0 gives at least one image, and leaves one.
        seed: which of the possible choices.

    Returns:
        Indices, ascending. Without groups exactly round(fraction · images).

    Raises:
        ConfigError: the fraction is out of range.
        DataError: there are fewer than two groups to divide.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"a validation fraction of {fraction} is not from 0 to below 1")
    if fraction == 0:
        return []
    members = _members(groups)
    if len(members) < 2:
        raise DataError(
            "the images cannot be divided into training and validation: "
            + ("they all belong to one group" if len(groups) > 1 else "there are fewer than two"),
            "Use a validation fraction of 0, or another group column.",
        )
    target = min(max(round(fraction * len(groups)), 1), len(groups) - 1)
    order = sorted(members, key=lambda group: hashlib.sha256(f"{seed} {group[0]}".encode()).digest())
    chosen: list[int] = []
    for group in order:
        count = len(chosen) + len(group)
        if count < len(groups) and abs(count - target) < abs(len(chosen) - target):
            chosen += group
    if not chosen:
        chosen = min(order, key=len)
    return sorted(chosen)


def describe_miss(chosen: int, images: int, fraction: float) -> str:
    """A sentence where whole groups made the validation part much larger or smaller than asked for; else "".

    Args:
        chosen: images in it.
        images: how many there are in all.
        fraction: what was asked for.
    """
    target = fraction * images
    if abs(chosen - target) <= max(1, target / 4):
        return ""
    return (
        f"{chosen / images:.0%} of the images are set apart, not {fraction:.0%}: groups are too large to come nearer "
        "without dividing one"
    )


def _members(groups: Sequence[int | None]) -> list[list[int]]:
    """The indices of each group, in order of their first."""
    members: list[list[int]] = []
    place: dict[int, int] = {}
    for index, group in enumerate(groups):
        at = len(members) if group is None else place.setdefault(group, len(members))
        if at == len(members):
            members.append([])
        members[at].append(index)
    return members
