"""`adaflow data prepare`: options, what it prints, and how it ends."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from adaflow.cli import data as data_command
from adaflow.core.data.report import KIND
from tests.images import break_image, pixels, save

pytest_plugins = ["tests.images", "tests.command_line"]


@pytest.fixture
def prepare(cli, folder, tmp_path):
    """Prepare the folder of six images."""

    def run(*options, dest="set.zip", resolution=("--resolution", "16")):
        return cli("data", "prepare", folder, "--dest", tmp_path / dest, *resolution, *options)

    return run


def test_a_plain_set_is_summed_up_in_a_few_lines(prepare, tmp_path):
    result = prepare()
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].startswith(f"6 of 6 images written to {tmp_path / 'set.zip'} at 16×16 (RGB, ")
    assert lines[1:] == [
        "labels: dataset.json",
        "classes: 0: 2, 1: 2, 2: 2",
        f"report: {tmp_path / 'set.report.json'}",
    ]


def test_json_is_the_report(prepare, tmp_path):
    result = prepare("--json", "--val-fraction", "0.5", "--codec", "webp", "--workers", "1")
    assert (result.code, result.err) == (0, "")
    report = json.loads(result.out)
    assert report == json.loads((tmp_path / "set.report.json").read_bytes())
    assert (report["kind"], report["read"], report["written"], report["validation"]) == (KIND, 6, 6, 3)
    assert (report["settings"]["codec"], report["settings"]["val_fraction"]) == ("webp", 0.5)
    assert list(report["members"]) == [f"00000/img{index:08d}.webp" for index in range(6)]


def test_what_the_user_must_look_at_goes_to_stderr(prepare, folder, tmp_path):
    break_image(folder / "a" / "2.png")
    save(folder, "a/6.png", pixels(0, 8, 8))
    save(folder, "a/7.png", pixels(1))
    (folder / "notes.txt").touch()
    table = tmp_path / "labels.csv"
    rows = [(0, "x"), (1, "y"), (2, "x"), (3, "y"), (4, "x"), (5, "y"), (6, "x"), (7, "y"), (8, "x")]
    table.write_text("image,target\n" + "".join(f"{name},{label}\n" for name, label in rows if name != 4))
    result = prepare("--labels", table, resolution=("--size", "16x12"))
    assert result.code == 3
    lines = result.err.splitlines()
    assert [line for line in lines if line.startswith("Note: ")][-4:] == [
        "Note: rows of labels without an image: 1 (8).",
        "Note: images enlarged because they were smaller: 1.",
        "Note: exact copies of other images: 1; a GAN learns such pictures by heart, the report names them.",
        "Note: training needs square images whose side is a power of two; these are for other uses.",
    ]
    left_out = [line for line in lines if line.startswith("left out: ")]
    assert [line.split(" ")[3] for line in left_out] == ["a/2.png", "a/4.png"]
    assert "6 of 8 images written" in result.out
    assert "at 16×12" in result.out
    assert "not read: .txt 1\n" in result.out
    report = json.loads((tmp_path / "set.report.json").read_bytes())
    assert report["ignored"] == ["notes.txt"]
    assert report["duplicates"] == [["b/1.png", "a/7.png"]] or report["duplicates"] == [["a/7.png", "b/1.png"]]


def test_kinds_of_files_that_are_not_read(prepare, folder):
    for index in range(7):
        (folder / f"{index}.DCM").touch()
    for index in range(2):
        (folder / f"{index}.heic").touch()
    result = prepare()
    assert "not read: .dcm 7, .heic 2\n" in result.out
    assert "Note: more files were not read (9) than were; convert them if they are pictures.\n" in result.err


@pytest.mark.parametrize(("kind", "suffix"), [("int32", "tif"), ("uint16", "png")])
def test_twelve_bits_in_sixteen_are_noted(cli, tmp_path, kind, suffix):
    for index, most in enumerate([4095, 4095, 4096]):
        save(tmp_path / "in", f"{index}.{suffix}", np.full((16, 16), most, kind))
    save(tmp_path / "in", f"3.{suffix}", np.zeros((16, 16), kind))
    result = cli("data", "prepare", tmp_path / "in", "--dest", tmp_path / "x.zip", "--resolution", 16)
    assert "12-bit in 16-bit: 2" in result.out
    assert "Note: 16-bit images whose values stay below 4,096: 2; they come out nearly black" in result.err


def test_groups_and_classes_that_turn_out_badly_are_noted(prepare, folder):
    (folder / "dataset.json").unlink()
    (folder / "t.csv").write_text("image,label,p\n" + "".join(f"{n},{1 + n % 2},{n // 3}\n" for n in range(6)))
    result = prepare("--group-column", "p", "--val-fraction", "0.3")
    assert "Note: 50% of the images are set apart, not 30%" in result.err
    assert "Note: classes without an image: 1 of 3 (0);" in result.err


def test_drawn_images_say_where_their_labels_come_from(cli, tmp_path):
    result = cli(
        *("data", "prepare", "demo:lesions,resolution=16,images=8"),
        *("--dest", tmp_path / "x.zip", "--resolution", 16),
    )
    assert "labels: the drawing\n" in result.out


def test_of_many_images_left_out_the_first_are_shown(prepare, folder):
    for index in range(50):
        (folder / f"broken-{index:02d}.png").touch()
    result = prepare("--labels", "none")
    lines = result.err.splitlines()
    assert result.code == 3
    assert len(lines) == 21
    assert lines[0].startswith("left out: image broken-00.png ")
    assert lines[20] == "left out: 30 more, all in the report"


def test_strict_leaves_nothing(prepare, folder, tmp_path):
    break_image(folder / "b" / "3.png")
    result = prepare("--strict")
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("Error: image b/3.png is broken")
    assert os.listdir(tmp_path) == ["images"]


def test_ctrl_c_says_how_far_it_came_and_the_same_command_goes_on(prepare, tmp_path, monkeypatch):
    class Interrupted(type(data_command.progress_bar("x"))):
        def __call__(self, done, total):
            if done == 4:
                raise KeyboardInterrupt

    monkeypatch.setattr(data_command, "progress_bar", Interrupted)
    result = prepare()
    assert (result.code, result.out) == (130, "")
    assert result.err == "Stopped after 4 of 6 images; the same command goes on from there.\n"
    assert not (tmp_path / "set.zip").exists()
    monkeypatch.undo()
    result = prepare()
    assert (result.code, result.err) == (0, "Note: going on after 4 of 6 images.\n")
    prepare(dest="other.zip")
    assert (tmp_path / "set.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()


def test_a_folder_is_written_where_the_name_is_no_zip(prepare, tmp_path):
    assert prepare(dest="new/set").code == 0
    assert sorted(os.listdir(tmp_path / "new")) == ["set", "set.report.json"]
    with zipfile.ZipFile(tmp_path / "x.zip", "w"):
        pass
    assert len(list((tmp_path / "new" / "set").rglob("*.png"))) == 6
    assert prepare(dest="new/set").code == 3
    assert prepare("--force", dest="new/set").code == 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--size", "16x16"], 2, "both --resolution and --size are given"),
        (["--crop", "left"], 3, "there is no crop 'left'"),
        (["--filter", "cubic"], 3, "there is no filter 'cubic'"),
        (["--codec", "jpg"], 3, "there is no codec 'jpg'"),
        (["--workers", "0"], 3, "workers is 0"),
        (["--val-fraction", "1"], 3, "a validation part of 1.0"),
        (["--channels", "2"], 3, "channels is 2"),
        (["--labels", "nowhere.csv"], 3, "nowhere.csv"),
        (["--label-column", "diagnosis"], 3, "'diagnosis'"),
        (["--crop", "wide"], 3, "crop wide needs a width larger than the height"),
    ],
)
def test_mistakes_leave_nothing(prepare, tmp_path, options, code, words):
    result = prepare(*options)
    assert (result.code, result.out) == (code, "")
    assert words in result.err
    assert "Traceback" not in result.err
    assert os.listdir(tmp_path) == ["images"]


PLUGIN = """
import adaflow

class Reader:
    def can_open(self, spec):
        return False

@adaflow.hookimpl
def register_datasets(register):
    register("mine", Reader())
"""


@pytest.mark.parametrize("command", ["prepare", "check"])
def test_torch_is_not_imported_to_work_on_images(folder, tmp_path, command):
    """It takes seconds. Plugins of the user are loaded all the same, and every built-in one can be blocked."""
    (tmp_path / "mine.py").write_text(PLUGIN)
    rest = ["--dest", str(tmp_path / "x.zip"), "--resolution", "8"] if command == "prepare" else []
    words = ["adaflow", "data", command, str(folder), *rest, "--plugin", str(tmp_path / "mine.py"), "--block", "blit"]
    script = (
        f"import sys, adaflow.cli\nsys.argv = {words!r}\ntry:\n    adaflow.cli.main()\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules, 'adaflow_plugin_file_mine' in sys.modules)"
    )
    environment = {**os.environ, "ADAFLOW_NO_PLUGINS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "False True"
    assert done.stderr == ""


@pytest.mark.parametrize("size", ["16", "16x", "axb", "16 x 16", "-16x16", "16x16x3"])
def test_a_size_is_two_numbers(prepare, size):
    result = prepare(resolution=("--size", size))
    assert result.code == 2
    assert f"{size!r} is no size" in result.err or "--size" in result.err


def test_a_prepared_set_needs_no_size(cli, prepare, tmp_path):
    prepare()
    result = cli("data", "prepare", tmp_path / "set.zip", "--dest", tmp_path / "grey.zip", "--channels", "1")
    assert result.code == 0, result.err
    assert "at 16×16 (grey" in result.out
    result = prepare(resolution=())
    assert result.code == 2 or "exists already" in result.err
    result = prepare(dest="other.zip", resolution=())
    assert (result.code, "neither --resolution nor --size is given" in result.err) == (2, True)
