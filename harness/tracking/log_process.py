"""The tracking store's books, kept by a process of its own.

MLflow takes longer over a trial than all else that the driver does for it, and a server may take its time: the driver
only says what happened. The process ends with the campaign, or as soon as its driver is gone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from harness.errors import StoreError
from harness.interruption import held_back
from harness.tracking.log import Ended, Logbook, Warn
from harness.tracking.tracker import Tracker
from harness.trial.results import EpochReport, State, TrialSpec

# Started from a clean process that has imported MLflow already: the next campaign of this process waits for nothing.
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["harness.tracking.log_process", "mlflow", "mlflow.store.tracking.sqlalchemy_store"])
Word = tuple[str, str]  # what the process says: one of these, and a text
OPENED, WARNED, CLOSED = "opened", "warned", "closed"


class Scribe:
    """As `recording.Books`; a context, in which the process lives."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._gone = ""  # why the process writes no more
        self._warn: Warn = lambda _: None

    def __enter__(self) -> Scribe:
        self._pipe, self._theirs = CONTEXT.Pipe()
        # the clean process may have another environment: that of the first campaign of this process
        what = (self._uri, dict(os.environ), self._theirs)
        self._process = CONTEXT.Process(target=write, args=what, name="tracking", daemon=True)
        forkserver.ensure_running()  # and imports MLflow while the campaign looks for its places
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()  # which ends it, unless it has ended
        if self._process.pid:
            self._process.join()

    def open(self, name: str, specs: Sequence[TrialSpec], note: Mapping[str, str], warn: Warn) -> None:
        """As `Books`."""
        self._warn = warn
        self._process.start()
        self._theirs.close()
        self._say("open", name, specs, note)
        failed = self._answer(OPENED)
        if failed:
            raise StoreError(failed)

    def begin(self, spec: TrialSpec) -> None:
        """As `Books`."""
        self._say("begin", spec)

    def epoch(self, report: EpochReport) -> None:
        """As `Books`."""
        self._say("epoch", report)

    def log(self, ended: Iterable[Ended]) -> None:
        """As `Books`."""
        self._say("log", [*ended])

    def close(self, state: State) -> str:
        """As `Books`; waits until all is written."""
        self._say("close", state)
        return self._answer(CLOSED)

    def _say(self, act: str, *what: object) -> None:
        """Hand something over, and tell what was told meanwhile; a process that is gone is told once."""
        if self._gone:
            return
        try:
            with held_back():
                self._pipe.send((act, what))
            while self._pipe.poll():
                self._heard(self._pipe.recv())
        except (OSError, EOFError):
            self._ended()

    def _answer(self, kind: str) -> str:
        """The text of its next word of this kind; why it is gone, where it is."""
        try:
            while not self._gone:
                word: Word = self._pipe.recv()
                if word[0] == kind:
                    return word[1]
                self._heard(word)
        except (OSError, EOFError):
            self._ended()
        return self._gone

    def _heard(self, word: Word) -> None:
        if word[0] == WARNED:
            self._warn(word[1])

    def _ended(self) -> None:
        self._process.join(timeout=5)
        self._gone = (
            f"the process that writes to the tracking store has ended (exit code {self._process.exitcode}); finished "
            "trials are kept in their folders and logged by the next `harness run`"
        )
        self._warn(self._gone)


def write(uri: str, environment: dict[str, str], pipe: Connection) -> None:
    """What the process does: the driver's words into the store, in their order, until the driver closes or is gone."""
    os.environ.update(environment)
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the driver says when to end
        signal.signal(number, signal.SIG_IGN)
    books: Logbook | None = None
    for act, what in words(pipe):
        if books is None:
            books = opened(uri, pipe, *what)
        elif (closed := getattr(books, act)(*what)) is not None:
            pipe.send((CLOSED, closed))
        if books is None:
            return


def opened(
    uri: str, pipe: Connection, name: str, specs: Sequence[TrialSpec], note: Mapping[str, str]
) -> Logbook | None:
    """The books of a campaign; None where the store cannot be used, which is told."""
    try:
        books = Logbook(Tracker(uri))
        books.open(name, specs, note, lambda text: pipe.send((WARNED, text)))
    except StoreError as error:
        pipe.send((OPENED, str(error)))
        return None
    pipe.send((OPENED, ""))
    return books


def words(pipe: Connection) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """What the driver says, while it lives: what a killed one still had to say is left to the next."""
    driver = parent_process()
    while driver is None or driver.is_alive():
        try:
            yield pipe.recv()
        except (OSError, EOFError):
            return
