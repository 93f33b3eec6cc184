"""How slow a server may be: a download that stands all but still ends, whatever the server does between two bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from harness.errors import StoreError

LOOK = 0.2  # seconds between two looks


class Pace(NamedTuple):
    """The least that a server must send."""

    rate: float = 1000.0  # bytes per second, on average over a window; 0: as slow as it likes
    window: float = 60.0  # seconds


class Stopped(Exception):
    """A transfer that nobody waits for any more."""


class Transfer:
    """Loads in a thread of its own, as a read from a server that sends a byte now and then never returns."""

    def __init__(self, address: str, pace: Pace) -> None:
        self._address = address
        self._pace = pace
        self._bytes = 0
        self._stopped = threading.Event()
        self._error: BaseException | None = None

    def run(self, load: Callable[[Callable[[int], None]], None], tell: Callable[[int], object]) -> None:
        """Load, and tell how many bytes are there; raises what `load` raises, StoreError where it is too slow.

        `load` is given a function to call with the bytes so far.
        """
        thread = threading.Thread(target=self._carry_out, args=(load,), daemon=True)
        thread.start()
        try:
            self._watch(thread, tell)
        finally:
            self._stopped.set()
        if self._error:
            raise self._error

    def _carry_out(self, load: Callable[[Callable[[int], None]], None]) -> None:
        try:
            load(self._done)
        except BaseException as error:  # noqa: BLE001 - raised again where the caller waits
            self._error = error

    def _done(self, count: int) -> None:
        self._bytes = count
        if self._stopped.is_set():
            raise Stopped

    def _watch(self, thread: threading.Thread, tell: Callable[[int], object]) -> None:
        began, before, reported = time.monotonic(), 0, 0
        while reported < self._bytes or thread.is_alive():
            thread.join(LOOK)
            if self._bytes > reported:
                reported = self._bytes
                tell(reported)
            if time.monotonic() - began >= self._pace.window:
                if thread.is_alive() and self._bytes - before < self._pace.rate * self._pace.window:
                    raise StoreError(self._too_slow(self._bytes - before))
                began, before = time.monotonic(), self._bytes

    def _too_slow(self, count: int) -> str:
        return (
            f"{self._address}: the server sent {count:,} bytes in {self._pace.window:.0f} s; run the same command "
            "again later, or with --least-rate 0 to wait however slow it is"
        )
