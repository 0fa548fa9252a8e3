"""Labels from tables and from `dataset.json`."""

import pytest

from adaflow.core.data.dataset_json import parse_dataset_json
from adaflow.core.data.tables import read_labels
from adaflow.errors import DataError
from tests.images import table

pytest_plugins = ["tests.images"]


def test_dataset_json_with_classes_vectors_and_without_labels():
    assert parse_dataset_json(b'{"labels": null}', "x").by_name == {}
    parsed = parse_dataset_json(b'{"labels": [["a.png", 3], ["b.png", 0]], "class_names": ["w", "x", "y", "z"]}', "x")
    assert (parsed.by_name, parsed.class_names) == ({"a.png": 3, "b.png": 0}, ("w", "x", "y", "z"))
    assert parse_dataset_json(b'{"labels": [["a.png", [1, 0.5]]]}', "x").by_name == {"a.png": (1.0, 0.5)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "is not JSON"),
        (b'"\xff"', "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b'{"labels": 3}', "is not a list"),
        (b'{"labels": ["a.png"]}', "in place of"),
        (b'{"labels": [["a.png", -1]]}', r"the label of a\.png in x is -1"),
        (b'{"labels": [["a.png", true]]}', "is true"),
        (b'{"labels": [["a.png", "nevus"]]}', 'is "nevus"'),
        (b'{"labels": [["a.png", [NaN]]]}', "is "),
        (b'{"labels": [["a.png", 1], ["a.png", 2]]}', "two different labels"),
        (b'{"labels": null, "class_names": "ab"}', "class_names"),
    ],
)
def test_malformed_dataset_json_is_explained(text, message):
    with pytest.raises(DataError, match=message):
        parse_dataset_json(text, "x")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tables_of_all_dialects(tmp_path, delimiter, newline, encoding):
    rows = [
        ["image_name", "note", "target"],
        ["x.png", "a", "1"],
        ["y", '"b,;c"', "0"],
        ["", "", ""],
        ["z.JPG", "", "1.0"],
    ]
    labels = read_labels(table(tmp_path, newline.join(delimiter.join(row) for row in rows), encoding))
    assert (labels.classes, labels.class_names) == ({"x": 1, "y": 0, "z": 1}, None)


def test_names_of_classes_are_numbered_in_sorted_order(tmp_path):
    path = table(tmp_path, "file,diagnosis\na,nevus\nb,melanoma\nc,nevus\nd,\n")
    labels = read_labels(path, "file", "diagnosis")
    assert (labels.classes, labels.class_names) == ({"a": 1, "b": 0, "c": 1}, ("melanoma", "nevus"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'image_name'"),
        ("image_name,label\na,1\n", "has no column 'target'"),
        ("image_name,target\na,1\nb\n", "line 3 has 1 fields"),
        ("image_name,target\na,1\na.png,0\n", "two labels for a: 1 and 0"),
        ("image_name,target\na,-1\n", "gives a the class -1"),
    ],
)
def test_unusable_tables_are_explained(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_labels(table(tmp_path, text))


def test_a_missing_column_lists_those_there_are(tmp_path):
    with pytest.raises(DataError) as error:
        read_labels(table(tmp_path, "name;class\na;1\n"))
    assert "name, class" in error.value.hint


def test_tables_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_labels(tmp_path / "none.csv")
    with pytest.raises(DataError, match="not UTF-8"):
        read_labels(table(tmp_path, "image_name,target\nä,1\n", "latin-1"))


def test_rows_fit_images_with_and_without_folders_and_extensions(tmp_path):
    labels = read_labels(table(tmp_path, "image_name,target\nx,1\nsets\\one\\y.png,2\n./b/z.v2,3\n"))
    assert labels.assign(["deep/x.jpg", "one/y.jpeg", "b/z.v2.png"]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/x.png", "a/w.png"], r"image a/w\.png has no label"),
        (["a/xx.png"], r"image a/xx\.png has no label"),
        (["aa/y.png"], r"image aa/y\.png has no label"),
        (["y.png"], r"image y\.png fits several rows"),
        (["a/x.png", "b/x.png"], r"'x' in .* fits both a/x\.png and b/x\.png"),
    ],
)
def test_images_without_one_clear_row_are_errors(tmp_path, names, message):
    labels = read_labels(table(tmp_path, "image_name,target\nx,1\na/y,2\nb/y,3\n"))
    with pytest.raises(DataError, match=message):
        labels.assign(names)
