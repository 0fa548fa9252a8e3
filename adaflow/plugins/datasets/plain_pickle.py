"""Pickles of plain values and tables of bytes, taken apart by hand: nothing that a pickle names is looked up or called.

A pickle is a program. The unpickler of the standard library calls what the program names, and even with all names
forbidden a few bytes of it can fill the memory or overflow the stack. This reader knows only the instructions that
plain values and arrays of uint8 need in protocol 2, as Python 2 and 3 write them.
"""

from __future__ import annotations

import pickletools
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_STEPS = 200_000
"""Instructions of a pickle; one of 10,000 images with their names has some 40,000."""

_MARK, _RECONSTRUCT, _NDARRAY, _DTYPE, _UINT8, _ENCODE = (object() for _ in range(6))
_NAMES = {
    "numpy.core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy ndarray": _NDARRAY,
    "numpy dtype": _DTYPE,
    "_codecs encode": _ENCODE,
}
"""What the pickle of an array names. We need not have these things to know what they would have done."""


class PlainPickleError(ValueError):
    """The pickle is damaged, or holds something other than plain values and arrays of uint8."""


def read_plain_pickle(data: bytes) -> Any:
    """The value that a pickle describes: dictionaries, lists, tuples, numbers, texts and arrays of uint8.

    Texts that Python 2 wrote come as bytes, in keys, too. Memory stays within a few times the size of the pickle.

    Raises:
        PlainPickleError: see there.
    """
    machine = _Machine(len(data))
    try:
        for step, (instruction, argument, _) in enumerate(pickletools.genops(data)):
            if step == MAX_STEPS:
                raise PlainPickleError(f"it has more than {MAX_STEPS:,} instructions")
            machine.step(instruction.name, argument)
        (value,) = machine.stack
    except PlainPickleError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise PlainPickleError("it is damaged or cut off") from error
    return value


class Table:
    """An array: announced by one instruction, and filled by a later one.

    Attributes:
        values: uint8, of any shape.
    """

    values: NDArray[np.uint8]

    def fill(self, version: int, shape: tuple[int, ...], dtype: object, is_fortran: bool, data: bytes) -> None:
        """Take what numpy stored of an array."""
        if dtype is not _UINT8 or not isinstance(data, bytes):
            raise PlainPickleError("it has an array of something other than bytes")
        values = np.frombuffer(data, np.uint8).reshape(shape, order="F" if is_fortran else "C")
        self.values = np.ascontiguousarray(values)


class _Machine:
    """The stack and the memory that a pickle's instructions work on.

    Args:
        size: of the pickle in bytes; as many may be made of texts.
    """

    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.budget = size

    def step(self, instruction: str, argument: Any) -> None:
        """Follow one instruction, by the name that `pickletools` gives it."""
        stack = self.stack
        match instruction:
            case "PROTO" | "STOP":
                pass
            case "MARK":
                stack.append(_MARK)
            case "BININT" | "BININT1" | "BININT2" | "BINUNICODE":
                stack.append(argument)
            case "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument.encode("latin-1"))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction])
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_TUPLE":
                stack.append({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}[instruction]())
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(instruction[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "APPEND" | "APPENDS":
                items = self._since_mark() if instruction == "APPENDS" else [stack.pop()]
                _require(stack[-1], list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._since_mark() if instruction == "SETITEMS" else [stack.pop(-2), stack.pop()]
                # Only texts as keys: the hash of tuples in tuples in tuples … overflows the stack.
                keys = [_require(key, bytes, str) for key in items[::2]]
                _require(stack[-1], dict).update(zip(keys, items[1::2], strict=True))
            case "GLOBAL":
                if argument not in _NAMES:
                    raise PlainPickleError(f"it asks for {argument.replace(' ', '.')}, which could run code")
                stack.append(_NAMES[argument])
            case "REDUCE":
                arguments = _require(stack.pop(), tuple)
                stack.append(self._call(stack.pop(), arguments))
            case "BUILD":
                state = _require(stack.pop(), tuple)
                if stack[-1] is not _UINT8:  # what else there is to know of it is always the same
                    _require(stack[-1], Table).fill(*state)
            case _:
                raise PlainPickleError(f"it has the instruction {instruction}, which plain values do not need")

    def _since_mark(self) -> list[Any]:
        """Take everything after the last mark off the stack, and the mark."""
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _call(self, what: object, arguments: tuple[Any, ...]) -> object:
        """What the call of one of `_NAMES` would have returned."""
        if what is _RECONSTRUCT and arguments[0] is _NDARRAY:
            return Table()
        if what is _DTYPE:
            if arguments[0] not in (b"u1", "u1"):
                raise PlainPickleError("it has an array of something other than bytes")
            return _UINT8
        if what is _ENCODE and arguments[1:] == ("latin1",):
            text = _require(arguments[0], str)
            self.budget -= len(text)
            if self.budget < 0:
                raise PlainPickleError("it makes more of its texts than it holds")
            return text.encode("latin-1")
        raise PlainPickleError("it calls what cannot be called")


def _require(value: Any, *types: type) -> Any:
    if not isinstance(value, types):
        raise PlainPickleError("it is damaged or cut off")
    return value
