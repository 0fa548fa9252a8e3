"""Preparation of FIR (finite impulse response) low-pass filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from adaflow.errors import ConfigError

SHORTEST_SEPARABLE = 8  # below this length one 2-D pass costs less than two 1-D passes


def setup_filter(
    f: Sequence[float] | Tensor,
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1.0,
    separable: bool | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Prepare a filter for `upfirdn2d` and the functions built on it.

    Args:
        f: taps, [taps] or [height, width].
        normalize: scale the taps to sum 1.
        flip_filter: reverse the taps along every axis.
        gain: signal gain of the filter, shared between the axes.
        separable: keep a 1-D filter as it is (applied along x, then y) instead of making it 2-D; by default
            when it has 8 taps or more. Has no meaning for 2-D taps.
        device: where the result lives.

    Returns:
        float32 taps, [taps] (separable) or [height, width].

    Raises:
        ConfigError: `f` is empty, has more than two axes, or sums to zero where it is to be normalised.
    """
    taps = torch.as_tensor(f, dtype=torch.float32, device=device)
    if taps.ndim not in (1, 2) or taps.numel() == 0:
        raise ConfigError(
            f"a resampling filter has one or two axes and at least one tap, got shape {tuple(taps.shape)}",
            "Give a list of taps such as [1, 3, 3, 1].",
        )
    if separable is None:
        separable = taps.numel() >= SHORTEST_SEPARABLE
    if taps.ndim == 1 and not separable:
        taps = torch.outer(taps, taps)
    if normalize:
        if taps.sum() == 0:
            raise ConfigError("the taps of a resampling filter sum to zero", "A low-pass filter has a positive sum.")
        taps = taps / taps.sum()
    if flip_filter:
        taps = taps.flip(list(range(taps.ndim)))
    return taps * (gain if taps.ndim == 2 else math.sqrt(gain))


def filter_size(f: Tensor | None) -> tuple[int, int]:
    """Width and height in taps of a prepared filter; no filter is a single tap."""
    if f is None:
        return 1, 1
    return f.shape[-1], f.shape[0]


def separate_taps(f: Tensor | None) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The taps along y and along x whose outer product is the filter, or None where there are none such.

    The answer is remembered as long as `f` lives and is not changed: asking a GPU waits for it.

    Args:
        f: taps from `setup_filter`, or None for a single tap of 1.
    """
    if f is None:
        return (1.0,), (1.0,)
    version = 0 if f.is_inference() else f._version
    known = _separate.get(f)
    if known is None or known[0] != version:
        known = _separate[f] = (version, _factors(f.detach().double().cpu()))
    answer: tuple[tuple[float, ...], tuple[float, ...]] | None = known[1]
    return answer


_separate: Any = WeakTensorKeyDictionary()


def _factors(f: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if f.ndim == 1:
        taps = tuple(f.tolist())
        return taps, taps
    y, x = divmod(int(f.abs().argmax()), f.shape[1])
    along_x = f[y]
    along_y = f[:, x] / f[y, x] if f[y, x] else f[:, x]
    if (torch.outer(along_y, along_x) - f).abs().max() > 1e-6 * f.abs().max():
        return None
    return tuple(along_y.tolist()), tuple(along_x.tolist())
