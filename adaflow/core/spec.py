"""The small language in which users name plugins and set them: `blit,geom,rotate90=off,color*0.5,noise(std=0.2)`.

A spec is a list of items divided by commas. An item is a name, then, as wanted, settings in parentheses (Python
literals), and `*` with a weight or `=on` or `=off`. White space between these is ignored.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from adaflow.errors import ConfigError, UsageError

T = TypeVar("T")
HINT = 'An item looks like name, name(setting=1.0), name*0.5 or name=off, as in "blit,geom*0.5,noise(std=0.2)".'
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]*")
NUMBER = re.compile(r"[0-9.][0-9.]*([eE][+-]?[0-9]+)?")
SPACE = re.compile(r"\s*")


@dataclass(frozen=True)
class SpecItem:
    """One item of a spec.

    Args:
        name: the name.
        arguments: the settings in parentheses.
        weight: the number after `*`, or None.
        on: False for `=off`.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    weight: float | None = None
    on: bool = True


def parse_spec(text: str) -> list[SpecItem]:
    """The items of a spec, in order; none for an empty one.

    Raises:
        UsageError: the spec cannot be read; the message says at which character.
    """
    return _Reader(text).items()


def create(kind: str, name: str, make: Callable[..., T], arguments: dict[str, Any]) -> T:
    """Make the object called `name` with the settings a user gave.

    Args:
        kind: the word for it in messages, such as "augmentation".
        name: what the user calls it.
        make: a class or function; a setting must be of the same kind as its default (number, bool or text).
        arguments: the settings.

    Raises:
        ConfigError: a setting is unknown, of the wrong kind or out of range.
    """
    known = inspect.signature(make).parameters
    for setting, value in arguments.items():
        if setting not in known:
            raise ConfigError(
                f"{kind} {name!r} has no setting {setting!r}",
                f"It has {', '.join(known)}." if known else "It has no settings.",
            )
        default = _default(make, known[setting])
        if not _same_kind(value, default):
            raise ConfigError(
                f"{kind} {name!r}: {setting} is {value!r}, which does not fit", f"The default is {default!r}."
            )
    try:
        return make(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{kind} {name!r}: {error.message}", error.hint) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{kind} {name!r} cannot be made: {error}") from error


def _default(make: Callable[..., Any], setting: inspect.Parameter) -> Any:
    return None if setting.default is inspect.Parameter.empty else setting.default


def _same_kind(value: Any, default: Any) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int | float):
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, str) if isinstance(default, str) else True


class _Reader:
    """Reads a spec from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def items(self) -> list[SpecItem]:
        """All items."""
        items: list[SpecItem] = []
        self._take(SPACE)
        if self.position == len(self.text):
            return items
        items.append(self._item())
        while self._take_sign(","):
            items.append(self._item())
        if self.position < len(self.text):
            raise self._error(f"{self.text[self.position]!r} does not belong here")
        return items

    def _item(self) -> SpecItem:
        name = self._take(NAME)
        if not name:
            raise self._error("a name is missing")
        arguments = self._arguments() if self._take_sign("(") else {}
        if self._take_sign("*"):
            return SpecItem(name, arguments, weight=self._weight())
        if self._take_sign("="):
            return SpecItem(name, arguments, on=self._switch())
        return SpecItem(name, arguments)

    def _arguments(self) -> dict[str, Any]:
        """What stands between the parentheses, the first of which is behind us."""
        start = self.position
        end = start
        while (end := self.text.find(")", end)) >= 0:
            try:
                call = ast.parse(f"f({self.text[start:end]})", mode="eval").body
            except (SyntaxError, ValueError):
                end += 1
                continue
            if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
                break
            try:
                arguments = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
            except (ValueError, TypeError) as error:
                raise self._error("a setting is not a plain value; texts need quotes") from error
            if len(arguments) < len(call.keywords):
                raise self._error("a setting is given twice")
            self.position = end + 1
            self._take(SPACE)
            return arguments
        raise self._error("the settings cannot be read")

    def _weight(self) -> float:
        start = self.position
        try:
            weight = float(self._take(NUMBER))
        except ValueError:
            self.position = start
            raise self._error("the weight is not a number of at least 0") from None
        return weight

    def _switch(self) -> bool:
        start = self.position
        word = self._take(NAME)
        if word not in ("on", "off"):
            self.position = start
            raise self._error("after '=' stands on or off")
        return word == "on"

    def _take(self, pattern: re.Pattern[str]) -> str:
        """The text that matches here, stepped over with the white space after it."""
        match = pattern.match(self.text, self.position)
        if match is None:
            return ""
        self.position = match.end()
        if pattern is not SPACE:
            self._take(SPACE)
        return match.group()

    def _take_sign(self, sign: str) -> bool:
        return bool(self._take(re.compile(re.escape(sign))))

    def _error(self, what: str) -> UsageError:
        return UsageError(f"cannot read {self.text!r}: {what} (character {self.position + 1})", HINT)
