"""Errors a user may meet: one sentence, a hint, an exit code. All others are bugs of ours and show a traceback."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns to the shell."""

    OK = 0
    BUG = 1
    USAGE = 2
    BAD_INPUT = 3
    LEAK = 4
    DIVERGED = 5
    CANNOT_TELL = 6
    STOPPED = 75
    INTERRUPTED = 130


class AdaflowError(Exception):
    """Something the user can mend.

    Args:
        message: one sentence: what was wrong and where.
        hint: what to do about it.
    """

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AdaflowError):
    """The command line contradicts itself or names something that does not exist."""

    exit_code = ExitCode.USAGE


class ConfigError(AdaflowError):
    """A configuration value is out of range or of the wrong type."""


class DataError(AdaflowError):
    """A data set, an image or a label file cannot be used."""


class PluginError(AdaflowError):
    """A plugin could not be loaded, or a name it should have registered is unknown."""


class FileError(AdaflowError):
    """A checkpoint or network file is damaged, foreign or missing."""


class DivergedError(AdaflowError):
    """Training produced non-finite gradients again and again."""

    exit_code = ExitCode.DIVERGED
