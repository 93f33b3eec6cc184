"""Everything that can go wrong, with the exit code that the command line answers; EXIT_CODES is the table of them.

HarnessError                  2
├── UsageError                2   an unknown name, a flag that makes no sense
├── ConfigError               2   harness.toml, an override or a card is wrong: file and field
├── ResourceError             2   no node, device or disk can meet the request, or Ray has ended in the middle
├── DataError                 3   data or protocol does not match its card; nothing was scored
├── TrialError                4   one trial failed, the others go on; carries its failure class
│   ├── NonFiniteError            NaN or inf in the loss or in the scores
│   ├── CollapsedError            training does not leave chance
│   └── MemberError               a member of an ensemble has no scores
└── StoreError                6   the tracking store or the results folder is absent, unreachable or damaged

Beside these: 0 all well, 5 reports out of date, 70 a fault of harness, 141 a reader that is gone, and 128 with the
number of the signal that has interrupted a command: 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM. No command ends with 1.

Every message says what is wrong, where, and what to do next.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

FAULT, READER_GONE = 70, 141
LONGEST_LINE = 1000  # letters of an error's first line
MOST_NAMES = 50  # that a message lists: a library may know a thousand
EXIT_CODES = {  # docs/guide/using.md and `harness --help` say the same
    "0": "all well",
    "2": "usage, configuration or environment: nothing ran; or Ray was lost: the same command continues",
    "3": "data or protocol does not match its card, or a method breaks its contract (`validate`); nothing was scored",
    "4": "finished, some trials failed; `reproduce`: the result did not come back",
    "5": "`report --check`: a report is not what the tracking store says",
    "6": "the tracking store or the results folder is absent, unreachable or damaged",
    f"{FAULT}": "a fault of harness itself; the message names a report of it to send",
    "129, 130, 143": "interrupted by SIGHUP, Ctrl-C or SIGTERM; the state is saved, the same command continues",
    f"{READER_GONE}": "nobody reads the output any more, as with `| head`",
}


class HarnessError(Exception):
    """The root: an error whose message is meant for the person at the terminal."""

    exit_code = 2


class UsageError(HarnessError):
    """The command line asks for something that does not exist."""


class ConfigError(HarnessError):
    """A configuration file, an override or a card is wrong."""


class ResourceError(HarnessError):
    """The machine or the cluster cannot meet the request."""


class Location(NamedTuple):
    """Where something stands: a file, and the line, row or entry in it."""

    file: Path | str  # empty where it is not known
    entry: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (str(self.file), self.entry)))

    def within(self, entry: str) -> Location:
        return self._replace(entry=", ".join(filter(None, (self.entry, entry))))


NOWHERE = Location("")


class DataError(HarnessError):
    """Data or protocol does not match its card; `location` is what is wrong, and printed before the message."""

    exit_code = 3

    def __init__(self, message: str, location: Location = NOWHERE) -> None:
        super().__init__(message, location)
        self.message = message
        self.location = location

    def __str__(self) -> str:
        return ": ".join(filter(None, (str(self.location), self.message)))


class TrialError(HarnessError):
    """One trial failed; `failure` is its class, a value of `results.Failure`."""

    exit_code = 4
    failure = "bug"


class NonFiniteError(TrialError):
    failure = "nonfinite"


class CollapsedError(TrialError):
    failure = "collapsed"


class MemberError(TrialError):
    failure = "member"


class StoreError(HarnessError):
    exit_code = 6


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """A message for an unknown name, with its nearest neighbours among the known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {named(names)}"
    return f"unknown {kind} {name!r}; {hint}"


def named(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """Names in a message, no more of them than it has room for: `a, b and 3 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most]) or 'none'}{more}"


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, in the plural unless it is 1; `plural` where that is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def is_host_memory(error: BaseException) -> bool:
    """Whether the host's memory was full, which torch raises as a RuntimeError that names its allocator."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


def raised(error: BaseException, folder: Path) -> str:
    """An exception in words, with the last line of a folder's own files that it passed, else the last of all."""
    frame = (frames_in(error, folder) or traceback.extract_tb(error.__traceback__))[-1]
    return f"{type(error).__name__}: {first_line(error)} ({Path(frame.filename).name}, line {frame.lineno})"


def frames_in(error: BaseException, folder: Path) -> list[traceback.FrameSummary]:
    """The lines of a folder's own files that an exception passed, the last one nearest to where it arose."""
    return [one for one in traceback.extract_tb(error.__traceback__) if Path(one.filename).parent == folder]


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut where it is very long; its class where it has none."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"
