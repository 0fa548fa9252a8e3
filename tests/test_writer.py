"""`adaflow.core.data.writer` and preparing on: what a kill, Ctrl-C, a full disk or a second process leave behind."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from adaflow.core.data import writer as writer_module
from adaflow.core.data.prepare import PrepareConfig, prepare
from adaflow.core.data.writer import FolderWriter, Record, SetWriter, ZipWriter
from adaflow.errors import DataError, FileError
from tests.images import pixels, save

pytest_plugins = ["tests.images"]

WRITERS = {"set.zip": ZipWriter, "set": FolderWriter}


def member(index):
    data = hashlib.sha256(str(index).encode()).digest() * (index % 7)
    return Record(index, f"00000/img{index:08d}.png", len(data), zlib.crc32(data)), data


def files_under(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def contents(path):
    """Name → content of a zip or folder."""
    if path.is_dir():
        return {name: (path / name).read_bytes() for name in files_under(path)}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_all(dest, count, key=None, stop=None):
    """Write a set of `count` members, or begin to and stop before one of them; what was taken over is returned."""
    with WRITERS[dest.name](dest, key or {"key": 1}) as writer:
        taken_over = len(writer.records)
        for index in range(taken_over, count):
            if index == stop:
                return taken_over
            writer.add(*member(index))
        writer.finish("{}")
        writer.commit()
    return taken_over


@pytest.fixture(params=WRITERS)
def dest(request, tmp_path):
    return tmp_path / request.param


def test_a_zip_is_one_that_others_read(tmp_path):
    write_all(tmp_path / "set.zip", 20)
    with zipfile.ZipFile(tmp_path / "set.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"00000/img{i:08d}.png" for i in range(20)] + ["dataset.json"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o644}
    if shutil.which("unzip"):
        assert subprocess.run(["unzip", "-tq", tmp_path / "set.zip"], check=False).returncode == 0
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as archive:
        for index in range(20):
            record, data = member(index)
            info = zipfile.ZipInfo(record.member)
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
        info = zipfile.ZipInfo("dataset.json")
        info.external_attr = 0o644 << 16
        archive.writestr(info, "{}")
    assert (tmp_path / "plain.zip").read_bytes() == (tmp_path / "set.zip").read_bytes()


@pytest.mark.slow
def test_more_members_than_the_old_zip_format_has_numbers_for(tmp_path):
    with ZipWriter(tmp_path / "set.zip", {}) as writer:
        for index in range(70_000):
            writer.add(Record(index, f"{index:08d}", 1, zlib.crc32(b"x")), b"x")
        writer.finish("{}")
        writer.commit()
    with zipfile.ZipFile(tmp_path / "set.zip") as archive:
        assert len(archive.infolist()) == 70_001
        assert archive.read("00069999") == b"x"


def test_more_bytes_than_the_old_zip_format_has_numbers_for(tmp_path):
    with ZipWriter(tmp_path / "set.zip", {}) as writer:
        writer.add(*member(1))
        writer._file.seek(5 << 30)  # a hole, which takes no room on the disk
        writer.add(*member(2))
        writer.finish("{}")
        writer.commit()
    with zipfile.ZipFile(tmp_path / "set.zip") as archive:
        assert [info.header_offset >> 30 for info in archive.infolist()] == [0, 5, 5]
        assert archive.read("00000/img00000002.png") == member(2)[1]
    if shutil.which("unzip"):
        assert subprocess.run(["unzip", "-tq", tmp_path / "set.zip"], check=False).returncode == 0


def test_work_goes_on_where_it_stopped(dest):
    write_all(dest, 10)
    expected = contents(dest)
    shutil.rmtree(dest) if dest.is_dir() else dest.unlink()
    for stop, taken_over in ((0, 0), (4, 0), (4, 4), (7, 4)):
        assert write_all(dest, 10, stop=stop) == taken_over
        assert not dest.exists()
    assert write_all(dest, 10) == 7
    assert contents(dest) == expected
    assert [path.name for path in dest.parent.iterdir()] == [dest.name]


def test_other_work_is_not_gone_on_with(dest):
    write_all(dest, 10, stop=6)
    with WRITERS[dest.name](dest, {"key": 2}) as writer:
        assert (writer.records, writer.outdated) == ([], True)
        writer.add(*member(0))
    with WRITERS[dest.name](dest, {"key": 2}) as writer:
        assert ([record.index for record in writer.records], writer.outdated) == ([0], False)
        writer.finish("{}")
        writer.commit()
    fresh = dest.parent / "fresh" / dest.name
    fresh.parent.mkdir()
    write_all(fresh, 1)
    assert contents(dest) == contents(fresh)
    assert dest.is_dir() or dest.read_bytes() == fresh.read_bytes()


def test_what_the_journal_notes_survives_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "FLUSH_SECONDS", 0)
    with ZipWriter(tmp_path / "set.zip", {}) as writer:
        for index in range(5):
            writer.add(*member(index))
            elsewhere = tmp_path / str(index)
            elsewhere.mkdir()
            for path in tmp_path.glob(".set.zip.*"):
                shutil.copy(path, elsewhere)
            with ZipWriter(elsewhere / "set.zip", {}) as other:
                assert other.records == writer.records


def test_images_left_out_are_remembered_with_their_facts(dest):
    records = [Record(0, facts={"reason": "broken"}), member(1)[0], Record(5, facts={"reason": "é\n"})]
    with WRITERS[dest.name](dest, {}) as writer:
        writer.add(records[0])
        writer.add(records[1], member(1)[1])
        writer.add(records[2])
    with WRITERS[dest.name](dest, {}) as writer:
        assert writer.records == records
        writer.discard()
    assert list(dest.parent.iterdir()) == []


@pytest.mark.parametrize("damage", range(40))
def test_only_what_is_whole_is_gone_on_with(tmp_path, damage):
    """Whatever of the two hidden files is cut, changed or lost: the result is as if nothing had happened."""
    rng = np.random.default_rng(damage)
    dest = tmp_path / "set.zip"
    write_all(dest, 20)
    expected = dest.read_bytes()
    dest.unlink()
    write_all(dest, 20, stop=15)
    for name in (".set.zip.partial", ".set.zip.partial.jsonl"):
        path = tmp_path / name
        data = bytearray(path.read_bytes())
        at = int(rng.integers(len(data)))
        match rng.integers(4):
            case 0:
                path.write_bytes(data[:at])
            case 1:
                path.write_bytes(bytes(data) + rng.bytes(at))
            case 2 if name.endswith("partial"):
                data[at] ^= 1 << int(rng.integers(8))
                path.write_bytes(data)
            case 3:
                path.unlink()
    assert write_all(dest, 20) <= 15
    assert dest.read_bytes() == expected


def test_two_at_once(dest):
    with WRITERS[dest.name](dest, {}) as writer:
        writer.add(*member(0))
        with pytest.raises(FileError, match="another process is preparing"), WRITERS[dest.name](dest, {}):
            pass
        writer.finish("{}")
        writer.commit()
    assert list(contents(dest)) == ["00000/img00000000.png", "dataset.json"]


def test_another_process_may_finish_while_we_wait_for_the_lock(dest, monkeypatch):
    lock = writer_module.try_lock
    attempts = []

    def late_lock(journal):
        if not attempts:
            os.unlink(dest.with_name(f".{dest.name}.partial.jsonl"))
        attempts.append(journal)
        return lock(journal)

    monkeypatch.setattr(writer_module, "try_lock", late_lock)
    assert write_all(dest, 5, stop=3) == 0
    assert len(attempts) == 2
    assert write_all(dest, 5) == 3


# The whole of `prepare`


@pytest.fixture
def source(tmp_path):
    """Forty images, one of them broken, one grey, two equal."""
    for index in range(40):
        save(tmp_path / "in", f"{index:02d}.png", pixels(index % 39, channels=1 if index == 7 else 3))
    (tmp_path / "in" / "20.png").write_bytes(b"broken")
    return tmp_path / "in"


def run(readers, source, dest, **others):
    settings = {"resolution": 8, "workers": 2, "codec": "png"} | others
    progress, notice = settings.pop("progress", None), settings.pop("notice", None)
    return prepare(PrepareConfig(str(source), dest, **settings), readers, progress, notice)


def interrupt_at(number):
    def progress(done, total):
        if done == number:
            raise KeyboardInterrupt

    return progress


def test_a_report_tells_the_same_after_an_interruption(readers, source, tmp_path):
    whole = json.loads(run(readers, source, tmp_path / "a.zip").to_json())
    said = []
    for stop in (5, 25, 40):
        with pytest.raises(KeyboardInterrupt):
            run(readers, source, tmp_path / "b.zip", progress=interrupt_at(stop), notice=said.append)
        assert {".b.zip.partial", ".b.zip.partial.jsonl"} <= set(os.listdir(tmp_path))
        assert not (tmp_path / "b.zip").exists()
    resumed = json.loads(run(readers, source, tmp_path / "b.zip", notice=said.append).to_json())
    assert said == [f"going on after {count} of 40 images" for count in (5, 25, 40)]
    assert resumed.pop("continued_from") == 40
    for report in (whole, resumed):
        for key in ("dest", "seconds", "continued_from"):
            report.pop(key, None)
    assert resumed == whole
    assert (whole["written"], whole["notes"]) == (39, {"grey made RGB": 1})
    assert whole["left_out"][0][0] == "20.png"
    assert whole["duplicates"] == [["00.png", "39.png"]]
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_strict_also_stops_at_what_was_left_out_before(readers, source, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(readers, source, tmp_path / "b.zip", progress=interrupt_at(30))
    with pytest.raises(DataError, match=r"20\.png"):
        run(readers, source, tmp_path / "b.zip", strict=True)
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("change", ["resolution", "source", "codec", "labels", "channels"])
def test_with_other_settings_it_begins_anew_and_says_so(readers, source, tmp_path, change):
    table = tmp_path / "labels.csv"
    table.write_text("image,target\n" + "".join(f"{i:02d},{i % 2}\n" for i in range(40)))
    common = {"labels": str(table)}
    with pytest.raises(KeyboardInterrupt):
        run(readers, source, tmp_path / "b.zip", progress=interrupt_at(10), **common)
    others = dict(common)
    if change == "source":
        save(source, "03.png", pixels(99))
    elif change == "labels":
        table.write_text("image,target\n" + "".join(f"{i:02d},{i % 2}\n" for i in range(40) if i != 2))
    else:
        others |= {"resolution": {"resolution": 16}, "codec": {"codec": "webp"}, "channels": {"channels": 1}}[change]
    said = []
    report = run(readers, source, tmp_path / "b.zip", notice=said.append, **others)
    assert len(said) == 1
    assert "thrown away" in said[0]
    assert report.continued_from == 0
    run(readers, source, tmp_path / "c.zip", **others)
    assert (tmp_path / "b.zip").read_bytes() == (tmp_path / "c.zip").read_bytes()


def test_labels_may_be_mended_on_the_way(readers, source, tmp_path):
    """Labels are written at the end: images that are done need not be done again."""
    table = tmp_path / "labels.csv"
    table.write_text("image,target\n" + "".join(f"{i:02d},{i % 2}\n" for i in range(40)))
    with pytest.raises(KeyboardInterrupt):
        run(readers, source, tmp_path / "b.zip", progress=interrupt_at(10), labels=str(table))
    table.write_text("image,target\n" + "".join(f"{i:02d},{i % 4}\n" for i in range(40)))
    report = run(readers, source, tmp_path / "b.zip", labels=str(table))
    assert (report.continued_from, len(report.class_counts)) == (10, 4)


def test_a_full_disk(readers, source, tmp_path, monkeypatch, dest):
    write = WRITERS[dest.name]._write

    def full(self, record, data):
        if record.index == 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, record, data)

    expected = run(readers, source, tmp_path / "other" / dest.name)
    if dest.suffix:
        dest.write_bytes(b"precious")
    monkeypatch.setattr(WRITERS[dest.name], "_write", full)
    with pytest.raises(FileError, match="the disk is full") as error:
        run(readers, source, dest, force=True)
    assert "the same command goes on" in error.value.hint
    assert dest.read_bytes() == b"precious" if dest.suffix else not dest.exists()
    monkeypatch.undo()
    report = run(readers, source, dest, force=True)
    assert (report.continued_from, report.fingerprint) == (12, expected.fingerprint)


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("unshare")
    or subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "x", "/mnt"], capture_output=True, check=False
    ).returncode,
    reason="may not mount a small disk",
)
def test_a_disk_that_is_really_full(readers, source, tmp_path):
    run(readers, source, tmp_path / "expected.zip", resolution=64)  # 480 KB
    script = """
set -e
mkdir small; mount -t tmpfs -o size=200k none small
! python -m adaflow data prepare in --dest small/set.zip --resolution 64 2> said
cp small/.set.zip.* .; umount small
"""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "said").read_text().startswith("Error: the disk is full")
    assert run(readers, source, tmp_path / "set.zip", resolution=64).continued_from > 0
    assert (tmp_path / "set.zip").read_bytes() == (tmp_path / "expected.zip").read_bytes()


def test_a_destination_that_may_not_be_written(readers, source, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(writer_module.os, "open", refuse)
    with pytest.raises(FileError, match=r"set\.zip cannot be written: no permission"):
        run(readers, source, tmp_path / "set.zip")
    monkeypatch.undo()
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be made"):
        run(readers, source, tmp_path / "file" / "set.zip")


# Children of this process prepare the same set one after the other. All but the last are killed: at a random time, or
# when they call a certain function.
DRIVER = """
import hashlib, os, random, signal, sys, time
from pathlib import Path
from adaflow.core.data import prepare as module, writer
from adaflow.plugin_manager import PluginManager

source, dest, moments = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
readers = PluginManager(environ={"ADAFLOW_NO_PLUGINS": "1"}).datasets
places = {"os": os, "prepare": module, "ZipWriter": writer.ZipWriter}
writer.FLUSH_SECONDS = 0.005
random.seed(0)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def child(moment):
    if moment not in ("any time", "never"):
        place, name = moment.split(".")
        setattr(places[place], name, die)
    module.prepare(module.PrepareConfig(source, dest, 8, workers=2), readers, lambda *_: time.sleep(0.003))

for moment in [*moments, "never"]:
    pid = os.fork()
    if not pid:
        try:
            child(moment)
            os._exit(0)
        finally:
            os._exit(1)
    if moment == "any time":
        time.sleep(random.uniform(0.0, 0.1))
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert status in ((0, signal.SIGKILL) if moment == "any time" else (0,) if moment == "never" else (signal.SIGKILL,))
    if dest.exists():
        print(hashlib.sha256(dest.read_bytes()).hexdigest())
        dest.unlink()
"""


def digests(source, dest, moments):
    """SHA-256 of the zips that were finished, whole or in the end."""
    command = [sys.executable, "-c", DRIVER, str(source), str(dest), *moments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_killed_again_and_again_at_any_time(readers, source, tmp_path):
    expected = run(readers, source, tmp_path / "expected.zip").sha256
    assert set(digests(source, tmp_path / "set.zip", ["any time"] * 12)) == {expected}


def test_killed_at_the_worst_moments(readers, source, tmp_path):
    expected = run(readers, source, tmp_path / "expected.zip").sha256
    moments = ["ZipWriter.finish", "os.fsync", "prepare.write_report", "os.replace", "ZipWriter._replace"]
    assert digests(source, tmp_path / "set.zip", moments) == [expected]
    assert json.loads((tmp_path / "set.report.json").read_bytes())["continued_from"] > 0


def test_ctrl_c_between_an_image_and_its_progress(readers, source, tmp_path, monkeypatch):
    told = []

    def add_then_interrupt(writer, record, data=b""):
        SetWriter.add(writer, record, data)
        if len(writer.records) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(ZipWriter, "add", add_then_interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(readers, source, tmp_path / "set.zip", progress=lambda now, _: told.append(now))
    assert told == [1, 2, 3]
    monkeypatch.undo()
    assert run(readers, source, tmp_path / "set.zip").continued_from == 3


def test_ctrl_c_in_a_shell(tmp_path):
    command = [sys.executable, "-m", "adaflow", "data", "prepare", "demo:lesions,resolution=128,images=5000"]
    command += ["--dest", str(tmp_path / "set.zip"), "--resolution", "8", "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    partial = tmp_path / ".set.zip.partial.jsonl"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.read_bytes().count(b"\n") > 1) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said.startswith("Stopped after ")
    assert said.endswith(" of 5,000 images; the same command goes on from there.\n")
    stopped = int(said.split()[2].replace(",", ""))
    with ZipWriter(tmp_path / "set.zip", json.loads(partial.read_text().partition("\n")[0])) as writer:
        assert len(writer.records) == stopped > 0
