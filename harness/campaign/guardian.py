"""A command that uses Ray runs in a child process: Ray's own code may end that at any moment, without an exception."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from harness.errors import ResourceError
from harness.interruption import SIGNALS
from harness.trial.private_folders import remove_left_behind

COMMANDS = ("run", "search", "confirm", "resume")
Complain = Callable[[str, int], int]  # prints a message, gives the exit code
KILLED_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux
ENDED = (
    "the process of the command ended ({how}), as it does where Ray loses its own processes; finished trials and "
    "epochs are kept, the same command continues"
)
SILENT = "Ray did not answer in time, as where one of its workers is killed while it starts; run the same command again"
_report: list[int] = []  # where a child writes its exit code


def is_needed(words: Sequence[str]) -> bool:
    """Whether a command line may start Ray."""
    return bool(words) and words[0] in COMMANDS and "--here" not in words and hasattr(os, "fork")


def divide(complain: Complain, interrupted: str) -> None:
    """Go on in a child process; this one waits for it, passes signals on, and leaves with its exit code.

    complain: prints why the command ends; interrupted: what it prints after a signal.
    """
    read, write = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child:
        os.close(write)
        os._exit(wait_for(child, read, complain, interrupted))
    os.close(read)
    _report.append(write)
    with suppress(OSError, AttributeError):  # another system; there the child goes on where its parent is killed
        ctypes.CDLL(None).prctl(KILLED_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(ResourceError.exit_code)


def report(code: int) -> None:
    """Tell the waiting process, if there is one, how the command ended: what comes after it changes that no more."""
    if _report:
        os.write(_report.pop(), bytes([code]))


def wait_for(child: int, report: int, complain: Complain, interrupted: str) -> int:
    """The exit code of a child: what it reported, else what became of it."""
    received: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if reported := os.read(report, 1):
        return reported[0]
    remove_left_behind()
    if received:
        return complain(interrupted, 128 + received[0])
    if status == ResourceError.exit_code:
        return status  # it has said why itself: the heartbeat, where a call of Ray's did not return
    if status == -signal.SIGALRM:
        return complain(f"error: {SILENT}", ResourceError.exit_code)
    how = f"signal {-status}" if status < 0 else f"exit code {status}"
    return complain(f"error: {ENDED.format(how=how)}", ResourceError.exit_code)
