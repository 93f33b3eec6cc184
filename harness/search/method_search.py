"""The search for one method on one dataset: its study, and what all its trials share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.search.optuna_study import Study
from harness.search.plan import SearchPlan, measured, settings_line
from harness.search.studies import Ended, Outcome, Proposal
from harness.search.study_records import COLLAPSED, PRUNED_AT, RETRY_OF, SAME_AS, front
from harness.trial.folder import read_epochs, result_of
from harness.trial.results import Assignment, Budget, EpochReport, Failure, State, TrialResult

OUTCOMES: dict[State, Outcome] = {State.DONE: "complete", State.PRUNED: "pruned"}


@dataclass
class Spent:
    trials: int = 0
    pruned: int = 0
    failed: int = 0
    epochs: int = 0
    seconds: float = 0.0
    device_seconds: float = 0.0

    def add(self, state: Outcome, notes: Mapping[str, Any]) -> None:
        self.trials += 1
        self.pruned += state == "pruned"
        self.failed += state == "failed"
        self.epochs += notes.get("epochs", 0)
        self.seconds += notes.get("seconds", 0.0)
        self.device_seconds += notes.get("device_seconds", 0.0)

    def reaches(self, bounds: Mapping[str, float]) -> bool:
        """Whether a bound on epochs or seconds is used up, after which no trial begins; 0 is no bound."""
        return any(most and getattr(self, name) >= most for name, most in bounds.items())


class MethodSearch:
    """A setting tried before, here or in another campaign of this results folder, gets the value that it had."""

    def __init__(self, plan: SearchPlan, study: Study, retry: frozenset[Failure] = frozenset()) -> None:
        """Failed trials of the classes in `retry` are queued again."""
        self.plan, self.base, self.label = plan, plan.base, plan.label
        self.study, self.budget = study, study.design.search
        self.exhausted = False
        self.under_way: dict[str, list[int]] = {}  # key -> trials of the study that wait for its result
        self._first: dict[str, int] = {}  # key -> the trial of the study that had it first and ended well
        self._failed: dict[str, int] = {}  # key -> the trial of the study that failed with it first
        self._retry = retry
        record = study.record()  # once: to read it costs as much as it has trials
        counted = record.counted
        others = [trial for trial in counted if trial.notes.get("failure") not in retry]
        self.spent = spent_on(others)
        for trial in others:
            self._remember(trial.notes["key"], trial.state, trial.number)
        for trial in counted:
            if trial.notes.get("failure") in retry:
                study.enqueue(trial.values, **{RETRY_OF: trial.number})
        self._front = record.front  # kept up with each trial

    @property
    def begun(self) -> int:
        return self.spent.trials + sum(map(len, self.under_way.values()))

    @property
    def is_spent(self) -> bool:
        design = self.study.design
        return self.exhausted or self.begun >= design.trials or self.spent.reaches(design.bounds)

    def unfinished(self) -> Iterator[Assignment]:
        """Yield the trials that an earlier driver left under way; of those that have ended, the study is told."""
        for proposal in self.study.open():
            trial = self.assignment(proposal)
            result = result_of(trial.spec, trial.folder)
            if result is not None and self._is_end_of(proposal.number, result):
                self._wait(trial, proposal)
                self.ended(result)
            else:
                yield from self._begin(proposal, trial)

    def next(self) -> Iterator[Assignment]:
        """One further trial; none where its result is known already, or where the space has no more."""
        proposal = self.study.ask()
        if proposal is None:
            self.exhausted = True
        else:
            yield from self._begin(proposal, self.assignment(proposal))

    def assignment(self, proposal: Proposal) -> Assignment:
        tried = f" ({settings_line(proposal.values)})" if proposal.values else ""
        return self.plan.trial(proposal.values, f"{self.label} #{proposal.number}{tried}")

    @property
    def best_line(self) -> str:
        """`vsepp/scenes 131.4 (#3)`, of several objectives the size of their front; empty before the first."""
        best = self._front
        if not best:
            return ""
        if len(self.budget.objective) > 1:
            return f"{self.label} {len(best)} on the front"
        return f"{self.label} {measured(self.budget.objective[0], best[0].objective[0])} (#{best[0].number})"

    def failed(self) -> list[Assignment]:
        """Those that failed, settings that came again once."""
        failed = [trial for trial in self.study.record().counted if trial.state == "failed"]
        first = [trial for trial in failed if trial.notes.get(SAME_AS, -1) < 0]
        return [self.assignment(Proposal(trial.number, trial.values)) for trial in first]

    def report(self, report: EpochReport) -> bool:
        """Whether a trial is to go on; its start, too, is judged by the epochs that it had finished."""
        value = report.val.get(self.budget.objective[0].removeprefix("-"))
        return not report.epoch or self.study.report(self.under_way[report.key][0], report.epoch, value)

    def ended(self, result: TrialResult) -> None:
        first, *others = self.under_way.pop(result.key)
        self._tell(first, result, cost_of(result, self.base))
        for number in others:
            self._tell(number, result, {SAME_AS: first})

    def _begin(self, proposal: Proposal, trial: Assignment) -> Iterator[Assignment]:
        """Hand a trial out, unless another one with the same settings is under way or has ended."""
        self._wait(trial, proposal)
        result = result_of(trial.spec, trial.folder)
        key = trial.spec.key
        if len(self.under_way[key]) > 1:
            return
        if result and self._is_known(proposal.number, result):
            del self.under_way[key]
            self._tell(proposal.number, result, {SAME_AS: self._first.get(key, self._failed.get(key, -1))})
        else:
            yield trial

    def _is_known(self, number: int, result: TrialResult) -> bool:
        """Whether a trial takes over a result; failures as `run` does, which runs none again without being asked to.

        Another campaign's pruner may have been another one.
        """
        if result.failure is None:
            return result.state is State.DONE or result.key in self._first
        is_asked_for = RETRY_OF in self.study.notes(number) or result.failure in self._retry
        return result.key in self._failed or not (is_asked_for or result.failure.is_lost)

    def _is_end_of(self, number: int, result: TrialResult) -> bool:
        """Whether a result is how a trial ended that was left under way: no other one's, nor of another pruner."""
        if result.key in self._first or result.key in self._failed:
            return False
        if result.state is State.PRUNED:
            return bool(result.message) or PRUNED_AT in self.study.notes(number)
        return not (result.failure and result.failure.is_lost)

    def _wait(self, trial: Assignment, proposal: Proposal) -> None:
        """The key is noted before anything runs, so that whoever comes after a kill finds the trial's folder."""
        self.study.note(proposal.number, key=trial.spec.key)
        self.under_way.setdefault(trial.spec.key, []).append(proposal.number)

    def _tell(self, number: int, result: TrialResult, notes: dict[str, Any]) -> None:
        notes = {**notes, "key": result.key, "failure": result.failure.value if result.failure else ""}
        notes |= {COLLAPSED: result.message} if result.state is State.PRUNED and result.message else {}
        self.study.note(number, **notes)
        names = [name.removeprefix("-") for name in self.budget.objective]
        values = [result.measures.get(name, result.cost.get(name)) for name in names]
        state = self.study.tell(number, OUTCOMES.get(result.state, "failed"), values)
        self.spent.add(state, notes)
        self._remember(result.key, state, number)
        if state == "complete":
            trial = Ended(number, state, {}, tuple(value for value in values if value is not None), notes)
            self._front = front([*self._front, trial], self.budget.objective)

    def _remember(self, key: str, state: Outcome, number: int) -> None:
        """Which trial of the study has had these settings first, for those that come again."""
        (self._failed if state == "failed" else self._first).setdefault(key, number)


def spent_on(trials: Iterable[Ended]) -> Spent:
    spent = Spent()
    for trial in trials:
        spent.add(trial.state, trial.notes)
    return spent


def budget_of(spent: Spent, campaign: str) -> Budget:
    costs = {name: getattr(spent, name) for name in ("trials", "epochs", "seconds", "device_seconds")}
    return Budget(campaign=campaign, **costs)


def cost_of(result: TrialResult, base: Assignment) -> dict[str, float]:
    """What a trial has cost, a failed one by its epochs; of one without a GPU the CPUs are its device."""
    folder = base.folder.parent / result.key
    seconds = result.cost["seconds"] if "seconds" in result.cost else sum(one.seconds for one in read_epochs(folder))
    planned = seconds * base.devices(is_gpu=base.gpus > 0)  # results of earlier versions do not say what they held
    device_seconds = result.cost.get("device_seconds", planned)
    return {"epochs": result.epochs, "seconds": seconds, "device_seconds": device_seconds}
