"""Ask and tell: a study for each method and dataset of a search, all in one journal file of Optuna's.

The driver alone writes. Samplers and pruners are built from the file: a killed search goes on as if it was not.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.sections import Scalar, Search, Tunable
from harness.search import study_records as records
from harness.search.space import applies, ends, ordered
from harness.search.studies import Ended, Grid, Outcome, Proposal, Running, StudyDesign, check_sampler, sampler_errors
from harness.search.study_file import another_writer, check_kind, cut_torn_line, damage, store_errors
from harness.search.study_records import StudyRecord, campaign_of, is_enough, notes_in, record_of

if TYPE_CHECKING:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.trial import FrozenTrial, TrialState

REDUCTION = 3  # one of so many trials goes on from each rung of halving and of hyperband
STALE_SECONDS = 3  # after which the lock of a writer that was killed is taken away; Optuna's least


@dataclass(frozen=True)
class Storage:
    """An open file of studies. Nothing is to be closed: Optuna opens the file for each record."""

    file: Path
    journal: JournalStorage


def open_storage(file: Path) -> Storage:
    """Open a file of studies, new where there is none; StoreError where it is damaged, of another kind or read-only."""
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # StoreError says what goes wrong
    file = file.absolute()
    check_kind(file)
    with store_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = JournalFileOpenLock(str(file), STALE_SECONDS)
        cut_torn_line(file, lock)
        try:
            return Storage(file, optuna.storages.JournalStorage(JournalFileBackend(str(file), lock)))
        except (ValueError, LookupError, TypeError, AssertionError) as error:  # as a record of another form raises them
            raise damage(file, error) from error


def study_names(file: Path) -> list[str]:
    """The names of all studies in a file, the oldest first; none where there is no file. StoreError as above."""
    check_kind(file)
    if not file.is_file():
        return []
    import optuna

    storage = open_storage(file)
    with store_errors(file):
        return optuna.get_all_study_names(storage.journal)


def read_studies(file: Path, campaign: str | None = None) -> list[StudyRecord]:
    """The studies of a file, or those of one campaign, the oldest first; none where there is no file.

    Left out: a study that was never begun, and one that no search made. StoreError where the file cannot be used.
    """
    check_kind(file)
    if not file.is_file():
        return []
    import optuna

    storage = open_storage(file)
    with store_errors(file):
        names = [name for name in optuna.get_all_study_names(storage.journal) if name.count("/") >= 2]
        wanted = [name for name in names if campaign in (None, campaign_of(name))]
        studies = [optuna.load_study(study_name=name, storage=storage.journal) for name in wanted]
        return [_record(study) for study in studies if records.IDENTITY in study.user_attrs]


class Study:
    """The search for one method on one dataset: `ask` for a trial, `report` its epochs, `tell` how it ended.

    name: of the study in its file, campaign/dataset/method. The points of the design are queued when the study is
    created. A study of this name that was begun with another design is a UsageError that shows the difference; its
    budget may grow. ConfigError where the sampler cannot search the space, UsageError where its package is not
    installed; StoreError from every method where the file cannot be used or another program writes to the study.
    """

    def __init__(self, storage: Storage, name: str, design: StudyDesign) -> None:
        check_sampler(name, design.space, design.search)
        search, space = design.search, design.space
        self.name, self.design = name, design
        self._file, self._journal, self._keys = storage.file, storage.journal, ordered(space)
        self._grid = Grid(space, search.seed) if search.sampler == "grid" or not space else None
        self._pruner, self._several = _pruner(search, design.epochs), len(search.objective) > 1
        with store_errors(self._file):
            self._study = _study(storage, name, search)
            self._begin()
            self._write({records.TOTAL: design.trials, records.BOUNDS: design.bounds})
            trials = self._study.get_trials(deepcopy=False)
            self._running = {trial.number: self._resumed(trial) for trial in trials if trial.state.name == "RUNNING"}
        self._count = len(trials)  # the number of the next one; another means another writer
        self._waiting = [trial.number for trial in trials if trial.state.name == "WAITING"]
        if self._grid is not None:
            self._grid.take(*(trial.params for trial in trials))

    def ask(self) -> Proposal | None:
        """The next trial; None where all cells of the grid are taken, or where nothing is searched and one trial is."""
        with store_errors(self._file):
            if self._grid is not None and not self._waiting:
                cell = self._grid.next()
                if cell is None:
                    return None
                self.enqueue(cell)
            number = self._waiting[0] if self._waiting else self._count
            self._prepare(number)
            with self._sampling():
                trial = self._study.ask()
            if trial.number != number:
                self._study.tell(trial, state=_state("FAIL"))
                raise another_writer(self._file, f"trial {trial.number} of {self.name} came where {number} was next")
            values = self._drawn(trial)
        self._running[number] = Running(trial, values, set())
        self._waiting, self._count = self._waiting[1:], max(self._count, number + 1)
        if self._grid is not None:
            self._grid.take(values)
        return Proposal(number, values)

    def enqueue(self, values: Mapping[str, Scalar], **notes: Any) -> None:
        """Have `ask` give these values next, also where a trial has had them before; `notes` are the new trial's."""
        with store_errors(self._file):
            self._study.enqueue_trial(dict(values), {records.NOTES: notes} if notes else None)
        self._waiting, self._count = [*self._waiting, self._count], self._count + 1

    def open(self) -> list[Proposal]:
        """The trials that are not over: before the first `ask`, those that a dead driver left."""
        return [Proposal(number, running.values) for number, running in self._running.items()]

    def note(self, number: int, **notes: Any) -> None:
        trial = self._trial(number).trial
        with store_errors(self._file):
            trial.set_user_attr(records.NOTES, {**trial.user_attrs.get(records.NOTES, {}), **notes})

    def notes(self, number: int) -> dict[str, Any]:
        """What is noted of a trial that is not over."""
        return notes_in(self._trial(number).trial.user_attrs)

    def report(self, number: int, epoch: int, value: float | None) -> bool:
        """Take a trial's value after so many finished epochs; False where it should stop now.

        An epoch keeps its first value and is judged once, also where a driver died between the two; a value that is
        missing or not finite is passed over. That a trial should stop is remembered. Nothing is pruned after its last
        epoch, nor with several objectives.
        """
        running = self._trial(number)
        if records.PRUNED_AT in running.trial.user_attrs:
            return False
        if value is None or not math.isfinite(value) or self._several:
            return True
        with store_errors(self._file):
            if epoch not in running.epochs:
                running.trial.report(value, epoch)
                running.epochs.add(epoch)
            return epoch <= running.judged or epoch >= self.design.epochs or self._goes_on(running, epoch)

    def _goes_on(self, running: Running, epoch: int) -> bool:
        """Have the pruner judge a trial, and write down what it says.

        Halving judges a trial once at each rung: asked again after a restart, it would let it go on.
        """
        self._study.pruner = self._pruner
        if running.trial.should_prune():
            running.trial.set_user_attr(records.PRUNED_AT, epoch)
            return False
        running.judged = epoch
        if self.design.search.pruner != "none":
            running.trial.set_user_attr(records.JUDGED, epoch)
        return True

    def tell(self, number: int, state: Outcome, objective: Sequence[float | None] | None = None) -> Outcome:
        """End a trial, and say how it was taken: "complete" without a finite value for each objective is "failed"."""
        values = [value for value in objective or () if value is not None and math.isfinite(value)]
        if state == "complete" and not len(values) == len(objective or ()) == len(self.design.search.objective):
            state = "failed"
        name = next(name for name, outcome in records.OUTCOMES.items() if outcome == state)
        trial = self._trial(number).trial
        with store_errors(self._file):
            self._study.tell(trial, values if state == "complete" else None, _state(name))
        del self._running[number]
        return state

    def ended(self) -> list[Ended]:
        """All trials that are over, by number; reads the whole study."""
        return [*self.record().trials]

    def best(self) -> list[Ended]:
        """The best of the complete trials, the first of equals; with several objectives their Pareto front."""
        return self.record().front

    def record(self) -> StudyRecord:
        with store_errors(self._file):
            return record_of(self.name, self._study.user_attrs, self._study.get_trials(deepcopy=False))

    def _begin(self) -> None:
        """Queue the points of a new study and write down its design; UsageError where it was begun with another."""
        identity = self._study.user_attrs.get(records.IDENTITY)
        trials = self._study.get_trials(deepcopy=False)
        if identity is None and all(trial.state.name == "WAITING" for trial in trials):
            for point in self.design.points:
                self._study.enqueue_trial(dict(point), skip_if_exists=True)
            with warnings.catch_warnings():  # Optuna marks the call as experimental; no result depends on it
                warnings.simplefilter("ignore")
                self._study.set_metric_names([f"val {measure}" for measure in self.design.search.objective])
            # Last: where it is absent the driver died, and the study begins again.
            self._study.set_user_attr(records.IDENTITY, self.design.identity)
        else:
            self.design.check(self.name, identity or {})
            self._write({records.IDENTITY: self.design.identity})  # where an earlier harness wrote down less

    def _write(self, attributes: Mapping[str, Any]) -> None:
        for name, value in attributes.items():
            if self._study.user_attrs.get(name) != value:
                self._study.set_user_attr(name, value)

    def _resumed(self, trial: FrozenTrial) -> Running:
        """A trial that a dead driver left under way; where it died while it drew values, the rest is drawn now."""
        import optuna

        self._prepare(trial.number)
        # Optuna hands out a handle of a new trial alone; one of an old trial takes the id that its storage gives.
        study = self._journal.get_study_id_from_name(self.name)
        own = self._journal.get_trial_id_from_study_id_trial_number(study, trial.number)
        with self._sampling():
            handle = optuna.Trial(self._study, own)
        judged = trial.user_attrs.get(records.JUDGED, 0)
        return Running(handle, self._drawn(handle), set(trial.intermediate_values), judged)

    def _prepare(self, number: int) -> None:
        """Give the study the sampler of one trial, and no pruner: beside hyperband it would see one bracket alone."""
        from optuna.pruners import NopPruner

        self._study.sampler = _sampler(self.design.search, self.design.space, number)
        self._study.pruner = NopPruner()

    def _sampling(self) -> AbstractContextManager[None]:
        from optuna.exceptions import UpdateFinishedTrialError

        return sampler_errors(self.name, self.design.search.sampler, UpdateFinishedTrialError)

    def _drawn(self, trial: optuna.Trial) -> dict[str, Scalar]:
        """The values of a trial; what it has already is not drawn again."""
        values: dict[str, Scalar] = {}
        for key in self._keys:
            if applies(self.design.space, key, values):
                with self._sampling():
                    values[key] = _suggested(trial, key, self.design.space[key])
        return values

    def _trial(self, number: int) -> Running:
        if number not in self._running:
            raise another_writer(self._file, f"trial {number} of {self.name} is over")
        return self._running[number]


def _study(storage: Storage, name: str, search: Search) -> optuna.Study:
    """Optuna's study of this name, created where there is none; sampler and pruner come with each trial."""
    import optuna

    return optuna.create_study(
        storage=storage.journal,
        study_name=name,
        directions=["minimize" if measure.startswith("-") else "maximize" for measure in search.objective],
        sampler=optuna.samplers.RandomSampler(search.seed),
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


def _state(name: str) -> TrialState:
    from optuna.trial import TrialState

    return TrialState[name]


def _record(study: optuna.Study) -> StudyRecord:
    record = record_of(study.study_name, study.user_attrs, study.get_trials(deepcopy=False))
    return replace(record, importances=_importances(study)) if is_enough(record) else record


def _importances(study: optuna.Study) -> dict[str, float]:
    """By PED-ANOVA, optuna's default, which draws nothing at random; of several objectives, for reaching the front."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of many equal values
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=records.BEST_SHARE))
