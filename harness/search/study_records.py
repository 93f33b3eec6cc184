"""Studies as records, for reports: what their file holds, whatever harness.toml says by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.config.sections import Scalar, Tunable
from harness.search.studies import SPACE, Ended, Outcome

OUTCOMES: dict[str, Outcome] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}  # Optuna's and ours
IDENTITY = "identity"  # user attribute of a study: what it was begun with
TOTAL = "trials"  # user attribute of a study: its budget, for whoever only looks
BOUNDS = "bounds"  # likewise: the epochs and seconds after which no trial begins; 0 is no bound
JUDGED = "judged"  # user attribute of a trial: the last epoch after which a pruner let it go on
PRUNED_AT = "pruned_at"  # user attribute of a trial: the epoch after which it was to stop
NOTES = "notes"  # user attribute of a trial: all that was noted, in one write
RETRY_OF = "retry_of"  # note of a trial: the failed one whose settings it has again
SAME_AS = "same_as"  # note of a trial that takes over a result: the trial of the study that had it first, else -1
COLLAPSED = "collapsed"  # note of a pruned trial: why its training had collapsed
# Importances compare the best fifth of complete trials with all. Of 20 random trials each, where one setting alone
# decided, that named it in 20 studies of 20; optuna's own tenth did in 13, and with 10 trials neither is worth much.
BEST_SHARE, ENOUGH = 0.2, 20


def campaign_of(study: str) -> str:
    """The campaign of a study by its name, CAMPAIGN/DATASET/METHOD, of which the first may have slashes itself."""
    return study.rsplit("/", 2)[0]


@dataclass(frozen=True)
class StudyRecord:
    name: str  # campaign/dataset/method
    identity: Mapping[str, str]
    trials: tuple[Ended, ...] = ()  # by number
    ranges: Mapping[str, Tunable] = field(default_factory=dict)  # without conditions
    under_way: Mapping[int, str] = field(default_factory=dict)  # number -> key of its trial, empty before it is noted
    total: int | None = None  # trials of its budget, as the last command asked for
    bounds: Mapping[str, float] = field(default_factory=dict)  # likewise its epochs and seconds, where they are bounded
    retried: frozenset[int] = frozenset()  # failed trials that were run again, or wait to be
    importances: Mapping[str, float] = field(default_factory=dict)  # add up to 1; empty where trials are too few

    @property
    def campaign(self) -> str:
        return campaign_of(self.name)

    @property
    def dataset(self) -> str:
        return self.name.split("/")[-2]

    @property
    def method(self) -> str:
        return self.name.split("/")[-1]

    @property
    def space(self) -> dict[str, str]:
        return {key.removeprefix(SPACE): text for key, text in self.identity.items() if key.startswith(SPACE)}

    @property
    def objective(self) -> tuple[str, ...]:
        """Names of measures on val or of costs; a minimised one begins with a minus."""
        return tuple(self.identity["objective"].split(", "))

    @property
    def counted(self) -> list[Ended]:
        """The trials that its budget counts: all that are over, but for failed ones that are run again."""
        return [trial for trial in self.trials if "key" in trial.notes and trial.number not in self._replaced]

    @property
    def collapsed(self) -> list[Ended]:
        """The trials that were stopped because their training had collapsed."""
        return [trial for trial in self.counted if COLLAPSED in trial.notes]

    @cached_property
    def _replaced(self) -> frozenset[int]:
        """An earlier harness did not note which trial a later one had the settings of, and ran it all the same."""
        run = {t.notes.get("key"): t.number for t in self.trials if not t.notes.keys() & {RETRY_OF, SAME_AS}}
        again = {t.number for t in self.trials if t.state == "failed" and run.get(t.notes.get("key"), -1) > t.number}
        return self.retried | again

    @property
    def complete(self) -> list[Ended]:
        return [trial for trial in self.trials if trial.state == "complete"]

    @property
    def ranked(self) -> list[Ended]:
        """The complete trials, best first, by the first objective; of equals the earlier one."""
        return ranked(self.complete, self.objective)

    @property
    def front(self) -> list[Ended]:
        """The complete trials that no other one beats in every objective, by the first one: of one, its best."""
        return front(self.complete, self.objective)


def ranked(complete: Sequence[Ended], objective: Sequence[str]) -> list[Ended]:
    sign = 1 if objective[0].startswith("-") else -1
    return sorted(complete, key=lambda trial: (sign * trial.objective[0], trial.number))


def front(complete: Sequence[Ended], objective: Sequence[str]) -> list[Ended]:
    """As `StudyRecord.front`, settings that came again once; that of a front and one more trial is that of all."""
    signs = [-1 if name.startswith("-") else 1 for name in objective]
    if len(signs) == 1:
        return ranked(complete, objective)[:1]
    values = {t.number: tuple(s * v for s, v in zip(signs, t.objective, strict=True)) for t in complete}
    best = ranked(complete, objective)
    best = [t for t in best if not any(_beats(other, values[t.number]) for other in values.values())]
    first = {t.notes.get("key", t.number): t.number for t in sorted(best, key=lambda t: -t.number)}
    return [t for t in best if first[t.notes.get("key", t.number)] == t.number]


def record_of(name: str, attributes: Mapping[str, Any], trials: Sequence[Any]) -> StudyRecord:
    notes = {trial.number: notes_in(trial.user_attrs) for trial in trials}
    return StudyRecord(
        name=name,
        identity=attributes[IDENTITY],
        trials=tuple(ended_of(trial) for trial in trials if trial.state.is_finished()),
        ranges={key: _range(kind) for trial in trials for key, kind in trial.distributions.items()},
        under_way={t.number: notes[t.number].get("key", "") for t in trials if t.state.name == "RUNNING"},
        total=attributes.get(TOTAL),
        bounds=attributes.get(BOUNDS, {}),
        retried=frozenset(one[RETRY_OF] for one in notes.values() if RETRY_OF in one),
    )


def ended_of(trial: Any) -> Ended:
    values = tuple(trial.values or ())
    return Ended(trial.number, OUTCOMES[trial.state.name], dict(trial.params), values, notes_in(trial.user_attrs))


def notes_in(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What user attributes of a trial say of it."""
    own = {name: value for name, value in attributes.items() if name not in (NOTES, JUDGED)}
    return {**own, **attributes.get(NOTES, {})}


def is_enough(study: StudyRecord) -> bool:
    """Whether importances would say anything: many trials that differ, and settings to compare."""
    complete = study.complete
    return len(complete) >= ENOUGH and len({trial.objective for trial in complete}) > 1 and len(study.ranges) > 1


def _range(kind: Any) -> Tunable:
    if hasattr(kind, "choices"):
        return Tunable.model_construct(type="categorical", choices=tuple(kind.choices))
    bounds = {"low": kind.low, "high": kind.high, "log": kind.log}
    return Tunable.model_construct(type="int" if isinstance(kind.low, int) else "float", **bounds)


def _beats(other: tuple[float, ...], mine: tuple[float, ...]) -> bool:
    return other != mine and all(theirs >= own for theirs, own in zip(other, mine, strict=True))


def value_text(value: Scalar | None) -> str:
    """A setting as a table shows it: numbers cut to what people read, a dash where it was not used."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
