"""Ask and tell: a study for each method and dataset of a search, all in one sqlite file.

The driver is the only writer. All that a study knows lies in its file: samplers and pruners are made anew from it, so
a search that was killed asks for the same values as one that was not. Optuna lives here, in `ledger`, which keeps what
the file holds in memory, and in `archive`, which reads.
"""

from __future__ import annotations

import hashlib
import math
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.sections import Scalar, Search, Tunable
from harness.errors import StoreError, UsageError
from harness.search.space import asked, ends, ordered
from harness.search.studies import (
    Ended,
    Outcome,
    Proposal,
    cells_of,
    check_sampler,
    connect,
    difference,
    identity,
    trouble,
)

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, TrialState

    from harness.search.ledger import Ledger

OUTCOMES: dict[str, Outcome] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}  # optuna's and ours
IDENTITY = "identity"  # user attribute of a study: what it was begun with
TOTAL = "trials"  # user attribute of a study: its budget, for whoever only looks
NOTES = "notes"  # user attribute of a trial: all that was noted, in one write
PRUNED_AT = "pruned_at"  # user attribute of a trial: the epoch after which it was to stop
REDUCTION = 3  # one of so many trials goes on from each rung of halving and of hyperband
__all__ = ["Ended", "Outcome", "Proposal", "Storage", "Study", "open_storage", "store_errors", "study_names"]


@dataclass(frozen=True)
class Storage:
    """An open file of studies."""

    file: Path
    database: optuna.storages.RDBStorage
    cache: Ledger  # in front of it: what it holds is read once

    def close(self) -> None:
        """Let go of the file."""
        self.database.remove_session()
        self.database.engine.dispose()


def open_storage(file: Path) -> Storage:
    """The studies in a sqlite file, made where there is none, in WAL mode so that readers never wait.

    Raises StoreError where the file is damaged, locked, not writable or of another optuna.
    """
    import optuna

    from harness.search.ledger import Ledger

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # what goes wrong is told once, by StoreError
    file = file.absolute()
    with store_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(connect(file)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        # No path goes through a URL: there optuna fills in what stands in braces, and sqlalchemy cuts at "?".
        options = {"creator": partial(connect, file)}
        try:
            database = optuna.storages.RDBStorage("sqlite:///studies.db", engine_kwargs=options)
        except RuntimeError as error:
            raise StoreError(f"{file}: {error} Install that optuna, or move the file away.") from error
        return Storage(file, database, Ledger(database))


def study_names(file: Path) -> list[str]:
    """The names of all studies in a file, the oldest first; none where there is no file. StoreError as above."""
    if not file.is_file():
        return []
    storage = open_storage(file)
    with closing(storage), store_errors(file):
        return [study.study_name for study in storage.database.get_all_studies()]


class Study:
    """The search for one method on one dataset: `ask` for a trial, `report` its epochs, `tell` how it ended.

    name: of the study in its file, campaign/dataset/method. epochs: of every trial. frozen: what else decides results,
    by name. points: values to try first, queued when the study is made. A study of this name that was begun with
    another space, other points, objectives or `frozen` is a UsageError that shows the difference; its budget may grow.
    ConfigError where the sampler cannot search the space, UsageError where its package is not installed; StoreError
    from every method where the file cannot be used or another program writes to the study.
    """

    def __init__(
        self,
        storage: Storage,
        name: str,
        search: Search,
        space: Mapping[str, Tunable],
        epochs: int,
        frozen: Mapping[str, str],
        points: Sequence[Mapping[str, Scalar]] = (),
    ) -> None:
        check_sampler(name, space, search)
        self.name, self._search, self._space, self._epochs = name, search, space, epochs
        self._file, self._cache, self._keys = storage.file, storage.cache, ordered(space)
        # Not optuna's GridSampler: it takes a trial's number for its cell, tries the cell of a queued point again,
        # and its last `tell` raises outside of `optimize`.
        self._cells = cells_of(space, search.seed) if search.sampler == "grid" or not space else None
        self._pruner, self._many = _pruner(search, epochs), len(search.objective) > 1
        with store_errors(self._file):
            self._study = _study(storage, name, search)
            self._id = self._cache.get_study_id_from_name(name)
            self._begin({**identity(search, space, epochs, points), **_release(), **frozen}, points)
            if self._study.user_attrs.get(TOTAL) != search.trials:
                self._study.set_user_attr(TOTAL, search.trials)
            trials = self._study.get_trials(deepcopy=False)
        self._known = len(trials)  # the number of the next one; another means another writer
        self._waiting = [trial.number for trial in trials if trial.state.name == "WAITING"]

    def ask(self) -> Proposal | None:
        """The next trial; None where all cells of the grid are taken, or where nothing is searched and one trial is."""
        with store_errors(self._file):
            if self._cells is not None and not self._waiting and not self._queue_cell():
                return None
            number = self._waiting[0] if self._waiting else self._known
            self._study.sampler = _sampler(self._search, self._space, number)
            trial = self._study.ask()
            values = self._drawn(trial)
            came = self._cache.keep(self._id, trial._trial_id)
            if came != number:
                self._study.tell(trial, state=_state("FAIL"))
                raise self._another_writer(f"trial {came} came where {number} was next")
            self._waiting, self._known = self._waiting[1:], max(self._known, number + 1)
            return Proposal(number, values)

    def enqueue(self, values: Mapping[str, Scalar]) -> None:
        """Have `ask` give these values next, also where a trial has had them before."""
        with store_errors(self._file):
            self._study.enqueue_trial(dict(values))
        self._waiting, self._known = [*self._waiting, self._known], self._known + 1

    def open(self) -> list[Proposal]:
        """The trials that were asked and not told: before the first `ask`, those that a dead driver left.

        They go on under their numbers; one whose driver died while it drew values draws the rest now.
        """
        import optuna

        proposals = []
        with store_errors(self._file):
            running = self._study.get_trials(deepcopy=False, states=(_state("RUNNING"),))
            for number in [trial.number for trial in running]:
                self._study.sampler = _sampler(self._search, self._space, number)
                proposals.append(Proposal(number, self._drawn(optuna.Trial(self._study, self._trial_id(number)))))
        return proposals

    def note(self, number: int, **notes: Any) -> None:
        """Keep facts about a trial that is not over, anything that JSON knows."""
        with store_errors(self._file):
            known = self._running(number).user_attrs.get(NOTES, {})
            self._cache.set_trial_user_attr(self._trial_id(number), NOTES, {**known, **notes})

    def report(self, number: int, epoch: int, value: float | None) -> bool:
        """Take a trial's value after so many finished epochs; False where it should stop now.

        An epoch that is known changes nothing, and a value that is missing or not finite is passed over. That a trial
        should stop is remembered. Nothing is pruned after its last epoch, nor with several objectives.
        """
        with store_errors(self._file):
            trial = self._running(number)
            if PRUNED_AT in trial.user_attrs:
                return False
            if value is None or not math.isfinite(value) or epoch in trial.intermediate_values or self._many:
                return True
            self._cache.set_trial_intermediate_value(self._trial_id(number), epoch, value)
            trial.intermediate_values[epoch] = value
            if epoch >= self._epochs or not self._pruner.prune(self._study, trial):
                return True
            # Halving judges a trial once at each rung: asked again after a restart, it would let this one go on.
            self._cache.set_trial_user_attr(self._trial_id(number), PRUNED_AT, epoch)
            return False

    def tell(self, number: int, state: Outcome, objective: Sequence[float | None] | None = None) -> Outcome:
        """End a trial, and say how it was taken: "complete" without a finite value for each objective is "failed"."""
        values = [value for value in objective or () if value is not None and math.isfinite(value)]
        if state == "complete" and not len(values) == len(objective or ()) == len(self._search.objective):
            state = "failed"
        name = next(name for name, outcome in OUTCOMES.items() if outcome == state)
        with store_errors(self._file):
            self._running(number)
            self._study.tell(number, values if state == "complete" else None, _state(name))
        return state

    def ended(self) -> list[Ended]:
        """All trials that are over, by number; reads the whole study."""
        with store_errors(self._file):
            trials = self._study.get_trials(deepcopy=False)
        return [ended_of(trial) for trial in trials if trial.state.is_finished()]

    def best(self) -> list[Ended]:
        """The best of the complete trials, the first of equals; with several objectives their Pareto front."""
        if self._many:
            with store_errors(self._file):
                return [ended_of(trial) for trial in self._study.best_trials]
        sign = -1 if self._search.objective[0].startswith("-") else 1
        complete = [trial for trial in self.ended() if trial.state == "complete"]
        return [max(complete, key=lambda trial: sign * trial.objective[0])] if complete else []

    def _begin(self, now: dict[str, str], points: Sequence[Mapping[str, Scalar]]) -> None:
        """Queue the points of a new study and write down what it is; UsageError where the study is another one."""
        begun = self._study.user_attrs.get(IDENTITY)
        trials = self._study.get_trials(deepcopy=False)
        if begun is None and all(trial.state.name == "WAITING" for trial in trials):
            for point in points:
                self._study.enqueue_trial(dict(point), skip_if_exists=True)
            self._study.set_user_attr(IDENTITY, now)  # last: a study whose driver died before this is begun again
        elif begun != now:
            raise UsageError(difference(self.name, begun or {}, now))

    def _queue_cell(self) -> bool:
        """Queue the first cell of the grid that no trial has, whatever became of it; False where none is left."""
        taken = {tuple(trial.params.get(key) for key in self._keys) for trial in self._study.get_trials(deepcopy=False)}
        cell = next((cell for cell in self._cells or () if tuple(cell.values()) not in taken), None)
        if cell is None:
            return False
        self.enqueue(cell)
        return True

    def _drawn(self, trial: optuna.Trial) -> dict[str, Scalar]:
        """The values of a trial; what it has already is not drawn again."""
        values: dict[str, Scalar] = {}
        for key in self._keys:
            if asked(self._space, key, values):
                values[key] = _suggested(trial, key, self._space[key])
        return values

    def _running(self, number: int) -> FrozenTrial:
        """A trial as the file has it now; StoreError where it is over, which this driver alone may decide."""
        trial = self._cache.checked(self._trial_id(number))
        if trial.state.name != "RUNNING":
            raise self._another_writer(f"trial {number} is {trial.state.name}")
        return trial

    def _trial_id(self, number: int) -> int:
        return self._cache.get_trial_id_from_study_id_trial_number(self._id, number)

    def _another_writer(self, sign: str) -> StoreError:
        return StoreError(
            f"{self._file}: another program writes to the study {self.name} ({sign}); stop it, then go on"
        )


@contextmanager
def store_errors(file: Path) -> Iterator[None]:
    """Whatever goes wrong in the file becomes one StoreError that says what to do."""
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError

    try:
        yield
    except (KeyError, UpdateFinishedTrialError) as error:  # optuna's words for a record that is gone, or over
        raise StoreError(f"{file}: {error.args[0]} Another program writes to it; stop it, then go on") from error
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise StoreError(f"{file} cannot be used: {trouble(error)}") from error


def _study(storage: Storage, name: str, search: Search) -> optuna.Study:
    """Optuna's study of this name, without a pruner: where hyperband is in it, a sampler sees one bracket alone."""
    import optuna

    return optuna.create_study(
        storage=storage.cache,
        study_name=name,
        directions=["minimize" if measure.startswith("-") else "maximize" for measure in search.objective],
        sampler=optuna.samplers.RandomSampler(search.seed),  # until the first ask
        pruner=optuna.pruners.NopPruner(),
        load_if_exists=True,
    )


def _sampler(search: Search, space: Mapping[str, Tunable], number: int) -> optuna.samplers.BaseSampler:
    """A sampler for one trial: what it draws depends on the study's trials and on this number alone."""
    from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler

    seed = int.from_bytes(hashlib.sha256(f"{search.seed}/{number}".encode()).digest()[:4])
    learning: dict[str, Any] = {"seed": seed, "n_startup_trials": search.startup}
    conditional = any(tunable.when for tunable in space.values())
    makers: dict[str, Callable[[], BaseSampler]] = {
        # Spelled out, as defaults change between releases; without `group` it draws conditional keys one by one.
        "tpe": lambda: TPESampler(**learning, multivariate=True, constant_liar=True, group=conditional),
        "gp": lambda: GPSampler(**learning),
        # Optuna pickles its state into the file, and loads it from there: a file of studies is to be trusted.
        "cmaes": lambda: CmaEsSampler(**learning),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `group` is experimental
        return makers.get(search.sampler, lambda: RandomSampler(seed))()


def _pruner(search: Search, epochs: int) -> optuna.pruners.BasePruner:
    """A pruner, which decides on what lies in the file; it stops no trial that has not finished `min_epochs`."""
    from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

    rungs: dict[str, Any] = {"min_resource": search.min_epochs, "reduction_factor": REDUCTION}
    makers: dict[str, Callable[[], BasePruner]] = {
        "median": lambda: MedianPruner(search.startup, n_warmup_steps=search.min_epochs),
        "halving": lambda: SuccessiveHalvingPruner(**rungs),
        "hyperband": lambda: HyperbandPruner(**rungs, max_resource=epochs),
    }
    return makers.get(search.pruner, NopPruner)()


def _suggested(trial: optuna.Trial, key: str, tunable: Tunable) -> Scalar:
    if tunable.type == "categorical":
        choice: Scalar = trial.suggest_categorical(key, tunable.choices)  # type: ignore[assignment]  # None is no choice
        return choice
    low, high = ends(tunable)
    if tunable.type == "int":
        return trial.suggest_int(key, int(low), int(high), log=tunable.log)
    return trial.suggest_float(key, low, high, log=tunable.log)


def ended_of(trial: FrozenTrial) -> Ended:
    """A trial of optuna's that is over."""
    objective = tuple(trial.values or ())
    notes = {**trial.user_attrs, **trial.user_attrs.get(NOTES, {})}
    notes.pop(NOTES, None)
    return Ended(trial.number, OUTCOMES[trial.state.name], dict(trial.params), objective, notes)


def _state(name: str) -> TrialState:
    from optuna.trial import TrialState

    return TrialState[name]


def _release() -> dict[str, str]:
    """Of optuna, such as 5.0: what a sampler draws changes between releases."""
    from optuna import __version__ as version

    return {"optuna": version.rpartition(".")[0]}
