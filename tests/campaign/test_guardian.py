"""A command that uses Ray: a process that waits for the one that works, and tells what became of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest

from harness.campaign.guardian import is_needed

BEGIN = """
import os, signal, sys, time
from harness.cli.boundary import CONTINUES, complain
from harness.campaign import guardian
guardian.divide(complain, CONTINUES)
"""


def divided(body: str) -> subprocess.Popen[str]:
    """A process that divides; the child says that it is there, then goes on with the body."""
    script = BEGIN + "print(os.getpid(), flush=True)\n"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", script + textwrap.dedent(body)], text=True, **pipes)  # type: ignore


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("guardian.report(4)", 4, ""),
        ("guardian.report(0); os._exit(1)", 0, ""),  # Ray's, after the command has ended
        ("os._exit(1)", 2, "ended (exit code 1)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 2, "ended (signal 9)"),
        ("os.abort()", 2, "ended (signal 6)"),
        ("os._exit(2)", 2, ""),  # it has said why
    ],
)
def test_the_exit_code_is_the_commands_and_an_end_without_a_word_is_told(body: str, code: int, words: str) -> None:
    out, err = (process := divided(body)).communicate(timeout=20)
    assert process.returncode == code, (out, err)
    assert words in err and ("the same command continues" in err) == bool(words) and "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_the_child(number: signal.Signals) -> None:
    stop = f"(guardian.report({128 + number}), os._exit(1))"
    process = divided(f"signal.signal({int(number)}, lambda *_: {stop})\ntime.sleep(20)")
    assert process.stdout and process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(number)
    assert process.wait(20) == 128 + number


def test_a_child_ends_with_its_parent() -> None:
    process = divided("time.sleep(60)")
    assert process.stdout
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    end = time.monotonic() + 5
    while is_alive(child):
        assert time.monotonic() < end
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_only_what_may_start_ray_is_divided() -> None:
    assert is_needed(["run", "--seeds", "0"]) and is_needed(["search"]) and is_needed(["resume"])
    assert not is_needed(["run", "--here"]) and not is_needed(["report"]) and not is_needed([])
