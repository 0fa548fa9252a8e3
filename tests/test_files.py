"""Files are whole or absent, whatever interrupts the writing, and damage is found."""

import errno
import io
import json
import os
import random
import subprocess
import sys
import time

import pytest
import torch

from adaflow.core import files
from adaflow.core.files import append_line, committed, verify_zip, write_json
from adaflow.errors import FileError


def listing(folder):
    return sorted(os.listdir(folder))


def test_committed_replaces_the_content_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "state"
    for content in (b"old", b"newer"):
        with committed(path) as file:
            file.write(content)
        assert path.read_bytes() == content
    assert listing(tmp_path) == ["state"]


def test_nothing_shows_before_the_end(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"old")
    with committed(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_keeps_the_old_file_and_removes_the_temporary_one(tmp_path, error):
    path = tmp_path / "state"
    path.write_bytes(b"old")

    def write_half():
        with committed(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["state"]


def test_permissions_follow_the_umask(tmp_path):
    umask = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(umask)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def test_content_reaches_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        calls.append("sync folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "sync file")
        fsync(descriptor)

    def record_replace(source, target):
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", record_fsync)
    monkeypatch.setattr(files.os, "replace", record_replace)
    write_json(tmp_path / "a.json", {})
    assert calls == ["sync file", "rename", "sync folder"]


class FullDisk(io.FileIO):
    """A file on a disk that is full after 5,000 bytes."""

    def write(self, data):
        if self.tell() + len(data) > 5000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_full_disk_is_a_sentence_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    path.write_bytes(b"old")
    monkeypatch.setattr(files, "open", FullDisk, raising=False)
    with pytest.raises(FileError, match=r"the disk is full: .*state\.pt was not written"), committed(path) as file:
        torch.save({"weights": torch.zeros(10_000)}, file)
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["state.pt"]


@pytest.mark.parametrize(
    ("code", "words"), [(errno.EROFS, "no permission"), (errno.EACCES, "no permission"), (errno.EIO, "Input/output")]
)
def test_failures_of_the_file_system_are_sentences(tmp_path, monkeypatch, code, words):
    def fail(source, target):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(FileError, match=words):
        write_json(tmp_path / "a.json", {})
    assert listing(tmp_path) == []


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileError, match="its folder does not exist"):
        write_json(tmp_path / "nowhere" / "a.json", {})


CHUNKS, CHUNK = 64, 1 << 14
WRITER = f"""
import itertools, sys
from adaflow.core.files import committed
for letter in itertools.cycle(b"BA"):
    with committed(sys.argv[1]) as file:
        for _ in range({CHUNKS}):
            file.write(bytes([letter]) * {CHUNK})
            file.flush()
            print(flush=True)
            sys.stdin.readline()
"""


@pytest.mark.timeout(60)
def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path):
    """The child writes A and B in turn, chunk by chunk on demand, and is killed at random places."""
    path = tmp_path / "state"
    whole = {letter * CHUNKS * CHUNK for letter in (b"A", b"B")}
    path.write_bytes(b"A" * CHUNKS * CHUNK)
    moments = random.Random(0)
    for attempt in range(10):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        for _ in range(moments.randrange(CHUNKS // 2, 3 * CHUNKS)):
            child.stdout.readline()
            child.stdin.write(b"\n")
        if attempt % 2:  # and these while it synchronises or renames
            for _ in range(CHUNKS):
                child.stdin.write(b"\n")
            time.sleep(moments.random() / 200)
        child.kill()
        child.communicate()
        assert path.read_bytes() in whole
    sizes = [file.stat().st_size for file in tmp_path.glob(".state.*.tmp")]
    assert any(size < CHUNKS * CHUNK for size in sizes)  # the kills did hit the middle


def test_write_json_is_strict_json(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"loss": float("nan"), "range": (float("-inf"), 1.5), "name": "naïve", "n": 3, "flag": True})
    text = path.read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {
        "loss": None,
        "range": [None, 1.5],
        "name": "naïve",
        "n": 3,
        "flag": True,
    }
    assert "naïve" in text
    assert text.endswith("}\n")


def test_append_line_adds_lines_and_closes_a_torn_one(tmp_path):
    path = tmp_path / "stats.jsonl"
    append_line(path, "one")
    append_line(path, "two ü")
    with open(path, "ab") as file:
        file.write(b'{"torn": ')
    append_line(path, "three")
    assert path.read_text(encoding="utf-8").split("\n") == ["one", "two ü", '{"torn": ', "three", ""]


def test_append_line_to_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileError, match="its folder does not exist"):
        append_line(tmp_path / "nowhere" / "a", "line")


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "net.pt"
    torch.save({"weights": torch.arange(100.0), "name": "net"}, path)
    return path


def test_verify_zip_accepts_what_torch_writes(archive):
    verify_zip(archive)


def refused_or_right(path):
    try:
        content = torch.load(path, weights_only=True)
    except Exception:  # whatever torch makes of the bytes; what counts is that it does not take them for right
        return True
    return content["name"] == "net" and torch.equal(content["weights"], torch.arange(100.0))


def test_verify_zip_finds_every_flipped_byte_that_matters(archive):
    whole = archive.read_bytes()
    found = 0
    for position in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[position] ^= 0xFF
        archive.write_bytes(changed)
        try:
            verify_zip(archive)
        except FileError:
            found += 1
        else:  # alignment padding, dates and the like
            assert refused_or_right(archive), position
    assert found > 100


def test_verify_zip_names_the_damaged_part(archive):
    whole = bytearray(archive.read_bytes())
    whole[whole.index(torch.arange(100.0).numpy().tobytes()) + 50] ^= 1
    archive.write_bytes(whole)
    with pytest.raises(FileError, match="checksum of its part net/data/0 is wrong"):
        verify_zip(archive)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_verify_zip_finds_truncation(archive, share):
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(FileError, match="is damaged"):
        verify_zip(archive)


def test_verify_zip_names_a_missing_file(tmp_path):
    with pytest.raises(FileError, match="there is no file"):
        verify_zip(tmp_path / "none.pt")
