"""Labels in `dataset.json` and in tables."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaflow.core.data import dataset_json
from adaflow.core.data.classes import read_labels
from adaflow.core.data.dataset_json import (
    MAX_CLASS,
    LabelFile,
    count_classes,
    dump_dataset_json,
    empty_classes,
    parse_dataset_json,
)
from adaflow.core.data.layouts import find_columns
from adaflow.core.data.tables import open_table, read_cells
from adaflow.errors import DataError


def labels_of(text, **columns):
    """Row → label, and class names."""
    table = open_table(text if isinstance(text, bytes) else text.encode(), "t.csv")
    return labels_in(table, find_columns(table, **columns))


def labels_in(table, found):
    cells = read_cells(table, found.name, found.labels)
    read = read_labels(table, found, cells)
    return {row: read.by_cells.get(key) for row, key in cells.by_name.items()}, read.class_names


# dataset.json


def test_dataset_json_with_classes_vectors_and_without_labels():
    assert parse_dataset_json(b'{"labels": null}', "x") == LabelFile()
    parsed = parse_dataset_json(b'{"labels": [["a.png", 3], ["b.png", 0]], "class_names": ["w", "x", "y", "z"]}', "x")
    assert (parsed.by_name, parsed.class_names) == ({"a.png": 3, "b.png": 0}, ("w", "x", "y", "z"))
    assert parse_dataset_json(b'{"labels": [["a.png", [1, 0.5]]]}', "x").by_name == {"a.png": (1.0, 0.5)}


def test_dataset_json_with_groups_and_a_validation_part():
    parsed = parse_dataset_json(b'{"groups": [["a.png", 7]], "validation": ["b.png"], "else": [1]}', "x")
    assert parsed == LabelFile(groups={"a.png": 7}, validation=frozenset({"b.png"}))
    assert parse_dataset_json(b'{"validation": []}', "x").validation == frozenset()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "is not JSON"),
        (b'"\xff"', "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"labels": [["a.png", ' + b"[" * 900 + b"]" * 900 + b"]]}", "the label of a.png in x is"),
        (b'{"labels": [["a.png", ' + b"1" * 10_000 + b"]]}", "is not JSON"),
        (b'{"labels": 3}', '"labels" in x is not a list'),
        (b'{"labels": false}', '"labels" in x is not a list'),
        (b'{"labels": ["a.png"]}', "in place of"),
        (b'{"labels": [["a.png", -1]]}', r"the label of a\.png in x is -1"),
        (b'{"labels": [["a.png", 100001]]}', "is 100001"),
        (b'{"labels": [["a.png", 1e400]]}', "is inf"),
        (b'{"labels": [["a.png", 1.0]]}', "is 1.0"),
        (b'{"labels": [["a.png", true]]}', "is True"),
        (b'{"labels": [["a.png", "nevus"]]}', "is 'nevus'"),
        (b'{"labels": [["a.png", []]]}', r"is \[\]"),
        (b'{"labels": [["a.png", [NaN]]]}', "is "),
        (b'{"labels": [["a.png", [1, 1e400]]]}', "is "),
        (b'{"labels": [["a.png", [1' + b"0" * 400 + b"]]]}", "is "),
        (b'{"labels": [["a.png", 1], ["a.png", 2]]}', "two different labels"),
        (b'{"labels": null, "class_names": "ab"}', "class_names"),
        (b'{"class_names": ["a", 1]}', "class_names"),
        (b'{"class_names": ["a", "a"]}', "a name twice"),
        (b'{"groups": {"a.png": 1}}', '"groups" in x is not a list'),
        (b'{"groups": [["a.png", "patient 7"]]}', "the group of a.png in x is 'patient 7'"),
        (b'{"groups": [["a.png", 1e3]]}', "the group of a.png in x is 1000.0"),
        (b'{"groups": [["a.png", 4294967296]]}', "is 4294967296"),
        (b'{"groups": [["a.png", 1], ["a.png", 2]]}', "two different groups"),
        (b'{"validation": {"a.png": true}}', '"validation" in x is not a list of names'),
        (b'{"validation": [3]}', '"validation" in x is not a list of names'),
    ],
)
def test_malformed_dataset_json_is_explained(text, message):
    with pytest.raises(DataError, match=message) as error:
        parse_dataset_json(text, "x")
    assert len(error.value.message) < 300
    assert "\n" not in error.value.message


def test_too_large_a_dataset_json(monkeypatch):
    monkeypatch.setattr(dataset_json, "MAX_BYTES", 1 << 20)
    with pytest.raises(DataError, match="x has 2 MiB, more than 1"):
        parse_dataset_json(b" " * (2 << 20), "x")


LABELS = st.one_of(
    st.none(),
    st.integers(0, MAX_CLASS),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=3).map(tuple),
)


@given(
    images=st.dictionaries(st.text(), st.tuples(LABELS, st.none() | st.integers(0, 9), st.booleans()), max_size=8),
    class_names=st.none() | st.lists(st.text(), unique=True).map(tuple),
)
def test_what_is_dumped_is_parsed_again(images, class_names):
    names = list(images)
    labels, groups, apart = (list(column) for column in zip(*images.values(), strict=True)) if images else ([], [], [])
    validation = [index for index, is_apart in enumerate(apart) if is_apart]
    text = dump_dataset_json(names, labels, class_names, groups, validation)
    parsed = parse_dataset_json(text.encode(), "x")
    assert parsed.by_name == {name: label for name, label in zip(names, labels, strict=True) if label is not None}
    assert parsed.groups == {name: group for name, group in zip(names, groups, strict=True) if group is not None}
    assert (parsed.validation or set()) == {names[index] for index in validation}
    assert parsed.class_names == class_names
    assert text == dump_dataset_json(names, labels, class_names, groups, validation[::-1])


def test_only_what_there_is_gets_dumped():
    assert json.loads(dump_dataset_json(["a", "b"], [None, None], None, [None, None], [])) == {"labels": None}
    assert json.loads(dump_dataset_json(["a", "b"], [None, 2], None, [4, None], [1])) == {
        "labels": [["b", 2]],
        "groups": [["a", 4]],
        "validation": ["b"],
    }


def test_classes_without_an_image_are_named():
    assert empty_classes([1, 2, None], None) == (
        "classes without an image: 1 of 3 (0); each costs memory, teaches nothing"
    )
    assert "2 of 4 (x, 2)" in empty_classes([0, 3], ("w", "x"))
    assert "(0, 1, 2, 3, 4, …)" in empty_classes([10**12], None)
    assert empty_classes([0, 1], ("a", "b")) == empty_classes([(1.0,), None], ("a",)) == ""


def test_classes_are_counted_in_order_under_their_names():
    counts = count_classes([2, 0, 2, None, (1.0,)], ("w", "x"))
    assert list(counts.items()) == [("w", 1), ("2", 2)]


# Columns of tables


@pytest.mark.parametrize(
    ("columns", "message", "hint"),
    [
        (
            {"label_column": "diagnosi"},
            "has no column 'diagnosi'",
            "Did you mean 'Diagnosis'? Its columns are: file, Diag",
        ),
        ({"name_column": "picture"}, "has no column 'picture'", "Its columns are: file, Diagnosis, age, age."),
        ({"label_column": "Diagnosis,x"}, "has no column 'x'", "Its columns are"),
        ({"label_column": "age"}, "has 2 columns 'age'", "Rename"),
        ({"label_column": "Diagnosis,Diagnosis"}, "name one twice", ""),
    ],
)
def test_a_wrong_column_is_explained(columns, message, hint):
    with pytest.raises(DataError, match=message) as error:
        labels_of("file,Diagnosis,age,age\na,1,2,3\n", **columns)
    assert error.value.hint.startswith(hint)


def test_long_lists_of_columns_are_cut():
    with pytest.raises(DataError) as error:
        labels_of("image," + ",".join(f"{n:0100d}" for n in range(2000)) + "\n", label_column="zzz")
    assert error.value.hint.endswith("and 1971 more.")
    assert len(error.value.hint) < 2500


@pytest.mark.parametrize("name", ["image_name", "Image Name", "FILENAME", "isic_id", "path", "id"])
@pytest.mark.parametrize("label", ["target", "Label", "class", "DX", "diagnosis", "y"])
def test_usual_names_of_columns(name, label):
    found = find_columns(open_table(f"sex,{label},{name}\n".encode(), "t"))
    assert (found.name, found.labels) == (name, (label,))


def test_a_named_column_of_names_goes_before_layouts_and_usual_labels():
    table = open_table(b"image_name,file,diagnosis,benign_malignant,target\n", "t")
    assert (find_columns(table).layout, find_columns(table).name) == ("ISIC 2020", "image_name")
    assert (find_columns(table, "file").layout, find_columns(table, "file").name) == ("", "file")
    assert find_columns(open_table(b"label,dx\n", "t"), "label").labels == ("dx",)


def test_a_table_without_header_is_of_isic_2016_only_with_its_labels():
    for text in ("a.png,1\n", "ISIC_0000000,3\n", "ISIC_0000000,nevus\n"):
        found = find_columns(open_table(text.encode(), "t"))
        assert (found.name, found.labels, found.class_names, found.layout) == ("image", ("label",), None, "")


def test_columns_that_nobody_can_guess():
    assert find_columns(open_table(b"patient,label\np,1\n", "t")) is None
    assert find_columns(open_table(b"image,sex\nx,male\n", "t")).labels == ()
    assert find_columns(open_table(b"image,a,b\nx,1,0\ny,1,1\n", "t")).labels == ()
    assert find_columns(open_table(b"image,a,b\n", "t")).labels == ()
    assert find_columns(open_table(b"image,a\nx,1\n", "t")).labels == ()


# Labels in tables


def test_whole_numbers_are_classes_as_they_are():
    assert labels_of("image,label\na,3\nb,0\nc,3.0\nd,\ne,nan\n") == (
        {"a": 3, "b": 0, "c": 3, "d": None, "e": None},
        None,
    )


@pytest.mark.parametrize("empty", ["NA", "N/A", "NULL", "null", "None", "<NA>", "NaN", " nan "])
def test_what_programs_write_for_an_empty_cell_is_no_class(empty):
    assert labels_of(f"image,label\na,1\nb,{empty}\n") == ({"a": 1, "b": None}, None)
    assert labels_of("image,label\na,x\nb,unknown\n") == ({"a": 1, "b": 0}, ("unknown", "x"))


def test_numbers_among_words_are_noted():
    def notes(text):
        table = open_table(text, "t")
        found = find_columns(table)
        return read_labels(table, found, read_cells(table, found.name, found.labels)).notes

    assert notes(b"image,label\na,0\nb,1\nc,unclear\n") == (
        "t: 'label' has both numbers (0, 1) and words (unclear); each is a class name",
    )
    assert notes(b"image,label\na,0\nb,1\n") == notes(b"image,label\na,x\nb,y\n") == ()


def test_words_are_numbered_in_sorted_order():
    text = "file,diagnosis\na,nevus\nb,melanoma\nc,nevus\nd,\ne,1_0\n"
    assert labels_of(text) == ({"a": 2, "b": 1, "c": 2, "d": None, "e": 0}, ("1_0", "melanoma", "nevus"))


def test_one_hot_columns_are_classes_named_after_the_columns():
    text = "image,sex,B,A,C\nx,male,0,1,0\ny,female,1.0,0.0,0.0\n"
    assert labels_of(text) == ({"x": 1, "y": 0}, ("B", "A", "C"))
    assert labels_of(text, label_column="A, B") == ({"x": 0, "y": 1}, ("A", "B"))


def test_other_columns_of_numbers_are_label_vectors():
    text = 'image,sex,age,"weight, kg"\nx,0,54.5,71\ny,1,3e1,-1\nz,,,\n'
    assert labels_of(text, label_column="sex,age") == ({"x": (0.0, 54.5), "y": (1.0, 30.0), "z": None}, None)
    assert labels_of("image,a,b\nx,1,0\ny,1,1\n", label_column="a,b")[0] == {"x": (1.0, 0.0), "y": (1.0, 1.0)}
    assert labels_of("image,a,b\nx,1,0\ny,0,0\n", label_column="a,b")[0] == {"x": (1.0, 0.0), "y": (0.0, 0.0)}
    assert labels_of("image,a,b\nx,1,5\n", label_column="a,b")[0] == {"x": (1.0, 5.0)}
    assert labels_of(text.replace("-1", "1"), label_column="weight, kg")[0] == {"x": 71, "y": 1, "z": None}


@pytest.mark.parametrize(
    ("rows", "columns", "message", "hint"),
    [
        ("a,-1", "label", "line 2: -1 is no label", "start at 0"),
        ("a,1\n\nb,0.5", "label", "line 4: 0.5 is no label", "label vector"),
        ("a,100001", "label", "line 2: 100001 is no label", "identifier"),
        ("a,1" + "0" * 400, "label", "line 2: 1000.* is no label", "identifier|whole"),
        (
            "a,1\na.png,0",
            "label",
            r"two rows for 'a' with different label, 1 and 0 \(lines 2 and 3\)",
            "one of the rows",
        ),
        ("a,1,2\nb,1,x", "label,b", "line 3: 1, x is no label", "a number"),
        ("a,1,2\nb,1,nan", "label,b", "line 3: 1, nothing is no label", "a number"),
        ("a,1,2\nb,1,1e999", "label,b", "line 3: 1, 1e999 is no label", "a number"),
    ],
)
def test_cells_that_are_no_labels_are_explained(rows, columns, message, hint):
    with pytest.raises(DataError, match=message) as error:
        labels_of(f"image,label,b\n{rows}\n", label_column=columns)
    assert error.value.hint
    assert any(part in error.value.hint for part in hint.split("|"))


def test_more_words_than_there_can_be_classes():
    rows = "".join(f"{n},w{n}\n" for n in range(MAX_CLASS + 1))
    with pytest.raises(DataError, match="has 100,001 different labels in 'label'"):
        labels_of(f"image,label\n{rows}")


def test_repeated_rows_count_once_and_fill_each_other():
    table = open_table(b"image,label,sex\na,,m\na,1,m\nb,0,f\nb,0,m\nb.png,,f\n,0,f\n", "t")
    cells = read_cells(table, "image", ("label",))
    assert (cells.by_name, cells.duplicates, cells.nameless) == ({"a": ("1",), "b": ("0",)}, 3, 1)
    assert read_labels(table, find_columns(table), cells).notes == (
        "t: rows that repeat an earlier one: 3",
        "t: rows passed over, for they name no image: 1",
    )


def test_secret_cells_stay_out_of_messages():
    table = open_table(b"image,patient\na,Jane Doe\na,John Doe\n", "t")
    assert "Jane Doe" in read_cells(table, "image", ("patient",)).conflict.message
    message = read_cells(table, "image", ("patient",), secret=True).conflict.message
    assert "lines 2 and 3" in message
    assert "Doe" not in message


# The layouts of known data sets

HAM = "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset"
ISIC_2020 = "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target"


@pytest.mark.parametrize(
    ("layout", "text", "labels", "class_names"),
    [
        ("ISIC 2016", "ISIC_0,benign\nISIC_1,malignant\n", [0, 1], ("benign", "malignant")),
        ("ISIC 2016", "ISIC_0,0.0\nISIC_1,1.0\n", [0, 1], ("benign", "malignant")),
        ("ISIC 2016", "ISIC_0,malignant\nISIC_1,\n", [1, None], ("benign", "malignant")),
        (
            "ISIC 2017",
            "image_id,melanoma,seborrheic_keratosis\nISIC_0,0.0,1.0\nISIC_1,0.0,0.0\nISIC_2,1.0,0.0\n",
            [1, 2, 0],
            ("melanoma", "seborrheic_keratosis", "nevus"),
        ),
        (
            "ISIC 2018",
            "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\nISIC_0,0.0,1.0,0.0,0.0,0.0,0.0,0.0\nISIC_1,0.0,0.0,0.0,0.0,0.0,0.0,1.0\n",
            [1, 6],
            ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"),
        ),
        (
            "ISIC 2019",
            "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\nISIC_0_downsampled,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\n"
            "ISIC_1,0.0,0.0,0.0,1.0,0.0,0.0,0.0,0.0,0.0\n",
            [0, 3],
            ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"),
        ),
        (
            "ISIC 2020",
            f"{ISIC_2020}\nISIC_0,IP_1,male,45.0,head/neck,unknown,benign,0\nISIC_1,IP_1,,,torso,melanoma,malignant,1\n",
            [0, 1],
            ("benign", "malignant"),
        ),
        (
            "ISIC 2020",
            "image_name,diagnosis,benign_malignant,target\nISIC_0,nevus,benign,0\nISIC_1,nevus,benign,0\n",
            [0, 0],
            ("benign",),
        ),
        (
            "HAM10000",
            f"{HAM}\nHAM_0,ISIC_0,bkl,histo,80.0,male,scalp,vidir\nHAM_1,ISIC_1,nv,histo,80.0,male,scalp,vidir\n",
            [0, 1],
            ("bkl", "nv"),
        ),
    ],
)
def test_known_layouts(layout, text, labels, class_names):
    table = open_table(text.encode(), "t")
    found = find_columns(table)
    assert found.describe() == layout
    by_row, names = labels_in(table, found)
    assert list(by_row.values()) == labels
    assert names == class_names
    assert all(row.startswith("ISIC_") for row in by_row)


def test_the_metadata_of_isic_2019_have_names_and_no_labels():
    found = find_columns(
        open_table(b"image,age_approx,anatom_site_general,lesion_id,sex\nISIC_0,55.0,torso,L,f\n", "t")
    )
    assert (found.name, found.labels) == ("image", ())


@pytest.mark.parametrize(
    "rows",
    [
        "a,nevus,benign,0\nb,melanoma,benign,1\n",
        "a,nevus,benign,0\nb,melanoma,malignant,0\n",
        "a,nevus,benign,0\nb,melanoma,,1\n",
        "a,nevus,benign,0\nb,melanoma,malignant,2\n",
    ],
)
def test_words_that_do_not_agree_with_the_numbers_name_no_classes(rows):
    labels, class_names = labels_of(f"image_name,diagnosis,benign_malignant,target\n{rows}")
    assert [str(label) for label in labels.values()] == [row[-1] for row in rows.split()]
    assert class_names is None


def test_a_row_that_breaks_a_layout_is_named():
    with pytest.raises(DataError, match=r"t\.csv, line 3: 0, 0, 0, 0, 0, 0, 0 is no label"):
        labels_of("image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\na,1,0,0,0,0,0,0\nb,0,0,0,0,0,0,0\n")
    with pytest.raises(DataError, match=r"t\.csv, line 2: 1, 1 is no label"):
        labels_of("image_id,melanoma,seborrheic_keratosis\na,1,1\n")


# Mutated files

SEEDS = [
    b"ISIC_0000000,benign\r\nISIC_0000001,malignant\r\n",
    b'\xef\xbb\xbfimage;"sex";label\n"a.png";m;1\nb;"f\n";0\n',
    "image_name\tdiagnosis\tbenign_malignant\ttarget\nä\tnevus\tbenign\t0\n".encode("utf-16"),
    b"image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\na,1.0,0,0,0,0,0,0\nb,0,0,0,0,0,0,1.0\n",
    b'{"labels": [["a.png", 1], ["b.png", [0.5, 1e3]]], "class_names": ["x", "y"], "groups": [["a.png", 0]]}',
]


def mutated(seed):
    """One of the files above with some bytes changed, taken out, repeated or put in."""
    rng = random.Random(seed)
    data = bytearray(SEEDS[seed % len(SEEDS)])
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                data[at : at + 1] = rng.randbytes(1)
            case 1:
                del data[at : at + rng.randint(1, 8)]
            case 2:
                data[at:at] = data[at : at + rng.randint(1, 30)] * rng.randint(1, 3)
            case 3:
                data[at:at] = rng.choice(
                    [b'"', b",", b";", b"\n", b"\0", b"nan", b"1e999", b"-", b"[[", b"\xff\xfe", b"9" * 20]
                )
    return bytes(data)


def test_mutated_files_give_labels_or_an_error():
    done, errors = 0, []
    for seed in range(1500):
        data = mutated(seed)
        try:
            if seed % len(SEEDS) == len(SEEDS) - 1:
                parsed = parse_dataset_json(data, "x")
                assert all(isinstance(label, (int, tuple)) for label in parsed.by_name.values())
            else:
                labels, names = labels_of_any(data)
                assert all(label is None or isinstance(label, (int, tuple)) for label in labels.values())
                assert names is None or max((n for n in labels.values() if n is not None), default=0) < len(names)
            done += 1
        except DataError as error:
            errors.append(error)
    assert min(done, len(errors)) > 100
    assert not any("\n" in error.message or len(error.message) > 1000 for error in errors)


def labels_of_any(data):
    table = open_table(data, "t")
    found = find_columns(table)
    if found is None or not found.labels:
        return {}, None
    return labels_in(table, found)
