"""Which columns of a table hold image names and labels: layouts of known data sets, and usual names of columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from adaflow.core.data.tables import Table, list_names, pick
from adaflow.errors import DataError

# In order of preference; of a column's name only lower case letters count, with _ for spaces and hyphens.
NAME_COLUMNS = (
    *("image_name", "image_id", "isic_id", "image", "images", "image_file", "image_path", "filename", "file_name"),
    *("file", "filepath", "file_path", "path", "img", "img_name", "img_id", "name", "id"),
)
LABEL_COLUMNS = (
    *("target", "label", "labels", "class", "class_name", "class_id", "dx", "diagnosis", "category"),
    *("benign_malignant", "y"),
)


@dataclass(frozen=True)
class Columns:
    """Where a table has what.

    Args:
        layout: the layout's name, for people; empty for columns that were named or guessed.
        name: the column of image names.
        labels: the column of labels, or several: one for each class or for each number of a label vector.
        one_hot: whether every row must have exactly one 1 among several columns.
        zeros: the class of a row of zeros; None where such a row has none.
        class_name_column: the column that names the classes of a column of numbers.
        class_names: the names of the classes 0, 1, … where the layout defines them.
    """

    layout: str
    name: str
    labels: tuple[str, ...] = ()
    one_hot: bool = False
    zeros: str | None = None
    class_name_column: str | None = None
    class_names: tuple[str, ...] | None = None

    def describe(self) -> str:
        """The layout, or the columns the labels come from."""
        return self.layout or f"column{'s' if len(self.labels) > 1 else ''} {list_names(self.labels, 10)}"


@dataclass(frozen=True)
class _Layout:
    title: str
    name: str
    labels: tuple[str, ...]
    others: tuple[str, ...] = ()
    zeros: str | None = None


_LAYOUTS = (
    # The challenge of 2017 has three classes and columns for two: what is neither is a benign nevus.
    _Layout("ISIC 2017", "image_id", ("melanoma", "seborrheic_keratosis"), zeros="nevus"),
    _Layout("ISIC 2018", "image", ("mel", "nv", "bcc", "akiec", "bkl", "df", "vasc")),
    _Layout("ISIC 2019", "image", ("mel", "nv", "bcc", "ak", "bkl", "df", "vasc", "scc", "unk")),
    _Layout("ISIC 2020", "image_name", ("target",), ("benign_malignant", "diagnosis")),
    _Layout("HAM10000", "image_id", ("dx",), ("lesion_id", "dx_type")),
)
GROUP_COLUMNS = ("patient_id", "patient", "subject_id", "subject", "lesion_id")
# 2016: no header; words in the training part, numbers in the test part.
_ISIC_2016 = Columns("ISIC 2016", "image", ("label",), class_names=("benign", "malignant"))
_ISIC_2016_LABELS = ("benign", "malignant", "0.0", "1.0", "0", "1")


def find_columns(table: Table, name_column: str | None = None, label_column: str | None = None) -> Columns | None:
    """Find the columns of names and labels; `labels` is empty where no column of labels is recognised.

    None where no column has a usual name for image names.

    Args:
        table: where to look.
        name_column: the column of image names; None looks for a usual name.
        label_column: the column of labels, or several separated by commas; None looks for a known layout, then for a
            usual name, then for columns of which every row has exactly one 1.

    Raises:
        DataError: a column is missing or named twice.
    """
    present = {_plain(column): column for column in reversed(table.columns) if column}
    if label_column is None:
        known = _known_layout(table, present)
        if known is not None and name_column in (None, known.name):
            return known
    name = name_column if name_column is not None else _first(NAME_COLUMNS, present)
    if name is None:
        return None
    table.at(name)
    if label_column is not None:
        labels = split_columns(table, label_column)
        for column in labels:
            table.at(column)
        if len(set(labels)) < len(labels):
            raise DataError(f"the columns of labels {label_column!r} name one twice")
        return Columns("", name, labels, class_name_column=_class_name_column(labels, present))
    label = _first((column for column in LABEL_COLUMNS if present.get(column) != name), present)
    if label is not None:
        return Columns("", name, (label,), class_name_column=_class_name_column((label,), present))
    return Columns("", name, _one_hot_columns(table, name), one_hot=True)


def find_group_column(table: Table) -> str | None:
    """The column of patients, or else of lesions, if one has a usual name."""
    return _first(GROUP_COLUMNS, {_plain(column): column for column in table.columns})


def split_columns(table: Table, columns: str) -> tuple[str, ...]:
    """The columns meant by `a,b`, or by the name of one column that contains a comma."""
    return (columns,) if columns in table.columns else tuple(column.strip() for column in columns.split(","))


def _known_layout(table: Table, present: Mapping[str, str]) -> Columns | None:
    if not table.has_header:
        _, first = next(table.rows())
        name, label = pick(first, (0, 1))
        is_isic = name.startswith("ISIC_") and label in _ISIC_2016_LABELS
        return _ISIC_2016 if is_isic else None
    for layout in _LAYOUTS:
        if all(column in present for column in (layout.name, *layout.labels, *layout.others)):
            labels = tuple(present[column] for column in layout.labels)
            return Columns(
                layout.title,
                present[layout.name],
                labels,
                one_hot=len(labels) > 1,
                zeros=layout.zeros,
                class_name_column=_class_name_column(labels, present),
            )
    return None


def _one_hot_columns(table: Table, name: str) -> tuple[str, ...]:
    """All columns that hold zeros and ones only, if every row has exactly one 1 among them; else none."""
    at = [index for index, column in enumerate(table.columns) if column and column != name]
    for _, row in table.rows():
        at = [index for index in at if index < len(row) and row[index].strip() in ("0", "1", "0.0", "1.0")]
        if len(at) < 2:
            return ()
    counts = {sum(cell[0] == "1" for cell in pick(row, at)) for _, row in table.rows()}
    return tuple(table.columns[index] for index in at) if counts == {1} else ()


def _class_name_column(labels: tuple[str, ...], present: Mapping[str, str]) -> str | None:
    """In the tables of ISIC the words for `target`."""
    return present.get("benign_malignant") if [_plain(label) for label in labels] == ["target"] else None


def _first(candidates: Iterable[str], present: Mapping[str, str]) -> str | None:
    return next((present[column] for column in candidates if column in present), None)


def _plain(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.lower())
