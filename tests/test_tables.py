"""Tables: dialects, rows, and which row is about which image."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaflow.core.data import tables
from adaflow.core.data.tables import key, load_table, match, open_table, read_cells
from adaflow.errors import DataError

# The csv module does not quote a lone "\r", which is a line end to all readers.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)


def cells_of(data, name_column, column):
    """Row → cell."""
    cells = read_cells(open_table(data, "t"), name_column, (column,))
    return {row: cell for row, (cell,) in cells.by_name.items()}


# Tables: dialects


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_all_dialects(delimiter, newline, encoding):
    rows = [
        [""],
        ["image_name", "größe", "target", "", ""],
        ["x.png", "a", "1"],
        ["y", f'"b,;c{newline}d"', "0", "", "", ""],
        ["", "", ""],
        ["z.JPG", "", " 1.0 "],
    ]
    text = newline.join(delimiter.join(row) for row in rows)
    assert cells_of(text.encode(encoding), "image_name", "target") == {"x": "1", "y": "0", "z": "1.0"}


def test_the_line_excel_writes_about_the_delimiter():
    assert cells_of(b"sep=;\nname;note;label\na;x,y,z;1\nb;;0\n", "name", "label") == {"a": "1", "b": "0"}
    assert cells_of(b"sep=,\nISIC_0000000,malignant\n", "image", "label") == {"ISIC_0000000": "malignant"}


def test_delimiters_within_quotes_do_not_count():
    assert cells_of(b'\r\n"size\r\n(mm)";image;label\r\n7,5;x;1\r\n', "image", "label") == {"x": "1"}
    assert cells_of(b'"image";"a,b,c";"label"\nx;;1\n', "image", "label") == {"x": "1"}


@given(
    rows=st.dictionaries(
        TEXT.map(lambda name: f"i{name}.png"),
        st.tuples(TEXT, st.integers(0, 5)),
        min_size=1,
        max_size=8,
    ),
    dialect=st.tuples(
        st.sampled_from(",;\t"),
        st.sampled_from(["\n", "\r\n"]),
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
        st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    ),
    twice=st.booleans(),
)
def test_tables_written_by_others_are_read_back(rows, dialect, twice):
    delimiter, newline, encoding, quoting = dialect
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=quoting)
    writer.writerow(["note", "filename", "class", "extra"])
    for name, (note, label) in rows.items():
        for _ in range(1 + twice):
            writer.writerow([note, name, label, ""])
    table = open_table(text.getvalue().encode(encoding), "t")
    cells = read_cells(table, "filename", ("class",))
    expected = {key(name.strip()): (str(label),) for name, (_, label) in rows.items()}
    if cells.conflict is None and len(expected) == len(rows):
        assert cells.by_name == expected
        assert cells.duplicates == len(rows) * twice
    else:  # names that differ only in what does not count
        assert len(expected) < len(rows)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "t is empty"),
        (b"\xef\xbb\xbf\r\n \r\n", "t is empty"),
        (b" ,,\n", "t is empty"),
        ("image,label\nä,1\n".encode("latin-1"), "t is not UTF-8"),
        (b"\xff\xfei", "t is not UTF-8"),
        (b"PK\x03\x04\x00\x00", "is no text but a binary file"),
        (b"image,label\na,\x00\n", "is no text but a binary file"),
        (b'image,label\n"a,1\nb,0\n', "t, line 3: unexpected end of data"),
        (b'image,label\n"a"b,1\n', "t, line 2: "),
        (b"image,label\na,1\na,b,1\n", "t, line 3 has 3 fields, the header 2"),
        (b"image,label\na,1\nb\n", "t, line 3 has 1 fields, the header 2"),
        (b"image,label\n" + b"a" * 200_000 + b",1\n", "t, line 2: field larger than"),
        (b"image,label\n" + b"," * 2_000_000, "t, line 2 has more than 1,048,576 characters"),
    ],
)
def test_what_is_no_table_is_explained(data, message):
    with pytest.raises(DataError, match=message):
        read_cells(open_table(data, "t"), "image", ("label",))


def test_tables_that_cannot_be_read(tmp_path, monkeypatch):
    for path in (tmp_path / "none.csv", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(DataError, match="cannot be read"):
            load_table(path)
    (tmp_path / "big.csv").write_bytes(b"image,label\n" + b"a,1\n" * (1 << 18))
    assert load_table(tmp_path / "big.csv").columns == ("image", "label")
    monkeypatch.setattr(tables, "MAX_BYTES", 1 << 20)
    with pytest.raises(DataError, match="more than 1 MiB"):
        load_table(tmp_path / "big.csv")


# Rows and images


def test_rows_fit_images_with_and_without_folders_and_extensions():
    rows = [key(name) for name in ("x", "sets\\one\\y.png", "./b//z.v2", "/abs/u.JPG", "mu\u0308ll")]
    assert rows == ["x", "sets/one/y", "b/z.v2", "/abs/u", "m\u00fcll"]
    images = ["deep/x.jpg", "one/y.jpeg", "b/z.v2.png", "abs/u.png", "m\u00fcll.png", "b/z.v3.png", "xx.png", "e/y.png"]
    assert match(images, rows, "t") == ["x", "sets/one/y", "b/z.v2", "/abs/u", "m\u00fcll", None, None, None]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".png", ".png"),
        ("a/.png", "a/.png"),
        ("a.png/b", "a.png/b"),
        ("a.tar", "a.tar"),
        ("a.png.jpg", "a.png"),
        ("a.", "a."),
    ],
)
def test_only_extensions_of_images_are_taken_off(name, expected):
    assert key(name) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["y.png"], r"image y\.png fits several rows of t: a/y, b/y"),
        (["q/a/y.png"], r"fits several rows of t: a/y, y"),
        (["a/x.png", "b/x.png"], r"'x' in t fits both a/x\.png and b/x\.png"),
    ],
)
def test_images_without_one_clear_row_are_errors(names, message):
    with pytest.raises(DataError, match=message):
        match(names, ["x", "a/y", "b/y"] + ["y"] * ("q/a/y.png" in names), "t")


NAMES = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), unique=True, max_size=6)


@given(images=NAMES, rows=NAMES)
def test_matching_agrees_with_its_definition(images, rows):
    def fits(image, row):
        return image == row or image.endswith(f"/{row}") or row.endswith(f"/{image}")

    candidates = [[image] if image in rows else [row for row in rows if fits(image, row)] for image in images]
    used = [found[0] for found in candidates if found]
    if any(len(found) > 1 for found in candidates) or len(set(used)) < len(used):
        with pytest.raises(DataError):
            match(images, rows, "t")
    else:
        assert match(images, rows, "t") == [found[0] if found else None for found in candidates]
