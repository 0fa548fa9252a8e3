"""A CUDA graph in miniature, on the CPU: the calls of a phase are recorded, and repeated on the same tensors.

As with a real graph, repeating knows nothing of Python: numbers that the host put into a call, addresses and shapes are
those of the recording. What a real graph refuses, this refuses, too: asking the device for a number or sending it one.
"""

import ctypes
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from adaflow.cuda import library
from adaflow.cuda.fused_kernels import _Args

WAITING = {
    Tensor.item, Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.nonzero, torch.nonzero, Tensor.unique, torch.unique,
    Tensor.masked_select, torch.masked_select, torch.equal, Tensor.equal,
    Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__,
}  # fmt: skip
SENDING = {torch.tensor, torch.from_numpy}
ASKING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::equal")


class NotRecordableError(RuntimeError):
    """The phase does what no CUDA graph can hold."""


class Watch(TorchFunctionMode):
    """Refuses calls that wait for a device or bring numbers there."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in WAITING:
            raise NotRecordableError(f"{func.__name__} waits for the device")
        if func in SENDING or (func is torch.as_tensor and not isinstance(args[0], Tensor)):
            raise NotRecordableError(f"{func.__name__} brings numbers to the device")
        return func(*args, **(kwargs or {}))


class Recording(TorchDispatchMode):
    """Collects calls of torch's operations and of native kernels."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name
        masks = name in ("aten::index", "aten::index_put", "aten::index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in ASKING or masks:
            raise NotRecordableError(f"{name} waits for the device")
        result = func(*args, **kwargs)
        inputs = {t.untyped_storage().data_ptr() for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)}
        made = [isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in inputs for t in tree_flatten(result)[0]]
        self.calls.append((func, args, kwargs, result, made))
        return result

    def native_call(self, library_, name, device, *arguments):
        if name.startswith("adaflow_fused_"):  # its argument is the address of a structure that is gone afterwards
            arguments = (ctypes.create_string_buffer(ctypes.string_at(arguments[0], ctypes.sizeof(_Args))),)
        self.calls.append((name, library_, device, arguments, None))
        self.run_native(library_, name, device, arguments)

    def run_native(self, library_, name, device, arguments):
        plain = [ctypes.addressof(a) if isinstance(a, ctypes.Array) else a for a in arguments]
        call_native(library_, name, device, *plain)

    @torch.no_grad()
    def repeat(self):
        for func, args, kwargs, result, made in self.calls:
            if made is None:
                self.run_native(args, func, kwargs, result)
                continue
            again = tree_flatten(func(*args, **kwargs))[0]
            for old, new, is_made in zip(tree_flatten(result)[0], again, made, strict=True):
                if is_made:
                    old.copy_(new)


call_native = library._call


@contextmanager
def watched():
    """Within the block, what a CUDA graph cannot hold raises `NotRecordableError`. Gives the recording."""
    recording = Recording()
    with ExitStack() as stack:
        stack.enter_context(Watch())
        stack.enter_context(recording)
        stack.enter_context(mock.patch.object(library, "_call", recording.native_call))
        yield recording


class CpuRecorder:
    """A `Recorder` for `Graphs`. A real one does not compute while it records, so what was computed is taken back.

    Args:
        kept: gives all tensors that a phase may change.
    """

    def __init__(self, kept):
        self.kept = kept
        self.recordings = []

    def warm_up(self, phase):
        phase()

    def record(self, phase):
        tensors = self.kept()
        before = [tensor.detach().clone() for tensor in tensors]
        try:
            with watched() as recording:
                phase()
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, before, strict=True):
                    if not torch.equal(tensor, value):
                        tensor.copy_(value)
        self.recordings.append(recording)
        return recording.repeat
