"""Checks of dataset readers: on what the setting `source` names, or else on small images, if the reader opens these."""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from adaflow.conformance import samples
from adaflow.conformance.check import CheckSkipped, Subject, require
from adaflow.core.data.source import ImageSource
from adaflow.core.grid import to_pil

FEW = 6
MOST = 16
"""So many images of a source are looked at."""
NOWHERE = ("", "/nowhere/at/all", "nowhere.xyz", "a\0b", "\x1b[2J", "x" * 5000, "https://example.org/x.zip")
THREADS = 4


def can_open(subject: Subject) -> None:
    """It says whether a source is its own without raising, and claims nothing that is not there."""
    for spec in NOWHERE:
        answer = subject.value.can_open(spec)
        require(isinstance(answer, bool), f"can_open({spec[:20]!r}) gives a {type(answer).__name__}, not a bool")
        require(not answer, f"can_open({spec[:20]!r}) is true")


def opens(subject: Subject) -> str:
    """It opens its source, an `ImageSource` that has images and whose name is fit for a folder."""
    with _opened(subject) as (source, _):
        require(len(source) > 0, "the source has no images, which open() is to refuse")
        fit = re.fullmatch(r"[A-Za-z0-9._-]{1,100}", source.name) is not None
        require(fit, f"the name {source.name!r} of the source does not fit a folder")
        return f"{len(source)} images"


def images(subject: Subject) -> None:
    """Every image is uint8 [C, H, W], grey or in colour."""
    with _opened(subject) as (source, _):
        for index in _some(source):
            image = source.read(index)
            what = f"{getattr(image, 'dtype', type(image).__name__)} {list(getattr(image, 'shape', ()))}"
            good = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
            require(good and image.shape[0] in (1, 3), f"image {index} is {what}, not uint8 [1 or 3, H, W]")


def names(subject: Subject) -> None:
    """Every image has a name of its own, and its file, where it has one, is bytes."""
    with _opened(subject) as (source, _):
        found = [source.image_name(index) for index in _some(source)]
        require(all(isinstance(name, str) and name for name in found), "an image has no name")
        twice = sorted({name for name in found if found.count(name) > 1})
        require(not twice, f"several images are called {', '.join(twice[:3])}")
        content = source.encoded(0)
        require(content is None or isinstance(content, bytes), f"encoded() gives a {type(content).__name__}")


def labels(subject: Subject) -> None:
    """Labels are classes from 0, with a name each if there are names, or vectors of one length; groups count from 0."""
    with _opened(subject) as (source, _):
        found = [label for index in _some(source) if (label := source.label(index)) is not None]
        vectors = [label for label in found if isinstance(label, tuple)]
        classes = [label for label in found if not isinstance(label, tuple)]
        require(not vectors or not classes, "some labels are classes, and others vectors")
        require(len({len(vector) for vector in vectors}) < 2, "labels are vectors of different lengths")
        for label in classes:
            require(type(label) is int and label >= 0, f"a label is {label!r}, neither a class from 0 nor a tuple")
        if source.class_names is not None and classes:
            require(max(classes) < len(source.class_names), f"class {max(classes)} has no name")
        for index in _some(source):
            group, part = source.group(index), source.is_validation(index)
            require(group is None or (type(group) is int and group >= 0), f"a group is {group!r}, not a number from 0")
            require(part in (None, True, False), f"is_validation() gives {part!r}")


def reads_again(subject: Subject) -> None:
    """An image is the same when it is read again, and when the source is opened again, even after writing into it."""
    with _opened(subject) as (source, spec), subject.value.open(spec) as other:
        require(len(source) == len(other), "opened again, the source has another number of images")
        for index in _some(source):
            image = source.read(index)
            before = image.copy()
            if image.flags.writeable:
                image[:] = 0
            same = np.array_equal(source.read(index), before) and np.array_equal(other.read(index), before)
            require(same, f"image {source.image_name(index)} is another one when it is read again")


def threads(subject: Subject) -> None:
    """Images are the same when several threads read at once."""
    with _opened(subject) as (source, _), ThreadPoolExecutor(THREADS) as pool:
        order = [index for index in _some(source) for _ in range(THREADS)]
        alone = {index: source.read(index) for index in _some(source)}
        for index, image in zip(order, pool.map(source.read, order), strict=True):
            same = np.array_equal(image, alone[index])
            require(same, f"image {source.image_name(index)} is another one when several threads read")


def fingerprints(subject: Subject) -> None:
    """Fingerprint and stamp are hex digests, and the same when the source is opened again."""
    with _opened(subject) as (source, spec), subject.value.open(spec) as other:
        for what in ("fingerprint", "stamp"):
            first, second = getattr(source, what)(), getattr(other, what)()
            good = isinstance(first, str) and re.fullmatch("[0-9a-f]{8,}", first) is not None
            require(good, f"{what}() gives {first!r}, which is no hex digest")
            require(first == second, f"{what}() is another one when the source is opened again")


@contextmanager
def _opened(subject: Subject) -> Iterator[tuple[ImageSource, str]]:
    """The source, open, and what it was opened by.

    Raises:
        CheckSkipped: there is none that the reader could open.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = subject.settings.get("source")
        specs = [subject.name, *_drawn(Path(folder))] if given is None else [str(given)]
        spec = next((spec for spec in specs if subject.value.can_open(spec)), None)
        if spec is None:
            require(given is None, f"it cannot open {given}")
            raise CheckSkipped("it opens no plain images: say what it is to open")
        source = subject.value.open(spec)
        require(isinstance(source, ImageSource), f"open() gives a {type(source).__name__}, not an adaflow.ImageSource")
        with source:
            yield source, spec


def _some(source: ImageSource) -> range:
    return range(min(len(source), MOST))


def _drawn(folder: Path) -> list[str]:
    """A folder and a zip of small images."""
    drawn, archive = folder / "drawn", folder / "drawn.zip"
    drawn.mkdir()
    with zipfile.ZipFile(archive, "w") as zipped:
        for number in range(FEW):
            content = io.BytesIO()
            to_pil(samples.fakes()[number]).save(content, "png")
            (drawn / f"{number}.png").write_bytes(content.getvalue())
            zipped.writestr(f"{number}.png", content.getvalue())
    return [str(drawn), str(archive)]
