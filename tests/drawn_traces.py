"""Traces of made-up images whose truth is known, for tests of the search for leaks."""

import torch

from adaflow.core.leaks.reference import Reference
from adaflow.core.leaks.search import Search, Transformed

WIDTH, PIXELS = 30, 12


def generator(seed):
    return torch.Generator().manual_seed(seed)


NAMES = ("up", "sideways", "nothing")
ALIKE = ("up", "sideways", "upwards", "above")
SHIFT = {"up": (0, 4.0), "sideways": (5, -4.0), "nothing": (20, 0.0), "upwards": (0, 4.2), "above": (0, 3.9)}


def images(count, seed, shares=None, drift=0.0):
    """Traces of made-up images, some of them transformed, all of them distorted by `drift`."""
    draws = generator(seed)
    x = torch.randn(count, WIDTH, generator=draws)
    order, start = torch.randperm(count, generator=draws), 0
    for name, share in (shares or {}).items():
        place, by = SHIFT[name]
        chosen = order[start : start + round(share * count)]
        x[chosen, place] += by + torch.randn(len(chosen), generator=draws)
        start += len(chosen)
    x[:, 1] += drift
    return x


def learned(names):
    half = torch.arange(400) // 2 % 5 < 2
    reference = Reference(
        images(400, 0),
        images(400, 1, drift=0.5),
        {f"drift {drift}": images(200, 2, drift=drift) for drift in (1.0, 2.0)},
        {name: images(400, 5 + place, {name: 1.0}) for place, name in enumerate(names)},
        {name: images(200, 8 + place, {name: 1.0}) for place, name in enumerate(names)},
        half,
        dict.fromkeys(names, 1.0),
    )
    return Search(reference, PIXELS, 0)


def transformed(search, count=160, drift=0.0, up=0.0):
    found = {}
    for place, name in enumerate(search.names):
        x = images(count, 70 + place, {name: 1.0}, drift)
        x[:, 0] += up
        found[name] = Transformed(search.see(x))
    return found


def softened(share, by):
    """800 images, a share moved "up" by a part of the usual distance, as if blurred; and 160 that are moved fully."""
    x = torch.randn(800, WIDTH, generator=generator(60))
    chosen = torch.randperm(800, generator=generator(61))[: round(800 * share)]
    x[chosen, 0] += by * (4 + torch.randn(len(chosen), generator=generator(62)))
    after = x[:160].clone()
    after[:, 0] += 4 + torch.randn(160, generator=generator(63))
    return x, after


def seen(search, x, after):
    return search.see(x), Transformed(search.see(after))


def half_up(count, seed):
    x = torch.randn(count, WIDTH, generator=generator(seed))
    x[:, 0] += 2 + torch.randn(count, generator=generator(seed + 1))
    return x
