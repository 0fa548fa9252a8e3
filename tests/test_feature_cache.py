"""Features of real images in the user's cache: found again, told apart, and never believed when a file is damaged."""

import os

import pytest
import torch

from adaflow.core import feature_cache
from adaflow.core.feature_cache import cached_features
from adaflow.core.metric import MetricContext
from adaflow.errors import FileError
from tests.runs import small_run


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "user_cache", lambda part: tmp_path / "cache" / part)
    return tmp_path / "cache" / "features"


class Extractor:
    name, device = "means", torch.device("cpu")

    def __init__(self, **settings):
        self.settings = settings
        self.seen = 0

    def identity(self):
        return {"name": self.name, **self.settings}

    def all(self, batches):
        images = torch.cat(list(batches))
        self.seen += len(images)
        return images.float().mean((2, 3))


FEATURES = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
CONTENT = {"data": "abc", "images": ["1", "2"]}


class Computed:
    """Counts how often it is asked."""

    def __init__(self, features=FEATURES):
        self.features, self.count = features, 0

    def __call__(self):
        self.count += 1
        return self.features


def test_features_are_computed_once():
    compute = Computed()
    for _ in range(2):
        assert torch.equal(cached_features(Extractor(), CONTENT, compute), FEATURES)
    assert compute.count == 1


@pytest.mark.parametrize(
    ("settings", "content"),
    [
        ({"device": "cuda"}, CONTENT),
        ({"size": 3}, CONTENT),
        ({}, {**CONTENT, "data": "abd"}),
        ({}, {**CONTENT, "images": ["1", "3"]}),
        ({}, {**CONTENT, "images": ["2", "1"]}),
    ],
)
def test_other_extractors_options_data_and_images_have_features_of_their_own(settings, content):
    cached_features(Extractor(), CONTENT, Computed())
    compute = Computed(FEATURES + 1)
    assert torch.equal(cached_features(Extractor(**settings), content, compute), FEATURES + 1)
    assert torch.equal(cached_features(Extractor(), CONTENT, Computed(FEATURES + 2)), FEATURES)


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def spoil(kind, path):
    content = path.read_bytes()
    if kind.startswith("cut"):
        path.write_bytes(content[: int(kind.split()[1])])
    elif kind.startswith("flip"):
        damaged = bytearray(content)
        damaged[int(kind.split()[1])] ^= 4
        path.write_bytes(damaged)
    elif kind == "longer":
        path.write_bytes(content + b"\0\0\0\0")
    elif kind == "foreign":
        path.write_bytes(b"PK\3\4 something else\n" * 100)
    elif kind == "no table":
        path.write_bytes(b"[1, 2]\n" + content)
    elif kind == "nested":
        path.write_bytes(b"[" * 4000 + b"\n")
    elif kind == "another shape":
        path.write_bytes(content.replace(b"[7, 3]", b"[3, 7]", 1).replace(b"sha256", b"sha255", 1))
    elif kind == "a folder":
        path.unlink()
        path.mkdir()
    elif kind == "a pipe":
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize(
    "kind",
    [
        *("cut 0", "cut 10", "cut 100", "cut -1", "cut -4", "flip 3", "flip 60", "flip -1", "flip -50"),
        *("longer", "foreign", "no table", "nested", "another shape", "a folder", "a pipe"),
    ],
)
def test_a_damaged_file_is_computed_again(folder, kind):
    cached_features(Extractor(), CONTENT, Computed())
    spoil(kind, only_file(folder))
    compute = Computed()
    assert torch.equal(cached_features(Extractor(), CONTENT, compute), FEATURES)
    assert compute.count == 1
    if kind != "a folder":  # which is not adaflow's to remove
        cached_features(Extractor(), CONTENT, compute)
        assert compute.count == 1


def test_a_file_under_the_name_of_another_is_not_believed(folder):
    cached_features(Extractor(), CONTENT, Computed())
    first = only_file(folder)
    cached_features(Extractor(), {"data": "other"}, Computed(FEATURES * 2))
    (second,) = set(folder.iterdir()) - {first}
    second.write_bytes(first.read_bytes())
    assert torch.equal(cached_features(Extractor(), {"data": "other"}, Computed(FEATURES * 2)), FEATURES * 2)


def no_home(part):
    raise FileError("this user has no home folder")


@pytest.mark.parametrize("trouble", ["a file in its place", "no home", "no identity", "doubles"])
def test_without_a_cache_features_are_computed_every_time(folder, monkeypatch, trouble):
    extractor, features = Extractor(), FEATURES
    if trouble == "a file in its place":
        folder.parent.mkdir()
        folder.write_text("")
    elif trouble == "no home":
        monkeypatch.setattr(feature_cache, "user_cache", no_home)
    elif trouble == "no identity":
        extractor.identity = None
    else:
        features = FEATURES.double()
    compute = Computed(features)
    for count in (1, 2):
        assert torch.equal(cached_features(extractor, CONTENT, compute), features)
        assert compute.count == count


def test_a_context_reads_what_another_computed(tmp_path):
    dataset = small_run(tmp_path, {"data": {"val_fraction": 0.25}}).dataset

    def features(extractor, **arguments):
        context = MetricContext(lambda _: iter(()), dataset, lambda _: extractor, seed=arguments.pop("seed", 0))
        return context.real_features(**arguments)

    first = Extractor()
    everything = features(first)
    assert (first.seen, len(everything)) == (48, 48)
    again = Extractor()
    assert torch.equal(features(again), everything)
    assert torch.equal(features(again, most=100), everything)
    assert again.seen == 0
    assert len(features(again, split="val")) == again.seen == 16

    few = features(Extractor(), most=10)
    assert len(few) == 10
    assert torch.equal(few, features(again, most=10))
    assert again.seen == 16
    places = [int((everything == row).all(1).nonzero()[0]) for row in few]
    assert places == sorted(set(places))
    assert not torch.equal(few, features(Extractor(), most=10, seed=1))
