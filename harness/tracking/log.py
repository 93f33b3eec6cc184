"""The log of results: a campaign's writes to the tracking store, in their order and in a thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from harness.errors import StoreError
from harness.trial.results import TrialResult

AWAY_SECONDS = 30.0  # until a store that was away is tried again: each attempt may take that long itself
LONGEST_QUEUE = 1000  # writes; a campaign that is further ahead of its store waits
Ended = tuple[TrialResult, Path]  # with the trial's folder
Write = Callable[[], None]


class ResultLog:
    """Carries out writes one after another in a thread of their own, so that no trial waits for a server.

    While the store is away, which is reported once, writes are left out; those that must arrive are repeated as soon as
    it is back. An interruption of the campaign reaches only the main thread, so it never cuts a write in two.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        """`warn` is called from the thread, at most once."""
        self._warn: Callable[[str], None] | None = warn
        self._away = ""  # why the store cannot be reached
        self._next_try = 0.0  # seconds of the monotonic clock
        self._due: deque[Write] = deque()  # those that must arrive, in their order
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="result-log")
        self._queue: deque[Future[None]] = deque()

    def write(self, action: Write, must_arrive: bool = False) -> None:
        """Put a write at the end of the queue; raises what an earlier one met that was no StoreError."""
        self._queue.append(self._thread.submit(self._carry_out, action, must_arrive))
        while self._queue and (self._queue[0].done() or len(self._queue) > LONGEST_QUEUE):
            self._queue.popleft().result()

    def wait(self) -> None:
        """Wait until the queue is empty."""
        while self._queue:
            self._queue.popleft().result()

    def close(self, last: Write) -> str:
        """Wait for everything, try once more what is due, then the last write; why the store is away, else empty."""
        self.wait()
        self._next_try = 0.0
        self.write(last)
        self.wait()
        self._thread.shutdown()
        return self._away

    def _carry_out(self, action: Write, must_arrive: bool) -> None:
        if must_arrive:
            self._due.append(action)
        while self._due and self._succeeds(self._due[0]):
            self._due.popleft()
        if not must_arrive and not self._due:
            self._succeeds(action)

    def _succeeds(self, action: Write) -> bool:
        """Carry a write out, unless the store was away a moment ago; whether it has arrived."""
        if self._away and time.monotonic() < self._next_try:
            return False
        try:
            action()
        except StoreError as error:
            self._away, self._next_try = str(error), time.monotonic() + AWAY_SECONDS
            if self._warn:
                self._warn(self._away)
                self._warn = None
            return False
        self._away = ""
        return True
