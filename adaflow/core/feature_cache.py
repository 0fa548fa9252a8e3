"""Features of real images, kept in the user's cache, so that only the first measurement computes them.

One file for each (data, extractor, options): a line of JSON that says what it holds, then float32 numbers, the lowest
byte first. Files appear whole, and any process may compute one that is missing, so nobody has to wait for another.
The folder `features` of the cache can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from adaflow.core.files import committed, read_plain
from adaflow.core.user_cache import user_cache
from adaflow.errors import FileError

if TYPE_CHECKING:
    from adaflow.core.features import FeatureExtractor

VERSION = 1
"""Raised when files hold something else than before."""

HEADER_BYTES = 4096


def cached_features(extractor: FeatureExtractor, content: dict[str, Any], compute: Callable[[], Tensor]) -> Tensor:
    """Features from the cache, else from `compute`, which then go there.

    Args:
        extractor: whose; one without `identity()` is not cached.
        content: plain values that tell these images from all others.
        compute: gives float32 [N, D] on the CPU.

    Returns:
        float32 [N, D] on the CPU.
    """
    identity = getattr(extractor, "identity", None)
    if identity is None:
        return compute()
    key = digest(json.dumps([VERSION, identity(), content], sort_keys=True).encode())
    try:
        path = user_cache("features") / f"{key}.f32"
    except FileError:
        return compute()
    features = _read(path, key)
    if features is None:
        features = compute()
        with suppress(FileError, OSError):  # a cache that cannot be written is none
            _write(path, key, features)
    return features


def digest(data: bytes) -> str:
    """Names some content."""
    return hashlib.sha256(data).hexdigest()


def _read(path: Path, key: str) -> Tensor | None:
    """What a file holds; None if it is not there, or not what was written."""
    try:
        whole = read_plain(path)
        end = whole.index(b"\n", 0, HEADER_BYTES)
        header = json.loads(whole[:end])
        rows, columns = header["shape"]
        body = memoryview(whole)[end + 1 :]
        if header["key"] != key or header["sha256"] != hashlib.sha256(body).hexdigest():
            return None
        array = np.frombuffer(body, "<f4").reshape(rows, columns).astype(np.float32)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return torch.from_numpy(array)


def _write(path: Path, key: str, features: Tensor) -> None:
    if features.dtype != torch.float32 or features.dim() != 2:
        return
    array = np.ascontiguousarray(features.numpy())
    body = (array if sys.byteorder == "little" else array.byteswap()).tobytes()
    header = json.dumps({"key": key, "shape": list(array.shape), "sha256": digest(body)})
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with committed(path) as file:
        file.write(header.encode() + b"\n" + body)
