"""What the names of images and their folders say: which folders may be classes, and which images may be masks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePosixPath

MIN_FOLDERS, MIN_IMAGES = 4, 10
"""So many folders with fewer images each, on average, are hardly classes: they may be patients."""

_PARTS = frozenset({"train", "training", "test", "val", "valid", "validation"})
_NO_CLASS = re.compile(r"\d{5}|.*part[ _-]?\d+", re.ASCII | re.IGNORECASE)  # 00000, HAM10000_images_part_1
_MASK_FOLDERS = frozenset(
    {"mask", "masks", "segmentation", "segmentations", "ground_truth", "groundtruth", "superpixels"}
    | {"label", "labels", "annotation", "annotations"}
)
_MASK_NAME = re.compile(r".*[_-](segmentation|superpixels?|masks?|ground_?truth|annotations?)", re.IGNORECASE)


def class_folders(names: Sequence[str]) -> list[str | None]:
    """The folder that may be each image's class: the first one below those all images share; None where there is none.

    Where these folders are parts of a set (train, test, …), the folders in them.
    """
    parents = [name.split("/")[:-1] for name in names]

    def at(level: int) -> list[str | None]:
        return [folders[level] if len(folders) > level else None for folders in parents]

    # What the first and the last in sorted order share, all share.
    ends = zip(min(parents), max(parents), strict=False) if parents else ()
    level = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))
    if all(folder is not None and folder.lower() in _PARTS for folder in at(level)):
        level += 1
    return at(level)


def may_be_classes(folders: Sequence[str | None]) -> bool:
    """Whether each image lies in one of several folders, and not all of these have the names of mere parts."""
    names = set(folders)
    return None not in names and len(names) > 1 and not all(_NO_CLASS.fullmatch(str(name)) for name in names)


def may_be_patients(folders: Sequence[str | None]) -> bool:
    """Whether there are several folders with few images each."""
    count = len(set(folders))
    return count >= MIN_FOLDERS and len(folders) < MIN_IMAGES * count


def masks_among(names: Sequence[str]) -> set[int]:
    """Indices of images that are masks or the like, to judge by their names or folders; none if all are."""
    masks = {index for index, name in enumerate(names) if _is_mask(PurePosixPath(name))}
    return masks if len(masks) < len(names) else set()


def _is_mask(path: PurePosixPath) -> bool:
    in_folder = any(folder.lower().replace(" ", "_") in _MASK_FOLDERS for folder in path.parts[:-1])
    return in_folder or _MASK_NAME.fullmatch(path.stem) is not None
