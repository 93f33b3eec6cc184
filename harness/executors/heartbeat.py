"""Whether Ray still answers: its own calls wait for minutes, or end this process, where it does not."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.errors import ResourceError

Door = tuple[str, int]  # host and port
BEAT_SECONDS = 1.0
ANSWER_SECONDS = 5.0
HANG_SECONDS = 45.0  # that the driver may take to notice: a call of Ray's may not return any more
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
        yield
    finally:
        timer.cancel()


def give_up(reason: str) -> None:
    """Say why and end the process at once."""
    sys.stderr.write(f"harness: error: {reason}; {AGAIN}\n")
    sys.stderr.flush()
    os._exit(ResourceError.exit_code)
