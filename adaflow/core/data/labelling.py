"""Which label and which group each image of a source has, and where that was found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from adaflow.core.data.classes import read_labels
from adaflow.core.data.dataset_json import DATASET_JSON, check_names
from adaflow.core.data.folders import class_folders, masks_among, may_be_classes, may_be_patients
from adaflow.core.data.layouts import find_columns, split_columns
from adaflow.core.data.source import ImageSource, Label, printable
from adaflow.core.data.table_fit import Fit, fit_table, forgotten_groups, number_groups
from adaflow.core.data.tables import Table, did_you_mean, list_names, load_table, open_table, read_cells
from adaflow.errors import DataError, UsageError

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
        unused_rows: rows of the table, or names in `dataset.json`, without a file.
        notes: sentences people should read.
    """

    labels: tuple[Label | None, ...]
    class_names: tuple[str, ...] | None
    groups: tuple[int | None, ...]
    origin: str
    missing: Mapping[int, str] = field(default_factory=dict)
    unused_rows: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


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
        DataError: a table cannot be read or understood, contradicts itself or another, or it or `dataset.json` fits no
            image; there are no such columns or folders.
        UsageError: a column is named where none is read.
    """
    if labels in ("none", "folders"):
        if label_column is not None:
            raise UsageError(f"a column of labels is named, but --labels is {labels}", "Leave one of the two out.")
        if name_column is not None and group_column is None:
            raise UsageError(f"a column of names is named, but --labels is {labels}", "Leave one of the two out.")
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
    search.mention_masks(found)
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
        self.fit: Fit | None = None
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
        self.fit = fit_table(self.names, table, path.name, columns, columns.labels)
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
        if not asks_for_table:
            self._check_dataset_json()
            if any(label is not None for label in own):
                origin = self.source.labels_from or "the data set"
                return replace(
                    self._labelling(own, self.source.class_names, origin, lambda _: f"has no label in {origin}"),
                    unused_rows=tuple(self.source.unused_labels),
                )
        try:
            found = self._from_tables()
        except DataError as error:
            raise DataError(error.message, f"{error.hint} {_CHOOSE}".strip()) from None
        if found is not None:
            self.notes += map(str, self.broken)
            return found
        if asks_for_table:
            self._raise_if_broken()
            self._check_columns()
            columns = " and ".join(repr(name) for name in (self.name_column, self.label_column) if name is not None)
            raise DataError(
                f"no table among the images of {self.source.name} has {columns} and fits at least half of them",
                "; ".join(self.passed_over) or "Name the table with --labels TABLE.csv.",
            )
        found = self._from_class_folders()
        if found is None:
            self._raise_if_broken()
            found = self.without_labels()
        self.notes += [*self.passed_over, *map(str, self.broken)]
        return found

    def groups(self) -> tuple[int | None, ...]:
        """The group of each image."""
        if self.group_column is None:
            own = tuple(self.source.group(index) for index in range(len(self.names)))
            if self.fit is not None and not any(group is not None for group in own):
                self.notes += forgotten_groups(self.fit)
            return own
        if self.fit is not None and self.group_column in self.fit.table.columns:
            cells = read_cells(self.fit.table, self.fit.columns.name, (self.group_column,), secret=True)
            groups = number_groups(self.fit.rows, cells)
        else:
            groups = self._groups_elsewhere(self.group_column)
        alone = groups.count(None)
        if alone:
            self.notes.append(f"images without {self.group_column}, each a group of its own: {alone}")
        return groups

    def _from_class_folders(self) -> Labelling | None:
        """The sub-folders as classes, where they are hardly anything else."""
        photographs = [index for index in range(len(self.names)) if index not in self.masks]
        folders = class_folders([self.names[index] for index in photographs])
        if not may_be_classes(folders):
            return None
        if may_be_patients(folders):
            count = len(set(folders))
            self.notes.append(
                f"the {count:,} sub-folders hold {len(folders) / count:.1f} images each on average and are not taken "
                "as classes, for they may be patients; --labels folders takes them"
            )
            return None
        folder_of = dict(zip(photographs, folders, strict=True))
        return self._of_folders([folder_of.get(index) for index in range(len(self.names))])

    def mention_masks(self, found: Labelling) -> None:
        """Name masks that would become images of the set."""
        taken = sorted(self.masks - found.missing.keys())
        if taken:
            self.notes.append(
                f"masks or the like, to judge by their names, are taken for images: {len(taken):,}, such as "
                f"{printable(self.names[taken[0]])}; move them elsewhere"
            )

    def _check_dataset_json(self) -> None:
        """The one in use fits, and others are named."""
        try:
            check_names(self.source)
        except DataError as error:
            raise DataError(error.message, f"{error.hint} {_CHOOSE}") from None
        for name in self.source.ignored:
            if PurePosixPath(name).name == DATASET_JSON:
                used = self.source.labels_from
                why = f"{used} is" if used else "it lies neither at the top nor in a folder that all images share"
                self.notes.append(f"{printable(name)} is not used: {why}")

    def _check_columns(self) -> None:
        """The columns that are named exist in a table."""
        known = [column for table in self._tables for column in table.columns]
        wanted = [] if self.name_column is None else [self.name_column]
        if self.label_column is not None:
            wanted += [self.label_column] if self.label_column in known else self.label_column.split(",")
        for column in map(str.strip, wanted):
            if column not in known:
                raise self._no_column(column)

    def _no_column(self, column: str) -> DataError:
        """The error for a column that no table has."""
        known = "; ".join(f"{table.where} has {list_names(table.columns)}" for table in self._tables)
        meant = did_you_mean(column, [known for table in self._tables for known in table.columns])
        return DataError(
            f"no table among the images of {self.source.name} has a column {column!r}",
            f"{meant}{known}." if known else "Name the table with --labels TABLE.csv.",
        )

    def _from_tables(self) -> Labelling | None:
        """The labels of the table among the images that fits them; None where there is none."""
        found: dict[str, tuple[Fit, Labelling]] = {}
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
            fit = fit_table(self.names, table, table.where, columns, columns.labels)
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
            raise self._no_column(column)
        found: dict[str, tuple[int | None, ...]] = {}
        for table in tables:
            columns = find_columns(table, self.name_column if self.name_column in table.columns else None)
            if columns is not None:
                fit = fit_table(self.names, table, table.where, columns, (column,), secret=True)
                if self._fits_enough(fit):
                    found[table.where] = number_groups(fit.rows, fit.cells)
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
                if isinstance(data, DataError):
                    raise data
                tables.append(open_table(data, printable(name)))
            except DataError as error:
                self.broken.append(error)
        return tables

    @cached_property
    def masks(self) -> set[int]:
        """The images that are masks or the like."""
        return masks_among(self.names)

    def _fits_enough(self, fit: Fit) -> bool:
        """Whether half of the images have a row; if not, that is remembered."""
        enough = 2 * fit.count() >= len(self.names)
        if not enough:
            without = next(name for name, row in zip(self.names, fit.rows, strict=True) if row is None)
            rows = f", rows like {printable(fit.unused[0])!r}" if fit.unused else ""
            self.passed_over.append(
                f"{fit.title} was passed over: only {fit.count()} of {len(self.names)} images have a row there "
                f"(images are called like {printable(without)!r}{rows})"
            )
        return enough

    def _of_table(self, fit: Fit) -> Labelling:
        read = read_labels(fit.table, fit.columns, fit.cells)
        labels = [read.by_cells.get(fit.cells.by_name[row]) if row is not None else None for row in fit.rows]
        found = self._labelling(
            labels,
            read.class_names,
            f"{fit.title} ({fit.columns.describe()})",
            lambda index: f"has {'no row' if fit.rows[index] is None else 'an empty label'} in {fit.title}",
        )
        return replace(found, unused_rows=fit.unused, notes=(*fit.notes, *read.notes))

    def _of_folders(self, folders: Sequence[str | None]) -> Labelling:
        present = {folder for folder in folders if folder is not None}
        are_numbers = all(_SHORT_NUMBER.fullmatch(folder) for folder in present)
        names = sorted(present, key=lambda folder: (int(folder) if are_numbers else 0, folder))
        numbers = {name: number for number, name in enumerate(names)}
        self.notes.append(
            f"the names of the sub-folders become class names inside the set: {list_names(names, 5)}; "
            "if they are patients, use --labels none"
        )
        labels = [numbers[folder] if folder is not None else None for folder in folders]

        def why(index: int) -> str:
            return "is a mask by its name" if index in self.masks else "lies in none of the sub-folders"

        return self._labelling(labels, tuple(names), "sub-folders", why)

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
