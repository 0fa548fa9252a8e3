"""Which label and group each image gets: tables, sub-folders, `dataset.json`, and their order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaflow.core.data.dataset_json import dump_dataset_json
from adaflow.core.data.folders import class_folders, masks_among
from adaflow.core.data.labelling import Labelling, label_images
from adaflow.core.data.source import ImageSource, open_source
from adaflow.core.data.tables import key
from adaflow.errors import DataError, UsageError
from tests.images import ISIC, pixels, save

pytest_plugins = ["tests.images"]

ISIC_2020 = "image_name,patient_id,diagnosis,benign_malignant,target\n"


class Images(ImageSource):
    """Names without pixels, and tables among them."""

    labels_from = "dataset.json"

    def __init__(self, names, tables=None, labels=None, groups=None, class_names=None):
        self.name = "images"
        self.names = list(names)
        self.files = {name: text.encode() if isinstance(text, str) else text for name, text in (tables or {}).items()}
        self.own_labels = labels or {}
        self.own_groups = groups or {}
        self.class_names = class_names

    def __len__(self):
        return len(self.names)

    def image_name(self, index):
        return self.names[index]

    def read(self, index):
        raise NotImplementedError

    def fingerprint(self):
        return ""

    def label(self, index):
        return self.own_labels.get(index)

    def group(self, index):
        return self.own_groups.get(index)

    def tables(self):
        return self.files


# Tables among the images


def test_a_table_among_the_images_is_found():
    rows = (
        "a,P7,nevus,benign,0\nb,P3,melanoma,malignant,1\nc,P7,nevus,benign,0\nd,P1,nevus,benign,\nz,P9,nevus,benign,0\n"
    )
    source = Images(["x/b.jpg", "x/a.jpg", "x/c.jpg", "x/d.jpg", "x/e.jpg"], {"meta/t.csv": ISIC_2020 + rows})
    assert label_images(source) == Labelling(
        labels=(1, 0, 0, None, None),
        class_names=("benign", "malignant"),
        groups=(None,) * 5,
        origin="meta/t.csv (ISIC 2020)",
        missing={
            3: "image x/d.jpg has an empty label in meta/t.csv",
            4: "image x/e.jpg has no row in meta/t.csv",
        },
        unused_rows=("z",),
        notes=(
            "several images have the same patient_id, and would be divided between training and validation: "
            "add --group-column patient_id",
        ),
    )


def test_a_column_of_patients_that_is_not_used_is_mentioned_where_it_matters():
    def notes(rows, groups=None, **options):
        return label_images(Images("ab", {"t.csv": rows}, groups=groups), **options).notes

    twice = "image,label,Patient ID\na,0,Doe\nb,1,Doe\n"
    (note,) = notes(twice)
    assert note.endswith("add --group-column Patient ID")
    assert "Doe" not in note
    assert "lesion_id" in notes("image,label,lesion_id\na,0,L\nb,1,L\n")[0]
    assert notes(twice, group_column="Patient ID") == notes(twice, groups={0: 1}) == ()
    # One image each, another row about the same image, rows about other images.
    for rows in ("a,0,x\nb,1,y\n", "a,0,x\na,0,x\nb,1,y\n", "a,0,x\nb,1,y\nc,1,y\n", "a,0,NA\nb,1,NA\n", "a,0,\nb,1\n"):
        assert not [note for note in notes("image,label,patient_id\n" + rows) if "patient" in note]


def test_groups_are_numbers_in_order_of_the_images():
    rows = "a,P7,nevus,benign,0\nb,P3,melanoma,malignant,1\nc,P7,nevus,benign,0\nd,,nevus,benign,0\n"
    found = label_images(Images("bacde", {"t.csv": ISIC_2020 + rows}), group_column="patient_id")
    assert found.groups == (0, 1, 1, None, None)
    assert found.notes == ("images without patient_id, each a group of its own: 2",)
    assert not any(patient in repr(found) for patient in ("P7", "P3"))


def test_groups_from_another_table_than_the_labels(tmp_path):
    truth = "image,MEL,NV\na,1.0,0.0\nb,0.0,1.0\n"
    metadata = "image,age_approx,anatom_site_general,lesion_id,sex\na,55.0,torso,L5,f\nb,,,L5,m\n"
    source = Images("ab", {"truth.csv": truth, "metadata.csv": metadata})
    found = label_images(source, group_column="lesion_id")
    assert (found.labels, found.groups, found.origin) == ((0, 1), (0, 0), "truth.csv (columns MEL, NV)")
    assert label_images(source).groups == (None, None)
    path = tmp_path / "elsewhere.tsv"
    path.write_text("img\tlabel\na\t3\nb\t4\n")
    found = label_images(source, str(path), group_column="lesion_id")
    assert (found.labels, found.groups, found.origin) == ((3, 4), (0, 0), "elsewhere.tsv (column label)")
    found = label_images(source, "none", group_column="lesion_id")
    assert (found.labels, found.groups, found.origin) == ((None, None), (0, 0), "none")


def test_columns_can_be_named():
    table = "picture,label,grade,left,right,person\na,0,7,1,0,x\nb,0,8,0,1,y\nc,0,9,1,1,y\n"
    source = Images("abc", {"t.csv": table})
    assert label_images(source).labels == (None,) * 3
    assert label_images(source, name_column="picture").labels == (0, 0, 0)
    found = label_images(source, name_column="picture", label_column="grade", group_column="person")
    assert (found.labels, found.groups, found.origin) == ((7, 8, 9), (0, 1, 1), "t.csv (column grade)")
    found = label_images(source, name_column="picture", label_column="left,right")
    assert found.labels == ((1, 0), (0, 1), (1, 1))
    # The names of the columns may be meant for the groups alone.
    found = label_images(Images("abc", {"t.csv": table}, labels={0: 5}), "auto", "picture", None, "person")
    assert (found.labels, found.groups, found.origin) == ((5, None, None), (0, 1, 1), "dataset.json")


def test_a_named_column_goes_before_dataset_json():
    source = Images("ab", {"t.csv": "image,grade\na,7\nb,8\n"}, labels={0: 1, 1: 1})
    assert label_images(source).labels == (1, 1)
    assert label_images(source, label_column="grade").labels == (7, 8)


def test_a_table_must_fit_half_of_the_images():
    table = "image,label\na,1\nb,2\nx,3\n"
    assert label_images(Images("abcd", {"t.csv": table})).labels == (1, 2, None, None)
    found = label_images(Images("abcde", {"t.csv": table}))
    assert (found.labels, found.origin, found.missing) == ((None,) * 5, "none", {})
    assert found.notes == (
        "t.csv was passed over: only 2 of 5 images have a row there (images are called like 'c', rows like 'x')",
    )


def test_capital_letters_do_not_count_where_no_image_has_a_row_otherwise(tmp_path):
    table = "image,label\nISIC_1.JPG,4\nISIC_2.JPG,5\nISIC_3.JPG,5\n"
    found = label_images(Images(["x/isic_1.jpg", "x/isic_2.jpg"], {"t.csv": table}))
    assert (found.labels, found.unused_rows) == ((4, 5), ("ISIC_3",))
    assert found.notes == ("names in t.csv and those of the images differ in capital letters, and are taken as equal",)
    (tmp_path / "t.csv").write_text(table)
    assert label_images(Images(["isic_1.jpg"]), str(tmp_path / "t.csv")).labels == (4,)
    # Not where that mixes up rows or images, nor where some are called as in the table.
    assert label_images(Images("a", {"t.csv": "image,label\nA,4\nx,1\nX,5\n"})).origin == "none"
    assert label_images(Images(["a", "y/A"], {"t.csv": "image,label\nA.png,4\n"})).labels == (None, 4)
    assert label_images(Images("ab", {"t.csv": "image,label\na,4\nB,5\n"})).labels == (4, None)


def test_tables_that_are_of_no_use_are_mentioned():
    tables = {"a.csv": "patient,label\nP1,0\n", "b.csv": "image,sex\na,f\n", "c.csv": "image,label\na,\n"}
    found = label_images(Images("a", tables))
    assert (found.labels, found.origin) == ((None,), "none")
    assert found.notes == (
        "a.csv was passed over: no column of image names has a usual name",
        "b.csv was passed over: no column of labels has a usual name",
        "c.csv was passed over: it has no label for any image",
    )


def test_two_tables_must_agree():
    same = {"a.csv": "image,label\na,1\nb,2\n", "b.tsv": "b.png\t2\na.png\t1\n"}
    assert label_images(Images("ab", same)).labels == (1, 2)
    with pytest.raises(DataError, match=r"a\.csv and b\.csv give the images different labels") as error:
        label_images(Images("ab", {"a.csv": same["a.csv"], "b.csv": "image,label\na,1\nb,3\n"}))
    assert "--labels" in error.value.hint


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,label\na,1\na,2\n", "t.csv has two rows for 'a'"),
        ("image,label\na,1\nb,-1\n", "t.csv, line 3: -1 is no label"),
        ("image,label\na,1\nb\n", "t.csv, line 3 has 1 fields"),
        ("image,label\nx/a,1\ny/a,2\n", "image a fits several rows of t.csv: x/a, y/a"),
        ("", "t.csv is empty"),
        (b"\xff", "t.csv is not UTF-8 text"),
    ],
)
def test_a_broken_table_does_not_silently_leave_images_without_labels(table, message):
    with pytest.raises(DataError, match=message.replace(".", r"\.")) as error:
        label_images(Images("ab", {"t.csv": table}))
    assert "--labels none" in error.value.hint
    assert label_images(Images("ab", {"t.csv": table}), "none").labels == (None, None)
    assert label_images(Images("ab", {"t.csv": table}, labels={0: 1, 1: 1})).labels == (1, 1)


def test_a_file_that_is_no_table_is_mentioned_where_something_else_has_the_labels():
    tables = {"t.csv": b"\xff"}
    found = label_images(Images(["x/a.png", "y/b.png"], tables))
    assert (found.labels, found.notes[-1]) == ((0, 1), "t.csv is not UTF-8 text")
    found = label_images(Images("a", tables | {"u.csv": "image,label\na,1\n"}))
    assert (found.labels, found.notes) == ((1,), ("t.csv is not UTF-8 text",))


def test_a_table_that_cannot_be_read_is_mentioned_where_something_else_has_the_labels():
    unreadable = {"t.csv": DataError("t.csv cannot be read: it is gone")}
    found = label_images(Images("a", unreadable | {"u.csv": "image,label\na,1\n"}))
    assert (found.labels, found.notes) == ((1,), ("t.csv cannot be read: it is gone",))
    with pytest.raises(DataError, match=r"t\.csv cannot be read") as error:
        label_images(Images("a", unreadable))
    assert "--labels none" in error.value.hint


# Tables that are named


def test_a_named_table_needs_fit_one_image_only(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("image,label\na,1\nx,1\nx,1\n")
    found = label_images(Images("abcd", {"t.csv": "image,label\na,0\nb,0\nc,0\nd,0\n"}), str(path))
    assert (found.labels, found.unused_rows) == ((1, None, None, None), ("x",))
    assert list(found.missing) == [1, 2, 3]
    assert found.missing[2] == "image c has no row in l.csv"
    assert found.notes == (f"{path}: rows that repeat an earlier one: 1",)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "image,label\nx9,1\n",
            "no image of images has a row in",
            "Images are called like 'dir/a.png', rows like 'x9'.",
        ),
        (
            "image,label\n",
            "no image of images has a row in",
            "Images are called like 'dir/a.png', and there are no rows.",
        ),
        ("image,label\na,\n", "has no label for any image", ""),
        (
            "patient,label\na,1\n",
            "no column of image names under a usual name",
            "--name-column; the columns are: patient",
        ),
        ("image,sex\na,f\n", "no column of labels under a usual name", "--label-column; the columns are: image, sex"),
    ],
)
def test_named_tables_of_no_use_are_errors(tmp_path, text, message, hint):
    path = tmp_path / "l.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        label_images(Images(["dir/a.png", "dir/b.png"]), str(path))
    assert hint in error.value.hint


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"label_column": "lable"}, "has a column 'lable'", "Did you mean 'label'? t.csv has image, label, person."),
        ({"label_column": "label, persn"}, "has a column 'persn'", "Did you mean 'person'?"),
        ({"name_column": "img_name"}, "has a column 'img_name'", "t.csv has image, label, person."),
        ({"group_column": "person_id"}, "t.csv has no column 'person_id'", "Did you mean 'person'"),
        (
            {"labels": "none", "group_column": "person_id"},
            "no table among the images",
            "t.csv has image, label, person",
        ),
        ({"labels": "gone.csv"}, "gone.csv cannot be read: No such file", ""),
        ({"labels": ""}, "cannot be read", ""),
    ],
)
def test_what_is_not_there_is_explained(options, message, hint):
    source = Images("ab", {"t.csv": "image,label,person\na,1,p\nb,0,q\n"})
    with pytest.raises(DataError, match=message.replace(".", r"\.")) as error:
        label_images(source, **options)
    assert hint in error.value.hint


def test_groups_without_a_table_that_fits():
    with pytest.raises(DataError, match="has a column 'p'") as error:
        label_images(Images("ab"), group_column="p")
    assert "--labels TABLE.csv" in error.value.hint
    with pytest.raises(DataError, match="no table with the column 'p' fits the images") as error:
        label_images(Images("abc", {"t.csv": "image,p\na,1\n"}), group_column="p")
    assert "only 1 of 3" in error.value.hint


def test_groups_that_contradict_each_other_stay_secret():
    for table in ("image,p\na,Doe\na,Roe\n", "image,p,label\na,Doe,1\na,Roe,1\n"):
        with pytest.raises(DataError, match=r"two rows for 'a' with different p \(lines 2 and 3\)") as error:
            label_images(Images("a", {"t.csv": table}), group_column="p")
        assert "oe" not in error.value.message
    tables = {"t.csv": "image,p\na,Doe\nb,Doe\n", "u.csv": "image,p\na,Doe\nb,Roe\n"}
    with pytest.raises(DataError, match=r"t\.csv and u\.csv have different groups in 'p'"):
        label_images(Images("ab", tables), group_column="p")


@pytest.mark.parametrize("labels", ["none", "folders"])
def test_a_column_of_labels_where_none_is_read(labels):
    with pytest.raises(UsageError, match=f"of labels is named, but --labels is {labels}"):
        label_images(Images("a"), labels, label_column="target")
    with pytest.raises(UsageError, match=f"of names is named, but --labels is {labels}"):
        label_images(Images("a"), labels, name_column="image")
    # The names may be those of the groups.
    source = Images(["x/a", "y/b"], {"t.csv": "picture,p\na,1\nb,1\n"})
    assert label_images(source, labels, "picture", None, "p").groups == (0, 0)


# dataset.json


def test_labels_and_groups_of_the_source_are_kept():
    source = Images(["x/a", "y/b"], {"t.csv": "image,label\na,5\nb,5\n"}, {1: (0.5, 1.0)}, {0: 9}, ("u", "v"))
    found = label_images(source)
    assert (found.labels, found.class_names, found.groups) == ((None, (0.5, 1.0)), ("u", "v"), (9, None))
    assert (found.origin, found.missing) == ("dataset.json", {0: "image x/a has no label in dataset.json"})
    found = label_images(source, "none")
    assert (found.labels, found.class_names, found.groups, found.missing) == ((None, None), None, (9, None), {})


def test_where_the_labels_of_a_source_come_from():
    source = Images("ab", labels={0: 1})
    source.labels_from = "the drawing"
    found = label_images(source)
    assert (found.origin, found.missing) == ("the drawing", {1: "image b has no label in the drawing"})
    source.labels_from = ""
    assert label_images(source).origin == "the data set"


def test_names_in_dataset_json_without_an_image_are_unused_rows():
    source = Images("ab", labels={0: 1})
    source.unused_labels = ["x", "y"]
    assert label_images(source).unused_rows == ("x", "y")
    assert label_images(Images("ab", {"t.csv": "image,label\na,1\nb,2\n"}), label_column="label").unused_rows == ()


def test_a_dataset_json_that_fits_no_image_is_an_error():
    source = Images("ab", {"t.csv": "image,label\na,1\nb,2\n"})
    source.unused_labels = ["old/x.png"]
    with pytest.raises(DataError, match=r"dataset\.json of images fits none of its images") as error:
        label_images(source)
    for words in ("'old/x.png'", "'a'", "--labels none"):
        assert words in error.value.hint
    assert label_images(source, "none").labels == (None, None)
    assert label_images(source, label_column="label").labels == (1, 2)
    source.own_groups = {0: 3}
    assert label_images(source).groups == (3, None)


def test_a_dataset_json_that_is_not_used_is_named():
    source = Images("ab")
    source.labels_from, source.ignored = "", ["notes.txt", "old/dataset.json"]
    (note,) = label_images(source).notes
    assert note.startswith("old/dataset.json is not used: it lies neither at the top")
    source.labels_from, source.own_labels = "dataset.json", {0: 1, 1: 1}
    assert label_images(source).notes == ("old/dataset.json is not used: dataset.json is",)


# Sub-folders


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["b/1", "a/2", "b/3"], ["b", "a", "b"]),
        (["set/b/1", "set/a/deep/2"], ["b", "a"]),
        (["train/b/1", "test/a/2", "val/b/3"], ["b", "a", "b"]),
        (["train/b/1", "train/a/2"], ["b", "a"]),
        (["Training/b/1", "Test/2"], ["b", None]),
        (["b/1", "2"], ["b", None]),
        (["a/1", "a/2"], [None, None]),
        (["1", "2"], [None, None]),
        (["train/1", "test/2"], [None, None]),
        ([], []),
    ],
)
def test_folders_that_may_be_classes(names, folders):
    assert class_folders(names) == folders


def test_sub_folders_are_classes_in_sorted_order():
    found = label_images(Images(["nevus/1.png", "melanoma/1.png", "nevus/2.png"]))
    assert (found.labels, found.class_names, found.origin) == ((1, 0, 1), ("melanoma", "nevus"), "sub-folders")
    (note,) = found.notes
    assert note.startswith("the names of the sub-folders become class names inside the set: melanoma, nevus;")
    assert label_images(Images(["10/a", "9/a", "1/a"])).class_names == ("1", "9", "10")
    assert label_images(Images([f"{'9' * 5000}/a", "9/a"])).class_names == ("9", "9" * 5000)


@pytest.mark.parametrize(
    "names",
    [
        ["a/1", "2"],
        ["a/1", "a/2"],
        ["00000/img00000000.png", "00001/img00001000.png"],
        ["HAM10000_images_part_1/1.jpg", "HAM10000_images_part_2/2.jpg"],
    ],
)
def test_folders_that_are_no_classes(names):
    assert label_images(Images(names)).origin == "none"


def test_folders_when_asked_for():
    found = label_images(Images(["00000/1", "00001/2", "3"]), "folders")
    assert (found.labels, found.class_names) == ((0, 1, None), ("00000", "00001"))
    assert found.missing == {2: "image 3 lies in none of the sub-folders"}
    source = Images(["x/1", "y/2"], {"t.csv": "image,label\n1,5\n2,5\n"}, labels={0: 3, 1: 3})
    assert label_images(source, "folders").labels == (0, 1)
    with pytest.raises(DataError, match="has no sub-folders to take as classes"):
        label_images(Images(["a/1", "a/2"]), "folders")


def test_folders_that_look_like_patients_are_no_classes():
    def images(folders, each):
        return Images(f"p{n}/{m}" for n in range(folders) for m in range(each))

    found = label_images(images(8, 3))
    assert (found.origin, found.class_names) == ("none", None)
    assert found.notes == (
        "the 8 sub-folders hold 3.0 images each on average and are not taken as classes, for they may be patients; "
        "--labels folders takes them",
    )
    assert len(label_images(images(8, 3), "folders").class_names) == 8
    assert label_images(images(4, 9)).origin == "none"
    assert label_images(images(4, 10)).origin == label_images(images(3, 1)).origin == "sub-folders"


@pytest.mark.parametrize(
    ("names", "masks"),
    [
        (["images/a.png", "masks/a.png"], {1}),
        (["x/Ground Truth/a.png", "x/b.png", "x/labels/deep/c.png"], {0, 2}),
        (
            ["ISIC_1.jpg", "ISIC_1_segmentation.png", "ISIC_1_superpixels.png", "ISIC_1-Mask.png", "a_GroundTruth.png"],
            {1, 2, 3, 4},
        ),
        (["masks/a.png", "masks/b.png"], set()),
        (["mask.png", "unmask.png", "b_masked.png", "label/a/labels.png"], {3}),
        ([], set()),
    ],
)
def test_masks_are_known_by_their_names(names, masks):
    assert masks_among(names) == masks


def test_masks_are_no_class_and_are_mentioned():
    found = label_images(Images(["images/a.png", "images/b.png", "masks/a.png", "masks/b.png"]))
    assert found.origin == "none"
    assert found.notes == (
        "masks or the like, to judge by their names, are taken for images: 2, such as masks/a.png; move them elsewhere",
    )
    found = label_images(Images(["mel/1.png", "nevus/1.png", "nevus/1_mask.png", "masks/2.png"]))
    assert (found.labels, found.class_names) == ((0, 1, None, None), ("mel", "nevus"))
    assert found.missing[3] == "image masks/2.png is a mask by its name"
    assert not any("taken for images" in note for note in found.notes)
    assert label_images(Images(["mask/1", "none/1"]), "folders").class_names == ("mask", "none")


# Real folders, and everything at random


def test_a_folder_with_table_and_images(tmp_path, readers):
    for index, name in enumerate(["images/c.png", "images/ä b.png"]):
        save(tmp_path, name, pixels(index))
    (tmp_path / "labels.csv").write_bytes("file;diagnosis\r\nä b;x\r\nc;y\r\n".encode("utf-8-sig"))
    with open_source(str(tmp_path), readers) as source:
        found = label_images(source)
    assert (found.labels, found.class_names, found.origin) == ((1, 0), ("x", "y"), "labels.csv (column diagnosis)")
    text = dump_dataset_json(source.names, found.labels, found.class_names, found.groups)
    (tmp_path / "dataset.json").write_text(text)
    with open_source(str(tmp_path), readers) as source:
        assert label_images(source).labels == (1, 0)


@pytest.mark.skipif(not ISIC.is_dir(), reason="the ISIC images are not here")
def test_isic_2017_at_128_pixels(readers):
    with open_source(str(ISIC), readers) as source:
        found = label_images(source)
    assert found.origin == "train.csv (ISIC 2020)"
    assert found.class_names == ("benign", "malignant")
    assert (found.labels.count(0), found.labels.count(1), found.missing) == (1626, 373, {})


PARTS = st.sampled_from(["a", "b", "train", "test", "00000", "00001", "ä"])
NAMES = st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), min_size=1, max_size=8, unique=True)
CELLS = st.sampled_from(["0", "1", "2.0", "", "nevus", "-1", "0.5", "nan", "9" * 30])


@given(
    names=NAMES,
    rows=st.lists(st.tuples(st.one_of(PARTS, NAMES.map(lambda names: names[0])), CELLS, CELLS), max_size=10),
    own=st.dictionaries(st.integers(0, 7), st.integers(0, 3), max_size=3),
    labels=st.sampled_from(["auto", "none", "folders"]),
    group_column=st.sampled_from([None, "p"]),
    label_column=st.sampled_from([None, "label", "p", "label,p"]),
)
def test_no_image_is_lost(names, rows, own, labels, group_column, label_column):
    table = "image,label,p\n" + "".join(f"{name},{label},{p}\n" for name, label, p in rows)
    images = [f"{name}.png" for name in names]
    own = {index: label for index, label in own.items() if index < len(images)}
    try:
        found = label_images(Images(images, {"t.csv": table}, own), labels, None, label_column, group_column)
    except DataError as error:
        assert "\n" not in error.message  # noqa: PT017 (either outcome is right)
        return
    except UsageError:
        assert labels != "auto"
        assert label_column
        return
    assert len(found.labels) == len(found.groups) == len(images)
    without = {index for index, label in enumerate(found.labels) if label is None}
    assert set(found.missing) == (without if found.origin != "none" else set())
    assert len(without) < len(images) or found.origin == "none"
    assert {key(name) for name in found.unused_rows} <= {key(name) for name, _, _ in rows}
    classes = [label for label in found.labels if isinstance(label, int)]
    assert found.class_names is None or max(classes, default=0) < len(found.class_names)
    if group_column:
        seen = [group for group in dict.fromkeys(found.groups) if group is not None]
        assert seen == list(range(len(seen)))
