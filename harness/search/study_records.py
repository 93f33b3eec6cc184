"""Studies as records, for reports: what their file holds, whatever harness.toml says by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.config.sections import Scalar, Tunable
from harness.search.studies import Ended, Outcome

OUTCOMES: dict[str, Outcome] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}  # Optuna's and ours
IDENTITY = "identity"  # user attribute of a study: what it was begun with
TOTAL = "trials"  # user attribute of a study: its budget, for whoever only looks
JUDGED = "judged"  # user attribute of a trial: the last epoch after which a pruner let it go on
NOTES = "notes"  # user attribute of a trial: all that was noted, in one write
# Importances compare the best fifth of complete trials with all. Of 20 random trials each, where one setting alone
# decided, that named it in 20 studies of 20; optuna's own tenth did in 13, and with 10 trials neither is worth much.
BEST_SHARE, ENOUGH = 0.2, 20
SPACE = "space of "  # how an identity names a range


@dataclass(frozen=True)
class StudyRecord:
    name: str  # campaign/dataset/method
    identity: Mapping[str, str]
    trials: tuple[Ended, ...] = ()  # by number
    ranges: Mapping[str, Tunable] = field(default_factory=dict)  # without conditions
    under_way: Mapping[int, str] = field(default_factory=dict)  # number -> key of its trial, empty before it is noted
    total: int | None = None  # trials of its budget, as the last command asked for
    importances: Mapping[str, float] = field(default_factory=dict)  # add up to 1; empty where trials are too few

    @property
    def campaign(self) -> str:
        return self.name.rsplit("/", 2)[0]

    @property
    def dataset(self) -> str:
        return self.name.rsplit("/", 2)[1]

    @property
    def method(self) -> str:
        return self.name.rsplit("/", 2)[2]

    @property
    def space(self) -> dict[str, str]:
        return {key.removeprefix(SPACE): text for key, text in self.identity.items() if key.startswith(SPACE)}

    @property
    def objective(self) -> tuple[str, ...]:
        """Names of measures on val or of costs; a minimised one begins with a minus."""
        return tuple(self.identity["objective"].split(", "))

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
    """As `StudyRecord.front`; that of a front and one more trial is that of all of them."""
    signs = [-1 if name.startswith("-") else 1 for name in objective]
    if len(signs) == 1:
        return ranked(complete, objective)[:1]
    values = {t.number: tuple(s * v for s, v in zip(signs, t.objective, strict=True)) for t in complete}
    best = ranked(complete, objective)
    return [t for t in best if not any(_beats(other, values[t.number]) for other in values.values())]


def record_of(name: str, attributes: Mapping[str, Any], trials: Sequence[Any]) -> StudyRecord:
    return StudyRecord(
        name=name,
        identity=attributes[IDENTITY],
        trials=tuple(ended_of(trial) for trial in trials if trial.state.is_finished()),
        ranges={key: _range(kind) for trial in trials for key, kind in trial.distributions.items()},
        under_way={t.number: t.user_attrs.get(NOTES, {}).get("key", "") for t in trials if t.state.name == "RUNNING"},
        total=attributes.get(TOTAL),
    )


def ended_of(trial: Any) -> Ended:
    notes = {**trial.user_attrs, **trial.user_attrs.get(NOTES, {})}
    for name in (NOTES, JUDGED):
        notes.pop(name, None)
    return Ended(trial.number, OUTCOMES[trial.state.name], dict(trial.params), tuple(trial.values or ()), notes)


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
