"""A map over threads that keeps the order, never runs far ahead, and bounds what large images cost of the memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from adaflow.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[int, int], None]
"""Told how many items are done and how many there are."""

PIXELS_AT_ONCE = 150_000_000
"""Of all threads together, as many as the largest image that is read may have."""


class PixelBudget:
    """How many pixels all threads together may work on. An image that exceeds it alone waits until it is alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._given_back = threading.Condition()
        self._own = threading.local()

    @contextmanager
    def item(self) -> Iterator[None]:
        """What this thread claims within it is given back at its end."""
        self._own.pixels = 0
        try:
            yield
        finally:
            with self._given_back:
                self._taken -= self._own.pixels
                self._given_back.notify_all()
            del self._own.pixels

    def claim(self, pixels: int) -> None:
        """Wait until there is room for so many more. Outside an `item`, nothing is counted."""
        own = getattr(self._own, "pixels", None)
        if own is None:
            return
        with self._given_back:
            if not own:  # who has some already does not wait: two such would wait for each other
                self._given_back.wait_for(lambda: not self._taken or self._taken + pixels <= self._limit)
            self._taken += pixels
            self._own.pixels = own + pixels


budget = PixelBudget(PIXELS_AT_ONCE)
"""Claimed from by whoever decodes an image."""


@contextmanager
def enough_memory() -> Iterator[None]:
    """Within it, a lack of memory is an error of the whole command: no image is to blame.

    Raises:
        DataError: there is not enough.
    """
    try:
        yield
    except MemoryError as error:
        raise DataError(
            "there is not enough memory for these images",
            "Use fewer threads, as with --workers 1, or close other programs.",
        ) from error


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, result_pixels: int = 0
) -> Generator[Result, None, None]:
    """`map(function, items)` on `workers` threads, results in the order of the items, at most 4 per worker waiting.

    When the generator is closed, or `function` raises, nothing new is begun and the threads end.

    Args:
        function: what to do with each item; images it decodes count against the `budget` until it returns.
        items: what to do it with.
        workers: threads.
        result_pixels: of each result, where results are images; fewer large ones wait.

    Raises:
        DataError: there is not enough memory.
    """
    ahead = min(4 * workers, max(1, PIXELS_AT_ONCE // max(1, result_pixels)))

    def work(item: Item) -> Result:
        with budget.item():
            return function(item)

    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        with enough_memory():
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) == ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
