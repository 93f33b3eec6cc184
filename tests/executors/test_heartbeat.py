"""A call of Ray's that does not return ends the process, also where no thread of Python's can run meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from harness.executors import heartbeat

HELD = """
import ctypes
from harness.executors import heartbeat
heartbeat.ALARM_SECONDS = 0.5
sleep = ctypes.PyDLL(None).sleep  # keeps Python's lock, as Ray does while it waits for its first workers
{around}
    sleep({seconds})
print("returned")
"""
AROUND = [
    "with heartbeat.watched_start(0.5, set):",
    "with heartbeat.deadline(0.5, 'Ray has not ended'):",
]


def run(code: str) -> tuple[int, str, float]:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, time.monotonic() - began


@pytest.mark.parametrize("around", AROUND)
def test_a_call_that_holds_pythons_lock_is_ended_by_the_kernel(around: str) -> None:
    code, out, seconds = run(HELD.format(around=around, seconds=50))
    assert (code, out) == (-signal.SIGALRM, "") and seconds < 40


@pytest.mark.slow
@pytest.mark.parametrize("around", AROUND)
def test_a_call_that_returns_in_time_leaves_no_alarm(around: str) -> None:
    code, out, _ = run(HELD.format(around=around.replace("0.5", "30"), seconds=0) + "import time; time.sleep(1.5)")
    assert (code, out) == (0, "returned\n")


def test_an_alarm_of_somebody_else_is_left_alone() -> None:
    fired: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: fired.append(number))
    try:
        with heartbeat.alarm(0.01):
            time.sleep(0.05)
            assert not fired
    finally:
        signal.signal(signal.SIGALRM, before)
