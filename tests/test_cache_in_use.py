"""The cache of decoded images where it cannot be written, among several processes, and in training."""

import errno
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from adaflow.core.data import cache as cache_module
from adaflow.core.data.cache import FOLDER, ImageCache
from adaflow.core.files import committed
from adaflow.errors import ConfigError, DataError
from adaflow.plugins.datasets.folder import FolderSource
from tests.caches import SEEDS, Opened, change_an_image, kept, the_file
from tests.images import load, pixels, save

pytest_plugins = ["tests.images", "tests.command_line"]

CHECKOUT = Path(__file__).parents[1]


# Places that cannot be written


def test_a_folder_that_cannot_be_written(readers, folder, monkeypatch):
    def refuse(self, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    opened = Opened(folder)
    assert opened.cached is None
    assert len(opened.said) == 1
    assert "cannot be written: no permission. They go to memory." in opened.said[0]
    assert load(readers, folder).images.shape == (6, 3, 16, 16)


def test_a_cache_that_others_made_is_used_though_it_cannot_be_written(folder, monkeypatch):
    Opened(folder)
    real = os.open

    def read_only(path, flags, *rest, **options):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", read_only)
    opened = Opened(folder)
    assert (opened.said, opened.source.reads) == ([], 0)
    assert opened.holds(*SEEDS)


@pytest.mark.parametrize("build", [True, False])
def test_without_anything_to_lock_with(folder, monkeypatch, build):
    monkeypatch.setattr(cache_module, "fcntl", None)
    Opened(folder)
    opened = Opened(folder, build=build)
    assert not opened.built
    assert opened.holds(*SEEDS)


def test_a_disk_that_is_too_small(readers, folder, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage(10**6, 10**6, 4607))
    opened = Opened(folder)
    assert opened.cached is None
    assert opened.said == [
        f"Decoded images cannot be kept on disk: {tmp_path / FOLDER} has 5 kB free, of 5 kB that are needed. "
        "They go to memory."
    ]
    assert kept(tmp_path / FOLDER) == []
    assert load(readers, folder).images.shape == (6, 3, 16, 16)


@pytest.mark.parametrize("suffix", [".uint8", ".json"])
def test_a_disk_that_fills_up(readers, folder, tmp_path, monkeypatch, suffix):
    def full(path):
        if path.suffix == suffix:
            monkeypatch.setattr(os, "fsync", fail)
        return committed(path)

    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module, "committed", full)
    opened = Opened(folder)
    assert opened.cached is None
    assert "the disk is full" in opened.said[-1]
    assert [path.name for path in (tmp_path / FOLDER).iterdir() if path.name.startswith(".")] == []
    monkeypatch.undo()
    assert Opened(folder).holds(*SEEDS)
    assert kept(tmp_path / FOLDER) == ["images.json", "images.uint8"]


def test_nothing_is_written_through_links(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / FOLDER).symlink_to(elsewhere)
    opened = Opened(folder)
    assert opened.cached is None
    assert "is a link" in opened.said[0]
    assert list(elsewhere.iterdir()) == []

    (tmp_path / FOLDER).unlink()
    Opened(folder)
    victim = elsewhere / "precious"
    victim.write_text("precious")
    for path in (tmp_path / FOLDER).iterdir():
        path.unlink()
        path.symlink_to(victim)
    assert Opened(folder).holds(*SEEDS)
    assert victim.read_text() == "precious"


def test_files_have_the_customary_permissions(folder, tmp_path):
    before = os.umask(0o027)
    try:
        Opened(folder)
    finally:
        os.umask(before)
    assert (tmp_path / FOLDER).stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / FOLDER).iterdir()} == {0o640}


def test_a_cache_can_be_asked_to_write_nothing(readers, folder, tmp_path):
    assert Opened(folder, build=False).cached is None
    load(readers, folder, cache=False)
    assert not (tmp_path / FOLDER).exists()
    Opened(folder)
    assert Opened(folder, build=False).holds(*SEEDS)
    change_an_image(folder)
    before = the_file(tmp_path, ".uint8")
    assert Opened(folder, build=False).cached is None
    assert the_file(tmp_path, ".uint8") == before


def test_sizes_that_cannot_be_trained_on_leave_nothing(tmp_path):
    for index in range(3):
        save(tmp_path / "in", f"{index}.png", pixels(index, 16, 8))
    with pytest.raises(DataError, match="not square"):
        Opened(tmp_path / "in")
    assert kept(tmp_path / FOLDER) == []


# Several processes

LOADING = """
import hashlib, json, sys, time
from pathlib import Path
from adaflow.core.data.cache import ImageCache
from adaflow.plugins.datasets.folder import FolderSource
folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
class Slow(FolderSource):
    def read(self, index):
        time.sleep(seconds)
        return super().read(index)
said = []
print("ready", flush=True)
sys.stdin.readline()
cached = ImageCache(folder, Slow(folder)).load(1, None, said.append)
print(json.dumps([said, hashlib.sha256(cached.pixels.tobytes()).hexdigest()]), flush=True)
"""


def start(folder, seconds):
    """A process that is about to load the set, and takes so long for an image."""
    command = [sys.executable, "-c", LOADING, str(folder), str(seconds)]
    process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_of_processes_that_start_together_one_decodes(folder):
    processes = [start(folder, 0.05) for _ in range(3)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [json.loads(process.communicate()[0]) for process in processes]
    said = [text.split()[0] for texts, _ in results for text in texts]
    assert said.count("Decoding") == 1
    assert len({digest for _, digest in results}) == 1


def test_a_kill_while_decoding_leaves_nothing_that_passes_for_whole(tmp_path):
    folder = tmp_path / "images"
    for index in range(12):
        save(folder, f"{index:02}.png", pixels(index))
    moments = random.Random(0)
    seen = set()
    for attempt in range(12):
        child = os.fork()
        if child == 0:
            try:
                ImageCache(folder, slow_source(folder)).load(1, None, lambda text: None)
            finally:
                os._exit(0)
        if attempt % 2:
            wait_for(lambda: list((tmp_path / FOLDER).glob(".*.tmp")))
        time.sleep(moments.uniform(0.0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if (tmp_path / FOLDER).is_dir():
            seen |= {path.suffix for path in (tmp_path / FOLDER).iterdir()}
            assert not list((tmp_path / FOLDER).glob("*.json"))
    assert ".tmp" in seen  # some were killed while they wrote
    opened = Opened(folder)
    assert opened.built
    assert opened.holds(*range(12))
    assert kept(tmp_path / FOLDER) == ["images.json", "images.uint8"]
    assert len(list((tmp_path / FOLDER).iterdir())) == 3


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


def test_one_that_comes_while_another_decodes_waits(folder, tmp_path):
    (tmp_path / FOLDER).mkdir()
    cache = ImageCache(folder, FolderSource(folder))
    said, results = [], []
    thread = threading.Thread(target=lambda: results.append(cache.load(1, None, said.append)))
    with open(tmp_path / FOLDER / f"{cache.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread.start()
        wait_for(lambda: said)
        assert said == ["Waiting for another process that decodes images."]
        assert thread.is_alive()
    thread.join()
    assert results[0].pixels.shape == (6, 3, 16, 16)


def slow_source(folder):
    class Slow(FolderSource):
        def read(self, index):
            time.sleep(0.02)
            return super().read(index)

    return Slow(folder)


@pytest.mark.parametrize("moment", ["pixels", "description"])
def test_a_kill_between_the_files(folder, tmp_path, monkeypatch, moment):
    """As if the process had ended just before it gave the file its name."""

    class Killed(BaseException):
        pass

    def killed(old, new):
        if (Path(new).suffix == ".json") == (moment == "description"):
            raise Killed
        return real(old, new)

    real = os.replace
    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr(Path, "unlink", lambda self, **options: None)
    with pytest.raises(Killed):
        Opened(folder)
    monkeypatch.undo()
    assert len(list((tmp_path / FOLDER).glob(".*.tmp"))) == 1
    opened = Opened(folder)
    assert opened.built
    assert opened.holds(*SEEDS)
    assert len(list((tmp_path / FOLDER).iterdir())) == 3


def test_a_training_goes_on_when_the_cache_is_deleted_or_made_again(readers, folder, tmp_path):
    data = load(readers, folder, mirror=True)
    before = data.batch(torch.arange(12))[0]
    change_an_image(folder)
    assert load(readers, folder).names == data.names
    for path in (tmp_path / FOLDER).iterdir():
        path.unlink()
    (tmp_path / FOLDER).rmdir()
    assert torch.equal(data.batch(torch.arange(12))[0], before)
    assert Opened(folder).built


def test_a_forked_process_reads_the_same(readers, folder):
    data = load(readers, folder)
    expected = data.images.sum().item()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(data.take(torch.arange(6)).sum().item()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        assert int(answer.read()) == expected
    os.waitpid(child, 0)


# The command line


def test_a_dry_run_makes_no_cache(cli, folder, tmp_path):
    result = cli("train", "--data", folder, "--cond", "--balance", "--no-cache", "--dry-run")
    assert result.code == 0, result.err
    assert "balance = true" in result.out
    assert "cache = false" in result.out
    assert cli("train", "--data", folder, "--dry-run").code == 0
    assert not (tmp_path / FOLDER).exists()


def test_training_announces_its_cache_once(cli, folder, tmp_path):
    options = [*cli.small_run[2:], "--outdir", tmp_path / "runs", "--balance"]
    first = cli("train", "--data", folder, *options)
    assert first.code == 0, first.err
    assert f"Decoding 6 images into {tmp_path / FOLDER} (5 kB)." in first.err
    second = cli("resume", next((tmp_path / "runs").iterdir()), "--kimg", "0.02")
    assert second.code == 0, second.err
    assert "Decoding" not in second.err
    settings = json.loads((next((tmp_path / "runs").iterdir()) / "provenance.json").read_text())["data"]
    assert (settings["balance"], settings["cache"], settings["images"]) == (True, True, 6)


def test_balance_needs_classes(cli, folder, readers):
    (folder / "dataset.json").unlink()
    result = cli("train", "--data", folder, "--balance", "--dry-run")
    assert result.code == ConfigError.exit_code
    assert "images has no labels, and --balance needs classes" in result.err
