"""Studies as their file has them, whatever harness.toml says by now. For reports: nothing is made or changed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.sections import Scalar, Tunable
from harness.search.optuna_study import IDENTITY, NOTES, TOTAL, ended_of, open_storage, store_errors
from harness.search.studies import Ended

if TYPE_CHECKING:
    import optuna

# Importances compare the best fifth of complete trials with all. Of 20 random trials each, where one setting alone
# decided, that named it in 20 studies of 20; optuna's own tenth did in 13, and with 10 trials neither is worth much.
BEST_SHARE, ENOUGH = 0.2, 20
SPACE = "space of "  # how an identity names a range


@dataclass(frozen=True)
class Archived:
    """A study: what it was begun with, the ranges that its trials drew from, and how they ended."""

    name: str  # campaign/dataset/method
    identity: Mapping[str, str]
    trials: tuple[Ended, ...] = ()  # by number
    ranges: Mapping[str, Tunable] = field(default_factory=dict)  # without conditions
    under_way: Mapping[int, str] = field(default_factory=dict)  # number -> key of its trial, empty before it is noted
    total: int | None = None  # trials of its budget, as the last command asked for
    importances: Mapping[str, float] = field(default_factory=dict)  # add up to 1; empty where trials are too few

    @property
    def campaign(self) -> str:
        """The search campaign that it belongs to."""
        return self.name.rsplit("/", 2)[0]

    @property
    def dataset(self) -> str:
        """The dataset searched on."""
        return self.name.rsplit("/", 2)[1]

    @property
    def method(self) -> str:
        """The method searched."""
        return self.name.rsplit("/", 2)[2]

    @property
    def space(self) -> dict[str, str]:
        """What was searched: each range as a line of text."""
        return {key.removeprefix(SPACE): text for key, text in self.identity.items() if key.startswith(SPACE)}

    @property
    def objective(self) -> tuple[str, ...]:
        """Names of measures on val or of costs; a minimised one begins with a minus."""
        return tuple(self.identity["objective"].split(", "))

    @property
    def complete(self) -> list[Ended]:
        """Trials with a value for each objective."""
        return [trial for trial in self.trials if trial.state == "complete"]

    @property
    def ranked(self) -> list[Ended]:
        """The complete trials, best first, by the first objective; of equals the earlier one."""
        sign = 1 if self.objective[0].startswith("-") else -1
        return sorted(self.complete, key=lambda trial: sign * trial.objective[0])

    @property
    def front(self) -> list[Ended]:
        """The complete trials that no other one beats in every objective, by the first one: of one, its best."""
        signs = [-1 if name.startswith("-") else 1 for name in self.objective]
        values = {t.number: tuple(s * v for s, v in zip(signs, t.objective, strict=True)) for t in self.complete}
        if len(signs) == 1:
            return self.ranked[:1]
        return [t for t in self.ranked if not any(_beats(other, values[t.number]) for other in values.values())]


def read_studies(file: Path, campaign: str | None = None) -> list[Archived]:
    """The studies of a file, or those of one campaign, the oldest first; none where there is no file.

    Left out: a study that was never begun, and one that no search made. StoreError where the file cannot be used.
    """
    if not file.is_file():
        return []
    import optuna

    storage = open_storage(file)
    with closing(storage), store_errors(file):
        names = [study.study_name for study in storage.database.get_all_studies()]
        wanted = [name for name in names if name.count("/") >= 2 and campaign in (None, name.rsplit("/", 2)[0])]
        studies = [optuna.load_study(study_name=name, storage=storage.cache) for name in wanted]
        return [_archived(study) for study in studies if IDENTITY in study.user_attrs]


def _archived(study: optuna.Study) -> Archived:
    trials = study.get_trials(deepcopy=False)
    ranges = {key: _range(found) for trial in trials for key, found in trial.distributions.items()}
    ended = tuple(ended_of(trial) for trial in trials if trial.state.is_finished())
    running = [trial for trial in trials if trial.state.name == "RUNNING"]
    under_way = {trial.number: trial.user_attrs.get(NOTES, {}).get("key", "") for trial in running}
    total = study.user_attrs.get(TOTAL)
    made = Archived(study.study_name, study.user_attrs[IDENTITY], ended, ranges, under_way, total)
    return made if _too_few(made) else Archived(**{**vars(made), "importances": _importances(study)})


def _too_few(study: Archived) -> bool:
    """Whether importances would say nothing: few trials, all equal, or nothing to compare."""
    complete = study.complete
    return len(complete) < ENOUGH or len({trial.objective for trial in complete}) == 1 or len(study.ranges) < 2


def _importances(study: optuna.Study) -> dict[str, float]:
    """By PED-ANOVA, optuna's default, which draws nothing at random; of several objectives, for reaching the front."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of many equal values
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE))


def _range(found: Any) -> Tunable:
    """An optuna distribution as a range of ours."""
    if hasattr(found, "choices"):
        return Tunable.model_construct(type="categorical", choices=tuple(found.choices))
    ends = {"low": found.low, "high": found.high, "log": found.log}
    return Tunable.model_construct(type="int" if isinstance(found.low, int) else "float", **ends)


def _beats(other: tuple[float, ...], mine: tuple[float, ...]) -> bool:
    return other != mine and all(theirs >= own for theirs, own in zip(other, mine, strict=True))


def value_text(value: Scalar | None) -> str:
    """A setting as a table shows it: numbers cut to what people read, a dash where it was not used."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
