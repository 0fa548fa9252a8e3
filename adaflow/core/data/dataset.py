"""The data set of a run: decoded once, held in memory as bytes, drawn from by the count of images seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from adaflow.core.data.dataset_json import count_classes
from adaflow.core.data.parallel import Progress, ordered_map
from adaflow.core.data.sampler import EpochSampler, permutation
from adaflow.core.data.source import DatasetReader, ImageSource, Label, first_images, open_source, read_or_error
from adaflow.errors import ConfigError, DataError
from adaflow.registry import Registry

MEMORY_SHARE = 0.7
"""The part of the available memory a data set may take."""

MAX_CLASSES = 100_000

PROBED_IMAGES = 16
"""How many images are read ahead to tell the size of the set."""


@dataclass(frozen=True)
class DataConfig:
    """Which data to train on, and how.

    Args:
        source: a folder, a zip, or whatever else a data set plugin can open.
        cond: train with labels.
        mirror: add every image flipped left to right.
        mirrory: add every image flipped upside down; with `mirror`, also flipped both ways.
        subset: use only so many images, chosen by the seed; None = all.
        val_fraction: share of the images kept out of training, 0 to 0.9, chosen by the seed.
        workers: threads that decode, 1 to 64.

    Raises:
        ConfigError: a value out of range.
    """

    source: str
    cond: bool = False
    mirror: bool = False
    mirrory: bool = False
    subset: int | None = None
    val_fraction: float = 0.0
    workers: int = 2

    def __post_init__(self) -> None:
        if not self.source:
            raise ConfigError("no data set is named", "Give a folder or a zip with --data.")
        if self.subset is not None and self.subset < 2:
            raise ConfigError(f"a subset of {self.subset} is too small", "Use 2 images or more.")
        if not 0 <= self.val_fraction <= 0.9:
            raise ConfigError(f"val_fraction is {self.val_fraction}, not between 0 and 0.9")
        if not 1 <= self.workers <= 64:
            raise ConfigError(f"workers is {self.workers}, not between 1 and 64")


@dataclass(frozen=True)
class Dataset:
    """Images in memory.

    An *entry* is an image in one of its mirrored forms: with k forms (1, 2 or 4) a split of n images has k·n entries.

    Args:
        config: what it was loaded with.
        seed: of the subset, the split and the order.
        name: short, for the run folder.
        images: uint8 [N, C, H, W], H = W, without mirroring.
        labels: float [N, c_dim]: one-hot, or vectors as the source has them; c_dim = 0 without `cond`.
        names: of the N images.
        class_names: the name of class k at position k, or None.
        class_counts: class → how many of the N images; empty where the source has no classes.
        left_out: name and reason for every image that could not be used.
        fingerprint: of the whole source, see `ImageSource.fingerprint`.
        train_indices: int64, ascending: which images are trained on.
        val_indices: int64, ascending: which are kept out; none of the above.
    """

    config: DataConfig
    seed: int
    name: str
    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    class_names: tuple[str, ...] | None
    class_counts: dict[str, int]
    left_out: list[tuple[str, str]]
    fingerprint: str
    train_indices: Tensor
    val_indices: Tensor

    @property
    def resolution(self) -> int:
        """Pixels along each side."""
        return self.images.shape[-1]

    @property
    def channels(self) -> int:
        """1 = grey, 3 = RGB."""
        return self.images.shape[1]

    @property
    def c_dim(self) -> int:
        """Length of a label; 0 without labels."""
        return self.labels.shape[1]

    def entries(self, split: str = "train") -> int:
        """How many entries one epoch of "train" or "val" has."""
        return len(self._split(split)) * len(self._mirrors())

    def batch(self, counters: Tensor, split: str = "train") -> tuple[Tensor, Tensor]:
        """The images a run sees at the given counts of images seen.

        Args:
            counters: int64 [n], from 0.
            split: "train" or "val".

        Returns:
            Images uint8 [n, C, H, W] with mirroring applied, and labels float [n, c_dim].

        Raises:
            DataError: the split has no images.
        """
        images = self._split(split)
        if not len(images):
            raise DataError(f"the data set has no images in its {split!r} part", "Set val_fraction above 0.")
        entries = self._samplers[split].indices(counters)
        chosen = images[entries % len(images)]
        batch = self.images[chosen]
        copies = entries // len(images)
        for copy, axes in enumerate(self._mirrors()):
            if axes:
                here = copies == copy
                batch[here] = batch[here].flip(axes)
        return batch, self.labels[chosen]

    def summary(self) -> dict[str, Any]:
        """Plain values that say what was trained on, for the run's provenance."""
        return {
            **asdict(self.config),
            "name": self.name,
            "images": len(self.images),
            "resolution": self.resolution,
            "channels": self.channels,
            "c_dim": self.c_dim,
            "class_names": list(self.class_names) if self.class_names is not None else None,
            "class_counts": self.class_counts,
            "train_images": len(self.train_indices),
            "val_images": len(self.val_indices),
            "entries": self.entries(),
            "left_out": [list(item) for item in self.left_out],
            "fingerprint": self.fingerprint,
            "seed": self.seed,
        }

    @cached_property
    def _samplers(self) -> dict[str, EpochSampler]:
        return {split: EpochSampler(self.entries(split), self.seed, split) for split in ("train", "val")}

    def _split(self, split: str) -> Tensor:
        return {"train": self.train_indices, "val": self.val_indices}[split]

    def _mirrors(self) -> list[tuple[int, ...]]:
        """The axes to flip in each copy of the set."""
        mirrors: list[tuple[int, ...]] = [()]
        if self.config.mirror:
            mirrors += [(*axes, -1) for axes in mirrors]
        if self.config.mirrory:
            mirrors += [(*axes, -2) for axes in mirrors]
        return mirrors


def load_dataset(
    config: DataConfig, readers: Registry[DatasetReader], seed: int, progress: Progress | None = None
) -> Dataset:
    """Decode a data set into memory.

    Broken images and those of another size or kind than the majority are left out, each with its reason. Subset and
    validation part depend on the seed and the source only.

    Args:
        config: what to load.
        readers: the data set readers at hand.
        seed: of the run.
        progress: told as images are decoded.

    Raises:
        DataError: the source cannot be opened, lacks labels that are asked for, has images of a size that cannot be
            trained on, fewer than 2 usable ones, or more than fit in memory.
    """
    with open_source(config.source, readers) as source:
        labels = [source.label(index) for index in range(len(source))]
        table = _label_table(source, labels) if config.cond else torch.zeros(len(source), 0)
        images, kept, left_out = _decode(source, _subset(len(source), config, seed), config.workers, progress)
        if len(kept) < 2:
            first = f"; the first left out: {left_out[0][1]}" if left_out else ""
            raise DataError(f"{config.source} has fewer than 2 usable images{first}")
        train, val = _divide(len(kept), config.val_fraction, seed)
        return Dataset(
            config=config,
            seed=seed,
            name=source.name,
            images=images,
            labels=table[kept],
            names=tuple(source.image_name(index) for index in kept),
            class_names=source.class_names,
            class_counts=count_classes([labels[index] for index in kept], source.class_names),
            left_out=left_out,
            fingerprint=source.fingerprint(),
            train_indices=train,
            val_indices=val,
        )


def _label_table(source: ImageSource, labels: Sequence[Label | None]) -> Tensor:
    """Float [N, c_dim] for all images of the source."""
    for index, label in enumerate(labels):
        if label is None:
            raise DataError(
                f"image {source.image_name(index)} of {source.name} has no label",
                "Train without --cond, or give the set labels: adaflow data prepare … --labels table.csv.",
            )
        if isinstance(label, int) != isinstance(labels[0], int):
            raise DataError(f"{source.name} has both classes and vectors as labels")
    classes = [label for label in labels if isinstance(label, int)]
    if classes:
        count = max(max(classes) + 1, len(source.class_names or ()))
        if count > MAX_CLASSES:
            raise DataError(
                f"{source.name} has a class {max(classes)}", "Classes are counted from 0; is it an identifier?"
            )
        return torch.nn.functional.one_hot(torch.tensor(classes), count).float()
    vectors = [label for label in labels if isinstance(label, tuple)]
    for index, vector in enumerate(vectors):
        if len(vector) != len(vectors[0]):
            raise DataError(
                f"the label of {source.image_name(index)} has {len(vector)} numbers, the first one {len(vectors[0])}"
            )
    return torch.tensor(vectors)


def _subset(length: int, config: DataConfig, seed: int) -> list[int]:
    if config.subset is None:
        return list(range(length))
    if config.subset > length:
        raise DataError(f"a subset of {config.subset} is asked for, but {config.source} has {length} images")
    return sorted(permutation(length, seed, "subset")[: config.subset].tolist())


def _divide(length: int, val_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices for training and validation, ascending; a fraction above 0 gives at least one and leaves at least one."""
    val_length = min(max(round(length * val_fraction), int(val_fraction > 0)), length - 1)
    order = permutation(length, seed, "split")
    return order[val_length:].sort().values, order[:val_length].sort().values


def _decode(
    source: ImageSource, indices: Sequence[int], workers: int, progress: Progress | None
) -> tuple[Tensor, list[int], list[tuple[str, str]]]:
    """All images of the most frequent shape, the indices they have in the source, and who was left out."""
    shape = Counter(image.shape for image in first_images(source, indices, PROBED_IMAGES)).most_common(1)[0][0]
    while True:
        _check_shape(source, shape, len(indices))
        images, kept, left_out, shapes = _decode_shape(source, indices, shape, workers, progress)
        majority = shapes.most_common(1)[0][0]
        if shapes[majority] == shapes[shape]:
            return images, kept, left_out
        shape = majority  # the first images misled: decode again, once at most


def _decode_shape(
    source: ImageSource, indices: Sequence[int], shape: tuple[int, ...], workers: int, progress: Progress | None
) -> tuple[Tensor, list[int], list[tuple[str, str]], Counter[tuple[int, ...]]]:
    images = torch.empty(len(indices), *shape, dtype=torch.uint8)
    kept: list[int] = []
    left_out: list[tuple[str, str]] = []
    shapes: Counter[tuple[int, ...]] = Counter()
    with closing(ordered_map(partial(read_or_error, source), indices, workers)) as decoded:
        for done, (index, image) in enumerate(zip(indices, decoded, strict=True), start=1):
            if isinstance(image, DataError):
                left_out.append((source.image_name(index), image.message))
            else:
                shapes[image.shape] += 1
                if image.shape == shape:
                    images[len(kept)] = torch.from_numpy(image)
                    kept.append(index)
                else:
                    left_out.append(
                        (source.image_name(index), f"it is {_words(image.shape)}, most are {_words(shape)}")
                    )
            if progress is not None:
                progress(done, len(indices))
    return images[: len(kept)], kept, left_out, shapes


def _check_shape(source: ImageSource, shape: tuple[int, ...], count: int) -> None:
    """Refuse sizes that cannot be trained on or do not fit in memory, before the long work."""
    _, height, width = shape
    if height != width or width < 8 or width & (width - 1):
        raise DataError(
            f"the images of {source.name} are {_words(shape)}, not square with a side of 8, 16, 32, …",
            "Make a set of them that is: adaflow data prepare SOURCE --dest X.zip --resolution 256.",
        )
    needed = count * int(np.prod(shape))
    available = int(psutil.virtual_memory().available * MEMORY_SHARE)
    if needed > available:
        raise DataError(
            f"{source.name} needs {needed / 2**30:.1f} GiB of memory, and {available / 2**30:.1f} GiB can be used",
            "Use fewer images (--subset) or smaller ones (adaflow data prepare … --resolution).",
        )


def _words(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
