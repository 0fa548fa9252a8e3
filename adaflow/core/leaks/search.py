"""Looks for transforms in images: two probes, cross-fitted on real images, and the shares that explain their answers.

An image that a transform was applied to and one that a generator merely blurred can look alike to any probe, so nothing
is concluded from single answers. The answers of all images are explained as a mixture of what real images answer: as
they are, under each innocent distortion, and after each transform. Only what innocent images cannot explain is a leak.
This is done twice, with traces as they are and with traces brought to the medians and spreads of real ones, where
whatever all images share is gone; both must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from adaflow.core.leaks.mixture import Shares, Sources, find_shares
from adaflow.core.leaks.probe import CELLS, Probe, Scaling, align, area_under_curve, to_cells
from adaflow.core.leaks.reference import Reference

MARGIN = 0.02
"""A share below this is no leak: that much remains unexplained of innocent images, too."""
ALIGNED_MARGIN = 0.01
LEAST_AREA = 0.65
"""A transform that a probe does not tell from nothing better than this is not looked for: it would soak up the rest."""


@dataclass(frozen=True)
class Look:
    """What is found in a set of images, for answers 0 "none", 1 … the transforms that can be told."""

    raw: Shares
    aligned: Shares

    def alarms(self) -> Tensor:
        """Which answers both ways of looking call a leak, [K] bool; never the first."""
        return alarm(self.raw, MARGIN) & alarm(self.aligned, ALIGNED_MARGIN)


class Search:
    """Two probes and what they say of real images.

    Args:
        reference: of the real images.
        pixels: how many traces are statistics of pixels.
        seed: for the bootstrap.
    """

    def __init__(self, reference: Reference, pixels: int, seed: int) -> None:
        self.reference = reference
        self.seed = seed
        self.names = list(reference.transformed)
        self.probes = [_fit(reference, fold, pixels) for fold in (0, 1)]
        scored = {name: self.scores(traces, cross=True) for name, traces in self._sets().items()}
        plain = torch.cat([scored["none/plain"], scored["none/distorted"]])
        self.area = {
            name: area_under_curve(*(_odds(part, k) for part in (scored[f"{name}/transformed"], plain)))
            for k, name in enumerate(self.names, start=1)
        }
        self.told = [k for k, name in enumerate(self.names, start=1) if self.area[name] >= LEAST_AREA]
        self.answers = [0, *self.told]
        self.sources, self.keys = self._sources(scored)

    @property
    def suspects(self) -> list[str]:
        """Names of the transforms that can be told, in the order of the answers after "none"."""
        return [self.names[k - 1] for k in self.told]

    def look(self, traces: Tensor, times: int = 200) -> Look:
        """Explain images by their traces [N, D]."""
        generator = torch.Generator().manual_seed(self.seed)
        raw = find_shares(self.cells(traces), self.sources, generator, times)
        return Look(raw, self.look_aligned(traces, times))

    def look_aligned(self, traces: Tensor, times: int, cross: bool = False) -> Shares:
        """Explain images by their traces, brought to the medians and spreads of real images."""
        generator = torch.Generator().manual_seed(self.seed)
        return find_shares(self.cells(align(traces, self.reference.plain), cross), self.sources, generator, times)

    def odds(self, traces: Tensor, name: str) -> Tensor:
        """Log-odds of a transform against nothing, [N]."""
        return _odds(self.scores(traces), self.names.index(name) + 1)

    def cells(self, traces: Tensor, cross: bool = False) -> Tensor:
        """Of images [N, D], the even ones seen by one probe and the odd ones by the other. [N]"""
        return to_cells(self.scores(traces, cross)[:, self.answers])

    def scores(self, traces: Tensor, cross: bool = False) -> Tensor:
        """Scores [N, K + 1] of the probes in turn; with `cross`, row i of real images by the one that did not learn
        from image i."""
        first, second = (probe(traces[place::2]) for place, probe in enumerate(self.probes[:: -1 if cross else 1]))
        scores = torch.empty(len(traces), first.shape[1])
        scores[0::2], scores[1::2] = first, second
        return scores

    def innocent_sets(self) -> dict[str, Tensor]:
        """Traces of real images that no transform was applied to, by the key of the source."""
        r = self.reference
        sets = {"none/plain": r.plain, "none/distorted": r.distorted}
        return sets | {f"none/{name}": traces for name, traces in r.bank.items()}

    def _sets(self) -> dict[str, Tensor]:
        transformed = {f"{name}/transformed": traces for name, traces in self.reference.transformed.items()}
        return self.innocent_sets() | transformed

    def _sources(self, scored: Mapping[str, Tensor]) -> tuple[Sources, list[str]]:
        cells, owners, keys = [], [], []
        for key, scores in scored.items():
            owner, _, source = key.partition("/")
            answer = self.names.index(owner) + 1 if owner != "none" else 0
            if answer not in self.answers:
                continue
            found = to_cells(scores[:, self.answers])
            parts = {key: found}
            if source == "transformed":  # not distorted, and distorted
                plain = self.reference.is_plain
                parts = {f"{owner}/plain": found[plain], f"{owner}/distorted": found[~plain]}
            for part, values in parts.items():
                cells.append(values)
                owners.append(self.answers.index(answer))
                keys.append(part)
        return Sources(cells, torch.tensor(owners), len(self.answers), len(self.answers) * CELLS), keys


def _fit(reference: Reference, fold: int, pixels: int) -> Probe:
    """The probe that learns from the images of one fold."""
    r = reference
    innocent = torch.cat([r.plain[fold::2], r.distorted[fold::2], *(traces[fold::2] for traces in r.bank.values())])
    transformed = [traces[fold::2] for traces in r.transformed.values()]
    every = torch.cat([innocent, *transformed])
    answers = torch.cat([torch.full((len(part),), k) for k, part in enumerate([innocent, *transformed])])
    scaling = Scaling(torch.cat([r.plain[fold::2], r.distorted[fold::2]]), every, pixels)
    return Probe(scaling, every, answers, 1 + len(transformed))


def _odds(scores: Tensor, answer: int) -> Tensor:
    return scores[:, answer] - scores[:, 0]


def alarm(shares: Shares, margin: float) -> Tensor:
    """Which answers have a share that is more than a margin and than chance, [K] bool; never the first, "none"."""
    seen = (shares.low > margin) & (shares.value > shares.by_chance + margin)
    return seen & (torch.arange(len(seen)) > 0)
