"""Ctrl-C, SIGTERM and SIGHUP: all unwind, once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAVING_SECONDS = 30.0  # in which a further signal changes nothing: what is finished is being saved


class Interruption:
    """The first signal that came, if any."""

    def __init__(self) -> None:
        self._number: int = signal.SIGINT
        self._since: float | None = None  # seconds of the monotonic clock

    @property
    def exit_code(self) -> int:
        """128 and the number of the signal, as a shell says it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self._number

    @property
    def has_come(self) -> bool:
        return self._since is not None

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, the first time; end the process at once where saving takes too long.

        No SystemExit, because Ray makes an exit with code 1 of one that reaches it.
        """
        if self._since is None:
            self._number, self._since = number, time.monotonic()
            if number != signal.SIGINT:
                drop_terminal()
            raise KeyboardInterrupt
        if time.monotonic() - self._since > SAVING_SECONDS:
            os._exit(self.exit_code)


_current: list[Interruption] = []  # of this process, at most one


@contextmanager
def signals_raise(to_the_end: bool = False) -> Iterator[Interruption]:
    """Have signals unwind as Ctrl-C does; within another such block there is nothing to do.

    A signal that is ignored, such as SIGHUP under nohup, stays so. Only the main thread can do this. `to_the_end`:
    after an interruption, further signals stay without effect until the process has ended.
    """
    if _current or threading.current_thread() is not threading.main_thread():
        yield _current[0] if _current else Interruption()
        return
    interruption = Interruption()
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interruption.receive) for number in heard}
    _current.append(interruption)
    try:
        yield interruption
    except KeyboardInterrupt:
        if interruption.exit_code != 128 + signal.SIGINT:
            raise SystemExit(interruption.exit_code) from None
        raise
    finally:
        _current.clear()
        if not (to_the_end and interruption.has_come):
            for number, handler in before.items():
                signal.signal(number, handler)


def drop_terminal() -> None:
    """Write to nowhere what would go to a terminal that is gone: a write to it fails."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):
            if not is_writable(number):
                os.dup2(nowhere, number)
        os.close(nowhere)


def is_writable(number: int) -> bool:
    try:
        os.write(number, b"")
    except OSError:
        return False
    return True
