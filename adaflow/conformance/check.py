"""What a check is, what it is done to, and what comes of it."""

from __future__ import annotations

import inspect
import io
import os
import random
import traceback
import unittest
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from adaflow.core.build import build_plugin, format_item
from adaflow.core.data.source import printable
from adaflow.core.state import find_foreign
from adaflow.errors import AdaflowError
from adaflow.registry import Registry

Status = Literal["passed", "failed", "skipped", "expected failure"]


class CheckError(AssertionError):
    """A plugin does not do what it should; the text is one sentence without its dot."""


class CheckSkipped(unittest.SkipTest):
    """A check has nothing to say here; the text says why. pytest shows it as skipped."""


@dataclass(frozen=True)
class Subject:
    """What is checked: one thing that a plugin offers.

    Args:
        kind: as in `adaflow.plugin_manager.KINDS`: "augmentation", "p controller", "metric" …
        name: under which it is offered.
        value: what is registered: a class, and for a dataset reader an object.
        settings: as a user gives them; none: its defaults. Those of a dataset reader are not its own: `source` is what
            it is to open.
        provider: the plugin that offers it.
    """

    kind: str
    name: str
    value: Any
    settings: Mapping[str, Any] = field(default_factory=dict)
    provider: str = "under check"

    @property
    def item(self) -> str:
        """What a user writes to get it."""
        return format_item(self.name, dict(self.settings))

    def registry(self) -> Registry[Any]:
        """A registry that has it, and nothing else.

        Raises:
            PluginError: its name cannot be used.
        """
        registry: Registry[Any] = Registry(self.kind)
        registry.add(self.name, self.value, self.provider)
        return registry

    def make(self) -> Any:
        """A new one, made from text as for a user.

        Raises:
            AdaflowError: that is not possible.
        """
        return build_plugin(self.item, self.registry())


@dataclass(frozen=True)
class CheckResult:
    """What came of a check.

    Args:
        check: its id.
        status: "passed", "failed", "skipped" or "expected failure".
        reason: one sentence without its dot: why it failed or was skipped, or what a check that passed has to report.
    """

    check: str
    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Check:
    """One thing that every plugin of a kind should do.

    Args:
        kind: the kind.
        function: takes a `Subject`, and raises `CheckError` or `CheckSkipped`; may return a remark. What the plugin
            raises in it counts as a failure. Its name is the id, its docstring says what is checked.
        basic: without it, the checks that follow would only say the same again.
    """

    kind: str
    function: Callable[[Subject], str | None]
    basic: bool = False

    @property
    def id(self) -> str:
        """Names it in tables, in pytest and in `expected_failures`."""
        return self.function.__name__

    @property
    def meaning(self) -> str:
        """What is checked, in one sentence."""
        return " ".join((inspect.getdoc(self.function) or "").split())

    def __call__(self, subject: Subject) -> str:
        """Do it.

        Returns:
            A remark, mostly none.

        Raises:
            CheckError: with one sentence, also for whatever the plugin raises.
            CheckSkipped: it has nothing to say here.
        """
        try:
            with same_generators():
                return self.function(subject) or ""
        except (KeyboardInterrupt, CheckSkipped):
            raise
        except BaseException as error:
            raise CheckError(sentence(error, subject.value)) from error

    def result(self, subject: Subject, expected: str = "") -> CheckResult:
        """Do it and say what came of it; `expected` is the reason why it should fail."""
        try:
            remark = self(subject)
        except CheckSkipped as skipped:
            return CheckResult(self.id, "skipped", str(skipped))
        except CheckError as failed:
            return CheckResult(self.id, "expected failure" if expected else "failed", expected or str(failed))
        if expected:
            return CheckResult(self.id, "failed", f"it passes, and was expected to fail: {expected}")
        return CheckResult(self.id, "passed", remark)


def require(condition: bool, sentence: str) -> None:
    """See that something holds.

    Raises:
        CheckError: with this sentence, if it does not.
    """
    if not condition:
        raise CheckError(sentence)


def sentence(error: BaseException, value: Any) -> str:
    """What happened, on one line of printable text, with file and line of the plugin where `error` is not adaflow's.

    Args:
        error: what was raised.
        value: what the plugin registered.
    """
    if isinstance(error, AdaflowError | CheckError):
        return printable(" ".join(str(error).split()))
    file = ""
    with suppress(TypeError):  # it was defined in no file
        file = inspect.getsourcefile(value if inspect.isclass(value) else type(value)) or ""
    home = os.path.dirname(file)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if home and os.path.dirname(f.filename) == home]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    text = traceback.format_exception_only(error)[0]
    return printable(" ".join(text.split())) + place


@contextmanager
def same_generators(seed: int = 0) -> Iterator[None]:
    """Within it, the global generators of torch, numpy and Python start from a seed; afterwards they are as before."""
    before = generator_states()
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before["torch"])
        np.random.set_state(before["numpy"])
        random.setstate(before["Python"])


def generator_states() -> dict[str, Any]:
    """The states of the global generators, by whose they are."""
    return {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "Python": random.getstate()}


def advanced_generators(before: Mapping[str, Any]) -> list[str]:
    """Whose global generators were used since `before`."""
    now = generator_states()
    return [name for name in now if not _same_state(now[name], before[name])]


def _same_state(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def through_a_file(state: Any) -> dict[str, Any]:
    """A state as a checkpoint gives it back.

    Raises:
        CheckError: it is no dictionary, or holds what could not be read back.
    """
    require(isinstance(state, dict), f"state_dict() gives a {type(state).__name__}, not a dictionary")
    foreign = find_foreign(state)
    require(foreign is None, f"its state holds a {foreign}; tensors and plain values can be saved")
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded
