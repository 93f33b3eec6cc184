"""The course of a campaign from its plan to its boards, as commands and the Python API follow it.

What the tracking store and the trials' folders have lost is restored, what is left is run and logged, boards are
written. How that is shown is up to the caller: `note` is called with a line at a time, a view with every event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

from harness.board.cells import file_name
from harness.board.forms import DEFAULT, INDEX
from harness.board.publishing import Published, publish
from harness.campaign import driver
from harness.campaign.current import current
from harness.campaign.driver import CampaignOutcome
from harness.campaign.healing import Note, heal, restored
from harness.campaign.plan import Plan, check_writable
from harness.campaign.recorder import View
from harness.config.project import Config
from harness.config.registry import Registry
from harness.errors import StoreError
from harness.executors.executor import Executor
from harness.preparation.validation import warnings_of
from harness.tracking.result_store import ResultStore
from harness.tracking.tracker import Tracker


@dataclass(frozen=True)
class Course:
    """A plan, and where what it has left runs."""

    plan: Plan
    config: Config
    registry: Registry
    here: bool = False  # in this process, without Ray
    logged_again: int = 0  # results that the store had lost

    def healed(self, note: Note) -> Course:
        """The course after store and folders have restored what the other has lost."""
        logged = heal(self.config.results, self.plan.uri, note)
        return Course(restored(self.plan, note), self.config, self.registry, self.here, logged)

    def executor(self) -> Executor:
        """Ray, or this process where it is asked for or nothing is left to run."""
        return driver.choose_executor(self.config, self.here or not self.plan.todo)

    def place(self) -> tuple[str, int]:
        """Where trials run, and how many at a time; ResourceError where that lacks what one of them needs."""
        with closing(self.executor()) as executor:
            executor.check([trial.assignment for trial in self.plan.todo])
            return executor.description, executor.room

    @property
    def files(self) -> list[Path]:
        """The files of the plan's boards and the page of all boards, written or not."""
        names = [file_name(*board, form) for board in sorted(self.plan.boards) for form in DEFAULT]
        return [self.config.reports / name for name in (*names, INDEX)]

    @property
    def is_over(self) -> bool:
        """Whether all is done: trials run and logged, nothing logged again, every board there."""
        return self.plan.idle and not self.logged_again and all(file.is_file() for file in self.files)

    def warnings(self) -> Iterator[str]:
        """What whoever runs it should know: a line for what was left out, and for each dataset of doubtful data."""
        yield from self.plan.notes
        cards = {trial.spec.dataset: trial.assignment.dataset_card for trial in self.plan.todo}
        for name, card in cards.items():
            if texts := warnings_of(card, self.config.data, self.config.cache):
                yield f"{name}: doubtful data: {' · '.join(texts)} (harness validate --dataset {name})"

    def run(
        self, view: Callable[[], AbstractContextManager[View]], words: Sequence[str] = ()
    ) -> tuple[CampaignOutcome, Published]:
        """Run what is left, log it and write the boards; StoreError where the store cannot take the results.

        words: of the command, which `harness resume` repeats; a script has none.
        """
        check_writable(self.config.results)
        tracker = Tracker(self.plan.uri)
        with view() as shown:
            outcome = driver.execute(self.plan, self.executor(), tracker, shown, self.config.failures, words)
        if outcome.store_error:
            raise StoreError(outcome.store_error)
        return outcome, self.publish()

    def publish(self) -> Published:
        """Write the boards that the plan's trials are of."""
        now = current(self.config, self.registry)
        return publish(ResultStore(self.plan.uri), self.registry, now, self.config.reports, self.plan.boards)
