"""`adaflow data check`: what is wrong with a data set, or should at least be known, before hours go into training."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adaflow.core.data.dataset_json import count_classes
from adaflow.core.data.image_files import list_kinds
from adaflow.core.data.parallel import Progress
from adaflow.core.data.scan import BRIGHT, DARK, MIN_SPREAD, MOST, Examination, Facts, examine
from adaflow.core.data.source import ImageSource

PROBLEM, NOTE = "problem", "note"

FEW_PER_CLASS = 50
MAX_RATIO = 10
FEW_IMAGES, FEW_FROM = 1000, 256

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        kind: a word that stays the same from version to version, see `CheckReport`.
        level: "problem" or "note".
        sentence: what it is, without the names.
        hint: what to do about it, or "".
        names: of the images, classes or files concerned; all of them.
    """

    kind: str
    level: str
    sentence: str
    hint: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckReport:
    """All that was found. As JSON it is one object with these fields and `"kind": "adaflow data check"`.

    Kinds of problems: broken, size, channels, untrainable, labels, no-label, mixed-labels, label-range, label-length,
    label-value, exact-copies, near-copies, copy-labels, copy-division, group-division, constant.
    Kinds of notes: label-note, unused-rows, empty-class, small-class, imbalance, dark, bright, few-images, ignored.

    Args:
        source: name of the set.
        images: how many it has, broken ones included.
        width: of most images, in pixels; 0 when none can be read.
        height: of most images.
        channels: of most images, 1 or 3.
        labels_from: where the labels come from, in words.
        class_counts: class → images; empty without classes.
        validation: how many images are set apart from training; None without such a division.
        groups: how many patients or lesions there are; None where that is not known.
        copies: names of images that are copies of each other, exactly or nearly, one list for each picture.
        findings: problems first.
    """

    source: str
    images: int
    width: int
    height: int
    channels: int
    labels_from: str
    class_counts: Mapping[str, int]
    validation: int | None
    groups: int | None
    copies: Sequence[Sequence[str]]
    findings: Sequence[Finding]

    @property
    def problems(self) -> int:
        """How many findings are problems."""
        return sum(finding.level == PROBLEM for finding in self.findings)

    def to_json(self) -> str:
        """All fields, and the number of `problems`, as indented JSON; names that are no text are escaped."""
        return to_json({"kind": "adaflow data check", **asdict(self), "problems": self.problems})


def to_json(value: Mapping[str, Any]) -> str:
    """Indented JSON that can be written as UTF-8 whatever the files are called."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate becomes \udc80, which JSON allows


def check(source: ImageSource, labels: str = "auto", workers: int = 2, progress: Progress | None = None) -> CheckReport:
    """Look at every image of a source once, and say what was found; see `examine`."""
    return judge(examine(source, labels, workers, progress))


def judge(seen: Examination) -> CheckReport:
    """What an examination means."""
    source, labelling = seen.source, seen.labelling
    shape = usual_shape(seen.facts)
    apart = [source.is_validation(index) for index in range(len(source))]
    findings = [
        *_images(seen, shape),
        *_labels(seen),
        *_classes(seen),
        *_copies(seen),
        *_division(seen, apart),
        *_plain(seen),
        *_amount(seen, shape),
    ]
    return CheckReport(
        source=source.name,
        images=len(source),
        width=shape[0],
        height=shape[1],
        channels=shape[2],
        labels_from=labelling.origin,
        class_counts=count_classes(labelling.labels, labelling.class_names),
        validation=sum(value is True for value in apart) if any(value is not None for value in apart) else None,
        groups=len({*labelling.groups} - {None}) or None,
        copies=[_names(seen, group) for group in seen.copies],
        findings=sorted(findings, key=lambda finding: finding.level != PROBLEM),
    )


def usual_shape(facts: Mapping[int, Facts]) -> Shape:
    """Width, height and channels of most images; zeros without any."""
    shapes = Counter(fact.shape for fact in facts.values())
    return shapes.most_common(1)[0][0] if shapes else (0, 0, 0)


def shape_words(shape: Shape) -> str:
    """As in `256×256 RGB`."""
    return f"{shape[0]}×{shape[1]} {'grey' if shape[2] == 1 else 'RGB'}"


def _names(seen: Examination, indices: Iterable[int]) -> tuple[str, ...]:
    return tuple(seen.source.image_name(index) for index in indices)


def _images(seen: Examination, shape: Shape) -> list[Finding]:
    """Broken images, and images that differ in kind."""
    found = []
    if seen.broken:
        found.append(
            Finding(
                "broken",
                PROBLEM,
                f"{_count(seen.broken, 'image')} cannot be read",
                "Training would leave them out.",
                _names(seen, seen.broken),
            )
        )
    size = [index for index, fact in seen.facts.items() if fact.shape[:2] != shape[:2]]
    if size:
        found.append(
            Finding(
                "size",
                PROBLEM,
                f"{_count(size, 'image')} of another size than {shape[0]}×{shape[1]}, which most have",
                "adaflow data prepare brings all to one size.",
                _names(seen, size),
            )
        )
    channels = [index for index, fact in seen.facts.items() if fact.channels != shape[2]]
    if channels:
        few, most = ("colour", "grey") if shape[2] == 1 else ("grey", "colour")
        found.append(
            Finding(
                "channels",
                PROBLEM,
                f"{_count(channels, f'{few} image')} in a {most} set",
                "adaflow data prepare --channels 3, or 1, makes them alike.",
                _names(seen, channels),
            )
        )
    if seen.facts and not any(fact.trainable for fact in seen.facts.values() if fact.shape == shape):
        found.append(
            Finding(
                "untrainable",
                PROBLEM,
                f"images of {shape[0]}×{shape[1]} pixels cannot be trained on: not square with a side of 8, 16, 32, …",
                "Make a set of them that can: adaflow data prepare SOURCE --dest X.zip --resolution 256.",
            )
        )
    return found


def _labels(seen: Examination) -> list[Finding]:
    """Labels that are missing or cannot be used."""
    labelling = seen.labelling
    found = []
    if seen.label_error is not None:
        found.append(Finding("labels", PROBLEM, seen.label_error.message, seen.label_error.hint))
    found += [Finding("label-note", NOTE, note) for note in labelling.notes]
    if labelling.unused_rows:
        sentence = f"{_count(labelling.unused_rows, 'row')} of labels without an image"
        found.append(Finding("unused-rows", NOTE, sentence, names=labelling.unused_rows))
    labels = dict(enumerate(labelling.labels))
    missing = [index for index, label in labels.items() if label is None]
    if missing and len(missing) < len(labels):
        found.append(
            Finding(
                "no-label",
                PROBLEM,
                f"{len(missing):,} of {_count(labels, 'image')} without a label",
                "Training with --cond would stop at the first.",
                _names(seen, missing),
            )
        )
    vectors = {index: label for index, label in labels.items() if isinstance(label, tuple)}
    classes = {index: label for index, label in labels.items() if isinstance(label, int)}
    if vectors and classes:
        few = sorted(vectors if len(vectors) < len(classes) else classes)
        sentence = f"classes and vectors as labels in one set: {_count(few, 'image')} with the rarer kind"
        found.append(Finding("mixed-labels", PROBLEM, sentence, names=_names(seen, few)))
    known = labelling.class_names
    outside = [k for k, label in classes.items() if label < 0 or (known is not None and label >= len(known))]
    if outside:
        limit = f"from 0 to {len(known) - 1}" if known else "from 0"
        sentence = f"{_count(outside, 'image')} with a class that does not exist; they go {limit}"
        found.append(Finding("label-range", PROBLEM, sentence, names=_names(seen, outside)))
    lengths = Counter(len(vector) for vector in vectors.values())
    if len(lengths) > 1:
        usual = lengths.most_common(1)[0][0]
        others = [index for index, vector in vectors.items() if len(vector) != usual]
        sentence = f"{_count(others, 'label')} with another length than {usual}, which most have"
        found.append(Finding("label-length", PROBLEM, sentence, names=_names(seen, others)))
    infinite = [index for index, vector in vectors.items() if not all(map(math.isfinite, vector))]
    if infinite:
        sentence = f"{_count(infinite, 'label')} with a number that is not finite"
        found.append(Finding("label-value", PROBLEM, sentence, names=_names(seen, infinite)))
    return found


def _classes(seen: Examination) -> list[Finding]:
    """How the images are spread over the classes."""
    labelling = seen.labelling
    names, labels = labelling.class_names, [label for label in labelling.labels if isinstance(label, int)]
    if not labels:
        return []
    counts = Counter(labels)
    length = max(max(labels) + 1, len(names or ()))
    empty = length - len(counts)
    found = []
    if empty:
        # A class number may be an identifier by mistake: a few names say enough.
        gaps = [label for label in range(min(length, 1000)) if not counts[label]]
        shown = tuple(names[label] if names is not None and label < len(names) else str(label) for label in gaps)
        sentence = f"{empty:,} of {length:,} classes without an image"
        found.append(Finding("empty-class", NOTE, sentence, "Each costs memory and teaches nothing.", shown))
    by_name = count_classes(labels, names)
    small = tuple(name for name, count in by_name.items() if count < FEW_PER_CLASS)
    balance = "Train with --balance to show classes equally often."
    if small and len(by_name) > 1:
        plural = "class" if len(small) == 1 else "classes"
        sentence = f"{len(small):,} {plural} with fewer than {FEW_PER_CLASS} images"
        found.append(Finding("small-class", NOTE, sentence, balance, small))
    most, least = max(by_name, key=by_name.__getitem__), min(by_name, key=by_name.__getitem__)
    if by_name[most] > MAX_RATIO * by_name[least]:
        sentence = f"the largest class has {by_name[most] / by_name[least]:.0f} times the images of the smallest"
        found.append(Finding("imbalance", NOTE, sentence, balance, (most, least)))
    return found


def _copies(seen: Examination) -> list[Finding]:
    """Pictures that are in the set more than once."""
    found = []
    exact = [index for _, *others in seen.exact for index in others]
    hint = "A GAN learns such pictures by heart; --fix keeps one of each. --json says which belong together."
    if exact:
        sentence = f"{_count(exact, 'exact copy')} of other images"
        found.append(Finding("exact-copies", PROBLEM, sentence, hint, _names(seen, exact)))
    near = sorted({index for _, *others in seen.copies for index in others} - {*exact})
    if near:
        sentence = (
            f"{_count(near, 'near copy')} of other images: encoded again, resized, recoloured, cropped or mirrored"
        )
        found.append(Finding("near-copies", PROBLEM, sentence, hint, _names(seen, near)))
    disagreeing = [index for group in seen.copies if labels_differ(seen, group) for index in group]
    if disagreeing:
        found.append(
            Finding(
                "copy-labels",
                PROBLEM,
                f"{_count(disagreeing, 'image')} whose copies have another label",
                "One of the labels is wrong; --fix leaves all of them out.",
                _names(seen, disagreeing),
            )
        )
    return found


def labels_differ(seen: Examination, group: Iterable[int]) -> bool:
    """Whether two of these images have different labels."""
    return len({seen.labelling.labels[index] for index in group} - {None}) > 1


def _division(seen: Examination, apart: Sequence[bool | None]) -> list[Finding]:
    """What training and validation share."""

    def shared(groups: Iterable[Sequence[int]]) -> list[Sequence[int]]:
        return [group for group in groups if len({bool(apart[index]) for index in group}) > 1]

    found = []
    hint = "Validation would measure what was learnt by heart."
    if crossing := [index for group in shared(seen.copies) for index in group]:
        sentence = f"{_count(crossing, 'image')} with copies on both sides of the validation split"
        found.append(Finding("copy-division", PROBLEM, sentence, hint, _names(seen, crossing)))
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(seen.labelling.groups):
        if group is not None:
            members[group].append(index)
    if divided := shared(members.values()):
        sentence = (
            f"{_count(divided, 'patient or lesion', 'patients or lesions')} on both sides of the validation split"
        )
        names = _names(seen, (index for group in divided for index in group))
        hint = "Divide it again: adaflow data prepare … --val-fraction 0.1 keeps groups together."
        found.append(Finding("group-division", PROBLEM, sentence, hint, names))
    return found


def _plain(seen: Examination) -> list[Finding]:
    """Images that show next to nothing."""
    constant = [index for index, fact in seen.facts.items() if fact.constant]
    dark = [index for index, fact in seen.facts.items() if fact.dark and not fact.constant]
    bright = [index for index, fact in seen.facts.items() if fact.bright and not fact.constant]
    found = []
    if constant:
        sentence = f"{_count(constant, 'image')} nearly constant: values vary by less than {MIN_SPREAD:g} of 255"
        found.append(Finding("constant", PROBLEM, sentence, "--fix leaves them out.", _names(seen, constant)))
    if dark:
        sentence = f"{_count(dark, 'image')} nearly black: {MOST:.0%} of the values below {DARK} of 255"
        hint = "12-bit values in 16-bit files look like this; scale them to the full range first."
        found.append(Finding("dark", NOTE, sentence, hint, _names(seen, dark)))
    if bright:
        sentence = f"{_count(bright, 'image')} nearly white: {MOST:.0%} of the values above {BRIGHT} of 255"
        found.append(Finding("bright", NOTE, sentence, "Look at them: adaflow data show.", _names(seen, bright)))
    return found


def _amount(seen: Examination, shape: Shape) -> list[Finding]:
    """Whether there is enough, and what was passed over."""
    found = []
    usable = len(seen.facts) - sum(len(group) - 1 for group in seen.copies)
    if min(shape[:2]) >= FEW_FROM and usable < FEW_IMAGES:
        sentence = f"{usable:,} different pictures are few for {shape[0]}×{shape[1]} pixels"
        hint = (
            "The smallest sets ADA was published with (arXiv 2006.06676) have 1,000 images at 256, 1,336 at 1024. "
            "Try a lower resolution or start from a trained network."
        )
        found.append(Finding("few-images", NOTE, sentence, hint))
    if seen.source.ignored:
        ignored = tuple(seen.source.ignored)
        sentence = f"{_count(ignored, 'file')} not read: {list_kinds(ignored)}"
        hint = "These are more than the images; convert them if they are pictures." * (len(ignored) > len(seen.source))
        found.append(Finding("ignored", NOTE, sentence, hint, ignored))
    return found


def _count(items: Any, one: str, several: str = "") -> str:
    """As in `1 image`, `2,000 images`, `3 exact copies`."""
    several = several or (one[:-1] + "ies" if one.endswith("y") else one + "s")
    return f"{len(items):,} {one if len(items) == 1 else several}"
