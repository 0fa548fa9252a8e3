"""What `adaflow data prepare` did, for the screen and for a file beside the data set.

The report names the files of the source, which may identify patients: it is kept beside the set and never inside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adaflow.core.files import committed, read_plain

KIND = "adaflow data prepare"

SHOWN_ROWS = 1000
"""A table of a whole archive may have millions of rows more than there are images."""


@dataclass(frozen=True)
class PrepareReport:
    """What was done.

    Args:
        source: as it was given.
        dest: the zip or folder that was written.
        settings: the other options, by name.
        width: of the images in pixels.
        height: of the images in pixels.
        channels: 1 for grey, 3 for RGB.
        read: images the source has.
        written: images in the new set.
        left_out: name and reason for every image that is not in it.
        ignored: names of the source's files that are no images.
        enlarged: names of the images that had fewer pixels than asked for in one direction or both.
        notes: what was met and changed on the way ("16-bit", "colour profile", …) → number of images written.
        duplicates: names of images that are equal pixel for pixel in the new set, one list for each picture.
        labels_from: where the labels come from, in words.
        class_counts: class → images in the new set; empty without classes.
        unused_rows: rows of the label table that fit no image, the first `SHOWN_ROWS` of them.
        unused_row_count: how many there are.
        label_notes: what else is to be said about the labels.
        groups: how many patients or lesions the images belong to; None where that is not known.
        validation: how many images are set apart from training; None without such a division.
        members: name in the new set → name in the source.
        continued_from: images that an interrupted attempt had done already.
        fingerprint: what `ImageSource.fingerprint` says of the new set.
        sha256: of the zip; equal input and settings give an equal file with the same versions. None for a folder.
        versions: of adaflow and Pillow.
        seconds: how long it took.
    """

    source: str
    dest: str
    settings: Mapping[str, Any]
    width: int
    height: int
    channels: int
    read: int
    written: int
    left_out: Sequence[tuple[str, str]]
    ignored: Sequence[str]
    enlarged: Sequence[str]
    notes: Mapping[str, int]
    duplicates: Sequence[Sequence[str]]
    labels_from: str
    class_counts: Mapping[str, int]
    unused_rows: Sequence[str]
    unused_row_count: int
    label_notes: Sequence[str]
    groups: int | None
    validation: int | None
    members: Mapping[str, str]
    continued_from: int
    fingerprint: str
    sha256: str | None
    versions: Mapping[str, str]
    seconds: float

    def __post_init__(self) -> None:
        assert self.read == self.written + len(self.left_out), "an image was lost"
        assert self.written == len(self.members)

    def to_json(self) -> str:
        """All fields as indented JSON, safe to print and to write as UTF-8 whatever the files are called."""
        text = json.dumps({"kind": KIND, **asdict(self)}, indent=2, ensure_ascii=False)
        # File names that are not UTF-8 hold lone surrogates; written out as \udc80 they are JSON again.
        return text.encode("utf-8", "backslashreplace").decode()


def report_path(dest: Path) -> Path:
    """Where the report lies: `isic.zip` and the folder `isic` have `isic.report.json` beside them."""
    return dest.with_name((dest.stem if dest.suffix.lower() == ".zip" else dest.name) + ".report.json")


def read_report(path: Path) -> dict[str, Any] | None:
    """The report of one of the commands `adaflow data`; None where the file is something else, or is not there."""
    try:
        content = json.loads(read_plain(path))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(content, dict) and str(content.get("kind")).startswith("adaflow data ")
    return content if ours else None


def write_report(report: PrepareReport, path: Path) -> None:
    """Commit the report.

    Raises:
        FileError: it cannot be written.
    """
    with committed(path) as file:
        file.write(report.to_json().encode() + b"\n")
