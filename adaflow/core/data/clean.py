"""`adaflow data check --fix`: a copy of a set without the images that harm training."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from PIL import Image

import adaflow
from adaflow.core.data.check import labels_differ, shape_words, to_json, usual_shape
from adaflow.core.data.dataset_json import dump_dataset_json
from adaflow.core.data.decode import Decoded, decode
from adaflow.core.data.destination import check_destination, is_zip, make_folder
from adaflow.core.data.encode import encode
from adaflow.core.data.parallel import Progress, ordered_map
from adaflow.core.data.report import report_path
from adaflow.core.data.scan import Examination
from adaflow.core.data.source import ImageSource, check_unchanged
from adaflow.core.data.writer import Record, SetWriter, ZipWriter, remove_leftovers
from adaflow.core.files import committed, file_error
from adaflow.errors import ConfigError, DataError, FileError

MAX_ODD = 0.1
"""Images of another size or kind are left out while they are no larger a part; beyond that, sizes are mixed by
nature, and `adaflow data prepare` is the remedy."""


@dataclass(frozen=True)
class CleanReport:
    """What was done. Beside `X.zip` it lies as `X.report.json`, with `"kind": "adaflow data check --fix"`.

    Args:
        source: as it was given.
        dest: the zip that was written.
        read: images the source has.
        written: images in the zip.
        left_out: name and reason for every image that is not in it.
        members: name in the zip → name in the source.
        sha256: of the zip.
    """

    source: str
    dest: str
    read: int
    written: int
    left_out: Sequence[tuple[str, str]]
    members: Mapping[str, str]
    sha256: str

    def to_json(self) -> str:
        """All fields as indented JSON."""
        return to_json({"kind": "adaflow data check --fix", **asdict(self)})


def faulty(seen: Examination) -> dict[int, str]:
    """Image → why it should not be in a training set.

    These are: broken images; those of another size or kind, if they are few; nearly constant ones; and copies. Of
    several copies the largest stays, of equally large ones the first; but one that is trained on goes before one that
    is set apart for validation. Where labels of copies contradict each other none stays: nobody can tell which is
    right, and a wrong label teaches what is wrong.
    """
    reasons = dict(seen.broken)
    usual = usual_shape(seen.facts)
    odd = [index for index, fact in seen.facts.items() if fact.shape != usual]
    if len(odd) <= MAX_ODD * len(seen.facts):
        for index in odd:
            reasons[index] = f"it is {shape_words(seen.facts[index].shape)}, most are {shape_words(usual)}"
    reasons.update({index: "it is nearly constant" for index, fact in seen.facts.items() if fact.constant})

    def rank(index: int) -> tuple[bool, int, int]:
        return seen.source.is_validation(index) is True, -seen.facts[index].width * seen.facts[index].height, index

    for group in seen.copies:
        rest = sorted((index for index in group if index not in reasons), key=rank)
        if labels_differ(seen, rest):
            others = {index: seen.source.image_name(next(other for other in rest if other != index)) for index in rest}
            reasons.update({index: f"its copies, such as {name}, have other labels" for index, name in others.items()})
        elif rest:
            reasons.update({index: f"it is a copy of {seen.source.image_name(rest[0])}" for index in rest[1:]})
    return reasons


def write_clean(
    seen: Examination, spec: str, dest: Path, workers: int = 2, progress: Progress | None = None
) -> CleanReport:
    """Write a zip of all images that are not `faulty`, and its report.

    Labels, class names, groups and division stay as they are. JPEG and WebP stay what they are, all else becomes
    uncompressed PNG; names become `00000/img00000000.png`, …, and metadata go, as with `adaflow data prepare`. The
    source is never changed, and the zip appears whole.

    Args:
        seen: of the source.
        spec: the source as the user gave it.
        dest: the zip; must not exist.
        workers: threads.
        progress: told as images are written.

    Raises:
        ConfigError: `dest` is no zip.
        DataError: nothing would be left, or an image can no longer be read.
        FileError: `dest` or its report exists, or cannot be written; or the source changed since it was examined.
    """
    if not is_zip(dest):
        raise ConfigError(f"{dest} is not the name of a zip", "Give a destination that ends in .zip.")
    remove_leftovers(dest)
    check_destination(spec, dest, force=False)
    if report_path(dest).exists():
        raise FileError(f"{report_path(dest)} exists already", "Choose another destination; the report goes there.")
    reasons = faulty(seen)
    kept = [index for index in range(len(seen.source)) if index not in reasons]
    if not kept:
        raise DataError(f"no image of {seen.source.name} would be left")
    make_folder(dest.parent)
    key = {
        "fix": adaflow.__version__,
        "source": seen.stamp,
        "kept": hashlib.sha256(repr(kept).encode()).hexdigest(),
    }
    writer = ZipWriter(dest, key)
    try:
        with writer:
            try:
                _write_images(seen.source, kept, writer, workers, progress)
            except DataError:
                check_unchanged(seen.source, seen.stamp)
                writer.discard()
                raise
            check_unchanged(seen.source, seen.stamp)
            report = _finish(seen, spec, writer, reasons)
            with committed(report_path(dest)) as file:
                file.write(report.to_json().encode() + b"\n")
            writer.commit()
    except OSError as error:
        raise file_error(dest, error) from error
    return report


def _write_images(
    source: ImageSource, kept: Sequence[int], writer: SetWriter, workers: int, progress: Progress | None
) -> None:
    """Add all images that the writer does not have yet."""
    remaining = kept[len(writer.records) :]
    with closing(ordered_map(partial(_encoded, source), remaining, workers)) as results:
        for index, (data, suffix) in zip(remaining, results, strict=True):
            number = f"{len(writer.records):08d}"
            writer.add(Record(index, f"{number[:5]}/img{number}{suffix}", len(data), zlib.crc32(data)), data)
            if progress is not None:
                progress(len(writer.records), len(kept))


def _encoded(source: ImageSource, index: int) -> tuple[bytes, str]:
    """The image as a file without metadata, and its suffix."""
    data = source.encoded(index)
    if data is None:
        pixels = source.read(index)
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        return encode(image, "png", Decoded(image, frozenset(), ""), None)
    decoded = decode(data, source.image_name(index))
    return encode(decoded.image, "keep" if decoded.format in ("JPEG", "WEBP") else "png", decoded, data)


def _finish(seen: Examination, spec: str, writer: ZipWriter, reasons: Mapping[int, str]) -> CleanReport:
    """Add `dataset.json`, and sum up."""
    source, labelling = seen.source, seen.labelling
    members = {str(record.member): source.image_name(record.index) for record in writer.records}
    kept = [record.index for record in writer.records]
    apart = [place for place, index in enumerate(kept) if source.is_validation(index)]
    labels = [labelling.labels[index] for index in kept]
    groups = [labelling.groups[index] for index in kept]
    writer.finish(dump_dataset_json(list(members), labels, labelling.class_names, groups, apart))
    return CleanReport(
        source=spec,
        dest=str(writer.dest),
        read=len(source),
        written=len(kept),
        left_out=[(source.image_name(index), reasons[index]) for index in sorted(reasons)],
        members=members,
        sha256=writer.sha256(),
    )
