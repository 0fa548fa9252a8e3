"""From any images to the zip that training reads fastest: square, one size, uncompressed PNG, labels beside them."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from adaflow.core.data.dataset_json import DATASET_JSON, count_classes
from adaflow.core.data.parallel import Progress, ordered_map
from adaflow.core.data.source import (
    DatasetReader,
    ImageSource,
    Label,
    fingerprint,
    first_images,
    open_source,
    read_or_error,
)
from adaflow.core.data.tables import read_labels
from adaflow.core.files import committed
from adaflow.errors import ConfigError, DataError, FileError
from adaflow.registry import Registry

CROPS = ("center", "none")


@dataclass(frozen=True)
class PrepareConfig:
    """What to make a data set from, and how.

    Args:
        source: a folder, a zip, or whatever else a data set plugin can open.
        dest: the zip to write.
        resolution: side of the images in pixels, a power of two from 8.
        crop: "center" cuts the central square before resizing; "none" resizes all of it, whatever its aspect.
        channels: 1 turns images grey, 3 makes grey ones RGB; None takes the kind of the first image, and then a colour
            image in a grey set is an error.
        labels: a table of labels, see `read_labels`; None takes those of the source.
        name_column: column of the image names.
        label_column: column of the labels.
        workers: threads, 1 to 64.
        force: replace `dest` if it exists.

    Raises:
        ConfigError: a value out of range.
    """

    source: str
    dest: Path
    resolution: int
    crop: str = "center"
    channels: int | None = None
    labels: Path | None = None
    name_column: str = "image_name"
    label_column: str = "target"
    workers: int = 2
    force: bool = False

    def __post_init__(self) -> None:
        if self.dest.suffix.lower() != ".zip":
            raise ConfigError(f"{self.dest} is not the name of a zip", "Give a destination that ends in .zip.")
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ConfigError(f"resolution {self.resolution} is not a power of two from 8", "Use 64, 128, 256, …")
        if self.crop not in CROPS:
            raise ConfigError(f"there is no crop {self.crop!r}", f"Use {' or '.join(CROPS)}.")
        if self.channels not in (None, 1, 3):
            raise ConfigError(f"channels is {self.channels}, neither 1 nor 3")
        if not 1 <= self.workers <= 64:
            raise ConfigError(f"workers is {self.workers}, not between 1 and 64")


@dataclass(frozen=True)
class PrepareReport:
    """What was done.

    Args:
        source: as it was given.
        dest: the zip that was written.
        resolution: side of the images in pixels.
        read: images the source has.
        written: images in the zip.
        left_out: name and reason for every image that could not be decoded.
        ignored: files of the source that are no images.
        upscaled: images that had fewer pixels than asked for in one direction or both.
        class_counts: class → images in the zip.
        fingerprint: what `ImageSource.fingerprint` says of the zip.
        sha256: of the zip file; equal input and settings give an equal file with the same version of Pillow.
        seconds: how long it took.
    """

    source: str
    dest: str
    resolution: int
    read: int
    written: int
    left_out: list[tuple[str, str]]
    ignored: int
    upscaled: int
    class_counts: dict[str, int]
    fingerprint: str
    sha256: str
    seconds: float

    def to_json(self) -> str:
        """All fields as indented JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def prepare(config: PrepareConfig, readers: Registry[DatasetReader], progress: Progress | None = None) -> PrepareReport:
    """Write the zip described by `config`: `00000/img00000000.png`, … in the order of the source, and `dataset.json`.

    Only pixels are taken over: no metadata, no file names. The zip appears whole or not at all.

    Args:
        config: what to do.
        readers: the data set readers at hand.
        progress: told as images are done.

    Raises:
        DataError: the source cannot be opened, no image can be used, or an image lacks a label that is asked for.
        FileError: `dest` exists, or cannot be written.
    """
    began = time.monotonic()
    if config.dest.exists() and not config.force:
        raise FileError(f"{config.dest} exists already", "Choose another name, or use --force to replace it.")
    with open_source(config.source, readers) as source:
        labels, class_names = _labels(config, source)
        _make_folder(config.dest.parent)
        with committed(config.dest) as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                written, left_out, upscaled = _write_images(config, source, archive, progress)
                contents = [(member.filename, member.file_size, member.CRC) for member in archive.infolist()]
                kept = [labels[index] for index in written]
                named = [[name, label] for (name, *_), label in zip(contents, kept, strict=True) if label is not None]
                content: dict[str, Any] = {"labels": named or None}
                if class_names is not None:
                    content["class_names"] = class_names
                archive.writestr(_member(DATASET_JSON), json.dumps(content))
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return PrepareReport(
            source=config.source,
            dest=str(config.dest),
            resolution=config.resolution,
            read=len(source),
            written=len(written),
            left_out=left_out,
            ignored=len(source.ignored),
            upscaled=upscaled,
            class_counts=count_classes(kept, class_names),
            fingerprint=fingerprint(contents, kept),
            sha256=sha256,
            seconds=round(time.monotonic() - began, 3),
        )


def _labels(config: PrepareConfig, source: ImageSource) -> tuple[Sequence[Label | None], Sequence[str] | None]:
    """The label of every image of the source, and the names of the classes."""
    if config.labels is None:
        return [source.label(index) for index in range(len(source))], source.class_names
    table = read_labels(config.labels, config.name_column, config.label_column)
    return table.assign(source.image_name(index) for index in range(len(source))), table.class_names


def _write_images(
    config: PrepareConfig, source: ImageSource, archive: zipfile.ZipFile, progress: Progress | None
) -> tuple[list[int], list[tuple[str, str]], int]:
    """Which images were written, who was left out, and how many were enlarged."""
    channels = config.channels or first_images(source, range(len(source)), 1)[0].shape[0]
    written: list[int] = []
    left_out: list[tuple[str, str]] = []
    upscaled = 0
    task = partial(_prepare_image, config, source, channels)
    with closing(ordered_map(task, range(len(source)), config.workers)) as results:
        for index, result in enumerate(results):
            if isinstance(result, DataError):
                left_out.append((source.image_name(index), result.message))
            else:
                png, enlarged = result
                number = f"{len(written):08d}"
                archive.writestr(_member(f"{number[:5]}/img{number}.png"), png)
                written.append(index)
                upscaled += enlarged
            if progress is not None:
                progress(index + 1, len(source))
    return written, left_out, upscaled


def _prepare_image(
    config: PrepareConfig, source: ImageSource, channels: int, index: int
) -> tuple[bytes, bool] | DataError:
    """The image as PNG and whether it was enlarged, or why it is left out."""
    pixels = read_or_error(source, index)
    if isinstance(pixels, DataError):
        return pixels
    if pixels.shape[0] > channels and config.channels is None:
        raise DataError(
            f"{source.name} has both grey and colour images; the first in colour is {source.image_name(index)}",
            "Make all of them RGB with --channels 3, or grey with --channels 1.",
        )
    image = Image.fromarray(pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0))
    if config.crop == "center":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    enlarged = min(image.size) < config.resolution
    image = image.resize((config.resolution, config.resolution), Image.Resampling.LANCZOS)
    png = io.BytesIO()
    image.convert("L" if channels == 1 else "RGB").save(png, "png", compress_level=0)
    return png.getvalue(), enlarged


def _member(name: str) -> zipfile.ZipInfo:
    """A member without date or system, so that equal images make an equal file."""
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = 0o644 << 16
    return member


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"folder {folder} cannot be made: {error.strerror or error}") from error
