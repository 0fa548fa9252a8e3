"""What a metric is, and what it gets to see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from adaflow.core.feature_cache import cached_features
from adaflow.core.features import DEFAULT_EXTRACTOR, INCEPTION
from adaflow.core.measured import Counts
from adaflow.errors import ConfigError

if TYPE_CHECKING:
    from adaflow.core.data.dataset import Dataset
    from adaflow.core.features import FeatureExtractor
    from adaflow.core.networks import Generator
    from adaflow.registry import Registry

SPLITS = ("train", "val")
BATCH = 64


@dataclass(frozen=True)
class MetricContext:
    """A generator, the data it was trained on, and the means to compare them. Features are computed once for all.

    Args:
        fakes: `fakes(count)` yields batches of generated images, uint8 [n, C, H, W], the same ones at every call.
        dataset: the training data.
        extractor: `extractor(name)` gives the feature extractor of that name, "" the default one.
        seed: of the run, for whatever a metric draws.
        generator: the averaged generator; None where the fakes are no network's.
    """

    fakes: Callable[[int], Iterator[Tensor]]
    dataset: Dataset
    extractor: Callable[[str], FeatureExtractor]
    seed: int
    generator: Generator | None = None
    _known: dict[tuple[str, ...], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def reals(self, count: int | None = None, batch: int = BATCH, split: str = "train") -> Iterator[Tensor]:
        """Real images without mirroring, uint8 [n, C, H, W], at most `count` of them, in the order of the set."""
        return self._images(self._indices(split)[:count], batch)

    def real_features(self, extractor: str = "", split: str = "train", most: int = 0) -> Tensor:
        """Features of the real images of a split, [N, D], kept in the user's cache from run to run.

        With `most` above 0 they are of at most so many images, chosen by the seed.

        Raises:
            ConfigError: the split has no two images.
        """
        used = self.extractor(extractor)
        indices = self._chosen(split, most)
        key = ("reals", used.name, split, str(len(indices)))
        if key not in self._known:
            if len(indices) < 2:
                hint = "Set some apart with --val-fraction 0.1 when training." if split == "val" else ""
                raise ConfigError(f"the data have {len(indices)} images in their {split!r} part", hint)
            content = {"data": self.dataset.fingerprint, "images": [self.dataset.names[i] for i in indices.tolist()]}
            self._known[key] = cached_features(used, content, lambda: used.all(self._images(indices)))
        return self._known[key]

    def fake_features(self, count: int, extractor: str = "") -> Tensor:
        """Features of the first `count` fakes, [count, D]."""
        used = self.extractor(extractor)
        return self._of_fakes(("fakes", used.name), count, used.all)

    def fake_probabilities(self, count: int, extractor: str = "") -> Tensor:
        """Class probabilities of the first `count` fakes, [count, classes].

        Raises:
            ConfigError: the extractor knows no classes.
        """
        used = self.extractor(extractor)

        def compute(batches: Iterable[Tensor]) -> Tensor:
            with torch.no_grad():
                return torch.cat([used.probabilities(batch).cpu() for batch in batches])

        return self._of_fakes(("probabilities", used.name), count, compute)

    def _of_fakes(self, key: tuple[str, ...], count: int, compute: Callable[[Iterable[Tensor]], Tensor]) -> Tensor:
        if len(self._known.get(key, ())) < count:
            self._known[key] = compute(self.fakes(count))
        if len(self._known[key]) < count:
            raise ConfigError(f"there are {len(self._known[key])} fakes, and {count} are asked for", "Lower --num.")
        return self._known[key][:count]

    def _images(self, indices: Tensor, batch: int = BATCH) -> Iterator[Tensor]:
        for start in range(0, len(indices), batch):
            yield self.dataset.take(indices[start : start + batch])

    def _chosen(self, split: str, most: int) -> Tensor:
        indices = self._indices(split)
        if not 0 < most < len(indices):
            return indices
        order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(self.seed))
        return indices[order[:most].sort().values]

    def _indices(self, split: str) -> Tensor:
        return {"train": self.dataset.train_indices, "val": self.dataset.val_indices}[split]


class Metric(ABC):
    """Measures a generator. A subclass is a dataclass of its settings; `--metrics "name(setting=value)"` sets them."""

    better: ClassVar[str] = ""
    """Whether "lower" or "higher" results are better: the first metric of a run that says so decides which of its
    snapshots is the best. "" decides nothing."""

    @abstractmethod
    def compute(self, context: MetricContext) -> dict[str, float]:
        """The results, each under a name of its own, for example `{"fd500": 812.4}`; the first one counts most.

        A `Measured` number carries an interval and counts.
        """

    def check(self, extractors: Registry[Any], dataset: Dataset) -> None:  # noqa: B027
        """Called before anything is computed.

        Raises:
            AdaflowError: something this metric needs is not there.
        """


@dataclass(frozen=True)
class FeatureSets:
    """Features to compare, on the device of their extractor: [N, D] and [M, D]; whose; and the counts."""

    fakes: Tensor
    reals: Tensor
    extractor: str
    counts: Counts


@dataclass
class FeatureMetric(Metric):
    """A metric that compares features of fakes and reals.

    Args:
        num: number of generated images.
        extractor: name of the feature extractor; "" is the default one.
        reference: the part of the data to compare with, "train" or "val".
        most_reals: a larger reference is reduced to so many images, chosen by the seed; 0 takes all.

    Raises:
        ConfigError: numbers that are no whole ones of at least 2, or no such part.
    """

    num: int = 500
    extractor: str = ""
    reference: str = "train"
    most_reals: int = 0

    symbol: ClassVar[str]
    """Begins the names of results."""

    given_name: ClassVar[str] = ""
    """A customary name of the result, for a metric without settings."""

    def __post_init__(self) -> None:
        if not isinstance(self.num, int) or self.num < 2:
            raise ConfigError(f"num is {self.num}", "Choose a whole number of at least 2.")
        if not isinstance(self.most_reals, int) or self.most_reals < 0 or self.most_reals == 1:
            raise ConfigError(f"most_reals is {self.most_reals}", "Choose 0 for all, or a whole number of at least 2.")
        if self.reference not in SPLITS:
            raise ConfigError(f"there is no part {self.reference!r} of the data", f"Known: {', '.join(SPLITS)}.")

    def check(self, extractors: Registry[Any], dataset: Dataset) -> None:
        """The extractor is there with its weights, and the reference has images."""
        check_extractor(self.extractor, extractors)
        if self.reference == "val":
            check_held_out(dataset)

    def sets(self, context: MetricContext) -> FeatureSets:
        """Features of the fakes and of the reference."""
        extractor = context.extractor(self.extractor)
        reals = context.real_features(self.extractor, self.reference, self.most_reals).to(extractor.device)
        fakes = context.fake_features(self.num, self.extractor).to(extractor.device)
        return FeatureSets(fakes, reals, extractor.name, Counts(len(fakes), len(reals), self.reference))

    def result_name(self, extractor: str, symbol: str = "") -> str:
        """`<symbol><num>_<extractor>`; before the extractor comes what is set otherwise than by default, as in `_k5`.

        Of the Inception network, `fd` and `kd` are called `fid` and `kid`.
        """
        symbol = symbol or self.symbol
        if self.given_name:
            return self.given_name if symbol == self.symbol else f"{self.given_name}_{symbol}"
        part = f"_{self.reference}" if self.reference != "train" else ""
        common = {setting.name for setting in fields(FeatureMetric)}
        own = [setting for setting in fields(self) if setting.name not in common]
        values = {setting.name: getattr(self, setting.name) for setting in own}
        part += "".join(f"_{s.name}{values[s.name]}" for s in own if values[s.name] != s.default)
        if extractor == INCEPTION and symbol in ("fd", "kd"):
            return f"{symbol[0]}i{symbol[1]}{self.num}{part}"
        return f"{symbol}{self.num}{part}_{extractor}"


def check_extractor(name: str, extractors: Registry[Any]) -> None:
    """See that an extractor, "" for the default one, is registered and its weights are here.

    Raises:
        PluginError, FileError: they are not.
    """
    check = getattr(extractors[name or DEFAULT_EXTRACTOR].value, "check", None)
    if check is not None:
        check()


def check_held_out(dataset: Dataset) -> None:
    """See that there are images that were kept out of training.

    Raises:
        ConfigError: there are not.
    """
    if len(dataset.val_indices) < 2:
        raise ConfigError(
            "no images were kept out of training, which this metric compares with",
            "Set some apart with --val-fraction 0.1 when training.",
        )
