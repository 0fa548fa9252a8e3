"""Counter-based random numbers: every number is a function of (key, image, call, element) and of nothing else.

There is no generator state. A number does not depend on the other images of the batch, on their order or on the number
of processes, so a run that is resumed, split or replayed draws the same numbers.

The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3").
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from adaflow.cuda.library import call as native_call
from adaflow.cuda.library import declare, native

WORD = 0xFFFFFFFF
ROUNDS = 10
# Philox works on the words (0, 2) and (1, 3) in pairs. A round multiplies words 2 and 0, in this order.
MULTIPLIERS = (0xCD9E8D57, 0xD2511F53)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def stream_key(seed: int, *names: str | int) -> int:
    """The 64-bit key of the stream of random numbers with these names, as in `stream_key(0, "latents", "G")`.

    Streams of different seeds or names are independent of each other.
    """
    text = json.dumps([seed, *names])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def uniform(key: int | Sequence[int], images: Tensor, shape: tuple[int, ...] = (), call: int = 0) -> Tensor:
    """Uniform numbers in the open interval (0, 1).

    Args:
        key: a 64-bit stream key, or K of them.
        images: [N] int64, the number of each image in the run, counted from 0.
        shape: the shape of what every image gets. The numbers of a smaller shape begin those of a larger one.
        call: 0 to 2**32 - 1; another call gives other numbers.

    Returns:
        [N, *shape] float32, or [K, N, *shape] when `key` is a sequence.
    """
    _check(images)
    elements = math.prod(shape)
    if native(images.device) is not None:
        return _natively("uniform", key, images, elements, call).view(*_batch(key, images), *shape)
    numbers = _words(key, images, -(-elements // 4), call)[..., :elements]
    # 23 bits and a half: exact in float32, never 0 and never 1.
    numbers = (numbers >> 9).to(torch.float32).add_(0.5).mul_(2.0**-23)
    return numbers.reshape(*numbers.shape[:-1], *shape)


def normal(key: int | Sequence[int], images: Tensor, shape: tuple[int, ...] = (), call: int = 0) -> Tensor:
    """Normal numbers of mean 0 and variance 1, by Box and Muller. Arguments and result as for `uniform`."""
    _check(images)
    elements = math.prod(shape)
    if native(images.device) is not None:
        return _natively("normal", key, images, elements, call).view(*_batch(key, images), *shape)
    pairs = uniform(key, images, (-(-elements // 2), 2), call)
    radius = pairs[..., 0].log().mul_(-2.0).sqrt_()
    angle = pairs[..., 1] * (2.0 * math.pi)
    numbers = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(-2)[..., :elements]
    return numbers.reshape(*numbers.shape[:-1], *shape)


def philox(counter: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10.

    Args:
        counter: [4, ...] int64, 32-bit words.
        key: [2, ...] int64, 32-bit words, of a shape that broadcasts with the counter's.

    Returns:
        [4, ...] int64, 32-bit words.
    """
    multipliers = _constant(MULTIPLIERS, counter.device).view(2, *[1] * (counter.dim() - 1))
    steps = _constant(KEY_STEPS, counter.device).view(2, *[1] * (counter.dim() - 1))
    even, odd = counter[0::2], counter[1::2]
    for number in range(ROUNDS):
        # The 64-bit product wraps around in int64; its bits are those of the unsigned one.
        product = even.flip(0).mul_(multipliers)
        round_key = (key + number * steps).bitwise_and_(WORD)
        even = (product >> 32).bitwise_and_(WORD).bitwise_xor_(odd) ^ round_key
        odd = product.bitwise_and_(WORD)
    odd = odd.expand_as(even)
    return torch.stack((even[0], odd[0], even[1], odd[1]))


def _check(images: Tensor) -> None:
    if images.dtype != torch.int64 or images.dim() != 1:
        raise TypeError(f"images must be int64 [N], not {images.dtype} {list(images.shape)}")


def _natively(kind: str, key: int | Sequence[int], images: Tensor, elements: int, call: int) -> Tensor:
    """[N · elements] or [K · N · elements] uniform or normal numbers, by a native kernel."""
    keys = _key_numbers((key,) if isinstance(key, int) else tuple(key), images.device)
    images = images.contiguous()
    numbers = torch.empty(len(keys) * len(images) * elements, device=images.device)
    native_call(
        f"adaflow_{kind}_f32", images.device, numbers.data_ptr(), keys.data_ptr(), images.data_ptr(),
        len(keys), len(images), elements, call,
    )  # fmt: skip
    return numbers


def _batch(key: int | Sequence[int], images: Tensor) -> tuple[int, ...]:
    return (len(images),) if isinstance(key, int) else (len(key), len(images))


def _words(key: int | Sequence[int], images: Tensor, blocks: int, call: int) -> Tensor:
    """[N, 4·blocks] or [K, N, 4·blocks] random 32-bit words from the counters (block, call, image low, image high)."""
    keys = (key,) if isinstance(key, int) else tuple(key)
    counter = torch.empty(4, 1, len(images), blocks, dtype=torch.int64, device=images.device)
    counter[0] = torch.arange(blocks, device=images.device)
    counter[1] = call
    counter[2] = (images & WORD)[:, None]
    counter[3] = (images >> 32 & WORD)[:, None]
    words = philox(counter, _key_words(keys, images.device)).permute(1, 2, 3, 0).flatten(2)
    return words[0] if isinstance(key, int) else words


# These stay for the life of the process: CUDA graphs read them where they are.
@cache
def _key_words(keys: tuple[int, ...], device: torch.device) -> Tensor:
    """[2, K, 1, 1]: low and high word of each key."""
    words = [[key & WORD for key in keys], [key >> 32 & WORD for key in keys]]
    return torch.tensor(words, dtype=torch.int64, device=device).view(2, len(keys), 1, 1)


@cache
def _key_numbers(keys: tuple[int, ...], device: torch.device) -> Tensor:
    """[K] int64 with the bits of each key."""
    return torch.tensor([key - (key >> 63 << 64) for key in keys], dtype=torch.int64, device=device)


@cache
def _constant(values: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)


for _kind in ("uniform", "normal"):
    declare(f"adaflow_{_kind}_f32", "pppqqqq")
