"""The search for one method on one dataset: its study, and what all its trials share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.search.optuna_study import Study
from harness.search.plan import SearchPlan, measured, settings_line
from harness.search.studies import Ended, Outcome, Proposal
from harness.search.study_records import front
from harness.trial.folder import read_result
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


class MethodSearch:
    """A setting tried before, here or in another campaign of this results folder, gets the value that it had."""

    def __init__(self, plan: SearchPlan, study: Study, retry: frozenset[Failure] = frozenset()) -> None:
        """Failed trials of the classes in `retry` are queued again."""
        self.plan, self.base, self.label = plan, plan.base, plan.label
        self.study, self.budget = study, study.design.search
        self.exhausted = False
        self.under_way: dict[str, list[int]] = {}  # key -> trials of the study that wait for its result
        self._first: dict[str, int] = {}  # key -> the trial of the study that had it first and ended well
        ended = superseding(study.ended())
        others = [trial for trial in ended if trial.notes.get("failure") not in retry]
        self.spent = spent_on(others)
        for trial in others:
            if trial.state != "failed":
                self._first.setdefault(trial.notes["key"], trial.number)
        for trial in ended:
            if trial.notes.get("failure") in retry:
                study.enqueue(trial.values)
        self._front = study.best()  # kept up with each trial: to read the study again costs as much as it has trials

    @property
    def begun(self) -> int:
        return self.spent.trials + sum(map(len, self.under_way.values()))

    @property
    def is_spent(self) -> bool:
        budget, spent = self.budget, self.spent
        limits = (budget.epochs, spent.epochs), (budget.seconds, spent.seconds)  # no limit is 0
        return self.exhausted or self.begun >= budget.trials or any(most and cost >= most for most, cost in limits)

    def unfinished(self) -> Iterator[Assignment]:
        """Yield the trials that an earlier driver left under way; of those that have ended, the study is told."""
        for proposal in self.study.open():
            trial = self.assignment(proposal)
            result = read_result(trial.folder)
            if result is not None and not (result.failure and result.failure.is_lost):
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
        ended = [trial for trial in superseding(self.study.ended()) if trial.state == "failed"]
        return [self.assignment(Proposal(trial.number, trial.values)) for trial in ended]

    def report(self, report: EpochReport) -> bool:
        """Whether a trial is to go on; its start, too, is judged by the epochs that it had finished."""
        value = report.val.get(self.budget.objective[0].removeprefix("-"))
        return not report.epoch or self.study.report(self.under_way[report.key][0], report.epoch, value)

    def ended(self, result: TrialResult) -> None:
        first, *others = self.under_way.pop(result.key)
        self._tell(first, result, cost_of(result, self.base))
        for number in others:
            self._tell(number, result, {"same_as": first})

    def _begin(self, proposal: Proposal, trial: Assignment) -> Iterator[Assignment]:
        """Hand a trial out, unless another one with the same settings is under way or has ended."""
        self._wait(trial, proposal)
        result = read_result(trial.folder)
        key = trial.spec.key
        if len(self.under_way[key]) > 1:
            return
        if result and (result.state is State.DONE or (result.state is State.PRUNED and key in self._first)):
            del self.under_way[key]
            self._tell(proposal.number, result, {"same_as": self._first.get(key, -1)})
        else:
            yield trial

    def _wait(self, trial: Assignment, proposal: Proposal) -> None:
        """The key is noted before anything runs, so that whoever comes after a kill finds the trial's folder."""
        self.study.note(proposal.number, key=trial.spec.key)
        self.under_way.setdefault(trial.spec.key, []).append(proposal.number)

    def _tell(self, number: int, result: TrialResult, notes: dict[str, Any]) -> None:
        notes = {**notes, "key": result.key, "failure": result.failure.value if result.failure else ""}
        self.study.note(number, **notes)
        names = [name.removeprefix("-") for name in self.budget.objective]
        values = [result.measures.get(name, result.cost.get(name)) for name in names]
        state = self.study.tell(number, OUTCOMES.get(result.state, "failed"), values)
        self.spent.add(state, notes)
        if state != "failed":
            self._first.setdefault(result.key, number)
        if state == "complete":
            trial = Ended(number, state, {}, tuple(value for value in values if value is not None), notes)
            self._front = front([*self._front, trial], self.budget.objective)


def spent_on(trials: Iterable[Ended]) -> Spent:
    spent = Spent()
    for trial in trials:
        spent.add(trial.state, trial.notes)
    return spent


def budget_of(spent: Spent, campaign: str) -> Budget:
    costs = {name: getattr(spent, name) for name in ("trials", "epochs", "seconds", "device_seconds")}
    return Budget(campaign=campaign, **costs)


def superseding(trials: Iterable[Ended]) -> list[Ended]:
    """Without failed trials that were run again: only the last of those with one key counts."""
    trials = list(trials)
    last = {trial.notes.get("key", trial.number): trial.number for trial in trials}
    return [t for t in trials if "key" in t.notes and (t.state != "failed" or last[t.notes["key"]] == t.number)]


def cost_of(result: TrialResult, base: Assignment) -> dict[str, float]:
    """What a trial has cost; of one without a GPU the CPUs are its device."""
    seconds = result.cost.get("seconds", 0.0)
    planned = seconds * base.devices(is_gpu=base.gpus > 0)  # results of earlier versions do not say what they held
    device_seconds = result.cost.get("device_seconds", planned)
    return {"epochs": result.epochs, "seconds": seconds, "device_seconds": device_seconds}
