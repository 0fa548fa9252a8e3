"""Load the native kernels, and decide whether an operation uses them or the reference path in pure torch.

`ADAFLOW_OPS` is `auto` (native where it can be had; the default), `reference` (never) or `native` (or fail).

An operation asks `native(x.device)` and takes the reference path if the answer is None; else it runs its kernel by
`call`, after its module has declared it once:

    declare("adaflow_scale_f32", "ppqf")
    ...
    call("adaflow_scale_f32", x.device, out.data_ptr(), x.data_ptr(), x.numel(), 2.0)
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, cast

import torch

from adaflow.cuda.build import NAMES, OLDEST_GPU, BuildError, Kind, build, say
from adaflow.errors import UsageError

Mode = Literal["auto", "reference", "native"]

TYPES = dict(p=ctypes.c_void_p, q=ctypes.c_int64, i=ctypes.c_int, f=ctypes.c_float, d=ctypes.c_double)
"""Letters of `declare`."""

self_tests: dict[str, Callable[[torch.device], None]] = {}
"""Operation → the function given to `register_self_test`."""

_signatures: dict[str, str] = {}
_libraries: dict[Kind, ctypes.CDLL | BuildError] = {}
_chosen: dict[torch.device, ctypes.CDLL | None] = {}
_recording: set[str] | None = None
_lock = threading.RLock()
_reference_only = 0


def mode() -> Mode:
    """What $ADAFLOW_OPS says.

    Raises:
        UsageError: none of auto, reference and native.
    """
    value = os.environ.get("ADAFLOW_OPS") or "auto"
    if value not in ("auto", "reference", "native"):
        raise UsageError(f"ADAFLOW_OPS={value} is unknown", "It is auto, reference or native.")
    return cast(Mode, value)


def native(device: torch.device) -> ctypes.CDLL | None:
    """The native kernels for tensors on `device`, built on first use; None where the reference path is to be taken.

    The answer is kept for the life of the process. If they cannot be had, one line on stderr says why.

    Raises:
        BuildError: they cannot be had, and ADAFLOW_OPS=native.
        UsageError: ADAFLOW_OPS has an unknown value.
    """
    if _reference_only:
        return None
    try:
        return _chosen[device]
    except KeyError:
        with _lock:
            if device not in _chosen:
                _chosen[device] = _choose(device)
            return _chosen[device]


@contextmanager
def reference_ops() -> Iterator[None]:
    """Take the reference path everywhere within the block, in all threads."""
    global _reference_only
    with _lock:
        _reference_only += 1
    try:
        yield
    finally:
        with _lock:
            _reference_only -= 1


def declare(name: str, arguments: str) -> None:
    """Say what an exported function takes, so that ctypes passes it right; done once, where a module is imported.

    Args:
        name: e.g. "adaflow_bias_act_f32".
        arguments: one letter each: p pointer, q int64_t, i int, f float, d double. The last argument of every function,
            `int64_t threads` in the CPU library and `void* stream` in the CUDA library, is not written.
    """
    with _lock:
        _signatures[name] = arguments
        for kind, library in _libraries.items():
            if isinstance(library, ctypes.CDLL):
                _apply(library, kind, name)


def call(name: str, device: torch.device, *arguments: int | float | None) -> None:
    """Run a declared function of the library that `native(device)` gave, on torch's threads or current stream.

    Args:
        name: as declared.
        device: where the tensors are.
        arguments: `tensor.data_ptr()`, or None for a null pointer; sizes; numbers.

    Raises:
        RuntimeError: it returned an error code.
    """
    library = _chosen[device]
    if library is None:
        raise RuntimeError(f"{name} was called where the reference path is taken")
    _call(library, name, device, *arguments)


def offers(name: str, device: torch.device) -> bool:
    """Whether the native path is taken on a device, and has this function there: some need certain processors."""
    library = native(device)
    return library is not None and getattr(library, name, None) is not None


@contextmanager
def recorded_calls() -> Iterator[set[str]]:
    """Collects the names of the kernels called within the block: the proof that a test tests the native path."""
    global _recording
    before, _recording = _recording, set()
    try:
        yield _recording
    finally:
        _recording = before


def register_self_test(operation: str, function: Callable[[torch.device], None]) -> None:
    """Have `adaflow doctor` show an operation and test it.

    Args:
        operation: its public name.
        function: runs it on small inputs on the device given, natively and within `reference_ops()`, and compares:
            `adaflow.cuda.self_test.compare` does. Raises AssertionError if they differ.
    """
    self_tests[operation] = function


def why_not(device: torch.device) -> BuildError | None:
    """Why the native kernels cannot be had on a device; None if they can. Builds them, whatever ADAFLOW_OPS says.

    Args:
        device: a CPU or one GPU.
    """
    kind = _kind(device)
    if kind is None:
        return BuildError(f"there are none for {device.type}")
    if kind == "cuda":
        found = torch.cuda.get_device_capability(device)
        if found < OLDEST_GPU:
            return BuildError(f"the GPU has compute capability {found[0]}.{found[1]}, and {OLDEST_GPU[0]}.0 is needed")
    library = load(kind)
    return library if isinstance(library, BuildError) else _probe(library, device)


def load(kind: Kind) -> ctypes.CDLL | BuildError:
    """The library for CPUs or for CUDA, built if need be, or why it cannot be had; whatever ADAFLOW_OPS says."""
    with _lock:
        if kind not in _libraries:
            _libraries[kind] = _load(kind)
        return _libraries[kind]


def _kind(device: torch.device) -> Kind | None:
    if device.type == "cpu":
        return "cpu"
    # ROCm calls its GPUs cuda, too.
    return "cuda" if device.type == "cuda" and torch.version.cuda is not None else None


def _choose(device: torch.device) -> ctypes.CDLL | None:
    wanted, kind = mode(), _kind(device)
    if wanted == "reference" or kind is None:
        return None
    error = why_not(device)
    if error is None:
        return cast(ctypes.CDLL, load(kind))
    if wanted == "native":
        raise BuildError(f"there are no native {NAMES[kind]} kernels: {error.message}", error.hint, error.log)
    say(f"no native {NAMES[kind]} kernels, so the slower reference path is taken: {error.message}")
    return None


def _load(kind: Kind) -> ctypes.CDLL | BuildError:
    try:
        library = ctypes.CDLL(str(build(kind)))
    except BuildError as error:
        return error
    except OSError as error:
        hint = "On a file system without exec? Choose one by $ADAFLOW_CACHE."
        if "libgomp" in str(error):  # built elsewhere
            hint = "Install libgomp1, which comes with g++."
        return BuildError(f"they do not load: {error}", hint)
    library.adaflow_error.restype = ctypes.c_char_p
    for name in _signatures:
        _apply(library, kind, name)
    return library


def _apply(library: ctypes.CDLL, kind: Kind, name: str) -> None:
    function = getattr(library, name, None)
    if function is None:  # it exists for the other kind of device only
        return
    function.argtypes = [*(TYPES[letter] for letter in _signatures[name]), TYPES["q" if kind == "cpu" else "p"]]
    function.restype = ctypes.c_int


def _call(library: ctypes.CDLL, name: str, device: torch.device, *arguments: int | float | None) -> None:
    function = getattr(library, name)
    if _recording is not None:
        _recording.add(name)
    if device.type == "cuda":
        with torch.cuda.device(device):
            code = function(*arguments, torch.cuda.current_stream(device).cuda_stream)
    else:
        code = function(*arguments, torch.get_num_threads())
    if code != 0:
        raise RuntimeError(f"{name}: {library.adaflow_error(code).decode()} (code {code})")


def _probe(library: ctypes.CDLL, device: torch.device) -> BuildError | None:
    """Count on the device: that a driver is too old, say, shows only there."""
    out = torch.empty(1000, device=device)
    try:
        _call(library, "adaflow_probe_f32", device, out.data_ptr(), out.numel())
        if out.tolist() == list(range(1000)):
            return None
        return BuildError("they load but compute wrong numbers")
    except RuntimeError as error:
        return BuildError(f"they load but do not run: {error}")


declare("adaflow_probe_f32", "pq")
