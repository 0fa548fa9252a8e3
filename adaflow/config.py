"""Configuration as nested tables: TOML in, TOML out, `--set a.b=v`, and checked dataclasses at the end."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from adaflow.errors import ConfigError, UsageError

T = TypeVar("T")
Table = dict[str, Any]


def merge(*tables: Mapping[str, Any]) -> Table:
    """Nested tables laid over each other; later ones win, None and missing values never do."""
    result: Table = {}
    for table in tables:
        for key, value in table.items():
            if isinstance(value, Mapping):
                below = result.get(key)
                result[key] = merge(below if isinstance(below, Mapping) else {}, value)
            elif value is not None:
                result[key] = value
    return result


def read_toml(path: Path) -> Table:
    """A TOML file as a table.

    Raises:
        ConfigError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def to_table(config: Any) -> Table:
    """A dataclass as a table; None is left out, for TOML has none, and means the default None when read back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if item is not None}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    result: Table = plain(dataclasses.asdict(config))
    return result


def to_toml(config: Any) -> str:
    """A dataclass as TOML text."""
    return tomli_w.dumps(to_table(config))


def from_table(kind: type[T], table: Mapping[str, Any], prefix: str = "") -> T:
    """A checked dataclass from a table, which is all of the configuration or the section that `prefix` names.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of range, by its dotted name.
    """
    from pydantic import TypeAdapter, ValidationError

    check_keys(kind, table, prefix)
    try:
        return TypeAdapter(kind).validate_python(table)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            raise cause from None
        where = prefix + ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {first['msg'].lower()} (got {first['input']!r})") from None


def parse_overrides(items: Iterable[str]) -> Table:
    """`["loss.r1_gamma=2", "augment.augs=bg"]` as a table. Values are TOML, or text where they are not.

    Raises:
        UsageError: an item without a name or `=`.
    """
    result: Table = {}
    for item in items:
        name, equals, text = (part.strip() for part in item.partition("="))
        if not equals or not all(name.split(".")):
            raise UsageError(f"--set {item!r} is not of the form section.name=value")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        for key in reversed(name.split(".")):
            value = {key: value}
        result = merge(result, value)
    return result


def check_keys(kind: type[Any], table: Mapping[str, Any], prefix: str = "") -> None:
    """Check a table that need not be complete: every key is a setting, every section a table, every number finite.

    Raises:
        ConfigError: it is not so; the message gives the dotted name.
    """
    import difflib
    from typing import get_type_hints

    fields = get_type_hints(kind)
    for key, value in table.items():
        name = f"{prefix}{key}"
        if key not in fields:
            near = [prefix + name for name in difflib.get_close_matches(key, fields, n=2)]
            hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(fields)}."
            raise ConfigError(f"there is no setting {name}", hint)
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name} is {value}, which is no finite number")
        section = fields[key]
        if dataclasses.is_dataclass(section) and isinstance(section, type):
            if not isinstance(value, Mapping):
                example = next(iter(get_type_hints(section)))
                raise ConfigError(
                    f"{name} is a section, not a value (got {value!r})", f"Set {name}.{example} and so on."
                )
            check_keys(section, value, f"{name}.")
