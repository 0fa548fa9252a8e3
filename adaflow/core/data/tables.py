"""Tables of labels: CSV and TSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from adaflow.core.data.decode import is_image_name
from adaflow.errors import DataError


@dataclass(frozen=True)
class LabelTable:
    """Classes read from a table.

    Args:
        path: the file, for messages.
        classes: image name as the table has it, without extension → class.
        class_names: the name of class k at position k; None where the table had numbers.
    """

    path: Path
    classes: Mapping[str, int]
    class_names: tuple[str, ...] | None

    def assign(self, names: Iterable[str]) -> list[int]:
        """The class of each image.

        A row fits an image when the names agree without extension, or when one of the two has more folders in front.

        Raises:
            DataError: an image fits no row or several, or a row fits two images.
        """
        by_base: dict[str, list[str]] = {}
        for row in self.classes:
            by_base.setdefault(PurePosixPath(row).name, []).append(row)
        taken: dict[str, str] = {}
        assigned = []
        for name in names:
            row = self._row(name, by_base)
            other = taken.setdefault(row, name)
            if other != name:
                raise DataError(
                    f"{row!r} in {self.path} fits both {other} and {name}", "Give names with folders in the table."
                )
            assigned.append(self.classes[row])
        return assigned

    def _row(self, name: str, by_base: Mapping[str, Sequence[str]]) -> str:
        key = _key(name)
        if key in self.classes:
            return key
        rows = [row for row in by_base.get(PurePosixPath(key).name, ()) if _ends_with(key, row) or _ends_with(row, key)]
        if not rows:
            raise DataError(f"image {name} has no label in {self.path}", "Add it to the table, or take the image away.")
        if len(rows) > 1:
            raise DataError(f"image {name} fits several rows of {self.path}: {', '.join(rows[:3])}")
        return rows[0]


def read_labels(path: str | Path, name_column: str = "image_name", label_column: str = "target") -> LabelTable:
    """Read image names and classes from a CSV or TSV file with a header line, in UTF-8.

    Commas, semicolons and tabs are told apart by the header. Whole numbers are classes as they are; other labels are
    class names, numbered in sorted order. A row with an empty label is passed over.

    Raises:
        DataError: the file cannot be read, lacks a column, has a row without its fields, a negative class, or two rows
            that disagree on an image.
    """
    path = Path(path)
    text = _read_text(path)
    header_line = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=header_line.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        filled = [(rows.line_num, row) for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: {error}") from error
    header = [cell.strip() for cell in filled[0][1]] if filled else []
    for column in (name_column, label_column):
        if column not in header:
            raise DataError(f"{path} has no column {column!r}", f"Its columns are: {', '.join(header) or 'none'}.")
    name_at, label_at = header.index(name_column), header.index(label_column)

    texts: dict[str, str] = {}
    for line, row in filled[1:]:
        if len(row) <= max(name_at, label_at):
            raise DataError(f"{path}, line {line} has {len(row)} fields, the header {len(header)}")
        name, label = _key(row[name_at].strip()), row[label_at].strip()
        if label and texts.setdefault(name, label) != label:
            raise DataError(f"{path} has two labels for {name}: {texts[name]} and {label} (line {line})")
    return _number(path, texts)


def _number(path: Path, texts: Mapping[str, str]) -> LabelTable:
    """Class numbers for the labels as they were written."""
    try:
        classes = {name: _whole_number(text) for name, text in texts.items()}
    except ValueError:
        names = tuple(sorted(set(texts.values())))
        return LabelTable(path, {name: names.index(text) for name, text in texts.items()}, names)
    for name, number in classes.items():
        if number < 0:
            raise DataError(
                f"{path} gives {name} the class {number}", "Classes start at 0; leave a missing label empty."
            )
    return LabelTable(path, classes, None)


def _whole_number(text: str) -> int:
    """The number in `3`, or in `3.0` as spreadsheets write it beside empty cells; ValueError for other text."""
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(number)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text", "Save the table as CSV in UTF-8.") from None


def _key(name: str) -> str:
    """A name to compare by: `/` between folders, no leading `./`, no image extension."""
    path = PurePosixPath(name.replace("\\", "/"))
    return str(path.with_suffix("") if is_image_name(path.name) else path)


def _ends_with(path: str, end: str) -> bool:
    return path.endswith("/" + end)
