"""The cache of decoded images: always whole, always of the present set."""

import errno
import json
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaflow.core.data import cache as cache_module
from adaflow.core.data.cache import FOLDER
from adaflow.core.data.dataset import Dataset
from adaflow.errors import DataError
from adaflow.plugins.datasets.folder import FolderSource
from adaflow.plugins.datasets.zipped import ZipSource
from tests.caches import SEEDS, Counted, Opened, change_an_image, kept, the_file
from tests.images import break_image, load, pixels, save, zip_folder

pytest_plugins = ["tests.images"]


def test_only_the_first_load_decodes(folder, tmp_path):
    first = Opened(folder)
    assert first.built
    assert first.holds(*SEEDS)
    assert first.said == [f"Decoding 6 images into {tmp_path / FOLDER} (5 kB)."]
    assert kept(tmp_path / FOLDER) == ["images.json", "images.uint8"]
    second = Opened(folder)
    assert (second.said, second.source.reads) == ([], 0)
    assert second.holds(*SEEDS)
    assert second.cached.fingerprint == FolderSource(folder).fingerprint()


def test_the_cache_lies_where_no_reader_sees_it(folder, tmp_path):
    Opened(folder)
    assert FolderSource(tmp_path).names == [f"images/{name}" for name in FolderSource(folder).names]
    before = FolderSource(tmp_path).stamp()
    Opened(tmp_path / "images/a")
    assert (folder / FOLDER).is_dir()
    assert FolderSource(tmp_path).stamp() == before


def test_sets_in_one_folder_do_not_mix(folder, tmp_path):
    long = "n" * 240 + "é.zip"
    names = ("images.zip", "images.ZIP", "images", "images~.zip", "a b\n.zip", long)
    for index, name in enumerate(names[:2] + names[3:]):
        save(folder, "a/0.png", pixels(100 + index))
        zip_folder(folder, tmp_path / name)
    readers_of = {name: Opened(tmp_path / name, source=_source(tmp_path / name)) for name in names}
    assert all(opened.built for opened in readers_of.values())
    assert not any(Opened(tmp_path / name, source=_source(tmp_path / name)).built for name in names)
    first = [opened.cached.pixels[0].tobytes() for name, opened in readers_of.items() if name != "images"]
    assert len(set(first)) == 5


def _source(path):
    return ZipSource(path) if path.is_file() else Counted(path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cond": True, "mirror": True},
        {"subset": 4, "val_fraction": 0.3, "mirror": True, "mirrory": True},
        {"subset": 5, "balance": True},
    ],
)
def test_a_cached_set_is_the_set_in_memory(readers, folder, options):
    save(folder, "a/6.png", pixels(6))
    save(folder, "a/8.png", pixels(8))
    content = json.loads((folder / "dataset.json").read_text())
    content["labels"] += [["a/6.png", 0], ["a/8.png", 1]]
    (folder / "dataset.json").write_text(json.dumps(content))
    break_image(folder / "a/2.png")
    save(folder, "b/1.png", pixels(0, 32, 32))
    counters = torch.arange(30)
    for seed in range(3):
        memory = load(readers, folder, seed, cache=False, **options)
        for _ in range(2):
            cached = load(readers, folder, seed, **options)
            assert same(cached, memory)
            assert all(torch.equal(a, b) for a, b in zip(cached.batch(counters), memory.batch(counters), strict=True))
            assert torch.equal(cached.take(torch.tensor([1, 0, 1])), memory.images[[1, 0, 1]])


def same(a: Dataset, b: Dataset) -> bool:
    names = ("images", "labels", "names", "class_counts", "left_out", "fingerprint", "train_indices", "val_indices")
    pairs = [(getattr(a, name), getattr(b, name)) for name in names]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


def test_whoever_writes_into_the_images_changes_only_his_own(readers, folder):
    data = load(readers, folder)
    before = the_file(folder.parent, ".uint8").read_bytes()
    data.images.zero_()
    assert not data.images.any()
    assert the_file(folder.parent, ".uint8").read_bytes() == before
    assert load(readers, folder).images.any()


def test_a_set_larger_than_memory_is_mapped_for_reading_only(readers, folder, monkeypatch):
    real = np.memmap

    def refuse_copies(path, dtype, mode, shape):
        if mode != "r":
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return real(path, dtype, mode, shape=shape)

    monkeypatch.setattr(cache_module.np, "memmap", refuse_copies)
    data = load(readers, folder)
    assert data.rows.shape == (6,)
    images, _ = data.batch(torch.arange(6))
    assert sorted(image.numpy().tobytes() for image in images) == sorted(
        pixels(seed).transpose(2, 0, 1).tobytes() for seed in SEEDS
    )


# Out of date


def add_an_image(folder):
    save(folder, "a/1.png", pixels(77))
    return (0, 77, 2, 4, 1, 3, 5)


def remove_an_image(folder):
    (folder / "a/2.png").unlink()
    return (0, 4, 1, 3, 5)


def rename_an_image(folder):
    (folder / "a/2.png").rename(folder / "c.png")
    return (0, 4, 1, 3, 5, 2)


def change_labels(folder):
    (folder / "dataset.json").unlink()
    return SEEDS


@pytest.mark.parametrize("change", [change_an_image, add_an_image, remove_an_image, rename_an_image, change_labels])
def test_a_changed_set_is_decoded_again(folder, tmp_path, change):
    before = Opened(folder)
    seeds = change(folder)
    after = Opened(folder)
    assert after.built
    assert after.holds(*seeds)
    assert after.cached.fingerprint != before.cached.fingerprint
    assert kept(tmp_path / FOLDER) == ["images.json", "images.uint8"]
    assert before.holds(*SEEDS)  # whoever trains on the old state goes on
    assert not Opened(folder).built


class Negative(Counted):
    def read(self, index):
        return 255 - super().read(index)


def test_another_reader_or_version_decodes_again(folder, monkeypatch):
    Opened(folder)
    negative = Opened(folder, kind=Negative)
    assert negative.built
    np.testing.assert_array_equal(255 - negative.cached.pixels[0], pixels(0).transpose(2, 0, 1))
    assert Opened(folder).built
    monkeypatch.setattr(cache_module, "VERSION", cache_module.VERSION + 1)
    assert Opened(folder).built


def test_a_changed_plugin_decodes_again(folder, tmp_path, monkeypatch):
    plugin = tmp_path / "plugin_under_test.py"
    monkeypatch.syspath_prepend(tmp_path)
    text = "from adaflow.plugins.datasets.folder import FolderSource\nclass Mine(FolderSource):\n    "
    plugin.write_text(text + "pass\n")
    import plugin_under_test

    assert Opened(folder, kind=plugin_under_test.Mine).built
    assert not Opened(folder, kind=plugin_under_test.Mine).built
    plugin.write_text(text + "window = 3\n")
    assert Opened(folder, kind=plugin_under_test.Mine).built


def test_an_image_that_could_not_be_read_is_tried_again(folder, monkeypatch):
    def fail(self, index):
        self.reads += 1
        if index == 1:
            raise DataError("image a/2.png cannot be read: Permission denied")
        return FolderSource.read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Counted, "read", fail)
        assert Opened(folder).holds(0, 4, 1, 3, 5)
        again = Opened(folder)
        assert (again.built, again.source.reads, again.cached.decoding.unreadable.keys()) == (False, 1, {1})
    after = Opened(folder)
    assert after.built
    assert after.holds(*SEEDS)


def test_what_changes_while_it_is_decoded_is_noticed_the_next_time(folder, monkeypatch):
    class Slow(Counted):
        def read(self, index):
            image = super().read(index)
            save(folder, "a/0.png", pixels(50))
            return image

    Opened(folder, kind=Slow)
    after = Opened(folder)
    assert after.built
    assert after.holds(50, *SEEDS[1:])


# Damage


def cut(folder):
    path = the_file(folder, ".uint8")
    path.write_bytes(path.read_bytes()[:-1])


def extend(folder):
    with open(the_file(folder, ".uint8"), "ab") as file:
        file.write(b"\0" * 768)


def remove_pixels(folder):
    the_file(folder, ".uint8").unlink()


def overwrite(position):
    def damage(folder):
        path = the_file(folder, ".uint8")
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)

    return damage


def pixels_are_a_link(folder):
    path = the_file(folder, ".uint8")
    (folder / "elsewhere").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(folder / "elsewhere")


def rewrite(**change):
    def damage(folder):
        path = the_file(folder, ".json")
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    return damage


def write(text):
    return lambda folder: the_file(folder, ".json").write_bytes(text)


@pytest.mark.parametrize(
    "damage",
    [
        *(cut, extend, remove_pixels, pixels_are_a_link, overwrite(0), overwrite(2000), overwrite(-1)),
        *(rewrite(checksums=[1]), rewrite(checksums=[]), rewrite(checksums=None), rewrite(checksums=[0] * 10**5)),
        *(write(b""), write(b"{"), write(b"[]"), write(b"null"), write(b"\xff\xfe"), write(b"[" * 100_000)),
        *(rewrite(pixels="../../../etc/passwd"), rewrite(pixels=None), rewrite(pixels=["0" * 16])),
        *(rewrite(shape=[3, 16, 32]), rewrite(shape=[3, -16, -16]), rewrite(shape=[768]), rewrite(shape=None)),
        *(rewrite(shape=[3, 16, 16.0]), rewrite(shape=[3, 10**30, 16]), rewrite(shape=[3, "16", 16])),
        *(rewrite(unreadable=[[6, "x"]]), rewrite(unreadable=[[-1, "x"]]), rewrite(unreadable=[1]), rewrite(odd=7)),
        *(rewrite(unreadable=[["one", "x"]]), rewrite(odd=[[0, [1, 2]]]), rewrite(odd=[[0, [3, 8, 8]]])),
    ],
)
def test_a_damaged_cache_is_made_again(folder, tmp_path, damage):
    Opened(folder)
    damage(tmp_path)
    repaired = Opened(folder)
    assert repaired.built
    assert repaired.holds(*SEEDS)
    assert kept(tmp_path / FOLDER) == ["images.json", "images.uint8"]
    assert not Opened(folder).built


@pytest.mark.parametrize(("block", "verified"), [(1536, 10**9), (1536, 1536), (1, 10**9), (700, 2 * 700)])
def test_pixels_are_verified_block_by_block(folder, tmp_path, monkeypatch, block, verified):
    """Six images of 768 bytes, in blocks of two images or one; of many blocks, the first and the last are read."""
    monkeypatch.setattr(cache_module, "BLOCK_BYTES", block)
    monkeypatch.setattr(cache_module, "VERIFIED_BYTES", verified)
    assert Opened(folder).built
    assert len(json.loads(the_file(tmp_path, ".json").read_bytes())["checksums"]) == (3 if block == 1536 else 6)
    assert not Opened(folder).built
    for image in (0, 2, 5):
        overwrite(768 * image + 5)(tmp_path)
        again = Opened(folder)
        assert again.built == (image != 2 or verified == 10**9)
        if not again.built:
            overwrite(768 * image + 5)(tmp_path)
        else:
            assert "the pixels are not those that were written" in again.said[0]


def test_a_set_whose_first_images_mislead_about_the_shape_has_right_checksums(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "BLOCK_BYTES", 1)
    for index in range(17):
        save(folder, f"0/{index:02d}.png", pixels(index, 8, 8))
    for index in range(17):
        save(folder, f"z/{index:02d}.png", pixels(index))
    assert sum(text.startswith("Decoding") for text in Opened(folder).said) == 2
    assert Opened(folder).said == []


def test_a_pipe_in_place_of_a_file_does_not_hang(folder, tmp_path):
    Opened(folder)
    for suffix in (".json", ".lock", ".uint8"):
        path = the_file(tmp_path, suffix)
        path.unlink()
        os.mkfifo(path)
        assert Opened(folder).holds(*SEEDS)


def test_damage_is_named(folder, tmp_path):
    Opened(folder)
    cut(tmp_path)
    said = Opened(folder).said[0]
    assert said.startswith(f"The cache {the_file(tmp_path, '.json')} is damaged and not used: ")


@pytest.fixture(scope="module")
def cached_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage") / "images"
    for seed in SEEDS:
        save(folder, f"{'ab'[seed % 2]}/{seed}.png", pixels(seed))
    Opened(folder)
    return folder


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_no_byte_of_the_description_can_do_harm(cached_folder, position, byte):
    path = the_file(cached_folder.parent, ".json")
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[position % len(whole)] = byte
    path.write_bytes(changed)
    opened = Opened(cached_folder)
    assert opened.holds(*SEEDS)
    if not opened.built:
        path.write_bytes(whole)
