"""CIFAR-10 as its authors pack it, and pickles that would do harm if anything in them were run."""

import collections
import gzip
import io
import os
import pickle
import random
import struct
import subprocess
import tarfile
import tracemalloc

import numpy as np
import pytest

from adaflow.core.data.source import open_source
from adaflow.errors import DataError
from adaflow.plugins.datasets import cifar10, plain_pickle
from adaflow.plugins.datasets.cifar10 import BATCHES, FOLDER, Cifar10Reader
from adaflow.plugins.datasets.plain_pickle import PlainPickleError, read_plain_pickle

pytest_plugins = ["tests.images"]

MIB = 1 << 20
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
N = 3  # images of a batch


class Python2:
    """Writes values as Python 2's cPickle did with protocol 2, instruction by instruction."""

    def __init__(self):
        self.places = 0

    def dumps(self, value):
        return b"\x80\x02" + self.write(value) + b"."

    def remember(self):
        self.places += 1
        return b"q" + bytes([self.places]) if self.places < 256 else b"r" + struct.pack("<I", self.places)

    def write(self, value):
        if isinstance(value, bytes):
            header = b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))
            return header + value + self.remember()
        if value is None or isinstance(value, bool):
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        if isinstance(value, int):
            small = b"K" + bytes([value & 255]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)
            return b"M" + struct.pack("<H", value) if 256 <= value < 65536 else small
        if isinstance(value, list):
            return b"]" + self.remember() + b"(" + b"".join(map(self.write, value)) + b"e"
        if isinstance(value, dict):
            items = b"".join(self.write(key) + self.write(item) for key, item in value.items())
            return b"}" + self.remember() + b"(" + items + b"u"
        if isinstance(value, tuple):
            if not value:
                return b")"
            items = b"".join(map(self.write, value))
            mark, end = (b"", bytes([0x84 + len(value)])) if len(value) < 4 else (b"(", b"t")
            return mark + items + end + self.remember()
        return self.array(value)

    def array(self, array):
        made = b"cnumpy.core.multiarray\n_reconstruct\n" + self.remember() + b"cnumpy\nndarray\n" + self.remember()
        made += self.write((0,)) + self.write(b"b") + b"\x87" + self.remember() + b"R" + self.remember()
        dtype = b"cnumpy\ndtype\n" + self.remember() + self.write((b"u1", 0, 1)) + b"R" + self.remember()
        dtype += self.write((3, b"|", None, None, None, -1, -1, 0)) + b"b"
        state = b"(" + self.write(1) + self.write(array.shape) + dtype + self.write(False) + self.write(array.tobytes())
        return made + state + b"t" + self.remember() + b"b"


def batch(number, count=N):
    rng = np.random.default_rng(number)
    return {
        b"batch_label": b"training batch %d of 5" % number,
        b"labels": rng.integers(0, 10, count).tolist(),
        b"data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
        b"filenames": [b"leptodactylus_pentadactylus_s_%06d.png" % index for index in range(count)],
    }


def files(dump=lambda value: Python2().dumps(value)):
    """All files of the set, by name, as in the original."""
    meta = {b"num_cases_per_batch": 10000, b"label_names": [name.encode() for name in CLASS_NAMES], b"num_vis": 3072}
    content = {"batches.meta": dump(meta)} | {BATCHES[k - 1]: dump(batch(k)) for k in (4, 1, 3, 5, 2)}
    return content | {"readme.html": b"<html>", "test_batch": dump(batch(6))}


def write_folder(path, content):
    path.mkdir(parents=True)
    for name, data in content.items():
        (path / name).write_bytes(data)
    return path


def entry(name, size=0, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


def write_tar(path, content, mode="w:gz", form=tarfile.USTAR_FORMAT):
    with tarfile.open(path, mode, format=form) as tar:
        tar.addfile(entry(FOLDER, kind=tarfile.DIRTYPE))
        for name, data in content.items():
            tar.addfile(entry(f"{FOLDER}/{name}", len(data)), io.BytesIO(data))
    return path


def test_the_fixture_is_what_python_2_wrote():
    """The standard library's unpickler reads the same from it."""
    original = batch(1, 300)
    again = pickle.loads(Python2().dumps(original), encoding="bytes")
    assert again.keys() == original.keys()
    np.testing.assert_array_equal(again.pop(b"data"), original.pop(b"data"))
    assert again == original
    meta = {b"num_cases_per_batch": 10000, b"label_names": [name.encode() for name in CLASS_NAMES], b"num_vis": 3072}
    assert len(Python2().dumps(meta)) == 158  # as the original file


@pytest.fixture(params=["tar.gz", "tar", "pax.tar", "gnu.tgz", "folder", "python 3"])
def original(request, tmp_path):
    """The set in one of its forms."""
    path = tmp_path / f"cifar.{request.param}"
    match request.param:
        case "tar.gz":
            return write_tar(tmp_path / "cifar-10-python.tar.gz", files())
        case "tar":
            return write_tar(path, files(), "w")
        case "pax.tar":
            return write_tar(path, files(), "w", tarfile.PAX_FORMAT)
        case "gnu.tgz":
            return write_tar(path, files(), form=tarfile.GNU_FORMAT)
        case "folder":
            return write_folder(tmp_path / FOLDER, files())
        case _:
            return write_folder(path, files(lambda value: pickle.dumps(value, 2)))


def test_images_come_in_the_order_of_the_batches(original, readers):
    with open_source(str(original), readers) as source:
        assert (source.name, len(source), source.class_names) == ("cifar10", 5 * N, CLASS_NAMES)
        assert source.labels_from == "the batches"
        for index in range(len(source)):
            number, row = index // N + 1, index % N
            assert source.image_name(index) == f"data_batch_{number}/{row:05d}.png"
            expected = batch(number)
            assert source.label(index) == expected[b"labels"][row]
            image = source.read(index)
            np.testing.assert_array_equal(image, expected[b"data"][row].reshape(3, 32, 32))
            image[:] = 0  # the caller's own
            assert source.read(index).any()
        assert source.encoded(0) is None
        assert source.tables() == {}


def test_fingerprints_are_those_of_the_content(tmp_path, readers):
    paths = [write_tar(tmp_path / "a.tar.gz", files()), write_folder(tmp_path / "b" / FOLDER, files())]
    changed = files()
    changed["data_batch_5"] = Python2().dumps(batch(5) | {b"labels": [0] * N})
    paths.append(write_folder(tmp_path / "c" / FOLDER, changed))
    prints = [open_source(str(path), readers).fingerprint() for path in paths]
    assert prints[0] == prints[1] != prints[2]


def test_only_cifar_is_taken_for_it(tmp_path, folder):
    reader = Cifar10Reader()
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as tar:
        tar.add(folder, "images")
    (tmp_path / "bad.tar.gz").write_bytes(b"\x1f\x8b\x08garbage")
    os.mkfifo(tmp_path / "pipe.tar")
    for name in ("images", "other.tar.gz", "bad.tar.gz", "pipe.tar", "missing", "images/a/0.png", "", "a\0b"):
        assert not reader.can_open(str(tmp_path / name)), name
    assert not reader.can_open("demo:lesions")


def test_class_names_are_optional(tmp_path, readers):
    content = files()
    del content["batches.meta"]
    source = open_source(str(write_tar(tmp_path / "x.tar", content, "w")), readers)
    assert (source.class_names, len(source)) == (None, 15)


def refused(path, readers, memory=8 * MIB):
    """The message with which it is refused, in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            open_source(str(path), readers)
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()
    assert error.value.message.isprintable()
    return error.value.message


ODD_BATCHES = {
    "has no images of 32x32 pixels": [
        {b"data": np.zeros((N, 3071), np.uint8)},
        {b"data": np.zeros(3072, np.uint8)},
        {b"data": np.zeros((0, 3072), np.uint8), b"labels": []},
        {b"data": [1, 2]},
        {b"data": None},
    ],
    "does not have a label for each image": [{b"labels": [1]}, {b"labels": b"abc"}, {b"labels": None}],
    "a label that is not a class from 0 to 9": [{b"labels": [1, 2, x]} for x in (10, -1, b"1", None, True)],
}


@pytest.mark.parametrize(("words", "change"), [(w, c) for w, changes in ODD_BATCHES.items() for c in changes])
def test_batches_with_other_content_are_refused(tmp_path, readers, words, change):
    content = files() | {"data_batch_3": Python2().dumps(batch(3) | change)}
    assert words in refused(write_folder(tmp_path / FOLDER, content), readers)


@pytest.mark.parametrize("names", [None, [], [b"a"] * 9, [1] * 10, b"abcdefghij"])
def test_odd_class_names_are_refused(tmp_path, readers, names):
    content = files() | {"batches.meta": Python2().dumps({b"label_names": names})}
    assert "the names of 10 classes" in refused(write_folder(tmp_path / FOLDER, content), readers)


def test_a_missing_batch_is_named(tmp_path, readers):
    content = files()
    del content["data_batch_4"]
    assert "has no data_batch_4" in refused(write_tar(tmp_path / "x.tar.gz", content), readers)
    assert "has no data_batch_4" in refused(write_folder(tmp_path / FOLDER, content), readers)


# Pickles that would do harm


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def raw(*instructions):
    return b"\x80\x02" + b"".join(instructions) + b"."


TEXT = b"X\x01\x00\x00\x00b"
NDARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + TEXT + b"\x87R"


def array_state(shape=b"K\x04\x85", dtype=b"X\x02\x00\x00\x00u1", data=b"U\x04abcd"):
    return b"(K\x01" + shape + b"cnumpy\ndtype\n" + dtype + b"K\x00K\x01\x87R\x89" + data + b"tb"


HARMFUL = {
    "which could run code": {
        "os.system": pickle.dumps(Call(os.system, "touch OWNED"), 2),
        "subprocess": pickle.dumps(Call(subprocess.Popen, ["touch", "OWNED"]), 2),
        "eval": pickle.dumps(Call(eval, "open('OWNED', 'w')"), 2),
        "open": pickle.dumps(Call(open, "OWNED", "w"), 2),
        "getattr of getattr": pickle.dumps(Call(getattr, Call(getattr, "", "__class__"), "__mro__"), 2),
        "by instruction OBJ": raw(b"(cos\nsystem\nX\x0b\x00\x00\x00touch OWNEDo"),
        "a name within numpy": raw(b"cnumpy.core.multiarray\nscalar\n"),
        "a dotted name": raw(b"cnumpy\nndarray.__class__\n"),
    },
    "which plain values do not need": {
        "by instruction INST": raw(b"(X\x0b\x00\x00\x00touch OWNEDios\nsystem\n"),
        "by instruction NEWOBJ": raw(b"cnumpy\nndarray\n)\x81"),
        "by instruction STACK_GLOBAL": pickle.dumps(Call(os.system, "touch OWNED"), 4),
        "by the copyreg table": raw(b"\x82\x01"),
        "by a persistent name": raw(b"X\x04\x00\x00\x00nameQ"),
    },
    "it has an array of something other than bytes": {
        "objects": raw(NDARRAY, array_state(dtype=b"X\x01\x00\x00\x00O")),
        "objects, by numpy": pickle.dumps({b"data": np.array([None, Call(os.system, "touch OWNED")])}, 2),
        "floats": pickle.dumps(np.zeros((2, 3072)), 2),
        "of no type": raw(NDARRAY, b"(K\x01K\x04\x85N\x89U\x04abcdtb"),
        "a list in place of bytes": raw(NDARRAY, array_state(data=b"]")),
    },
    "it calls what cannot be called": {
        "another codec": raw(b"c_codecs\nencode\n", TEXT, b"X\x04\x00\x00\x00zlib\x86R"),
        "another class than ndarray": raw(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85U\x01b\x87R"),
        "a number": raw(b"K\x01)R"),
    },
    "it has more than 200,000 instructions": {"many lists": raw(b"]" * 200_000)},
    "is not a batch of CIFAR-10": {"lists in lists": raw(b"]" * 50_000, b"a" * 49_999), "a number": raw(b"K\x01")},
    "has no images of 32x32 pixels": {
        "an announced array without content": raw(b"}U\x04data", NDARRAY, b"s"),
        "an array of no size": raw(
            b"}U\x04data", NDARRAY, array_state(shape=b"K\x00J\xff\xff\xff\x7f\x86", data=b"U\0"), b"s"
        ),
    },
    "it is damaged or cut off": {
        "an array larger than its bytes": raw(NDARRAY, array_state(shape=b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86")),
        "an array of less than nothing": raw(NDARRAY, array_state(shape=b"J\xff\xff\xff\xffJ\xfc\xff\xff\xff\x86")),
        "an array of many dimensions": raw(NDARRAY, array_state(shape=b"(" + b"K\x01" * 100 + b"K\x04t")),
        "an array without shape": raw(NDARRAY, array_state(shape=b")")),
        "an array with a strange shape": raw(NDARRAY, array_state(shape=b"U\x01a\x85")),
        "state for a name": raw(b"cnumpy.core.multiarray\n_reconstruct\nN}\x86b"),
        "attributes for a name": raw(b"cnumpy\nndarray\nN}U\x0c__setstate__K\x01s\x86b"),
        "a call without arguments": raw(b"cnumpy\ndtype\n)R"),
        "a memory of four billion places": raw(b"K\x01r\xff\xff\xff\xffh\x00"),
        "tuples in tuples as a key": raw(b"}", b"K\x00" + b"\x85" * 50_000, b"K\x01s"),
        "a long text that is not there": raw(b"T\xff\xff\xff\x7fabc"),
        "a text of negative length": raw(b"T\xff\xff\xff\xffabc"),
        "a number of a million digits": raw(b"I" + b"9" * 1_000_000 + b"\n"),
        "a number of two gigabytes": raw(b"\x8b\xff\xff\xff\x7f"),
        "an empty stack": raw(b"R"),
        "two values": raw(b"K\x01K\x02"),
        "a mark too few": raw(b"K\x01t"),
        "a key without value": raw(b"}(U\x01au"),
        "no end": b"\x80\x02K\x01",
        "nothing": b"",
        "no pickle": b"<html>",
    },
}


@pytest.mark.parametrize(("words", "name"), [(words, name) for words, group in HARMFUL.items() for name in group])
def test_harmful_pickles_are_refused_and_nothing_runs(tmp_path, readers, monkeypatch, words, name):
    monkeypatch.chdir(tmp_path)
    path = write_folder(tmp_path / FOLDER, files() | {"data_batch_1": HARMFUL[words][name]})
    message = refused(path, readers, memory=64 * MIB)
    assert "data_batch_1" in message
    assert words in message
    assert [path.name for path in tmp_path.iterdir()] == [FOLDER]


def test_a_text_made_again_and_again_is_refused():
    text = b"X" + struct.pack("<I", MIB) + b"x" * MIB
    again = b"h\x00h\x01h\x02\x86R0"
    bomb = raw(b"c_codecs\nencode\nq\x00", text, b"q\x01X\x06\x00\x00\x00latin1q\x02", again.replace(b"0", b"") * 1000)
    tracemalloc.start()
    with pytest.raises(PlainPickleError, match="more of its texts"):
        read_plain_pickle(bomb)
    assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    tracemalloc.stop()


def test_nothing_is_imported_or_called_by_name(monkeypatch):
    """Even the names that are known are never looked up: the standard unpickler is not involved."""
    monkeypatch.setattr(pickle, "Unpickler", None)
    monkeypatch.setattr(pickle, "loads", None)
    monkeypatch.setattr("builtins.__import__", None)
    value = read_plain_pickle(Python2().dumps(batch(1)))
    monkeypatch.undo()
    np.testing.assert_array_equal(value[b"data"].values, batch(1)[b"data"])


def test_plain_values_are_read_as_the_standard_library_does():
    value = {b"a": [1, -2, 70_000, None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)], b"b": {b"c": b"\xff"}}
    assert read_plain_pickle(Python2().dumps(value)) == value
    assert read_plain_pickle(pickle.dumps({"ä": [b"\xff", "皮"], "b": 300}, 2)) == {"ä": [b"\xff", "皮"], "b": 300}
    array = np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    np.testing.assert_array_equal(read_plain_pickle(pickle.dumps(array, 2)).values, array)


def test_a_full_batch_is_within_the_limits():
    full = batch(1, 10_000)
    for data in (Python2().dumps(full), pickle.dumps(full, 2)):
        assert len(data) < cifar10.MAX_BATCH_BYTES
        assert read_plain_pickle(data)[b"labels"] == full[b"labels"]
    assert plain_pickle.MAX_STEPS == 200_000


def test_mutated_batches_are_read_or_refused():
    original = Python2().dumps(batch(1))
    rng = random.Random(0)
    outcomes = collections.Counter()
    for _ in range(1000):
        data = bytearray(original)
        start = original.index(b"filenames") if rng.random() < 0.5 else 0
        for _ in range(rng.randint(1, 6)):
            data[min(start + rng.randrange(200), len(data) - 1)] = rng.randrange(256)
        if rng.random() < 0.1:
            del data[rng.randrange(len(data)) :]
        try:
            cifar10._batch(bytes(data), "batch")
            outcomes["read"] += 1
        except DataError:
            outcomes["refused"] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 50


# Archives that would do harm


def test_entries_that_are_no_plain_files_are_passed_over(tmp_path, readers):
    secret = write_folder(tmp_path / "secret", files())
    names = [f"{FOLDER}/data_batch_1", f"{FOLDER}/data_batch_2"]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE):
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            tar.addfile(entry(FOLDER, kind=tarfile.DIRTYPE))
            tar.addfile(entry(names[0], kind=kind, link=str(secret / "data_batch_1")))
            for name, data in files().items():
                if name != "data_batch_1":
                    tar.addfile(entry(f"{FOLDER}/{name}", len(data)), io.BytesIO(data))
        assert "has no data_batch_1" in refused(tmp_path / "x.tar", readers)


@pytest.mark.parametrize("place", ["/{}", "../{}", "/tmp/{}", "a/{}"])
def test_entries_of_other_places_are_passed_over(tmp_path, readers, place):
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(entry(FOLDER, kind=tarfile.DIRTYPE))
        for name, data in files().items():
            tar.addfile(entry(place.format(f"{FOLDER}/{name}"), len(data)), io.BytesIO(data))
    assert "has no data_batch_1" in refused(tmp_path / "x.tar", readers)


def test_long_names_that_claim_gigabytes_are_passed_over(tmp_path, readers):
    header = entry(f"./{FOLDER}/long", 200 * MIB, tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.USTAR_FORMAT)
    with gzip.open(tmp_path / "x.tar.gz", "wb", 1) as file:
        file.write(header)
        for _ in range(200):
            file.write(bytes(MIB))
    assert Cifar10Reader().can_open(str(tmp_path / "x.tar.gz"))
    assert "has no data_batch_1" in refused(tmp_path / "x.tar.gz", readers)


def test_bombs_are_refused(tmp_path, readers, monkeypatch):
    monkeypatch.setattr(cifar10, "MAX_TAR_BYTES", 4 * MIB)
    monkeypatch.setattr(cifar10, "MAX_BATCH_BYTES", MIB)
    for size, words in ((2 * MIB, "data_batch_1 is larger than 1 MiB"), (5 * MIB, "it holds more than 4 MiB")):
        content = {"data_batch_1": bytes(size)}
        assert words in refused(write_tar(tmp_path / "x.tar.gz", content), readers)
    assert "it holds more than" in refused(write_tar(tmp_path / "x.tar.gz", {"other": bytes(5 * MIB)}), readers)
    large = files() | {"data_batch_2": bytes(2 * MIB)}
    assert "data_batch_2 is larger than 1 MiB" in refused(write_folder(tmp_path / FOLDER, large), readers)


def test_a_pipe_for_a_batch_is_not_waited_for(tmp_path, readers):
    path = write_folder(tmp_path / FOLDER, files())
    (path / "data_batch_2").unlink()
    os.mkfifo(path / "data_batch_2")
    assert "data_batch_2 cannot be read: it is not a plain file" in refused(path, readers)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_truncated_archives_are_refused(tmp_path, readers, mode):
    needed = {name: data for name, data in files().items() if name in BATCHES}
    whole = write_tar(tmp_path / "x.tar", needed, mode).read_bytes()
    length = len(whole) if mode == "w:gz" else len(whole.rstrip(b"\0")) - 512
    for cut in range(1024, length, 1499):
        (tmp_path / "x.tar").write_bytes(whole[:cut])
        assert refused(tmp_path / "x.tar", readers).startswith(f"{tmp_path / 'x.tar'} cannot be read: ")


def test_a_changed_byte_in_a_download_is_noticed(tmp_path, readers):
    path = write_tar(tmp_path / "x.tar.gz", files())
    whole = bytearray(path.read_bytes())
    rng = random.Random(0)
    for _ in range(60):
        data = bytearray(whole)
        data[rng.randrange(2000, len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        assert refused(path, readers)


def test_a_damaged_header_is_refused(tmp_path, readers):
    path = write_tar(tmp_path / "x.tar", files(), "w")
    data = bytearray(path.read_bytes())
    for position, byte in ((512 + 20, 1), (512 + 124, 0x80), (512 + 125, ord("-")), (512 + 150, ord("x"))):
        changed = bytearray(data)
        changed[position] = byte
        path.write_bytes(changed)
        assert "it is no tar, or a damaged one" in refused(path, readers)
