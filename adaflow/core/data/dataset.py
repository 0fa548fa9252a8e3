"""The data set of a run: decoded once, mapped or held in memory as bytes, drawn from by the count of images seen."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaflow.core.data.cache import ImageCache
from adaflow.core.data.dataset_json import count_classes
from adaflow.core.data.decode_all import Decoding, decode_to_memory
from adaflow.core.data.parallel import Progress
from adaflow.core.data.sampler import BalancedSampler, EpochSampler, Sampler, permutation
from adaflow.core.data.source import DatasetReader, ImageSource, open_source
from adaflow.core.data.split import validation_part
from adaflow.core.data.training_labels import class_numbers, label_table
from adaflow.errors import ConfigError, DataError
from adaflow.registry import Registry

CPU = torch.device("cpu")


@dataclass(frozen=True)
class DataConfig:
    """Which data to train on, and how.

    Args:
        source: a folder, a zip, or whatever else a data set plugin can open.
        cond: train with labels.
        mirror: add every image flipped left to right.
        mirrory: add every image flipped upside down; with `mirror`, also flipped both ways.
        subset: use only so many images, chosen by the seed; None = all.
        val_fraction: share of the images kept out of training, 0 to 0.9, chosen by the seed. A group of images, such as
            those of one patient, stays together. 0 for a set that has a division of its own.
        workers: threads that decode, 1 to 64.
        balance: show every class equally often, in training and validation. Metrics compare with the set as it is.
        cache: keep decoded images on disk beside the set, see `cache.py`.

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
    balance: bool = False
    cache: bool = True

    def __post_init__(self) -> None:
        if not self.source:
            raise ConfigError("no data set is named", "Give a folder or a zip with --data.")
        if self.subset is not None and self.subset < 2:
            raise ConfigError(f"a subset of {self.subset} is too small", "Use 2 images or more.")
        if not 0 <= self.val_fraction <= 0.9:
            raise ConfigError(f"val_fraction is {self.val_fraction}, not between 0 and 0.9")
        if not 1 <= self.workers <= 64:
            raise ConfigError(f"workers is {self.workers}, not between 1 and 64")

    @property
    def is_cached(self) -> bool:
        """Whether decoded images are kept beside the set: one that is no file or folder has no place beside it."""
        return self.cache and os.path.exists(self.source)


@dataclass(frozen=True)
class Dataset:
    """Images, decoded.

    An *entry* is an image in one of its mirrored forms: with k forms (1, 2 or 4) a split of n images has k·n entries.

    Args:
        config: what it was loaded with.
        seed: of the subset, the split and the order.
        name: short, for the run folder.
        pixels: uint8 [M, C, H, W], H = W, without mirroring: the N images, and with a subset of a cached set more.
        rows: int64 [N], ascending: where each of the N images is in `pixels`.
        labels: float [N, c_dim]: one-hot, or vectors as the source has them; c_dim = 0 without `cond`.
        classes: class of each of the N images, int64 [N], with `balance`; otherwise None.
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
    pixels: Tensor
    rows: Tensor
    labels: Tensor
    classes: Tensor | None
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
        return self.pixels.shape[-1]

    @property
    def channels(self) -> int:
        """1 = grey, 3 = RGB."""
        return self.pixels.shape[1]

    @property
    def c_dim(self) -> int:
        """Length of a label; 0 without labels."""
        return self.labels.shape[1]

    @property
    def images(self) -> Tensor:
        """All N images, uint8 [N, C, H, W]. Where `pixels` has more than these it is a copy: for some, use `take`."""
        return self.pixels if len(self.rows) == len(self.pixels) else self.take(torch.arange(len(self.rows)))

    @cached_property
    def label_pool(self) -> Tensor:
        """Training images whose labels are as frequent as training shows them, int64: all, or one of each class."""
        if self.classes is None:
            return self.train_indices
        classes = self.classes[self.train_indices]
        return self.train_indices[[int((classes == k).nonzero()[0]) for k in torch.unique(classes)]]

    def entries(self, split: str = "train") -> int:
        """How many entries "train" or "val" has: one epoch, unless classes are balanced."""
        return len(self._split(split)) * len(self._mirrors())

    def take(self, indices: Tensor, device: torch.device = CPU) -> Tensor:
        """Some of the N images as they are.

        Args:
            indices: int64 [n], from 0 to N - 1, in any order.
            device: where to.

        Returns:
            uint8 [n, C, H, W], a copy.
        """
        on_gpu = device.type == "cuda"
        images = torch.empty(len(indices), *self.pixels.shape[1:], dtype=torch.uint8, pin_memory=on_gpu)
        torch.index_select(self.pixels, 0, self.rows[indices], out=images)
        return images.to(device, non_blocking=on_gpu)

    def batch(self, counters: Tensor, split: str = "train", device: torch.device = CPU) -> tuple[Tensor, Tensor]:
        """The images a run sees at the given counts of images seen.

        Args:
            counters: int64 [n], from 0, on the CPU.
            split: "train" or "val".
            device: where to; images are mirrored there.

        Returns:
            Images uint8 [n, C, H, W] with mirroring applied, and labels float [n, c_dim].

        Raises:
            DataError: the split has no images.
        """
        images, mirrors = self._split(split), self._mirrors()
        if not len(images):
            raise DataError(f"the data set has no images in its {split!r} part", "Set val_fraction above 0.")
        entries = self._samplers[split].indices(counters)
        chosen, copies = images[entries % len(images)], entries // len(images)
        labels = _send(self.labels[chosen], device)
        if len(mirrors) == 1:
            return self.take(chosen, device), labels
        # Images to be flipped alike lie together for the moment.
        order = copies.argsort(stable=True)
        parts = torch.split(self.take(chosen[order], device), copies.bincount(minlength=len(mirrors)).tolist())
        flipped = torch.cat([part.flip(axes) if axes else part for part, axes in zip(parts, mirrors, strict=True)])
        return flipped.index_select(0, _send(order.argsort(), device)), labels

    def summary(self) -> dict[str, Any]:
        """Plain values that say what was trained on, for the run's provenance."""
        return {
            **asdict(self.config),
            "name": self.name,
            "images": len(self.rows),
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
    def _samplers(self) -> dict[str, Sampler]:
        return {split: self._sampler(split) for split in ("train", "val") if len(self._split(split))}

    def _sampler(self, split: str) -> Sampler:
        if self.classes is None:
            return EpochSampler(self.entries(split), self.seed, split)
        return BalancedSampler(self.classes[self._split(split)].repeat(len(self._mirrors())), self.seed, split)

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


def _send(values: Tensor, device: torch.device) -> Tensor:
    """Bring to a device without waiting for what it does at the moment."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def load_dataset(
    config: DataConfig,
    readers: Registry[DatasetReader],
    seed: int,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
    write_cache: bool = True,
) -> Dataset:
    """Load a data set: map its cache, decode it into its cache, or decode it into memory.

    Broken images and those of another size or kind than the majority are left out, each with its reason. Subset and
    validation part depend on the seed and the source only.

    Args:
        config: what to load.
        readers: the data set readers at hand.
        seed: of the run.
        progress: told as images are decoded.
        say: told what users should know.
        write_cache: False to use a cache that is there, and make none.

    Raises:
        DataError: the source cannot be opened, lacks labels that are asked for, has images of a size that cannot be
            trained on, fewer than 2 usable ones, or more than fit in memory.
        ConfigError: `balance` without classes, or `val_fraction` for a set that has a validation part.
    """
    with open_source(config.source, readers) as source:
        labels = [source.label(index) for index in range(len(source))]
        table = label_table(source, labels) if config.cond else torch.zeros(len(source), 0)
        classes = class_numbers(source, labels) if config.balance else None
        chosen = _subset(len(source), config, seed)
        pixels, rows, decoding, fingerprint = _decode(config, source, chosen, progress, say, write_cache)
        kept = decoding.kept
        left_out = [(source.image_name(index), reason) for index, reason in decoding.left_out().items()]
        if len(kept) < 2:
            first = f"; the first left out: {left_out[0][1]}" if left_out else ""
            raise DataError(f"{config.source} has fewer than 2 usable images{first}")
        train, val = _divide(source, kept, config.val_fraction, seed)
        dataset = Dataset(
            config=config,
            seed=seed,
            name=source.name,
            pixels=pixels,
            rows=rows,
            labels=table[kept],
            classes=None if classes is None else classes[kept],
            names=tuple(source.image_name(index) for index in kept),
            class_names=source.class_names,
            class_counts=count_classes([labels[index] for index in kept], source.class_names),
            left_out=left_out,
            fingerprint=fingerprint,
            train_indices=train,
            val_indices=val,
        )
        if classes is not None:
            _name_absent_classes(dataset, int(classes.max()) + 1, say)
        return dataset


def _decode(
    config: DataConfig,
    source: ImageSource,
    chosen: Sequence[int],
    progress: Progress | None,
    say: Callable[[str], None],
    write_cache: bool,
) -> tuple[Tensor, Tensor, Decoding, str]:
    """`pixels` and `rows` of a `Dataset`, what became of the chosen images, and the fingerprint of the source."""
    if config.is_cached:
        cached = ImageCache(config.source, source).load(config.workers, progress, say, write_cache)
        if cached is not None:
            decoding = cached.decoding.among(chosen)
            rows = np.searchsorted(cached.decoding.kept, decoding.kept)
            return _as_tensor(cached.pixels), torch.from_numpy(rows), decoding, cached.fingerprint
    pixels, decoding = decode_to_memory(source, chosen, config.workers, progress)
    return torch.from_numpy(pixels), torch.arange(len(pixels)), decoding, source.fingerprint()


def _as_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some maps cannot be written to
        return torch.from_numpy(pixels)


def _name_absent_classes(dataset: Dataset, count: int, say: Callable[[str], None]) -> None:
    """Say which classes, of `count` or as many as have names, cannot be balanced for lack of images."""
    assert dataset.classes is not None
    names = dataset.class_names or tuple(str(k) for k in range(count))
    present = set(dataset.classes[dataset.train_indices].tolist())
    absent = [name for k, name in enumerate(names) if k not in present]
    if absent:
        say(f"--balance leaves out classes that have no images to train on: {', '.join(absent)}.")


def _subset(length: int, config: DataConfig, seed: int) -> list[int]:
    if config.subset is None:
        return list(range(length))
    if config.subset > length:
        raise DataError(f"a subset of {config.subset} is asked for, but {config.source} has {length} images")
    return sorted(permutation(length, seed, "subset")[: config.subset].tolist())


def _divide(source: ImageSource, kept: Sequence[int], val_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Places in `kept` for training and validation, ascending: as the source says, or as `val_fraction` asks."""
    given = [source.is_validation(index) for index in kept]
    groups = [source.group(index) for index in kept]
    order = torch.arange(len(kept))
    if any(part is not None for part in given):
        if val_fraction:
            raise ConfigError(
                f"{source.name} has a validation part of its own, and val_fraction asks for another",
                "Train without --val-fraction.",
            )
        apart = torch.tensor([part is True for part in given])
        if apart.all():
            raise DataError(f"all images of {source.name} are set apart for validation")
    elif val_fraction and any(group is not None for group in groups):
        apart = torch.isin(order, torch.tensor(validation_part(groups, val_fraction, seed)))
    else:
        # At least one image for either part. Runs of earlier versions chose in the same way.
        count = min(max(round(len(kept) * val_fraction), int(val_fraction > 0)), len(kept) - 1)
        apart = torch.isin(order, permutation(len(kept), seed, "split")[:count])
    return order[~apart], order[apart]
