"""`adaflow data check`: each finding is planted once, and a clean set has none."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from adaflow.core.data import check as check_module
from adaflow.core.data.check import check
from adaflow.core.data.clean import write_clean
from adaflow.core.data.scan import examine
from adaflow.core.data.source import ImageSource
from adaflow.errors import DataError
from adaflow.plugins.datasets.zipped import ZipSource
from tests.images import break_image, save, zip_folder
from tests.test_duplicates import jpeg, picture, resized, turned

pytest_plugins = ["tests.images", "tests.command_line"]

SIDE = 32


def array(image):
    values = np.asarray(image)
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))


class Memory(ImageSource):
    """Images [C, H, W] in memory; an error in place of an image makes it a broken one."""

    def __init__(self, images, labels=None, class_names=None, groups=None, validation=None, names=None):
        self.name = "set"
        self.images = list(images)
        self.labels = labels or [None] * len(self.images)
        self.class_names = class_names
        self.groups = groups or [None] * len(self.images)
        self.validation = validation
        self.names = names or [f"{index}.png" for index in range(len(self.images))]

    def __len__(self):
        return len(self.images)

    def image_name(self, index):
        return self.names[index]

    def read(self, index):
        if isinstance(self.images[index], DataError):
            raise self.images[index]
        return self.images[index]

    def label(self, index):
        return self.labels[index]

    def group(self, index):
        return self.groups[index]

    def is_validation(self, index):
        return None if self.validation is None else index in self.validation

    def fingerprint(self):
        return "0"


def pictures(count):
    return [array(picture(seed, SIDE)) for seed in range(count)]


@pytest.fixture
def few(monkeypatch):
    """Eight images in two classes are enough."""
    monkeypatch.setattr(check_module, "FEW_PER_CLASS", 4)


def found(source, level=None):
    report = check(source)
    return {item.kind: item for item in report.findings if level in (None, item.level)}


def test_nothing_is_found_in_a_clean_set(few):
    labels = [0, 1] * 4
    report = check(Memory(pictures(8), labels, ("a", "b"), [0, 1, 2, 3, 0, 1, 2, 3], validation={0, 4}))
    assert report.findings == []
    assert report.problems == 0
    assert (report.images, report.width, report.height, report.channels) == (8, SIDE, SIDE, 3)
    assert report.class_counts == {"a": 4, "b": 4}
    assert (report.groups, report.validation, report.copies) == (4, 2, [])


def test_a_set_without_labels_groups_and_division_is_clean():
    report = check(Memory(pictures(3)))
    assert report.findings == []
    assert (report.class_counts, report.groups, report.validation) == ({}, None, None)


def plant_broken(images, options):
    images[2] = DataError("image 2.png is broken")


def plant_size(images, options):
    images[3] = array(picture(90, 16))


def plant_channels(images, options):
    images[4] = array(picture(91, SIDE).convert("L"))


def plant_untrainable(images, options):
    images[:] = [image[:, :24] for image in images]


def plant_no_label(images, options):
    options["labels"][1] = None


def plant_mixed_labels(images, options):
    options["labels"][5] = (0.5, 1.0)


def plant_label_range(images, options):
    options["labels"][6] = 7
    options["class_names"] = ("a", "b")


def plant_label_length(images, options):
    options["labels"] = [(0.5, 1.0)] * 7 + [(0.5,)]


def plant_label_value(images, options):
    options["labels"] = [(0.5, 1.0)] * 7 + [(float("nan"), 1.0)]


def plant_exact_copies(images, options):
    images[5] = images[1].copy()


def plant_near_copies(images, options):
    images[4] = array(jpeg(turned(picture(2, SIDE), 3), 80))


def plant_copy_labels(images, options):
    images[5] = images[2].copy()


def plant_copy_division(images, options):
    images[6] = images[2].copy()
    options["validation"] = {2}


def plant_group_division(images, options):
    options["groups"] = [0, 0, 1, 1, 2, 2, 3, 3]
    options["validation"] = {1, 4, 5}


def plant_constant(images, options):
    images[7] = np.full((3, SIDE, SIDE), 100, np.uint8) + np.arange(SIDE, dtype=np.uint8) % 3


def plant_dark(images, options):
    images[0] = images[0] // 17


def plant_bright(images, options):
    images[0] = 240 + images[0] // 17


def plant_empty_class(images, options):
    options["class_names"] = ("a", "b", "c")


def plant_small_class(images, options):
    options["labels"] = [0] * 5 + [1] * 3


def plant_imbalance(images, options):
    images += pictures(20)[8:]
    options["labels"] = [0] * 19 + [1]


def plant_ignored(images, options):
    options["ignored"] = ("notes.txt",)


PROBLEMS = {
    "broken": (plant_broken, ("2.png",)),
    "size": (plant_size, ("3.png",)),
    "channels": (plant_channels, ("4.png",)),
    "untrainable": (plant_untrainable, ()),
    "no-label": (plant_no_label, ("1.png",)),
    "mixed-labels": (plant_mixed_labels, ("5.png",)),
    "label-range": (plant_label_range, ("6.png",)),
    "label-length": (plant_label_length, ("7.png",)),
    "label-value": (plant_label_value, ("7.png",)),
    "exact-copies": (plant_exact_copies, ("5.png",)),
    "near-copies": (plant_near_copies, ("4.png",)),
    "copy-labels": (plant_copy_labels, ("2.png", "5.png")),
    "copy-division": (plant_copy_division, ("2.png", "6.png")),
    "group-division": (plant_group_division, ("0.png", "1.png")),
    "constant": (plant_constant, ("7.png",)),
}
NOTES = {
    "dark": (plant_dark, ("0.png",)),
    "bright": (plant_bright, ("0.png",)),
    "empty-class": (plant_empty_class, ("c",)),
    "small-class": (plant_small_class, ("1",)),
    "imbalance": (plant_imbalance, ("0", "1")),
    "ignored": (plant_ignored, ("notes.txt",)),
}
ALONG = {
    "copy-labels": {"exact-copies"},
    "copy-division": {"exact-copies"},
    "label-range": {"empty-class", "small-class"},
    "mixed-labels": {"small-class"},
    "imbalance": {"small-class"},
    "no-label": {"small-class"},
}
"""What comes along with a planted fault."""


@pytest.mark.parametrize("kind", [*PROBLEMS, *NOTES])
def test_what_is_planted_is_found_and_nothing_else(few, kind):
    plant, names = (PROBLEMS | NOTES)[kind]
    images, options = pictures(8), {"labels": [0, 1] * 4}
    plant(images, options)
    ignored = options.pop("ignored", ())
    source = Memory(images, **options)
    source.ignored = ignored
    report = check(source)
    findings = {item.kind: item for item in report.findings}
    assert findings.keys() == {kind} | ALONG.get(kind, set())
    assert findings[kind].names == names
    assert findings[kind].level == ("problem" if kind in PROBLEMS else "note")
    assert report.problems == sum(key in PROBLEMS for key in findings)


def test_sentences_count_and_name(few):
    images = pictures(8)
    plant_no_label(images, options := {"labels": [0, 1] * 4})
    assert found(Memory(images, **options))["no-label"].sentence == "1 of 8 images without a label"
    images[2:4] = [DataError("broken")] * 2
    assert found(Memory(images))["broken"].sentence == "2 images cannot be read"


def test_few_images_for_their_resolution_are_noted():
    note = found(Memory([array(picture(seed, 256)) for seed in range(2)]))["few-images"]
    assert note.level == "note"
    assert note.sentence == "2 different pictures are few for 256×256 pixels"
    assert "few-images" not in found(Memory([array(picture(seed, 128)) for seed in range(2)]))


def test_a_set_in_which_nothing_can_be_read():
    report = check(Memory([DataError("broken")] * 3))
    assert [item.kind for item in report.findings] == ["broken"]
    assert report.width == 0


def test_a_label_that_is_an_identifier_costs_no_memory():
    finding = found(Memory(pictures(2), [0, 10**12]))["empty-class"]
    assert len(finding.names) < 1001


def test_labels_in_a_table_and_rows_without_images(readers, tmp_path):
    for index in range(4):
        save(tmp_path, f"{index}.png", np.asarray(picture(index, SIDE)))
    (tmp_path / "train.csv").write_text("image_name,target\n" + "".join(f"{index},{index % 2}\n" for index in range(6)))
    with readers["folder"].value.open(str(tmp_path)) as source:
        report = check(source)
    assert sum(report.class_counts.values()) == 4
    assert {item.kind: item.names for item in report.findings}["unused-rows"] == ("4", "5")


def test_a_table_that_cannot_be_understood_is_a_finding(readers, tmp_path):
    for index in range(4):
        save(tmp_path, f"{index}.png", np.asarray(picture(index, SIDE)))
    (tmp_path / "train.csv").write_text("image_name,target\n0,1\n0,0\n1,0\n2,0\n3,1\n")
    with readers["folder"].value.open(str(tmp_path)) as source:
        finding = found(source, "problem")["labels"]
    assert "train.csv" in finding.sentence


def bad_folder(tmp_path):
    """Twenty-one images: of each kind of fault one."""
    folder = tmp_path / "bad"
    for index in range(16):
        save(folder, f"{index:02d}.png", np.asarray(picture(index, SIDE)))
    save(folder, "16.png", np.asarray(picture(16, SIDE)))
    break_image(folder / "16.png")
    save(folder, "17.png", np.asarray(picture(17, 16)))
    save(folder, "18.png", np.full((SIDE, SIDE, 3), 50, np.uint8))
    save(folder, "19.png", np.asarray(picture(0, SIDE)))
    jpeg(turned(resized(picture(1, SIDE), 1.5), 6), 90).save(folder / "20.jpg", quality=90)
    labels = {f"{index:02d}.png": index % 2 for index in range(20)} | {"20.jpg": 1}
    labels["19.png"] = 0
    content = {
        "labels": list(labels.items()),
        "class_names": ["a", "b"],
        "groups": [[name, place] for place, name in enumerate(labels)],
        "validation": ["00.png", "02.png"],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_fix_writes_a_set_that_is_clean(readers, tmp_path):
    folder = bad_folder(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with readers["folder"].value.open(str(folder)) as source:
        seen = examine(source)
        report = write_clean(seen, str(folder), tmp_path / "new" / "clean.zip")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    left_out = dict(report.left_out)
    assert left_out.keys() == {"00.png", "16.png", "17.png", "18.png", "20.jpg"}
    assert left_out["00.png"] == "it is a copy of 19.png"  # which is trained on; 00.png is set apart
    assert left_out["17.png"] == "it is 16×16 RGB, most are 32×32 RGB"
    assert left_out["18.png"] == "it is nearly constant"
    assert left_out["20.jpg"] == "it is a copy of 01.png"
    assert report.read == report.written + len(left_out) == 21
    with ZipSource(tmp_path / "new" / "clean.zip") as cleaned:
        again = check(cleaned)
        assert again.problems == 0
        names = [report.members[cleaned.image_name(index)] for index in range(len(cleaned))]
        assert names == sorted({f"{index:02d}.png" for index in range(1, 16)} | {"19.png"})
        assert [cleaned.label(index) for index in range(16)] == [*([1, 0] * 7), 1, 0]
        assert cleaned.class_names == ("a", "b")
        assert [name for index, name in enumerate(names) if cleaned.is_validation(index)] == ["02.png"]
        assert [cleaned.group(index) for index in range(16)] == [*range(1, 16), 19]
        for index, name in enumerate(names):
            np.testing.assert_array_equal(cleaned.read(index), array(Image.open(folder / name)))
    content = json.loads((tmp_path / "new" / "clean.report.json").read_text())
    assert content["left_out"] == [list(item) for item in report.left_out]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["clean.report.json", "clean.zip"]


def test_of_copies_with_different_labels_none_stays(tmp_path):
    images = [*pictures(4), pictures(1)[0], array(turned(picture(1, SIDE), 2))]
    source = Memory(images, [0, 1, 0, 1, 1, 1], ("a", "b"))
    report = write_clean(examine(source), "memory", tmp_path / "x.zip")
    assert dict(report.left_out) == {
        "0.png": "its copies, such as 4.png, have other labels",
        "4.png": "its copies, such as 0.png, have other labels",
        "5.png": "it is a copy of 1.png",
    }


def test_the_largest_of_copies_in_a_set_of_many_sizes_stays(tmp_path):
    sides = (40, 48, 56, 64)
    images = [array(picture(0, 64).resize((side, side), Image.LANCZOS)) for side in sides]
    images += [array(picture(seed, 20 + seed)) for seed in range(1, 5)]
    report = write_clean(examine(Memory(images)), "memory", tmp_path / "x.zip")
    assert [name for name, _ in report.left_out] == ["0.png", "1.png", "2.png"]


def test_fix_never_overwrites_and_leaves_nothing_behind(cli, tmp_path):
    folder = bad_folder(tmp_path)
    (tmp_path / "y.zip").write_bytes(b"precious")
    outcome = cli("data", "check", folder, "--fix", tmp_path / "y.zip")
    assert outcome.code == 3
    assert "exists already" in outcome.err
    assert (tmp_path / "y.zip").read_bytes() == b"precious"
    (tmp_path / "z.report.json").write_text("precious")
    assert "is no report of adaflow" in cli("data", "check", folder, "--fix", tmp_path / "z.zip").err
    assert "not the name of a zip" in cli("data", "check", folder, "--fix", tmp_path / "z").err
    broken = tmp_path / "broken"
    save(broken, "a.png", np.asarray(picture(0, SIDE)))
    break_image(broken / "a.png")
    assert "no image of broken would be left" in cli("data", "check", broken, "--fix", tmp_path / "w.zip").err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "broken", "y.zip", "z.report.json"]


def test_exit_codes(cli, tmp_path):
    folder = bad_folder(tmp_path)
    outcome = cli("data", "check", folder, "--fix", tmp_path / "clean.zip")
    assert outcome.code == 3
    assert "problem" in outcome.out
    assert "16 of 21 images written" in " ".join(outcome.out.split())
    outcome = cli("data", "check", tmp_path / "clean.zip")
    assert outcome.code == 0  # notes alone: the classes are small
    assert "0 problems, 1 note" in outcome.out
    assert cli("data", "check", tmp_path / "missing").code == 3
    assert cli("data", "check", folder, "--workers", "0").code == 2


def test_json_has_all_names(cli, tmp_path):
    folder = tmp_path / "many"
    for index in range(9):
        save(folder, f"{index}.png", np.asarray(picture(index, SIDE)))
        if index:
            break_image(folder / f"{index}.png")
    outcome = cli("data", "check", folder, "--json")
    content = json.loads(outcome.out)
    assert outcome.code == 3
    assert content["kind"] == "adaflow data check"
    assert content["problems"] == 1
    (finding,) = content["findings"]
    assert finding.keys() == {"kind", "level", "sentence", "hint", "names"}
    assert finding["names"] == [f"{index}.png" for index in range(1, 9)]
    assert "and 3 more" in cli("data", "check", folder).out


def test_hostile_names_do_not_break_the_table(cli, tmp_path):
    names = ["new\nline.png", "[red]markup[/nothing].png", "\x1b[31mescape.png", "ü" * 120 + ".png", " spaced .png"]
    for index, name in enumerate(names):
        save(tmp_path / "in", name, np.full((SIDE, SIDE, 3), index, np.uint8))
    zip_folder(tmp_path / "in", tmp_path / "x.zip")
    for source in (tmp_path / "in", tmp_path / "x.zip"):
        outcome = cli("data", "check", source)
        assert outcome.code == 3
        assert "\x1b" not in outcome.out
        lines = outcome.out.splitlines()
        assert all(len(line) <= 80 for line in lines)
        table = [line for line in lines if line.startswith(("│", "┃"))]
        assert len({len(line) for line in table}) == 1
        assert "[red]markup[/nothing].png" in outcome.out.replace("\n", "")
        assert set(json.loads(cli("data", "check", source, "--json").out)["findings"][0]["names"]) == set(names)


def test_class_names_may_be_hostile(cli, tmp_path):
    for index in range(4):
        save(tmp_path, f"in/{index}.png", np.asarray(picture(index, SIDE)))
    content = {"labels": [[f"{k}.png", k % 2] for k in range(4)], "class_names": ["[b]a[/c]\n", "x" * 500]}
    (tmp_path / "in" / "dataset.json").write_text(json.dumps(content))
    outcome = cli("data", "check", tmp_path / "in")
    assert outcome.code == 0
    assert all(len(line) <= 80 for line in outcome.out.splitlines())
    assert "[b]a[/c]" in outcome.out


def test_progress_never_runs_backwards_and_ends_once():
    seen = []
    check(Memory(pictures(5)), progress=lambda *done: seen.append(done))
    assert [total for _, total in seen] == [10] * len(seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[4] == (5, 10)
    assert seen[-1] == (10, 10)


def test_members_of_a_cleaned_zip_carry_no_metadata(readers, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "SECRET"
    for index in range(3):
        save(tmp_path / "in", f"SECRET{index}.jpg", np.asarray(picture(index, SIDE)), exif=exif, quality=90)
    with readers["folder"].value.open(str(tmp_path / "in")) as source:
        write_clean(examine(source), str(tmp_path / "in"), tmp_path / "x.zip")
    assert b"SECRET" not in (tmp_path / "x.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.namelist() == [*(f"00000/img{index:08d}.jpg" for index in range(3)), "dataset.json"]
