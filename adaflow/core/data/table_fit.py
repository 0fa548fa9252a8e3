"""A table and the images it is about: the row of each image, and the groups a column makes of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from adaflow.core.data.layouts import Columns, find_group_column
from adaflow.core.data.tables import Cells, Table, key, match, pick, read_cells
from adaflow.errors import DataError


@dataclass(frozen=True)
class Fit:
    """A table and its rows about the images.

    Args:
        table: the table.
        title: its name, for people.
        columns: where it has names and labels.
        cells: of the columns of labels, or of groups.
        rows: for each image the row about it, or None.
        unused: the other rows.
        notes: what people should know.
    """

    table: Table
    title: str
    columns: Columns
    cells: Cells
    rows: Sequence[str | None]
    unused: tuple[str, ...]
    notes: tuple[str, ...]

    def count(self) -> int:
        """How many images have a row."""
        return _count(self.rows)


def fit_table(
    names: Sequence[str], table: Table, title: str, columns: Columns, wanted: Sequence[str], secret: bool = False
) -> Fit:
    """Read columns of a table, and find the row about each image.

    Capital letters count, unless no image has a row that way.

    Args:
        names: of the images.
        table: where to read.
        title: its name, for people.
        columns: where it has names.
        wanted: the columns to read.
        secret: keep what their cells say out of messages.

    Raises:
        DataError: see `read_cells` and `match`.
    """
    cells = read_cells(table, columns.name, wanted, secret)
    rows = match(names, cells.by_name, table.where)
    notes: tuple[str, ...] = ()
    if not _count(rows):
        rows = _match_in_any_case(names, cells.by_name)
        if _count(rows):
            notes = (f"names in {title} and those of the images differ in capital letters, and are taken as equal",)
    used = set(rows)
    unused = tuple(row for row in cells.by_name if row not in used)
    return Fit(table, title, columns, cells, rows, unused, notes)


def _match_in_any_case(names: Sequence[str], rows: Collection[str]) -> list[str | None]:
    """The row about each image where capital letters do not count; none at all if that mixes up two rows or images."""
    folded = {row.casefold(): row for row in rows}
    nothing: list[str | None] = [None] * len(names)
    if len(folded) < len(rows):
        return nothing
    try:
        found = match([name.casefold() for name in names], folded, "")
    except DataError:
        return nothing
    return [folded[row] if row is not None else None for row in found]


def _count(rows: Sequence[str | None]) -> int:
    return sum(row is not None for row in rows)


def forgotten_groups(fit: Fit) -> list[str]:
    """A note where several images share a patient or lesion in a column that nobody asked for."""
    column = find_group_column(fit.table)
    if column is None:
        return []
    name_at, group_at = fit.table.at(fit.columns.name), fit.table.at(column)
    used = set(fit.rows)
    image_of: dict[str, str] = {}
    for _, row in fit.table.rows():
        if len(row) > max(name_at, group_at) and (name := key(row[name_at].strip())) in used:
            (group,) = pick(row, (group_at,))
            if group and image_of.setdefault(group, name) != name:
                return [
                    f"several images have the same {column}, and would be divided between training and validation: "
                    f"add --group-column {column}"
                ]
    return []


def number_groups(rows: Sequence[str | None], cells: Cells) -> tuple[int | None, ...]:
    """The groups of the images, numbered in order of the images; what the table calls them stays here.

    Raises:
        DataError: rows of the table disagree on an image.
    """
    if cells.conflict is not None:
        raise cells.conflict
    numbers: dict[tuple[str, ...], int] = {}
    keys = [cells.by_name[row] if row is not None else () for row in rows]
    return tuple(numbers.setdefault(key, len(numbers)) if key else None for key in keys)
