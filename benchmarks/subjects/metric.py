"""`metric`: the Fréchet distance of two sets of features, against the customary matrix root."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from adaflow.plugins.metrics.frechet import frechet_distance, gram, roots_of_product
from benchmarks.harness import Case, Side
from benchmarks.options import OURS, Options


def cases(options: Options) -> Iterator[Case]:
    """Features as long as those of the Inception network, and shorter ones; fewer images than features, too."""
    shapes = (
        ((1000, 1000, 256),) if options.quick else ((10_000, 10_000, 512), (10_000, 10_000, 2048), (1000, 10_000, 2048))
    )
    for few, many, length in shapes:
        x, y = features(0, few, length), features(1, many, length)
        rounds = 3 if length > 1000 else None
        sides = [Side(OURS, partial(frechet_distance, x, y)), Side("scipy sqrtm", partial(distance_by_root, x, y))]
        yield Case("metric", f"Fréchet distance, {few} and {many} × {length}", sides, rounds, single=True)
        if few > length:
            a, b = (gram((z - z.mean(0)).double() / len(z) ** 0.5) for z in (x, y))
            sides = [
                Side(OURS, partial(roots_of_product, a, b)),
                Side("scipy sqrtm", partial(lambda a, b: scipy.linalg.sqrtm((a @ b).numpy()), a, b)),
            ]
            yield Case(
                "metric", f"of these, the root of the product of covariances {length}²", sides, rounds, single=True
            )


def features(seed: int, images: int, length: int) -> Tensor:
    """[images, length] float32, correlated and positive, as the features of a network are."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(length, length, generator=generator) / length**0.5
    return (torch.randn(images, length, generator=generator) @ mix + 0.3).relu()


def distance_by_root(x: Tensor, y: Tensor) -> float:
    """|μx − μy|² + tr(Cx + Cy − 2·sqrtm(Cx·Cy)), covariances with 1/N."""
    a, b = x.double().numpy(), y.double().numpy()
    cov_a, cov_b = (np.cov(values, rowvar=False, bias=True) for values in (a, b))
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * np.real(root)))
