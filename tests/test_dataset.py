"""Loading a data set for training: images, labels, division, batches."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from adaflow.core.data import decode_all as decode_all_module
from adaflow.core.data.dataset import DataConfig, load_dataset
from adaflow.core.data.decode_all import decode_to_memory
from adaflow.core.data.prepare import PrepareConfig, prepare
from adaflow.core.data.sampler import EpochSampler
from adaflow.core.data.source import ImageSource
from adaflow.core.data.training_labels import label_table
from adaflow.core.evaluate import draw_fakes
from adaflow.errors import ConfigError, DataError
from adaflow.plugins.datasets.folder import FolderSource
from tests.images import ISIC, break_image, load, pixels, save
from tests.runs import small_run

pytest_plugins = ["tests.images"]


def test_a_loaded_set_holds_the_images(readers, folder):
    data = load(readers, folder)
    assert (data.images.dtype, data.images.shape) == (torch.uint8, (6, 3, 16, 16))
    for image, name in zip(data.images, data.names, strict=True):
        np.testing.assert_array_equal(image, pixels(int(Path(name).stem)).transpose(2, 0, 1))
    assert (data.resolution, data.channels, data.c_dim, data.labels.shape) == (16, 3, 0, (6, 0))
    assert (data.name, data.left_out, data.class_counts) == ("images", [], {"0": 2, "1": 2, "2": 2})
    assert data.fingerprint == FolderSource(folder).fingerprint()


def test_labels_become_one_hot(readers, folder):
    data = load(readers, folder, cond=True)
    assert data.labels.dtype == torch.float32
    assert data.labels.tolist() == torch.eye(3)[[0, 2, 1, 1, 0, 2]].tolist()


def test_class_names_widen_the_labels(readers, folder):
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, "class_names": ["p", "q", "r", "s"]}))
    data = load(readers, folder, cond=True)
    assert (data.c_dim, data.class_counts) == (4, {"p": 2, "q": 2, "r": 2})


def test_vectors_are_labels_as_they_are(readers, folder):
    vectors = {f"{'ab'[i % 2]}/{i}.png": [i / 4, -1.0] for i in range(6)}
    (folder / "dataset.json").write_text(json.dumps({"labels": list(vectors.items())}))
    data = load(readers, folder, cond=True)
    assert data.labels.tolist() == [vectors[name] for name in data.names]
    assert data.class_counts == {}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a/2.png": None}, r"image a/2\.png of images has no label"),
        ({"b/1.png": [0.5]}, "both classes and vectors"),
        ({f"{'ab'[i % 2]}/{i}.png": [0.5] * (1 + (i == 3)) for i in range(6)}, r"the label of b/3\.png has 2 numbers"),
    ],
)
def test_unusable_labels_are_explained(readers, folder, labels, message):
    content = dict(json.loads((folder / "dataset.json").read_text())["labels"]) | labels
    content = [[name, label] for name, label in content.items() if label is not None]
    (folder / "dataset.json").write_text(json.dumps({"labels": content}))
    with pytest.raises(DataError, match=message):
        load(readers, folder, cond=True)
    load(readers, folder)


def test_a_class_that_is_an_identifier_is_refused(monkeypatch):
    monkeypatch.setattr(HugeSource, "__len__", lambda self: 2)
    with pytest.raises(DataError, match="has a class 1000000000"):
        label_table(HugeSource(), [10**9, 0])


def test_broken_and_odd_images_are_left_out_with_their_labels(readers, folder):
    break_image(folder / "a/2.png")
    save(folder, "b/1.png", pixels(0, 32, 32))
    save(folder, "b/3.png", pixels(0, channels=1))
    data = load(readers, folder, cond=True, cache=False)
    assert data.names == ("a/0.png", "a/4.png", "b/5.png")
    np.testing.assert_array_equal(data.images[2], pixels(5).transpose(2, 0, 1))
    assert data.labels.argmax(1).tolist() == [0, 1, 2]
    reasons = dict(data.left_out)
    assert list(reasons) == ["a/2.png", "b/1.png", "b/3.png"]
    assert "broken" in reasons["a/2.png"]
    assert reasons["b/1.png"] == "it is 32x32 RGB, most are 16x16 RGB"
    assert reasons["b/3.png"] == "it is 16x16 grey, most are 16x16 RGB"


def test_the_majority_decides_even_when_the_first_images_are_odd(readers, tmp_path, monkeypatch):
    monkeypatch.setattr(decode_all_module, "PROBED_IMAGES", 2)
    for index in range(7):
        save(tmp_path / "in", f"{index}.png", pixels(index, *((8, 8) if index < 3 else (16, 16))))
    for cache in (False, True, True):
        data = load(readers, tmp_path / "in", cache=cache)
        assert data.names == ("3.png", "4.png", "5.png", "6.png")
        for image, index in zip(data.images, range(3, 7), strict=True):
            np.testing.assert_array_equal(image, pixels(index).transpose(2, 0, 1))
        assert [name for name, _ in data.left_out] == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("size", [(16, 8), (12, 12), (4, 4)])
def test_sizes_that_cannot_be_trained_on(readers, tmp_path, size):
    for index in range(3):
        save(tmp_path / "in", f"{index}.png", pixels(index, *size))
    with pytest.raises(DataError, match=f"are {size[1]}x{size[0]} RGB, not square") as error:
        load(readers, tmp_path / "in")
    assert "adaflow data prepare" in error.value.hint
    assert "--resolution" in error.value.hint


def test_fewer_than_two_images(readers, folder):
    for name in ("a/0", "a/2", "a/4", "b/1", "b/3"):
        break_image(folder / f"{name}.png")
    with pytest.raises(DataError, match=r"fewer than 2 usable images; the first left out: image a/0\.png"):
        load(readers, folder)


class HugeSource(ImageSource):
    name = "huge"

    def __init__(self):
        self.reads = 0

    def __len__(self):
        return 10**9

    def image_name(self, index):
        return str(index)

    def read(self, index):
        self.reads += 1
        return np.zeros((3, 1024, 1024), dtype=np.uint8)

    def fingerprint(self):
        return "0"


def test_a_set_that_does_not_fit_is_refused_before_it_is_decoded():
    source = HugeSource()
    with pytest.raises(DataError, match=r"huge needs 2929687\.5 GiB of memory") as error:
        decode_to_memory(source, range(10**9), 1, None)
    assert source.reads == decode_all_module.PROBED_IMAGES
    assert "--subset" in error.value.hint
    assert "--resolution" in error.value.hint


def test_the_limit_is_a_share_of_the_available_memory(readers, folder, monkeypatch):
    needed = 6 * 3 * 16 * 16
    for available, fits in ((needed / 0.69, True), (needed / 0.71, False)):
        memory = type("Memory", (), {"available": available})
        monkeypatch.setattr(decode_all_module.psutil, "virtual_memory", lambda memory=memory: memory)
        if fits:
            load(readers, folder, cache=False)
        else:
            with pytest.raises(DataError, match="can be used"):
                load(readers, folder, cache=False)
            load(readers, folder)


@pytest.mark.parametrize(
    "change",
    [{"source": ""}, {"subset": 1}, {"val_fraction": -0.1}, {"val_fraction": 0.95}, {"workers": 0}, {"workers": 65}],
)
def test_data_settings_are_checked(change):
    with pytest.raises(ConfigError):
        DataConfig(**{"source": "x", **change})


def test_a_subset_depends_on_the_seed_only(readers, folder):
    chosen = {seed: load(readers, folder, seed, subset=3).names for seed in range(10)}
    assert all(len(names) == 3 for names in chosen.values())
    assert len(set(chosen.values())) > 3
    assert load(readers, folder, 4, subset=3, workers=5).names == chosen[4]
    with pytest.raises(DataError, match="a subset of 7 is asked for"):
        load(readers, folder, subset=7)


def test_labels_keep_their_width_in_a_subset(readers, folder):
    assert {load(readers, folder, seed, subset=2, cond=True).c_dim for seed in range(5)} == {3}


def test_validation_images_are_never_trained_on(readers, folder):
    parts = set()
    for seed in range(10):
        data = load(readers, folder, seed, val_fraction=0.34)
        train, val = data.train_indices.tolist(), data.val_indices.tolist()
        assert len(val) == 2
        assert sorted(train + val) == list(range(6))
        assert train == sorted(train)
        seen, _ = data.batch(torch.arange(12))
        assert not any(torch.equal(image, data.images[index]) for image in seen for index in val)
        parts.add(tuple(val))
        assert load(readers, folder, seed, val_fraction=0.34).val_indices.tolist() == val
    assert len(parts) > 3


def test_a_small_fraction_still_keeps_one_image_out(readers, folder):
    assert len(load(readers, folder, val_fraction=0.01).val_indices) == 1
    assert len(load(readers, folder, val_fraction=0.9).train_indices) == 1
    assert len(load(readers, folder).val_indices) == 0


def test_a_set_without_validation_images_says_so(readers, folder):
    with pytest.raises(DataError, match="no images in its 'val' part"):
        load(readers, folder).batch(torch.arange(2), "val")


@pytest.mark.parametrize(
    ("mirror", "mirrory", "axes"),
    [
        (False, False, [()]),
        (True, False, [(), (2,)]),
        (False, True, [(), (1,)]),
        (True, True, [(), (1,), (2,), (1, 2)]),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_epoch_has_every_mirrored_form_once(readers, folder, mirror, mirrory, axes, split):
    data = load(readers, folder, mirror=mirror, mirrory=mirrory, cond=True, val_fraction=0.34)
    indices = data.train_indices if split == "train" else data.val_indices
    assert data.entries(split) == len(indices) * len(axes)
    images, labels = data.batch(torch.arange(data.entries(split)) + data.entries(split), split)
    expected = Counter(
        (data.images[i].flip(axis).numpy().tobytes(), tuple(data.labels[i].tolist())) for i in indices for axis in axes
    )
    got = Counter((image.numpy().tobytes(), tuple(label)) for image, label in zip(images, labels.tolist(), strict=True))
    assert got == expected


def test_a_batch_leaves_the_set_as_it_is(readers, folder):
    data = load(readers, folder, mirror=True)
    before = data.images.clone()
    batch, _ = data.batch(torch.arange(12))
    batch.zero_()
    assert torch.equal(data.images, before)


def test_the_summary_is_plain_json(readers, folder):
    break_image(folder / "a/2.png")
    summary = load(readers, folder, seed=3, cond=True, mirror=True, val_fraction=0.2).summary()
    assert json.loads(json.dumps(summary)) == summary
    expected = {"images": 5, "train_images": 4, "val_images": 1, "entries": 8, "c_dim": 3, "seed": 3, "mirror": True}
    assert expected.items() <= summary.items()
    assert summary["left_out"][0][0] == "a/2.png"


# Division


def divided(folder, **parts):
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, **parts}))


def test_a_division_of_the_set_itself_is_kept(readers, folder):
    divided(folder, validation=["a/2.png", "b/5.png"])
    for seed, cache in ((0, True), (1, False)):
        data = load(readers, folder, seed, cache=cache)
        assert [data.names[index] for index in data.val_indices] == ["a/2.png", "b/5.png"]
        assert [data.names[index] for index in data.train_indices] == ["a/0.png", "a/4.png", "b/1.png", "b/3.png"]
        data = load(readers, folder, seed, cache=cache, subset=4)
        assert {data.names[index] for index in data.val_indices} <= {"a/2.png", "b/5.png"}
        assert not {data.names[index] for index in data.train_indices} & {"a/2.png", "b/5.png"}
    with pytest.raises(ConfigError, match="a validation part of its own") as error:
        load(readers, folder, val_fraction=0.2)
    assert "--val-fraction" in error.value.hint


def test_a_set_that_is_all_validation_cannot_be_trained_on(readers, folder):
    divided(folder, validation=[f"{'ab'[i % 2]}/{i}.png" for i in range(6)])
    with pytest.raises(DataError, match="all images of images are set apart"):
        load(readers, folder)


def test_groups_are_not_separated(readers, folder):
    group = {name: int(Path(name).stem) // 2 for name, _ in json.loads((folder / "dataset.json").read_text())["labels"]}
    divided(folder, groups=list(group.items()))
    parts = set()
    for seed in range(8):
        data = load(readers, folder, seed, val_fraction=0.34)
        names = [data.names[index] for index in data.val_indices]
        assert len(names) == 2
        assert len({group[name] for name in names}) == 1
        assert sorted([*data.train_indices.tolist(), *data.val_indices.tolist()]) == list(range(6))
        parts.add(tuple(names))
    assert len(parts) > 1
    assert len(load(readers, folder).val_indices) == 0


# Balance


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_balanced_batch_has_every_class_equally_often(readers, folder, split):
    for index in range(6, 12):
        save(folder, f"c/{index}.png", pixels(index))
    content = json.loads((folder / "dataset.json").read_text())["labels"]
    content += [[f"c/{index}.png", 2] for index in range(6, 12)]
    (folder / "dataset.json").write_text(json.dumps({"labels": content}))
    data = load(readers, folder, balance=True, cond=True, mirror=True, val_fraction=0.4)
    classes = sorted(set(data.classes[getattr(data, f"{split}_indices")].tolist()))
    images, labels = data.batch(torch.arange(10 * len(classes)), split)
    assert labels.sum(0)[classes].tolist() == [10] * len(classes)
    known = {image.numpy().tobytes(): k for image, k in zip(data.images, data.classes.tolist(), strict=True)}
    known |= {image.flip(2).numpy().tobytes(): k for image, k in zip(data.images, data.classes.tolist(), strict=True)}
    assert [known[image.numpy().tobytes()] for image in images] == labels.argmax(1).tolist()


def test_balance_needs_neither_labels_in_training_nor_names(readers, folder):
    data = load(readers, folder, balance=True)
    assert (data.c_dim, data.classes.tolist()) == (0, [0, 2, 1, 1, 0, 2])
    assert data.batch(torch.arange(3))[1].shape == (3, 0)


def test_classes_without_images_to_train_on_are_named_and_left_out(readers, folder):
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, "class_names": ["p", "q", "r", "s"]}))
    break_image(folder / "b/1.png")
    break_image(folder / "a/4.png")
    said = []
    config = DataConfig(str(folder), balance=True, cond=True)
    data = load_dataset(config, readers, 0, say=said.append)
    assert said[-1] == "--balance leaves out classes that have no images to train on: q, s."
    assert data.batch(torch.arange(20))[1].sum(0).tolist() == [10, 0, 10, 0]


def test_balance_needs_a_class_for_every_image(readers, folder):
    content = json.loads((folder / "dataset.json").read_text())["labels"]
    (folder / "dataset.json").write_text(json.dumps({"labels": content[1:]}))
    with pytest.raises(DataError, match=r"image a/0\.png of images has no label"):
        load(readers, folder, balance=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": [[name, [0.5]] for name, _ in content]}))
    with pytest.raises(ConfigError, match="vectors as labels, and --balance needs classes"):
        load(readers, folder, balance=True)
    (folder / "dataset.json").unlink()
    with pytest.raises(ConfigError, match="no labels, and --balance needs classes"):
        load(readers, folder, balance=True)


def test_fakes_in_training_are_as_frequent_as_reals_and_in_metrics_as_in_the_data(tmp_path):
    u = (torch.arange(6400) + 0.5) / 6400
    data = {"cond": True, "balance": True, "val_fraction": 0.2}
    run = small_run(tmp_path, {"data": data})
    in_data = run.dataset.labels[run.dataset.train_indices].mean(0)
    assert not torch.allclose(in_data, torch.full((2,), 0.5), atol=0.05)
    assert run.random_labels(u).mean(0).tolist() == [0.5, 0.5]
    assert run.dataset.batch(torch.arange(64))[1].mean(0).tolist() == [0.5, 0.5]
    seen = []
    run.state.G_ema.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[1]))
    list(draw_fakes(run.state.G_ema, run.dataset, 0, 640))
    torch.testing.assert_close(torch.cat(seen).mean(0), in_data, atol=0.06, rtol=0)


def test_the_choice_stays_the_same_between_versions(readers, folder):
    """A change here makes runs of earlier versions resume with other images."""
    data = load(readers, folder, subset=5, val_fraction=0.4)
    assert (data.names[0], data.names[1], data.val_indices.tolist()) == ("a/2.png", "a/4.png", [1, 2])
    assert EpochSampler(1000, seed=0).indices(torch.arange(998, 1004)).tolist() == [350, 49, 189, 220, 578, 418]


@pytest.mark.slow
@pytest.mark.skipif(not ISIC.is_dir(), reason="needs the ISIC 2017 images at 128 pixels")
def test_isic_2017(readers, tmp_path):
    config = PrepareConfig(str(ISIC / "images"), tmp_path / "isic64.zip", 64, labels=str(ISIC / "train.csv"))
    report = prepare(config, readers)
    assert (report.written, report.left_out, report.class_counts) == (1999, [], {"benign": 1626, "malignant": 373})
    data = load(readers, tmp_path / "isic64.zip", cond=True)
    assert (data.images.shape, data.labels.sum(0).tolist()) == ((1999, 3, 64, 64), [1626, 373])


def test_neither_readers_nor_preparing_load_torch():
    code = "import sys, adaflow.core.data.prepare, adaflow.plugins.datasets.zipped; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
