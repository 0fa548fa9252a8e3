"""Archives and folders that are damaged, or made to do harm: one sentence, nothing written, memory bounded."""

import os
import random
import stat
import struct
import tracemalloc
import zipfile
import zlib
from dataclasses import dataclass

import pytest
from PIL import Image

from adaflow.core.data import image_files
from adaflow.core.data.source import open_source
from adaflow.errors import DataError
from adaflow.plugins.datasets import zipped
from adaflow.plugins.datasets.folder import FolderSource
from adaflow.plugins.datasets.zipped import ZipSource
from tests.images import encode, pixels, save, zip_folder

pytest_plugins = ["tests.images", "tests.command_line"]

MIB = 1 << 20
PNG = encode(Image.fromarray(pixels(0))).getvalue()


@dataclass
class Member:
    """A member as a zip's directory describes it; what is None is as it should be."""

    name: str = "x.png"
    data: bytes = PNG
    method: int = zipfile.ZIP_STORED
    flags: int = 0x800
    mode: int = 0
    size: int | None = None
    stored_size: int | None = None
    crc: int | None = None
    offset: int | None = None

    def stored(self):
        if self.method != zipfile.ZIP_DEFLATED:
            return self.data
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        return deflate.compress(self.data) + deflate.flush()


def forge(path, *members, count=None, directory_size=None):
    """Write a zip with its directory as told."""
    body, directory = b"", b""
    for member in members:
        name, stored = member.name.encode(), member.stored()
        offset = len(body) if member.offset is None else member.offset
        crc = zlib.crc32(member.data) if member.crc is None else member.crc
        size = len(member.data) if member.size is None else member.size
        stored_size = len(stored) if member.stored_size is None else member.stored_size
        fields = (member.flags, member.method, 0, 0, crc, stored_size, size, len(name), 0)
        body += struct.pack("<4s5H3I2H", b"PK\3\4", 20, *fields) + name + stored
        fields = (*fields, 0, 0, 0, member.mode << 16, offset)
        directory += struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, *fields) + name
    count = len(members) if count is None else count
    size = len(directory) if directory_size is None else directory_size
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count & 0xFFFF, count & 0xFFFF, size, len(body), 0)
    path.write_bytes(body + directory + end)
    return path


def tree(folder):
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A folder to put a hostile thing in; afterwards, nothing around it may have changed but what the test wrote."""
    there = tmp_path / "deep" / "down"
    work = tmp_path / "work"
    for folder in (there, work):
        folder.mkdir(parents=True)
    monkeypatch.chdir(work)
    yield there
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "work"]
    assert list(there.parent.iterdir()) == [there]
    assert not list(work.iterdir())


def peak_of(function, *arguments):
    """The DataError that a call raises, and the bytes allocated on the way."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            function(*arguments)
        return error.value, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def assert_refused(path, readers, sentence, memory=4 * MIB):
    """Opening it, or reading its first image, raises one printable sentence with these words, in little memory."""

    def use():
        with open_source(str(path), readers) as source:
            source.read(0)

    before = tree(path.parent)
    error, peak = peak_of(use)
    assert sentence in error.message
    assert error.message.isprintable()
    assert len(error.message) < 600
    assert peak < memory
    assert tree(path.parent) == before


PATHS_OUT = ["../x.png", "a/../../x.png", "/x.png", "\\x.png", "a\\..\\..\\x.png", "C:\\x.png", "C:/x.png", "//s/x.png"]


@pytest.mark.parametrize("name", PATHS_OUT)
def test_paths_out_of_the_archive(there, readers, name):
    assert_refused(forge(there / "x.zip", Member(name)), readers, "a path that leads out of the archive")


def test_an_absolute_path_to_a_file_that_exists(there, readers):
    victim = there / "victim.png"
    victim.write_bytes(b"precious")
    assert_refused(forge(there / "x.zip", Member(str(victim))), readers, "a path that leads out of the archive")
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_special_files(there, readers, kind):
    member = Member("link.png", b"/etc/passwd", mode=kind | 0o777)
    assert_refused(forge(there / "x.zip", Member(), member), readers, "holds link.png, a link or a special file")


def test_encrypted_members(there, readers):
    assert_refused(forge(there / "x.zip", Member(), Member("y.png", flags=0x801)), readers, "is encrypted")


@pytest.mark.parametrize("names", [("x.png", "x.png"), ("a/x.png", "a\\x.png"), ("x.png", "./x.png")])
def test_members_listed_twice(there, readers, names):
    assert_refused(forge(there / "x.zip", *map(Member, names)), readers, "x.png twice")


def test_two_files_of_labels(there, readers):
    archive = forge(there / "x.zip", Member(), Member("dataset.json", b"{}"), Member("dataset.json", b"{}"))
    assert_refused(archive, readers, "dataset.json twice")


@pytest.mark.parametrize(
    ("method", "word"), [(9, "Deflate64"), (12, "bzip2"), (14, "LZMA"), (93, "Zstandard"), (96, "method 96")]
)
def test_methods_of_compression_without_a_bound(there, readers, method, word):
    assert_refused(forge(there / "x.zip", Member(method=method)), readers, f"compressed with {word}")
    labels = Member("set/dataset.json", b"{}", method=method)
    assert_refused(forge(there / "x.zip", labels, Member("set/x.png")), readers, f"compressed with {word}")
    unused = forge(there / "x.zip", Member("readme.txt", method=method), Member())
    assert len(ZipSource(unused)) == 1


def test_a_bomb_by_ratio(there, readers):
    bomb = Member(data=bytes(64 * MIB), method=zipfile.ZIP_DEFLATED)
    assert_refused(forge(there / "x.zip", bomb), readers, "x.png in ")
    assert_refused(forge(there / "x.zip", bomb), readers, "claims to unpack to over 1000 times its size")


def test_a_bomb_that_claims_to_be_small(there, readers):
    bomb = Member(data=bytes(64 * MIB), method=zipfile.ZIP_DEFLATED, size=1000)
    assert_refused(forge(there / "x.zip", bomb), readers, "its size is not the one", memory=MIB)
    bomb = Member("dataset.json", bytes(64 * MIB), zipfile.ZIP_DEFLATED, size=1000)
    assert_refused(forge(there / "x.zip", Member(), bomb), readers, "dataset.json in ", memory=MIB)


def test_a_member_that_claims_to_be_huge(there, readers):
    assert_refused(forge(there / "x.zip", Member(size=900 * MIB)), readers, "claims to unpack to over 1000 times")
    assert_refused(
        forge(there / "x.zip", Member(size=1025 * MIB, data=bytes(2 * MIB))), readers, "is larger than 1,024"
    )
    assert_refused(forge(there / "x.zip", Member(stored_size=900 * MIB)), readers, "is smaller than its members")


def test_a_bomb_of_many_small_members(there, readers):
    members = [Member(f"{number}.png", size=7 * MIB) for number in range(300)]
    assert_refused(forge(there / "x.zip", *members), readers, "x.zip claims to unpack to over 1000 times its size")


@pytest.mark.parametrize("claim", [0, 1, None])
def test_a_bomb_by_member_count_is_refused_before_objects_are_made(there, readers, monkeypatch, claim):
    archive = forge(there / "x.zip", *(Member(f"{number}.png", b"") for number in range(1001)), count=claim)
    assert len(ZipSource(archive)) == 1001
    monkeypatch.setattr(zipped, "MAX_MEMBERS", 1000)
    monkeypatch.setattr(zipfile, "ZipInfo", None)
    assert_refused(archive, readers, "has more than 1,000 members")


def test_a_huge_directory_is_not_read(there, readers, monkeypatch):
    archive = forge(there / "x.zip", *(Member(f"{number}.png", b"") for number in range(100)))
    monkeypatch.setattr(zipped, "MAX_DIRECTORY_BYTES", 5000)
    assert_refused(archive, readers, "has a directory of more than")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 1 << 28])
def test_a_directory_that_claims_to_be_huge(there, readers, size):
    assert_refused(forge(there / "x.zip", Member(), directory_size=size), readers, "x.zip cannot be opened: ")


@pytest.mark.parametrize("size", [1 << 40, 1 << 62, (1 << 64) - 1])
def test_a_directory_that_claims_to_be_huge_in_64_bits(there, readers, size):
    path = there / "x.zip"
    data = forge(path, Member()).read_bytes()
    start = data.rindex(b"PK\5\6")
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, size, size, size, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, start, 1)
    path.write_bytes(data[:start] + record + locator + data[start:])
    assert_refused(path, readers, "x.zip ")


def test_members_that_share_their_bytes(there, readers):
    kernel = Member("0.png", bytes(MIB), zipfile.ZIP_DEFLATED)
    copies = [Member(f"{number}.png", kernel.data, kernel.method, offset=0) for number in range(1, 50)]
    assert_refused(forge(there / "x.zip", kernel, *copies), readers, "overlaps another member", memory=MIB)
    quoted = [Member(), Member("y.png", offset=10)]
    assert_refused(forge(there / "x.zip", *quoted), readers, "y.png overlaps another member")


def test_archives_within_archives_stay_closed(there, readers):
    inner = forge(there / "inner.zip", Member()).read_bytes()
    archive = forge(there / "x.zip", Member(), Member("inner.zip", inner))
    with open_source(str(archive), readers) as source:
        assert (len(source), source.ignored) == (1, ["inner.zip"])
    assert_refused(forge(there / "x.zip", Member("inner.zip", inner)), readers, "1 file is of another kind: .zip")


def test_a_member_that_is_elsewhere(there, readers):
    archive = forge(there / "x.zip", Member(), Member("y.png"))
    archive.write_bytes(archive.read_bytes().replace(b"PK\3\4", b"PK\3\5"))
    assert_refused(archive, readers, "it is not where the archive's directory says")


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"PK\5\6", PNG, b"<html>404</html>" * 9, bytes(100_000)])
def test_what_is_no_zip(there, readers, content):
    (there / "x.zip").write_bytes(content)
    assert_refused(there / "x.zip", readers, "x.zip cannot be opened: ")


def test_an_archive_from_the_future(there, readers):
    archive = forge(there / "x.zip", Member())
    data = archive.read_bytes()
    start = data.index(b"PK\1\2")
    archive.write_bytes(data[: start + 6] + b"\xff" + data[start + 7 :])
    assert_refused(archive, readers, "x.zip cannot be opened: zip file version")


def test_a_truncated_archive(there, readers):
    whole = forge(there / "x.zip", *(Member(f"{number}.png") for number in range(5))).read_bytes()
    for length in range(0, len(whole), 37):
        (there / "x.zip").write_bytes(whole[:length])
        assert_refused(there / "x.zip", readers, "x.zip cannot be opened: ")


def test_long_and_odd_names_make_short_messages(there, readers):
    archive = forge(there / "x.zip", Member("\x1b[2J\n" + "x" * 60_000 + ".png", b"broken"))
    assert_refused(archive, readers, "\\x1b[2J\\nxxx")
    archive = forge(there / "x.zip", *[Member("\x1b[2J\n" + "x" * 60_000 + ".png")] * 2)
    assert_refused(archive, readers, "\\x1b[2J\\nxxx")


def test_labels_that_are_nested_without_end(there, readers):
    archive = forge(there / "x.zip", Member(), Member("dataset.json", b'{"labels":' + b"[" * 100_000))
    assert_refused(archive, readers, "dataset.json in ")


def test_images_that_are_bombs_or_scripts(there, readers):
    for content in (b"#!/bin/sh\nrm -rf ~\n", b"", b"\x89PNG\r\n\x1a\n"):
        assert_refused(forge(there / "x.zip", Member(data=content)), readers, "image x.png is broken")


def test_hostile_archives_give_exit_code_3_and_no_data_set(there, cli):
    bomb = Member(data=bytes(16 * MIB), method=zipfile.ZIP_DEFLATED)
    for member, words in ((Member("../x.png"), "leads out of the archive"), (bomb, "no image")):
        archive = forge(there / "x.zip", member)
        result = cli("data", "prepare", archive, "--dest", there / "out.zip", "--resolution", 16)
        assert result.code == 3
        assert words in " ".join(result.err.split())
        assert "Traceback" not in result.err
        assert not (there / "out.zip").exists()


def mutate(data, other, rng):
    """One of the ways in which a file gets damaged, or is made to be."""
    data = bytearray(data)
    headers = [at for mark in (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6") for at in finditer(data, mark)]
    kind = rng.randrange(5)
    if kind == 0:  # bits of headers
        for _ in range(rng.randint(1, 8)):
            data[(rng.choice(headers) + rng.randrange(46)) % len(data)] ^= 1 << rng.randrange(8)
    elif kind == 1:  # any bytes
        for _ in range(rng.randint(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == 2:  # numbers that are too large
        at = rng.choice(headers) + rng.randrange(4, 46)
        data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80"])
    elif kind == 3:  # cut
        del data[rng.randrange(len(data)) :]
    else:  # pieces of another archive
        at, length = rng.randrange(len(data)), rng.randrange(len(data) // 4)
        start = rng.randrange(len(other))
        data[at : at + length] = other[start : start + rng.randrange(len(data) // 4)]
    return bytes(data)


def finditer(data, mark):
    at = data.find(mark)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)


def outcome(function, *arguments):
    """What it returns, or the message of its DataError."""
    try:
        return function(*arguments)
    except DataError as error:
        return error.message


def test_mutated_archives_are_read_or_refused(there):
    for index in range(4):
        save(there, f"images/{index}.png", pixels(index))
    (there / "images" / "labels.csv").write_text("name,label\n0,1\n")
    (there / "images" / "dataset.json").write_text('{"labels": [["0.png", 1]], "groups": [["0.png", 1]]}')
    stored = zip_folder(there / "images", there / "stored.zip").read_bytes()
    deflated = zip_folder(there / "images", there / "deflated.zip", zipfile.ZIP_DEFLATED).read_bytes()
    with zipfile.ZipFile(there / "large.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x.png", "y.png"):
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(PNG)
    originals = [stored, deflated, (there / "large.zip").read_bytes()]
    rng = random.Random(0)
    messages, images, refused = [], 0, 0
    for _ in range(1500):
        (there / "x.zip").write_bytes(mutate(rng.choice(originals), rng.choice(originals), rng))
        source = outcome(ZipSource, there / "x.zip")
        if isinstance(source, str):
            messages.append(source)
            refused += 1
            continue
        source.fingerprint(), source.stamp(), [source.label(index) for index in range(len(source))]
        results = [outcome(source.tables), *(outcome(source.read, index) for index in range(len(source)))]
        messages += [result for result in results if isinstance(result, str)]
        images += sum(not isinstance(result, str) for result in results)
    assert all(message.isprintable() for message in messages)
    assert min(refused, images, len(messages) - refused) > 200  # else they are too mild or too wild to tell anything


def test_reading_writes_nothing(there, readers):
    archive = forge(there / "x.zip", *(Member(f"{number}.png", method=zipfile.ZIP_DEFLATED) for number in range(5)))
    before = tree(there)
    with open_source(str(archive), readers) as source:
        for index in range(len(source)):
            assert source.read(index).shape == (3, 16, 16)
        source.fingerprint(), source.stamp(), source.tables()
    assert tree(there) == before


# Folders


def fifo(path):
    os.mkfifo(path)


needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")


@needs_fifo
@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [fifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices_are_not_waited_for(there, readers, make):
    make(there / "x.png")
    assert_refused(there, readers, "x.png cannot be read: it is not a plain file")
    source = FolderSource(there)
    source.fingerprint(), source.stamp()
    save(there, "y.png", pixels(0))
    make(there / "labels.csv")
    assert str(FolderSource(there).tables()["labels.csv"]).startswith("labels.csv cannot be read: it is not a plain")
    make(there / "dataset.json")
    assert_refused(there, readers, "dataset.json cannot be read: it is not a plain file")


def test_a_file_too_large_is_not_read(there, readers):
    with open(there / "x.png", "wb") as file:
        file.truncate(1025 * MIB)
    assert_refused(there, readers, "x.png is larger than 1,024 MiB")


def test_labels_too_large_are_not_read(there, readers):
    save(there, "x.png", pixels(0))
    with open(there / "dataset.json", "wb") as file:
        file.truncate(257 * MIB)
    assert_refused(there, readers, "dataset.json is larger than 256 MiB")


def test_a_folder_that_cannot_be_listed_is_named(there, readers, monkeypatch):
    save(there, "a/x.png", pixels(0))
    (there / "locked").mkdir()
    scandir = os.scandir

    def forbid(path):
        if os.fspath(path).rstrip("/").endswith("locked"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbid)
    assert_refused(there, readers, "locked cannot be listed: Permission denied")


def test_an_empty_folder(there, readers):
    assert_refused(there, readers, "has no images")


def test_a_folder_of_videos(there, readers):
    for number in range(12):
        (there / f"{number}.mp4").write_bytes(b"")
    assert_refused(there, readers, "has no images; 12 files are of other kinds: .mp4 12")
    (there / "README").write_bytes(b"")
    assert_refused(there, readers, "has no images; 13 files are of other kinds: .mp4 12, without extension 1")


def test_a_link_to_nowhere_is_named(there, readers):
    (there / "x.png").symlink_to("nowhere")
    assert_refused(there, readers, "x.png cannot be read: No such file")


def test_a_table_that_is_a_link_to_nowhere_is_mentioned(there, cli, tmp_path):
    save(there, "a/x.png", pixels(0))
    save(there, "b/y.png", pixels(1))
    (there / "meta.csv").symlink_to("nowhere")
    result = cli("data", "prepare", there, "--dest", there / "out" / "x.zip", "--resolution", 16)
    assert result.code == 0
    assert "Note: meta.csv cannot be read: No such file or directory." in result.err
    for file in (there / "a" / "x.png", there / "b" / "y.png"):
        file.rename(there / file.name)
    result = cli("data", "prepare", there, "--dest", there / "out" / "y.zip", "--resolution", 16)
    assert (result.code, "meta.csv cannot be read" in result.err, "--labels none" in result.err) == (3, True, True)


def test_folders_in_folders_in_folders(there):
    levels = [f"{there}/" + "d/" * level for level in range(1, 1011)]
    for level in levels:
        os.mkdir(level)
    save(there, levels[-1] + "x.png", pixels(0))
    try:
        assert FolderSource(there).names == ["d/" * len(levels) + "x.png"]
    finally:  # pytest's own cleaning would not get to the bottom of it
        os.unlink(levels[-1] + "x.png")
        for level in reversed(levels):
            os.rmdir(level)


def test_a_member_that_lies_in_more_bytes_than_are_allowed(there, readers, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_IMAGE_BYTES", 1000)
    archive = forge(there / "x.zip", Member(data=bytes(2000), size=10))
    assert_refused(archive, readers, "x.png in ")
    assert_refused(archive, readers, "is larger than ")
