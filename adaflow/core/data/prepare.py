"""From any images to a set that training reads fastest: one size, one kind, plain names, labels beside them."""

from __future__ import annotations

import hashlib
import math
import os
import re
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import PIL
from PIL import Image

import adaflow
from adaflow.core.data.dataset_json import count_classes, dump_dataset_json, empty_classes
from adaflow.core.data.decode import Decoded, decode, is_colour
from adaflow.core.data.destination import check_destination, is_zip, make_folder
from adaflow.core.data.encode import CODECS, encode
from adaflow.core.data.geometry import CROPS, FILTERS, Geometry, fit
from adaflow.core.data.labelling import Labelling, label_images
from adaflow.core.data.parallel import Progress, enough_memory, ordered_map
from adaflow.core.data.report import SHOWN_ROWS, PrepareReport, report_path, write_report
from adaflow.core.data.source import (
    DatasetReader,
    ImageSource,
    check_unchanged,
    fingerprint,
    open_source,
    printable,
)
from adaflow.core.data.split import describe_miss, validation_part
from adaflow.core.data.writer import FolderWriter, Record, SetWriter, ZipWriter, remove_leftovers
from adaflow.core.files import file_error
from adaflow.errors import ConfigError, DataError, FileError, UsageError
from adaflow.registry import Registry

MIN_SIDE, MAX_SIDE = 8, 8192
MODES = {1: "L", 3: "RGB"}
LOOKED_AT = 64
"""So many images, spread over the source, tell whether it has colour."""
PREPARED_NAME = re.compile(r"\d{5}/img\d{8}\.\w+")
Notice = Callable[[str], None]


def default_workers() -> int:
    """The number of cores this process may use, at most 8."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@dataclass(frozen=True)
class PrepareConfig:
    """What to make a data set from, and how.

    Args:
        source: a folder, a zip, or whatever else a data set plugin can open.
        dest: what to write: a zip if its name ends in `.zip`, else a folder.
        resolution: side of square images in pixels, a power of two from 8 to 8192.
        crop: what to cut off before resizing, see `Geometry`.
        filter: how to resize, see `Geometry`.
        size: (width, height) in pixels, 8 to 8192 each, in place of a resolution. With neither of the two, images of a
            prepared set keep their size.
        channels: 1 turns images grey, 3 makes grey ones RGB; None makes all RGB if the first image that can be read, or
            one of `LOOKED_AT` others, is in colour, else grey; then a colour image found later is an error.
        labels: "auto", "none", "folders" or a table, see `label_images`.
        name_column: column of the image names in the table; None finds it.
        label_column: column of the labels; None finds it.
        group_column: column of the patient or lesion; its values become plain numbers.
        val_fraction: share of the images, from 0 and below 1, to set apart from training, whole groups at a time.
        seed: which ones.
        codec: "png" (uncompressed), "webp" (lossless) or "keep" (the source's format; a JPEG that fits as it is keeps
            its very pixels), see `encode`.
        strict: stop at the first image that would be left out.
        workers: threads, 1 to 64.
        force: replace `dest` if it exists.

    Raises:
        ConfigError: a value out of range.
    """

    source: str
    dest: Path
    resolution: int | None = None
    crop: str = "center"
    filter: str = "lanczos"
    size: tuple[int, int] | None = None
    channels: int | None = None
    labels: str = "auto"
    name_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    val_fraction: float = 0.0
    seed: int = 0
    codec: str = "png"
    strict: bool = False
    workers: int = field(default_factory=default_workers)
    force: bool = False

    def __post_init__(self) -> None:
        if self.resolution is not None and self.size is not None:
            raise ConfigError("both a resolution and a size are given", "Give one of the two.")
        side = self.resolution
        if side is not None and (not MIN_SIDE <= side <= MAX_SIDE or side & (side - 1)):
            raise ConfigError(
                f"resolution {side} is no power of two from {MIN_SIDE} to {MAX_SIDE}",
                "Use 64, 128, 256, …, or --size for other sizes.",
            )
        if self.size is not None and not all(MIN_SIDE <= side <= MAX_SIDE for side in self.size):
            raise ConfigError(f"size {self.size[0]}x{self.size[1]} is not within {MIN_SIDE} to {MAX_SIDE} pixels")
        for name, value, known in (
            ("crop", self.crop, CROPS),
            ("filter", self.filter, FILTERS),
            ("codec", self.codec, CODECS),
        ):
            if value not in known:
                raise ConfigError(f"there is no {name} {value!r}", f"Use {', '.join(known[:-1])} or {known[-1]}.")
        if self.channels not in (None, *MODES):
            raise ConfigError(f"channels is {self.channels}, neither 1 nor 3")
        if not 0 <= self.val_fraction < 1:
            raise ConfigError(f"a validation part of {self.val_fraction} is not from 0 and below 1")
        if not 1 <= self.workers <= 64:
            raise ConfigError(f"workers is {self.workers}, not between 1 and 64")


def prepare(
    config: PrepareConfig,
    readers: Registry[DatasetReader],
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> PrepareReport:
    """Write the set described by `config`: `00000/img00000000.png`, … in the order of the source, and `dataset.json`.

    Only pixels are taken over: no metadata, no file names. The set appears whole or not at all, its report beside it.
    When the work is interrupted, by Ctrl-C, a kill or a full disk, the next call with the same source and settings
    goes on where it stopped; so it does when the source went away or changed in the meantime, and is as before again.

    Args:
        config: what to do.
        readers: the data set readers at hand.
        progress: told as images are done.
        notice: told in a sentence that work is taken up again, or thrown away, or that the set will be grey.

    Raises:
        UsageError: neither size nor resolution is given, and the source is no prepared set.
        DataError: the source or its labels cannot be used, no image can be, or, with `strict`, one cannot be.
        FileError: `dest` exists, is being written by another process, or cannot be written; or the source changed.
    """
    began = time.monotonic()
    remove_leftovers(config.dest)
    check_destination(config.source, config.dest, config.force)
    with enough_memory(), open_source(config.source, readers) as source:
        stamp = source.stamp()
        labelling = label_images(source, config.labels, config.name_column, config.label_column, config.group_column)
        job = _plan(config, source, stamp, labelling)
        if notice is not None and job.channels == 1 and config.channels is None:
            notice("the images looked at first are grey: so will be the set")
        make_folder(config.dest.parent)
        writer = (ZipWriter if is_zip(config.dest) else FolderWriter)(config.dest, job.key(), partial(_holds, job))
        try:
            with writer:
                continued = len(writer.records)
                if notice is not None and writer.outdated:
                    notice("work begun with other settings or another source is thrown away")
                if notice is not None and continued:
                    notice(f"going on after {continued:,} of {len(job.indices):,} images")
                try:
                    _write_images(job, writer, progress)
                    check_unchanged(source, stamp)
                    report = _finish(job, writer, continued, began)
                except _StopError:
                    check_unchanged(source, stamp)
                    writer.discard()
                    raise
                check_destination(config.source, config.dest, config.force)
                write_report(report, report_path(config.dest))
                writer.commit()
        except OSError as error:
            failure = file_error(config.dest, error)
            kept = "What is done is kept: the same command goes on from there." if writer.partial.exists() else ""
            raise FileError(failure.message, f"{failure.hint} {kept}".strip()) from error
    return report


class _StopError(DataError):
    """The set cannot be made, and what was done is of no further use."""


@dataclass(frozen=True)
class _Job:
    """What is done with each image of the source that takes part.

    Args:
        config: what the user asked for.
        source: the open source.
        stamp: its own, from before the first image was read.
        labelling: labels of its images.
        indices: the images that take part; the others lack a label.
        geometry: how they are cropped and resized.
        channels: 1 or 3.
    """

    config: PrepareConfig
    source: ImageSource
    stamp: str
    labelling: Labelling
    indices: Sequence[int]
    geometry: Geometry
    channels: int

    def key(self) -> dict[str, Any]:
        """All that the content of the members depends on: work begun with another key is of no use."""
        return {
            "versions": _versions(),
            "source": self.stamp,
            "indices": hashlib.sha256(repr(list(self.indices)).encode()).hexdigest(),
            "geometry": asdict(self.geometry),
            "channels": self.channels,
            "codec": self.config.codec,
        }


def _plan(config: PrepareConfig, source: ImageSource, stamp: str, labelling: Labelling) -> _Job:
    """Settle what the options leave open by a look at some images."""
    if config.strict and labelling.missing:
        raise _stop(labelling.missing[min(labelling.missing)])
    indices = [index for index in range(len(source)) if index not in labelling.missing]
    size = config.size or (config.resolution and (config.resolution, config.resolution))
    if not size and not PREPARED_NAME.fullmatch(source.image_name(0)):
        raise UsageError("neither --resolution nor --size is given", "Give one of them, such as --resolution 256.")
    if config.val_fraction:  # said now rather than when all images are done
        validation_part([labelling.groups[index] for index in indices], config.val_fraction, config.seed)
    first = _first_image(source, indices)
    geometry = Geometry(*(size or first.size), config.crop, config.filter)
    channels = config.channels or (3 if first.mode == "RGB" or _has_colour(source, indices) else 1)
    return _Job(config, source, stamp, labelling, indices, geometry, channels)


def _first_image(source: ImageSource, indices: Sequence[int]) -> Image.Image:
    reason = "it is empty"
    for index in indices:
        try:
            return _decode(source, index)[0].image
        except DataError as error:
            reason = error.message
    raise DataError(f"no image of {source.name} can be read: {reason}")


def _has_colour(source: ImageSource, indices: Sequence[int]) -> bool:
    """Whether one of a few files, spread over the source, is in colour by its header."""
    places = {place * (len(indices) - 1) // (LOOKED_AT - 1) for place in range(LOOKED_AT)}
    for place in sorted(places):
        with suppress(DataError):  # those who prepare it will say so
            data = source.encoded(indices[place])
            if data is not None and is_colour(data):
                return True
    return False


def _holds(job: _Job, record: Record) -> bool:
    """Whether what was noted of an image still holds: one that could not be read may be there again."""
    return record.member is not None or isinstance(_prepare_image(job, record.index), DataError)


def _decode(source: ImageSource, index: int) -> tuple[Decoded, bytes | None]:
    """The image and its file, if it has one."""
    data = source.encoded(index)
    if data is not None:
        return decode(data, source.image_name(index)), data
    pixels = source.read(index)
    return Decoded(Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)), frozenset(), ""), None


def _write_images(job: _Job, writer: SetWriter, progress: Progress | None) -> None:
    """Add all images that the writer does not have yet."""
    if job.config.strict:
        for record in writer.records:
            if record.member is None:
                raise _stop(record.facts["reason"])
    written = sum(record.member is not None for record in writer.records)
    remaining = job.indices[len(writer.records) :]
    pixels = math.prod(job.geometry.output_size)
    with closing(ordered_map(partial(_prepare_image, job), remaining, job.config.workers, pixels)) as results:
        try:
            for index, result in zip(remaining, results, strict=True):
                if isinstance(result, DataError):
                    if job.config.strict:
                        raise _stop(result.message)
                    writer.add(Record(index, facts={"reason": result.message}))
                else:
                    number = f"{written:08d}"
                    member = f"{number[:5]}/img{number}{result.suffix}"
                    writer.add(Record(index, member, len(result.data), result.crc, result.facts), result.data)
                    written += 1
                if progress is not None:
                    progress(len(writer.records), len(job.indices))
        except KeyboardInterrupt:  # it may have come between the two
            if progress is not None:
                progress(len(writer.records), len(job.indices))
            raise


@dataclass(frozen=True)
class _Prepared:
    """An image as it goes into the set."""

    data: bytes
    suffix: str
    crc: int
    facts: dict[str, Any]


def _prepare_image(job: _Job, index: int) -> _Prepared | DataError:
    """Decode, fit, bring to the set's kind, encode; or why that is not possible. Runs on several threads at once."""
    try:
        decoded, data = _decode(job.source, index)
    except DataError as error:
        return error
    notes = set(decoded.notes)
    if (channels := len(decoded.image.getbands())) != job.channels:
        if channels > job.channels and job.config.channels is None:
            raise DataError(
                f"{job.source.name} has both grey and colour images; the first in colour is "
                f"{printable(job.source.image_name(index))}",
                "With --channels 1 it goes on from there, all grey; with --channels 3 it begins anew, all RGB.",
            )
        notes.add("grey made RGB" if job.channels == 3 else "colour made grey")
    image, enlarged = fit(decoded.image, job.geometry)
    if channels != job.channels:
        image = image.convert(MODES[job.channels])
    encoded, suffix = encode(image, job.config.codec, decoded, data)
    facts = {"notes": sorted(notes), "enlarged": enlarged, "pixels": hashlib.sha256(image.tobytes()).hexdigest()}
    return _Prepared(encoded, suffix, zlib.crc32(encoded), facts)


def _finish(job: _Job, writer: SetWriter, continued: int, began: float) -> PrepareReport:
    """Add `dataset.json`, and sum up."""
    source, labelling = job.source, job.labelling
    written = [record for record in writer.records if record.member is not None]
    if not written:
        raise _StopError(f"no image of {source.name} can be used: {writer.records[0].facts['reason']}")
    members = {str(record.member): source.image_name(record.index) for record in written}
    labels = [labelling.labels[record.index] for record in written]
    groups = [labelling.groups[record.index] for record in written]
    validation = _validation(job, [record.index for record in written])
    writer.finish(dump_dataset_json(list(members), labels, labelling.class_names, groups, validation))

    apart = set(validation or ())
    later_notes = [empty_classes(labels, labelling.class_names)]
    if job.config.val_fraction:
        later_notes.append(describe_miss(len(apart), len(written), job.config.val_fraction))
    reasons = dict(labelling.missing) | {
        record.index: str(record.facts["reason"]) for record in writer.records if record.member is None
    }
    same_pixels = defaultdict(list)
    for record in written:
        same_pixels[record.facts["pixels"]].append(source.image_name(record.index))
    settings = asdict(job.config)
    return PrepareReport(
        source=settings.pop("source"),
        dest=str(settings.pop("dest")),
        settings=settings,
        width=job.geometry.output_size[0],
        height=job.geometry.output_size[1],
        channels=job.channels,
        read=len(source),
        written=len(written),
        left_out=[(source.image_name(index), reasons[index]) for index in sorted(reasons)],
        ignored=list(source.ignored),
        enlarged=[source.image_name(record.index) for record in written if record.facts["enlarged"]],
        notes=dict(sorted(Counter(note for record in written for note in record.facts["notes"]).items())),
        duplicates=[names for names in same_pixels.values() if len(names) > 1],
        labels_from=labelling.origin,
        class_counts=count_classes(labels, labelling.class_names),
        unused_rows=list(labelling.unused_rows[:SHOWN_ROWS]),
        unused_row_count=len(labelling.unused_rows),
        label_notes=[*labelling.notes, *filter(None, later_notes)],
        groups=len(set(groups) - {None}) or None,
        validation=len(validation) if validation is not None else None,
        members=members,
        continued_from=continued,
        fingerprint=fingerprint(
            writer.contents(), labels, groups, [place in apart for place in range(len(written))] if apart else ()
        ),
        sha256=writer.sha256(),
        versions=_versions(),
        seconds=round(time.monotonic() - began, 3),
    )


def _validation(job: _Job, written: Sequence[int]) -> list[int] | None:
    """Which of the written images are set apart: a new part if the user asks for one, else that of the source."""
    if job.config.val_fraction:
        groups = [job.labelling.groups[index] for index in written]
        return validation_part(groups, job.config.val_fraction, job.config.seed)
    division = [job.source.is_validation(index) for index in written]
    if all(apart is None for apart in division):
        return None
    return [place for place, apart in enumerate(division) if apart]


def _versions() -> dict[str, str]:
    return {"adaflow": adaflow.__version__, "pillow": PIL.__version__}


def _stop(reason: str) -> _StopError:
    return _StopError(reason, "Without --strict such images are left out and named.")
