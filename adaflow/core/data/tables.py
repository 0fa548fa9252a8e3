"""Tables (CSV and TSV files): from their bytes to rows, and from rows to the images they are about."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath

from adaflow.core.data.decode import is_image_name
from adaflow.core.data.source import printable
from adaflow.errors import DataError

MAX_BYTES = 256 << 20  # some three million rows of patients' data
MAX_LINE = 1 << 20  # characters

# What pandas, R, SQL and Excel write for an empty cell.
_EMPTY = frozenset({"nan", "NaN", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "None"})
_ISIC_NAME = re.compile(r"ISIC_\d+", re.ASCII)
_EXCEL_DELIMITER = re.compile(r"sep=([,;\t])", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A table whose rows are read again whenever they are needed, so that large ones take little memory.

    Args:
        where: the file, for messages.
        data: its content.
        encoding: "utf-8-sig" or "utf-16".
        delimiter: comma, semicolon or tab.
        columns: the header; ("image", "label") for a table of two columns without one.
        has_header: whether the table has one.
        skip: lines of cells before the first row: the header, and Excel's line about the delimiter.
    """

    where: str
    data: bytes
    encoding: str
    delimiter: str
    columns: tuple[str, ...]
    has_header: bool
    skip: int

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and cells of each row that is not blank; the cells are not stripped, see `pick`.

        Raises:
            DataError: not text, broken quotes, a cell or line without end, or more cells than the header has.
        """
        records = _records(self.data, self.encoding, self.delimiter, self.where)
        width = len(self.columns)
        for line, cells in islice(records, self.skip, None):
            if len(cells) > width and any(map(str.strip, cells[width:])):
                raise DataError(f"{self.where}, line {line} has {len(cells)} fields, the header {width}")
            yield line, cells

    def at(self, column: str) -> int:
        """The position of a column.

        Raises:
            DataError: there is no such column, or two of them.
        """
        count = self.columns.count(column)
        if count > 1:
            raise DataError(f"{self.where} has {count} columns {column!r}", "Rename all but one.")
        if count == 0:
            raise DataError(
                f"{self.where} has no column {column!r}",
                f"{did_you_mean(column, self.columns)}Its columns are: {list_names(self.columns)}.",
            )
        return self.columns.index(column)


@dataclass(frozen=True)
class Cells:
    """Some columns of a table, by image.

    Args:
        by_name: row (the image name without extension, with `/` between folders) → its cells, () where all are empty.
        duplicates: how many rows repeat an earlier one.
        nameless: how many rows have no image name.
        conflict: the first two rows that disagree, if there are such.
    """

    by_name: Mapping[str, tuple[str, ...]]
    duplicates: int
    nameless: int
    conflict: DataError | None


def open_table(data: bytes, where: str) -> Table:
    """Find out encoding, delimiter and columns.

    UTF-8 and UTF-16 with a byte-order mark, any line ends. Commas, semicolons and tabs are told apart by the header. A
    table of two columns whose first line names an image (`x.png`, `ISIC_0000000`) has no header.

    Args:
        data: the file's content.
        where: the file, for messages.

    Raises:
        DataError: too large, empty or no table.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"{where} has more than {MAX_BYTES >> 20} MiB", "Keep only the columns that are needed.")
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    text = _header_text(data, encoding, where)
    excel = _EXCEL_DELIMITER.fullmatch(text)
    outside_quotes = re.sub(r'"[^"]*"', "", text)
    delimiter = excel[1] if excel else max(",;\t", key=outside_quotes.count)
    records = _records(data, encoding, delimiter, where)
    if excel:
        next(records)
    header = [cell.strip() for cell in next(records, (0, []))[1]]
    if not header:
        raise DataError(f"{where} is empty")
    names_image = is_image_name(header[0]) or _ISIC_NAME.fullmatch(header[0])
    if names_image and len([cell for cell in header if cell]) == 2:
        return Table(where, data, encoding, delimiter, ("image", "label"), False, 1 if excel else 0)
    return Table(where, data, encoding, delimiter, tuple(header), True, 2 if excel else 1)


def load_table(path: Path) -> Table:
    """Open the table in a file, see `open_table`.

    Raises:
        DataError: the file cannot be read, is too large, empty or no table.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return open_table(data, str(path))


def read_cells(table: Table, name_column: str, columns: Sequence[str], secret: bool = False) -> Cells:
    """The cells of some columns for each image.

    Rows for the same image may repeat each other or leave cells empty. A cell with `NA` or the like counts as empty.

    Args:
        table: where to read.
        name_column: the column of image names.
        columns: the columns to read.
        secret: keep what the cells say out of messages.

    Raises:
        DataError: a column is missing, or a row lacks one of these fields.
    """
    name_at, at = table.at(name_column), [table.at(column) for column in columns]
    last = max([name_at, *at])
    by_name: dict[str, tuple[str, ...]] = {}
    known: dict[tuple[str, ...], tuple[str, ...]] = {}  # equal cells are kept once
    named = nameless = 0
    conflict: DataError | None = None
    for line, row in table.rows():
        if len(row) <= last:
            raise DataError(f"{table.where}, line {line} has {len(row)} fields, the header {len(table.columns)}")
        name = key(row[name_at].strip())
        if not name:
            nameless += 1
            continue
        named += 1
        cells = pick(row, at)
        cells = known.setdefault(cells, cells) if any(cells) else ()
        before = by_name.setdefault(name, cells)
        if before == cells:
            continue
        if not before:
            by_name[name] = cells
        elif cells and conflict is None:
            first = next(number for number, earlier in table.rows() if key(earlier[name_at].strip()) == name)
            shown = "" if secret else f", {list_names(before, 10)} and {list_names(cells, 10)}"
            conflict = DataError(
                f"{table.where} has two rows for {printable(name)!r} with different {list_names(columns)}{shown} "
                f"(lines {first} and {line})",
                "Take one of the rows away.",
            )
    return Cells(by_name, named - len(by_name), nameless, conflict)


def pick(row: Sequence[str], at: Sequence[int]) -> tuple[str, ...]:
    """The cells at these positions, stripped; a cell with `NA` or the like is empty."""
    return tuple(["" if (cell := row[index].strip()) in _EMPTY else cell for index in at])


def match(images: Sequence[str], rows: Collection[str], where: str) -> list[str | None]:
    """The row about each image, or None.

    A row fits an image when the names agree without extension, or when one of the two has more folders in front.

    Args:
        images: image names with `/` between folders.
        rows: the rows of a table, as in `Cells`.
        where: the table, for messages.

    Raises:
        DataError: an image fits several rows, or a row fits two images.
    """
    keys = [key(name) for name in images]
    wanted = set(keys)
    longer: dict[str, list[str]] = {}
    for row in rows:
        for end in _ends(row) if "/" in row else ():
            if end in wanted:
                longer.setdefault(end, []).append(row)
    found: list[str | None] = []
    taken: dict[str, str] = {}
    for image, name in zip(images, keys, strict=True):
        fits = [name] if name in rows else [end for end in _ends(name) if end in rows] + longer.get(name, [])
        if len(fits) > 1:
            raise DataError(f"image {printable(image)} fits several rows of {where}: {list_names(fits, 3)}")
        other = taken.setdefault(fits[0], image) if fits else image
        if other != image:
            raise DataError(
                f"{printable(fits[0])!r} in {where} fits both {printable(other)} and {printable(image)}",
                "Give names with folders in the table, or only one of these folders as the source.",
            )
        found.append(fits[0] if fits else None)
    return found


def key(name: str) -> str:
    """A name to compare by: `/` between folders, no leading `./`, no image extension, one form of each letter."""
    if "\\" in name or "//" in name or "./" in name:
        name = str(PurePosixPath(name.replace("\\", "/")))
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    stem, _, suffix = name.rpartition(".")
    return stem if stem and not stem.endswith("/") and _is_image_suffix(suffix) else name


@lru_cache(maxsize=256)
def _is_image_suffix(suffix: str) -> bool:
    return "/" not in suffix and is_image_name(f"x.{suffix}")


def did_you_mean(column: str, columns: Sequence[str]) -> str:
    """A question about the column whose name is most like `column`, with a space behind it; "" if none is like it."""
    lower = {name.lower(): name for name in columns[:200]}
    near = difflib.get_close_matches(column.lower()[:80], lower, 1)
    return f"Did you mean {lower[near[0]]!r}? " if near else ""


def list_names(names: Collection[str], most: int = 30) -> str:
    """The names, cut where they are many or long, for messages."""
    shown = [printable(name if len(name) <= 60 else name[:59] + "…") for name in islice(names, most)]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def _ends(name: str) -> Iterator[str]:
    """The name without its first folder, its first two folders, and so on."""
    at = name.find("/")
    while at >= 0:
        yield name[at + 1 :]
        at = name.find("/", at + 1)


def _records(data: bytes, encoding: str, delimiter: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of everything that is not blank."""
    reader = csv.reader(_lines(data, encoding, where), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            if any(map(str.strip, row)):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{where}, line {reader.line_num}: {error}", "Quotes may be unbalanced there.") from None


def _lines(data: bytes, encoding: str, where: str) -> Iterator[str]:
    try:
        for number, line in enumerate(io.TextIOWrapper(io.BytesIO(data), encoding, newline=""), 1):
            if "\0" in line:
                raise DataError(f"{where} is no text but a binary file", "Save the table as CSV in UTF-8.")
            if len(line) > MAX_LINE:
                raise DataError(f"{where}, line {number} has more than {MAX_LINE:,} characters")
            yield line
    except UnicodeError:
        raise DataError(f"{where} is not UTF-8 text", "Save the table as CSV in UTF-8.") from None


def _header_text(data: bytes, encoding: str, where: str) -> str:
    """The first line that is not blank, and those after it that its quotes run on to."""
    text, size, quotes = [], 0, 0
    for line in _lines(data, encoding, where):
        text.append(line)
        size, quotes = size + len(line), quotes + line.count('"')
        if (quotes % 2 == 0 and line.strip()) or size > MAX_LINE:
            break
    return "".join(text).strip("\r\n ")
