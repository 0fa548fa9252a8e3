"""Which label and which group each image of a source has, and where that was found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from adaflow.core.data.classes import read_labels
from adaflow.core.data.dataset_json import DATASET_JSON
from adaflow.core.data.layouts import Columns, find_columns, split_columns
from adaflow.core.data.source import ImageSource, Label, printable
from adaflow.core.data.tables import Cells, Table, list_names, load_table, match, open_table, read_cells
from adaflow.errors import DataError, UsageError

_PARTS = frozenset({"train", "training", "test", "val", "valid", "validation"})
_NO_CLASS = re.compile(r"\d{5}|.*part[ _-]?\d+", re.ASCII | re.IGNORECASE)  # 00000, HAM10000_images_part_1
_SHORT_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_CHOOSE = "Name the right table with --labels TABLE.csv, or go on without labels with --labels none."


@dataclass(frozen=True)
class Labelling:
    """Labels and groups of the images of a source.

    Args:
        labels: for each image its label, or None.
        class_names: the name of class k at position k, or None.
        groups: for each image the number of its patient or lesion, or None.
        origin: where the labels come from, for people: "train.csv (ISIC 2020)", "sub-folders", "dataset.json", "none".
        missing: index → reason, for images that have no label though others have.
        unused_rows: rows of the table without a file.
        notes: sentences people should read.
    """

    labels: tuple[Label | None, ...]
    class_names: tuple[str, ...] | None
    groups: tuple[int | None, ...]
    origin: str
    missing: Mapping[int, str] = field(default_factory=dict)
    unused_rows: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Fit:
    """A table and its rows about the images.

    Args:
        table: the table.
        title: its name, for people.
        columns: where it has names and labels.
        cells: of the columns of labels, or of groups.
        rows: for each image the row about it, or None.
        unused: the other rows.
    """

    table: Table
    title: str
    columns: Columns
    cells: Cells
    rows: Sequence[str | None]
    unused: tuple[str, ...]

    def count(self) -> int:
        """How many images have a row."""
        return sum(row is not None for row in self.rows)


def label_images(
    source: ImageSource,
    labels: str = "auto",
    name_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
) -> Labelling:
    """Find the label and the group of every image.

    "auto" takes the labels of the source itself (`dataset.json`); else those of a table among the images that fits at
    least half of them; else class sub-folders; else none. Naming a column asks for a table.

    Groups are those of the source, or those a table has in `group_column`, numbered from 0 in order of the images: what
    identifies a patient is not passed on.

    Args:
        source: the images.
        labels: "auto", "none", "folders", or the path of a table.
        name_column: the table's column of image names; None looks for a usual name.
        label_column: its column of labels, or several separated by commas; None looks for a known layout, a usual name
            or one-hot columns.
        group_column: its column of patients or lesions; None keeps the groups of the source.

    Raises:
        DataError: a table cannot be read or understood, contradicts itself or another, or fits no image; there are no
            such columns or folders.
        UsageError: a column of labels is named where none is read.
    """
    if labels in ("none", "folders") and label_column is not None:
        raise UsageError(f"a column of labels is named, but --labels is {labels}", "Leave one of the two out.")
    search = _Search(source, name_column, label_column, group_column)
    if labels == "none":
        found = search.without_labels()
    elif labels == "folders":
        found = search.from_folders()
    elif labels == "auto":
        found = search.anywhere()
    else:
        found = search.from_file(Path(labels))
    groups = search.groups()
    return replace(found, groups=groups, notes=(*found.notes, *search.notes))


class _Search:
    """One search for labels and groups; see `label_images`.

    Attributes:
        names: the images' names.
        notes: sentences people should read.
        fit: the table that gave the labels, if one did.
        passed_over: why tables among the images were not used.
        broken: errors in tables among the images.
    """

    def __init__(
        self, source: ImageSource, name_column: str | None, label_column: str | None, group_column: str | None
    ) -> None:
        self.source = source
        self.name_column = name_column
        self.label_column = label_column
        self.group_column = group_column
        self.names = [source.image_name(index) for index in range(len(source))]
        self.notes: list[str] = []
        self.fit: _Fit | None = None
        self.passed_over: list[str] = []
        self.broken: list[DataError] = []

    def without_labels(self) -> Labelling:
        """No labels."""
        nothing = (None,) * len(self.names)
        return Labelling(nothing, None, nothing, "none")

    def from_folders(self) -> Labelling:
        """The sub-folders as classes; images beside them have no label."""
        folders = class_folders(self.names)
        if len(set(folders) - {None}) < 2:
            raise DataError(
                f"{self.source.name} has no sub-folders to take as classes", "There must be at least two with images."
            )
        return self._of_folders(folders)

    def from_file(self, path: Path) -> Labelling:
        """The table that was named."""
        table = load_table(path)
        columns = find_columns(table, self.name_column, self.label_column)
        if columns is None or not columns.labels:
            what, option = ("image names", "--name-column") if columns is None else ("labels", "--label-column")
            raise DataError(
                f"{path} has no column of {what} under a usual name",
                f"Name it with {option}; the columns are: {list_names(table.columns)}.",
            )
        self.fit = self._match(table, path.name, columns, columns.labels)
        if not self.fit.count():
            rows = f"rows like {printable(self.fit.unused[0])!r}" if self.fit.unused else "and there are no rows"
            raise DataError(
                f"no image of {self.source.name} has a row in {path}",
                f"Images are called like {printable(self.names[0])!r}, {rows}.",
            )
        found = self._of_table(self.fit)
        if all(label is None for label in found.labels):
            raise DataError(f"{path} has no label for any image of {self.source.name}")
        return found

    def anywhere(self) -> Labelling:
        """The source's own labels, else a table's, else sub-folders, else none."""
        asks_for_table = self.label_column is not None or (self.name_column is not None and self.group_column is None)
        own = [self.source.label(index) for index in range(len(self.names))]
        if not asks_for_table and any(label is not None for label in own):
            return self._labelling(
                own, self.source.class_names, DATASET_JSON, lambda _: f"has no label in {DATASET_JSON}"
            )
        try:
            found = self._from_tables()
        except DataError as error:
            raise DataError(error.message, f"{error.hint} {_CHOOSE}".strip()) from None
        if found is not None:
            self.notes += map(str, self.broken)
            return found
        if asks_for_table:
            columns = " and ".join(repr(name) for name in (self.name_column, self.label_column) if name is not None)
            self._raise_if_broken()
            raise DataError(
                f"no table among the images of {self.source.name} has {columns} and fits at least half of them",
                "; ".join(self.passed_over) or "Name the table with --labels TABLE.csv.",
            )
        folders = class_folders(self.names)
        classes = set(folders)
        if None not in classes and len(classes) > 1 and not all(_NO_CLASS.fullmatch(str(name)) for name in classes):
            self.notes += [*self.passed_over, *map(str, self.broken)]
            return self._of_folders(folders)
        self._raise_if_broken()
        self.notes += self.passed_over
        return self.without_labels()

    def groups(self) -> tuple[int | None, ...]:
        """The group of each image."""
        if self.group_column is None:
            return tuple(self.source.group(index) for index in range(len(self.names)))
        if self.fit is not None and self.group_column in self.fit.table.columns:
            cells = read_cells(self.fit.table, self.fit.columns.name, (self.group_column,), secret=True)
            groups = _groups(self.fit.rows, cells)
        else:
            groups = self._groups_elsewhere(self.group_column)
        alone = groups.count(None)
        if alone:
            self.notes.append(f"images without {self.group_column}, each a group of its own: {alone}")
        return groups

    def _from_tables(self) -> Labelling | None:
        """The labels of the table among the images that fits them; None where there is none."""
        found: dict[str, tuple[_Fit, Labelling]] = {}
        for table in self._tables:
            if self.label_column is not None and not set(split_columns(table, self.label_column)) <= {*table.columns}:
                continue
            if self.name_column is not None and self.name_column not in table.columns:
                continue
            columns = find_columns(table, self.name_column, self.label_column)
            if columns is None or not columns.labels:
                what = "image names" if columns is None else "labels"
                self.passed_over.append(f"{table.where} was passed over: no column of {what} has a usual name")
                continue
            fit = self._match(table, table.where, columns, columns.labels)
            if self._fits_enough(fit):
                labelling = self._of_table(fit)
                if any(label is not None for label in labelling.labels):
                    found[table.where] = fit, labelling
                else:
                    self.passed_over.append(f"{table.where} was passed over: it has no label for any image")
        if not found:
            return None
        if len({(labelling.labels, labelling.class_names) for _, labelling in found.values()}) > 1:
            raise DataError(f"{' and '.join(found)} give the images different labels")
        self.fit, labelling = next(iter(found.values()))
        return labelling

    def _groups_elsewhere(self, column: str) -> tuple[int | None, ...]:
        """The groups of a table among the images that is not the one of the labels."""
        tables = [table for table in self._tables if column in table.columns]
        if not tables:
            if self.fit is not None:
                self.fit.table.at(column)
            known = "; ".join(f"{table.where} has {list_names(table.columns)}" for table in self._tables)
            raise DataError(
                f"no table among the images of {self.source.name} has a column {column!r}",
                f"{known}." if known else "Name the table with --labels TABLE.csv.",
            )
        found: dict[str, tuple[int | None, ...]] = {}
        for table in tables:
            columns = find_columns(table, self.name_column if self.name_column in table.columns else None)
            if columns is not None:
                fit = self._match(table, table.where, columns, (column,), secret=True)
                if self._fits_enough(fit):
                    found[table.where] = _groups(fit.rows, fit.cells)
        if not found:
            raise DataError(
                f"no table with the column {column!r} fits the images of {self.source.name}",
                "; ".join(self.passed_over),
            )
        if len(set(found.values())) > 1:
            raise DataError(
                f"{' and '.join(found)} have different groups in {column!r}", "Take one of the tables away."
            )
        return next(iter(found.values()))

    @cached_property
    def _tables(self) -> list[Table]:
        """The tables among the images that can be opened."""
        tables = []
        for name, data in sorted(self.source.tables().items()):
            try:
                tables.append(open_table(data, printable(name)))
            except DataError as error:
                self.broken.append(error)
        return tables

    def _match(self, table: Table, title: str, columns: Columns, wanted: Sequence[str], secret: bool = False) -> _Fit:
        cells = read_cells(table, columns.name, wanted, secret)
        rows = match(self.names, cells.by_name, table.where)
        used = set(rows)
        return _Fit(table, title, columns, cells, rows, tuple(row for row in cells.by_name if row not in used))

    def _fits_enough(self, fit: _Fit) -> bool:
        """Whether half of the images have a row; if not, that is remembered."""
        enough = 2 * fit.count() >= len(self.names)
        if not enough:
            count = f"{fit.count()} of {len(self.names)} images"
            self.passed_over.append(f"{fit.title} was passed over: only {count} have a row there")
        return enough

    def _of_table(self, fit: _Fit) -> Labelling:
        read = read_labels(fit.table, fit.columns, fit.cells)
        labels = [read.by_row[row] if row is not None else None for row in fit.rows]
        found = self._labelling(
            labels,
            read.class_names,
            f"{fit.title} ({fit.columns.describe()})",
            lambda index: f"has {'no row' if fit.rows[index] is None else 'an empty label'} in {fit.title}",
        )
        return replace(found, unused_rows=fit.unused, notes=read.notes)

    def _of_folders(self, folders: Sequence[str | None]) -> Labelling:
        present = {folder for folder in folders if folder is not None}
        are_numbers = all(_SHORT_NUMBER.fullmatch(folder) for folder in present)
        names = sorted(present, key=lambda folder: (int(folder) if are_numbers else 0, folder))
        numbers = {name: number for number, name in enumerate(names)}
        if len(names) > 20 and len(folders) < 10 * len(names):
            self.notes.append(
                f"the {len(names)} sub-folders taken as classes hold fewer than 10 images each on average; "
                "if they are patients, use --labels none"
            )
        labels = [numbers[folder] if folder is not None else None for folder in folders]
        return self._labelling(labels, tuple(names), "sub-folders", lambda _: "lies in none of the sub-folders")

    def _labelling(
        self,
        labels: Sequence[Label | None],
        class_names: tuple[str, ...] | None,
        origin: str,
        why: Callable[[int], str],
    ) -> Labelling:
        """With a reason for every image that has no label though others have."""
        missing = {
            index: f"image {printable(self.names[index])} {why(index)}"
            for index, label in enumerate(labels)
            if label is None
        }
        return Labelling(tuple(labels), class_names, (None,) * len(labels), origin, missing)

    def _raise_if_broken(self) -> None:
        for error in self.broken:
            raise DataError(error.message, f"{error.hint} {_CHOOSE}".strip())


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


def _groups(rows: Sequence[str | None], cells: Cells) -> tuple[int | None, ...]:
    """Groups numbered in order of the images; what the table calls them stays here."""
    if cells.conflict is not None:
        raise cells.conflict
    numbers: dict[tuple[str, ...], int] = {}
    keys = [cells.by_name[row] if row is not None else () for row in rows]
    return tuple(numbers.setdefault(key, len(numbers)) if key else None for key in keys)
