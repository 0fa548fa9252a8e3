"""From the cells of a table to classes and label vectors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from adaflow.core.data.dataset_json import MAX_CLASS
from adaflow.core.data.layouts import Columns
from adaflow.core.data.source import Label
from adaflow.core.data.tables import Cells, Table, list_names, pick
from adaflow.errors import DataError

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)

Key = tuple[str, ...]  # what a row has in the columns of labels


@dataclass(frozen=True)
class TableLabels:
    """The labels of a table.

    Args:
        by_cells: what a row has in the columns of labels, as in `Cells` → its label; nothing for empty cells.
        class_names: the name of class k at position k; None where the table had numbers.
        notes: what people should know.
    """

    by_cells: Mapping[Key, Label]
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]


def read_labels(table: Table, columns: Columns, cells: Cells) -> TableLabels:
    """The labels of all rows.

    In one column, whole numbers are classes as they are; other texts are class names, numbered in sorted order. Of
    several columns, the one with the 1 is the class where every row has exactly one; otherwise the row is a vector.

    Args:
        table: where to read.
        columns: where names and labels are; at least one column of labels.
        cells: the cells of the columns of labels.

    Raises:
        DataError: rows disagree on an image, or a cell is no label.
    """
    if cells.conflict is not None:
        raise cells.conflict
    distinct = {key for key in cells.by_name.values() if key}
    several = len(columns.labels) > 1
    labels, class_names = (_of_several_columns if several else _of_one_column)(table, columns, distinct)
    notes = []
    if cells.duplicates:
        notes.append(f"{table.where}: rows that repeat an earlier one: {cells.duplicates}")
    if cells.nameless:
        notes.append(f"{table.where}: rows passed over, for they name no image: {cells.nameless}")
    texts = {text for key in distinct for text in key} if not several else set()
    numbers = sorted(filter(_NUMBER.fullmatch, texts))
    if words := sorted(texts.difference(numbers)) if numbers else []:
        notes.append(
            f"{table.where}: {columns.labels[0]!r} has both numbers ({list_names(numbers, 3)}) and words "
            f"({list_names(words, 3)}); each is a class name"
        )
    return TableLabels(labels, class_names, tuple(notes))


def _of_one_column(
    table: Table, columns: Columns, distinct: Collection[Key]
) -> tuple[Mapping[Key, Label], tuple[str, ...] | None]:
    texts = {text for (text,) in distinct}
    if all(_NUMBER.fullmatch(text) for text in texts):
        if bad := {key for key in distinct if not _is_class(key[0])}:
            raise _no_label(table, columns, bad, _class_hint)
        numbers = {text: int(float(text)) for text in texts}
        return {(text,): number for text, number in numbers.items()}, _names_of_numbers(table, columns, numbers)
    names = tuple(sorted(texts))
    if columns.class_names is not None and texts <= set(columns.class_names):
        names = columns.class_names
    if len(names) > MAX_CLASS:
        raise DataError(
            f"{table.where} has {len(names):,} different labels in {columns.labels[0]!r}",
            f"These may be identifiers; name the column of labels with --label-column: {list_names(table.columns)}.",
        )
    return {(name,): number for number, name in enumerate(names)}, names


def _is_class(text: str) -> bool:
    number = float(text)
    return number.is_integer() and 0 <= number <= MAX_CLASS


def _class_hint(key: Key) -> str:
    number = float(key[0])
    if number < 0:
        return "Classes start at 0; leave a missing label empty."
    if number > MAX_CLASS:
        return f"Classes go up to {MAX_CLASS:,}; this may be an identifier. Name the labels with --label-column."
    return "Classes are whole numbers or words; several columns, as in --label-column a,b, make a label vector."


def _names_of_numbers(table: Table, columns: Columns, numbers: Mapping[str, int]) -> tuple[str, ...] | None:
    """The words another column has for the classes, where the two agree one to one."""
    if columns.class_names is not None:
        return columns.class_names if max(numbers.values(), default=0) < len(columns.class_names) else None
    if columns.class_name_column is None:
        return None
    number_at, word_at = table.at(columns.labels[0]), table.at(columns.class_name_column)
    words: dict[int, set[str]] = {}
    for _, row in table.rows():
        number = row[number_at].strip()
        if number in numbers:
            words.setdefault(numbers[number], set()).add(row[word_at].strip() if word_at < len(row) else "")
    names = [word for number in sorted(words) for word in words[number]]
    one_to_one = len(names) == len(words) == len(set(names)) and all(names)
    return tuple(names) if one_to_one and sorted(words) == list(range(len(words))) else None


def _of_several_columns(
    table: Table, columns: Columns, distinct: Collection[Key]
) -> tuple[Mapping[Key, Label], tuple[str, ...] | None]:
    if bad := {key for key in distinct if not all(map(_is_number, key))}:
        raise _no_label(table, columns, bad, lambda key: "Each of these columns must hold a number.")
    vectors = {key: tuple(map(float, key)) for key in distinct}
    bad = {key for key, vector in vectors.items() if not _is_one_hot(vector, columns.zeros is not None)}
    if bad and columns.one_hot:
        raise _no_label(table, columns, bad, lambda key: "Exactly one of these columns must be 1, the others 0.")
    if bad:
        return vectors, None
    names = columns.labels if columns.zeros is None else (*columns.labels, columns.zeros)
    return {key: vector.index(1) if any(vector) else len(vector) for key, vector in vectors.items()}, names


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def _is_one_hot(vector: tuple[float, ...], or_zeros: bool) -> bool:
    ones = vector.count(1)
    return vector.count(0) + ones == len(vector) and (ones == 1 or (ones == 0 and or_zeros))


def _no_label(table: Table, columns: Columns, bad: Collection[Key], hint: Callable[[Key], str]) -> DataError:
    """The error about the first row with one of the bad keys."""
    at = [table.at(column) for column in columns.labels]
    keys = ((line, pick(row, at)) for line, row in table.rows())
    line, key = next((line, key) for line, key in keys if key in bad)
    shown = list_names([text or "nothing" for text in key], 10)
    return DataError(f"{table.where}, line {line}: {shown} is no label", hint(key))
