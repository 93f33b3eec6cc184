"""Whether Ray still answers: its own calls wait for minutes, or end this process, where it does not."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from harness.errors import ResourceError

Door = tuple[str, int]  # host and port
ALARM_SECONDS = 3.0  # after which a thread that was to end the process cannot
BEAT_SECONDS = 1.0
ANSWER_SECONDS = 5.0
HANG_SECONDS = 45.0  # that the driver may take to notice: a call of Ray's may not return any more
GRACE_SECONDS = 35.0  # of a start that has failed: Ray says so itself after 30, in most cases
AGAIN = "finished trials and epochs are kept; the same command continues"


class Heartbeat:
    """Knocks at Ray's doors in a thread; `lost` says which one has stayed shut."""

    def __init__(self, doors: Sequence[Door], patience: float) -> None:
        """`patience`: how long a door may stay shut, in seconds."""
        self.lost = ""
        self._doors, self._patience = doors, patience
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """End the watch."""
        self._stopped.set()

    def _watch(self) -> None:
        opened = time.monotonic()
        while not self._stopped.wait(BEAT_SECONDS):
            shut = next((door for door in self._doors if not is_open(door)), None)
            if shut is None:
                opened = time.monotonic()
            elif time.monotonic() - opened > self._patience:
                self.lost = f"nothing answers at {shut[0]}:{shut[1]} any more"
                break
        if self.lost and not self._stopped.wait(HANG_SECONDS):
            give_up(f"Ray has ended ({self.lost})")


def is_open(door: Door) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(door, timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


@contextmanager
def deadline(seconds: float, reason: str) -> Iterator[None]:
    """End the process where a call of Ray's does not return in time: no exception reaches the thread that is in it."""
    timer = threading.Timer(seconds, give_up, [f"{reason} within {seconds:g} s"])
    timer.daemon = True
    timer.start()
    try:
        with alarm(seconds + ALARM_SECONDS):
            yield
    finally:
        timer.cancel()


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Have the kernel end the process after so many seconds, by SIGALRM; the process that waits for it says so.

    Ray holds Python's lock while it waits for workers at its start: where one of them was killed no thread of this
    process runs any more. Nothing is done where somebody else handles that signal.
    """
    if signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def watched_start(seconds: float, processes: Callable[[], set[int]]) -> Iterator[None]:
    """A deadline for the start of Ray; a nearer one as soon as one of its processes has ended.

    `processes`: those that there are now and must live on. Ray itself may wait for ever for one that was killed.
    """
    started = threading.Event()
    threading.Thread(target=_watch_start, args=(started, seconds, processes), name="start", daemon=True).start()
    try:
        with alarm(seconds + ALARM_SECONDS):
            yield
    finally:
        started.set()


def _watch_start(started: threading.Event, seconds: float, processes: Callable[[], set[int]]) -> None:
    end, reason = time.monotonic() + seconds, f"Ray has not started within {seconds:g} s"
    starting, is_failed = set[int](), False
    while not started.wait(BEAT_SECONDS):
        now = processes()
        if starting - now and not is_failed:
            is_failed, reason = True, "a process of Ray has ended while it started"
            end = time.monotonic() + GRACE_SECONDS
        starting |= now
        if time.monotonic() > end:
            give_up(reason)


def give_up(reason: str) -> None:
    """Say why and end the process at once."""
    sys.stderr.write(f"harness: error: {reason}; {AGAIN}\n")
    sys.stderr.flush()
    os._exit(ResourceError.exit_code)
