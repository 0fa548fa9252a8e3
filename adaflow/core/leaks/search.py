"""Looks for transforms in images: two probes, cross-fitted on real images, and the shares that explain their answers.

An image that a transform was applied to and one that a generator merely blurred can look alike to any probe, so nothing
is concluded from single answers. The answers of all images are explained as a mixture of what real images answer: as
they are, under each innocent distortion, and after each transform. Only what innocent images cannot explain is a leak.
This is done twice, with traces as they are and with traces brought to the medians and spreads of real ones, where
whatever all images share is gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adaflow.core.leaks.mixture import Shares, Sources, find_shares
from adaflow.core.leaks.probe import CELLS, Alignment, Probe, Scaling, area_under_curve, middle_and_spread, to_cells
from adaflow.core.leaks.reference import Reference
from adaflow.core.leaks.strangeness import UNUSUAL, Familiar

MARGIN = 0.02
"""A share below this is no leak: that much remains unexplained of innocent images, too."""
ALIGNED_MARGIN = 0.01
GROSS = 0.3
"""Alignment and mixtures fail where most images show a transform. From this share on, another rule may find it."""
INNOCENT = 0.995
"""So many of the real images, however distorted, look less like a transform than those that are beyond doubt."""
FAIR_AREA, PLAIN_AREA, SURE_AREA, CERTAIN_AREA = 0.75, 0.85, 0.9, 0.98
"""How well the probe tells a transform from nothing, by the area under the curve. If both ways of looking call it a
leak, it is one from the second value on, and below if its upper bound allows it. If only the aligned traces do, it is
one from the first value on, if only those as they are, from the third on, if the bound allows it; and if those do,
whatever the bound, from the fourth on where the share is at least `CERTAIN_SHARE`."""
CERTAIN_SHARE = 0.05
DISTINCT = 0.1
"""If a transform puts so many real images beyond doubt, it is enough, too, that one way of looking calls it a leak and
the other sees about as much, where the bound allows it."""
COMPARABLE = 0.4
"""About as much is a share that is at least this part of the larger one."""
HIDDEN = 2.0
"""Of what is soft, so many times as much may be there as is found, up to its upper bound."""
BLURRED = 0.4
"""This much of a share must be below its upper bound, for a generator may blur more than is tried here."""
ALIKE = 0.6
"""Two transforms told surely from nothing look alike if, once distorted, so much of what is answered about one, and is
not "none", is answered about the other, too: shifts by whole pixels and by fractions of them do."""
LEAST_AREA, LEAST_SURE = 0.65, 0.04
"""A transform that a probe does not tell from nothing better than this, or that puts fewer real images beyond doubt, is
not looked for: it would soak up the rest."""


@dataclass(frozen=True)
class Seen:
    """A set of images as the probes see them: the even ones by one probe, the odd ones by the other.

    Args:
        traces: [N, D].
        scores: [N, K + 1] of "none" and all transforms.
    """

    traces: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.traces)

    def __getitem__(self, rows: slice) -> Seen:
        """Some of them; the first one must be even."""
        return Seen(self.traces[rows], self.scores[rows])


@dataclass(frozen=True)
class Transformed:
    """Some of the images after a transform, an even number.

    Args:
        sharp: as the transform leaves them.
        softened: blurred, compressed, or both: as a generator may show it, where the transform can still be told.
    """

    sharp: Seen
    softened: Sequence[Seen] = ()


@dataclass(frozen=True)
class Look:
    """What is found in a set of images, at places: 0 "none", 1 … the transforms that can be told, then sums of some.

    Args:
        raw: from traces as they are.
        aligned: from traces brought to the medians and spreads of real images.
        strangeness: how far the images are from all that is known.
    """

    raw: Shares
    aligned: Shares
    strangeness: float

    def share(self, place: int) -> float:
        """The share at a place, from traces as they are unless only the aligned ones call it a leak."""
        raw, aligned = self.alarms()[:, place].tolist()
        return float((self.aligned if aligned and not raw else self.raw).value[place])

    def interval(self, place: int) -> tuple[float, float]:
        """The 95 % interval of a share, as wide as both ways of looking say; below, only those that call a leak."""
        lows, highs = (
            torch.stack(part)[:, place] for part in zip(self.raw.bounds(), self.aligned.bounds(), strict=True)
        )
        alarmed = self.alarms()[:, place]
        return float((lows[alarmed] if alarmed.any() else lows).min()), float(highs.max())

    def alarms(self) -> Tensor:
        """Which places each way of looking calls a leak, [2, K + S] bool; never the first."""
        return torch.stack([alarm(self.raw, MARGIN), alarm(self.aligned, ALIGNED_MARGIN)])

    def agree(self, place: int) -> bool:
        """Whether both ways of looking see more than chance and misfit explain, and about as much."""
        few, many = sorted(float(shares.value[place]) for shares in (self.raw, self.aligned))
        both = [shares.value - shares.misfit > shares.by_chance for shares in (self.raw, self.aligned)]
        return bool(both[0][place] and both[1][place]) and few >= COMPARABLE * many


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
        self.usual = middle_and_spread(reference.plain)
        self.names = list(reference.transformed)
        self.probes = [_fit(reference, fold, pixels) for fold in (0, 1)]
        self.familiar = Familiar(self.probes[0].scaling, list(self._sets().values()))
        scored = {name: self.scores(traces, cross=True) for name, traces in self._sets().items()}
        plain = torch.cat([scored["none/plain"], scored["none/distorted"]])
        self.area = {
            name: area_under_curve(*(_odds(part, k) for part in (scored[f"{name}/transformed"], plain)))
            for k, name in enumerate(self.names, start=1)
        }
        innocent = [scores for name, scores in scored.items() if name.startswith("none/")]
        self.limits = {
            name: max(float(torch.quantile(_odds(scores, k), INNOCENT)) for scores in innocent)
            for k, name in enumerate(self.names, start=1)
        }
        self.sure = {
            name: float((_odds(scored[f"{name}/transformed"], k) > self.limits[name]).float().mean())
            for k, name in enumerate(self.names, start=1)
        }
        self.told = [
            k
            for k, name in enumerate(self.names, start=1)
            if self.area[name] >= LEAST_AREA and self.sure[name] >= LEAST_SURE
        ]
        self.answers = [0, *self.told]
        sources = self._sources(scored)
        self.alike = self._alike(sources)
        self.sources = replace(sources, alike=self.alike)

    @property
    def suspects(self) -> list[str]:
        """Names of the transforms that can be told, in the order of the answers after "none"."""
        return [self.names[k - 1] for k in self.told]

    def see(self, traces: Tensor) -> Seen:
        """A set of images by their traces [N, D]."""
        return Seen(traces, self.scores(traces))

    def transformed(self, name: str, sharp: Seen, softened: Sequence[Seen], untouched: Sequence[Seen]) -> Transformed:
        """Some images after a transform, without those softened so that it cannot be told.

        Args:
            name: of the transform.
            sharp: after the transform.
            softened: after it and after being softened in several ways.
            untouched: images without the transform, softened in the same ways.
        """
        told = [after for after, before in zip(softened, untouched, strict=True) if self.shows(before, after, name)]
        return Transformed(sharp, told)

    def look(self, seen: Seen, transformed: Mapping[str, Transformed] | None = None, times: int = 200) -> Look:
        """Explain images.

        Args:
            seen: the images.
            transformed: some of them after each transform, by name: what a leak would look like with the artefacts of
                these images.
            times: draws of the bootstrap.
        """
        shown = [
            (name, part)
            for name, versions in (transformed or {}).items()
            if name in self.suspects
            for part in (versions.sharp, *versions.softened)
            if self.shows(seen, part, name)
        ]
        owners = [1 + self.suspects.index(name) for name, _ in shown]
        sizes = [len(part) for _, part in shown]

        def explain(own: Tensor, others: Tensor) -> Shares:
            sources = self.sources.joined(torch.split(self.cells(others), sizes), owners)
            return find_shares(self.cells(own), sources, torch.Generator().manual_seed(self.seed), times)

        align = Alignment(seen.traces, self.usual)
        others = [seen[:0], *(part for _, part in shown)]
        traces = torch.cat([part.traces for part in others])
        return Look(
            explain(seen.scores, torch.cat([part.scores for part in others])),
            explain(self.scores(align(seen.traces)), self.scores(align(traces))),
            self.familiar.strangeness(seen.traces),
        )

    def shows(self, seen: Seen, transformed: Seen, name: str) -> bool:
        """Whether a transform changes these images so that the probe can tell. Arguments as of `at_most`."""
        return area_under_curve(self.odds(transformed, name), self.odds(seen, name)) >= LEAST_AREA

    def odds(self, seen: Seen, name: str) -> Tensor:
        """Log-odds of a transform against nothing, [N]."""
        return _odds(seen.scores, self.names.index(name) + 1)

    def at_most(self, seen: Seen, transformed: Seen, name: str) -> float:
        """The largest share of a transform that images can have, whatever their artefacts are.

        Where a transform is common, what it makes of an image is nothing new among them; where an artefact merely looks
        like it, it is.

        Args:
            seen: the images.
            transformed: some of them after the transform, as soft as in a leak.
            name: of the transform.
        """
        own, after = self.odds(seen, name), self.odds(transformed, name)
        bounds = []
        for threshold in torch.quantile(after, torch.linspace(0.05, 0.8, 16)):
            ours, theirs = float((own > threshold).sum()), float((after > threshold).sum())
            most, least = ours + 2 * math.sqrt(ours), max(theirs - 2 * math.sqrt(theirs), 0.5)  # two standard errors
            bounds.append(most / len(own) / (least / len(after)))
        return min(1.0, *bounds)

    def bounds(self, seen: Seen, transformed: Transformed, name: str) -> list[float]:
        """The upper bounds of a share of a transform that is as sharp as it was, or as soft as it is still told."""
        return [self.at_most(seen, part, name) for part in (transformed.sharp, *transformed.softened)]

    def most_show(self, seen: Seen, transformed: Transformed, name: str) -> float | None:
        """The share of images that show a transform, if that is beyond doubt and large. Arguments as of `look`.

        Many look more like it than any innocent image, and the transform itself would add nothing new to them.
        """
        if self.area[name] < PLAIN_AREA:
            return None
        beyond = float((self.odds(seen, name) > self.limits[name]).float().mean())
        gross = min(beyond, self.at_most(seen, transformed.sharp, name)) >= GROSS
        return beyond / max(beyond, self.sure[name]) if gross else None

    def leaks(self, look: Look, seen: Seen, transformed: Mapping[str, Transformed]) -> dict[str, int]:
        """The transforms that images show, by name, and the place of the look that says so. Arguments as of `leak`.

        Of transforms that look alike, where none is a leak by itself, the largest is one if their sum is.
        """
        found = {
            name: place
            for place, name in enumerate(self.suspects, start=1)
            if self.leak(look, seen, transformed[name], name, place)
        }
        sizes = look.raw.value + look.aligned.value
        for place, answers in enumerate(self.alike, start=len(self.answers)):
            name = self.suspects[max(answers, key=lambda answer: float(sizes[answer])) - 1]
            settled = any(self.suspects[answer - 1] in found for answer in answers)
            if not settled and self.leak(look, seen, transformed[name], name, place):
                found[name] = place
        return found

    def looks_like(self, name: str) -> list[str]:
        """The names of transforms that look like another one."""
        answer = self.suspects.index(name) + 1
        return [
            self.suspects[one - 1] for answers in self.alike if answer in answers for one in answers if one != answer
        ]

    def leak(self, look: Look, seen: Seen, transformed: Transformed, name: str, place: int) -> bool:
        """Whether images show a transform.

        Args:
            look: at the images.
            seen: the images.
            transformed: some of them after the transform.
            name: of the transform.
            place: of the look, at which it is judged.
        """
        area = self.area[name]
        if self.most_show(seen, transformed, name) is not None:
            return True
        raw, aligned = look.alarms()[:, place].tolist()
        if not (raw or aligned) or (look.strangeness > UNUSUAL and area < PLAIN_AREA):
            return False
        possible = max(self.bounds(seen, transformed, name)) >= look.share(place) * BLURRED
        if raw and aligned:
            return possible or area >= PLAIN_AREA
        # Alignment takes away what many images share, and a blurred leak is beyond the bound.
        if raw and area >= CERTAIN_AREA and float(look.raw.bounds()[0][place]) >= CERTAIN_SHARE:
            return True
        once = (aligned and area >= FAIR_AREA) or (raw and area >= SURE_AREA)
        once |= look.agree(place) and self.sure[name] >= DISTINCT
        return once and possible and self.shows(seen, transformed.sharp, name)

    def reach(
        self, look: Look, seen: Seen, transformed: Mapping[str, Transformed], name: str, leaks: Mapping[str, int]
    ) -> tuple[float, float]:
        """The interval of the share of a transform, wider by what softness may hide or what looks like it may take.

        Args:
            look: at the images.
            seen: the images.
            transformed: some of them after each transform.
            name: of the transform.
            leaks: what `leaks` found.
        """
        answer = self.suspects.index(name) + 1
        if name in leaks:
            low, high = look.interval(leaks[name])
            most = max(self.bounds(seen, transformed[name], name))
            return low, max(high, min(HIDDEN * look.share(leaks[name]), most))
        places = [answer]
        if any(other in leaks for other in self.looks_like(name)):
            places += [len(self.answers) + k for k, answers in enumerate(self.alike) if answer in answers]
        return 0.0, max(look.interval(place)[1] for place in places)

    def cells(self, scores: Tensor) -> Tensor:
        """Cells [N] of scores [N, K + 1]."""
        return to_cells(scores[:, self.answers])

    def scores(self, traces: Tensor, cross: bool = False) -> Tensor:
        """Scores [N, K + 1] of the probes in turn; with `cross`, row i of real images by the one that did not learn
        from image i."""
        first, second = (probe(traces[place::2]) for place, probe in enumerate(self.probes[:: -1 if cross else 1]))
        scores = torch.empty(len(traces), first.shape[1])
        scores[0::2], scores[1::2] = first, second
        return scores

    def _sets(self) -> dict[str, Tensor]:
        """All traces of real images, by transform, or "none", and kind."""
        r = self.reference
        innocent = {"none/plain": r.plain, "none/distorted": r.distorted}
        innocent |= {f"none/{name}": traces for name, traces in r.bank.items()}
        transformed = {f"{name}/transformed": traces for name, traces in r.transformed.items()}
        among = {f"{name}/among others": traces for name, traces in r.among.items()}
        return innocent | transformed | among

    def _alike(self, sources: Sources) -> list[tuple[int, ...]]:
        """Groups of answers that the probe can hardly tell from each other, though from nothing."""
        owners, known = sources.owners.tolist(), sources.frequencies()
        sure = [answer for answer, name in enumerate(self.suspects, start=1) if self.area[name] >= SURE_AREA]
        told = {}
        for answer in sure:
            distorted = known[owners.index(answer) + 1, CELLS:]  # of an answer, distorted images come second
            told[answer] = distorted / distorted.sum()
        groups: list[tuple[int, ...]] = []
        for answer in sure:
            near = [g for g in groups if any(float(torch.minimum(told[answer], told[one]).sum()) >= ALIKE for one in g)]
            groups = [g for g in groups if g not in near] + [(*sum(near, ()), answer)]
        return [group for group in groups if len(group) > 1]

    def _sources(self, scored: Mapping[str, Tensor]) -> Sources:
        cells, images, owners = [], [], []
        for key, scores in scored.items():
            owner, _, source = key.partition("/")
            answer = self.names.index(owner) + 1 if owner != "none" else 0
            if answer not in self.answers:
                continue
            found, numbers = self.cells(scores), torch.arange(len(scores))
            parts = [torch.ones(len(scores), dtype=torch.bool)]
            if source == "transformed":  # not distorted, and distorted
                parts = [self.reference.is_plain, ~self.reference.is_plain]
            for chosen in parts:
                cells.append(found[chosen])
                images.append(numbers[chosen])
                owners.append(self.answers.index(answer))
        return Sources(cells, images, torch.tensor(owners), len(self.answers), len(self.answers) * CELLS)


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
    """Which places have a share that is more than a margin and than chance, [K + S] bool; never the first, "none"."""
    seen = (shares.bounds()[0] > margin) & (shares.value - shares.misfit > shares.by_chance + margin)
    return seen & (torch.arange(len(seen)) > 0)
