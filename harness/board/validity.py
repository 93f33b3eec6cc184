"""Which results may stand side by side: those of the data, protocol, source and versions that count now.

And in what their recipes differ: what most rows share is said once, a row says where it has something else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.config.cards import MethodCard
from harness.config.project import built_in
from harness.config.registry import choices
from harness.config.selection import member_names
from harness.config.toml import shortly
from harness.tracking.runs import Run
from harness.trial.ensembles import is_composite
from harness.trial.external import is_external
from harness.trial.results import VERSIONS, Current, State, TrialSpec

DATA = ("data_fingerprint", "test_fingerprint", "protocol_version")
IDENTITY = ("method", *DATA, "limit", "settings", "training")  # all that identifies a recipe but the method's source
SHORT = 12  # digits of a hash that people read
TRAINING = "training."  # begins the keys of the recipe of training
NAMES = {
    **{
        "data_fingerprint": "data",
        "test_fingerprint": "data of the test",
        "source": "source",
        "limit": "limit",
        "protocol_version": "protocol version",
    },
    **{"training_version": "version of the trainer", "evaluation_version": "version of the evaluation"},
}


@dataclass(frozen=True)
class Validity:
    """What the rows of a board must be of to be comparable, and since when."""

    data_fingerprint: str
    test_fingerprint: str  # of a dataset that only the test is of; empty where there is none
    protocol_version: int
    training_version: int
    evaluation_version: int
    moment: int | None  # what was begun before it and differs is stale; None: whatever was begun

    @classmethod
    def of(cls, runs: Sequence[Run], newest: Run, current: Current) -> Validity:
        """From the project's files, where there are results of them, else from the newest run; versions only rise."""
        spec, done = newest.spec, [run.spec for run in runs if run.is_done]
        tested = current.test_data(spec.tested_on) if spec.tested_on else ""
        now = current.data(spec.dataset), tested, current.protocol(spec.test_dataset, spec.test_protocol)
        is_known = any(data_of(one) == now for one in done)
        data, tests, protocol = now if is_known else data_of(spec)
        return cls(
            data_fingerprint=data,
            test_fingerprint=tests,
            protocol_version=protocol,
            training_version=max((one.training_version for one in done), default=0),
            evaluation_version=max((one.evaluation_version for one in done), default=0),
            moment=None if is_known else newest.ended,
        )

    def change(self, spec: TrialSpec) -> str:
        """What has changed since a result of this spec: data, protocol, trainer or evaluation; empty where nothing."""
        if (spec.data_fingerprint, spec.test_fingerprint) != (self.data_fingerprint, self.test_fingerprint):
            return "data"
        if spec.protocol_version != self.protocol_version:
            return "protocol"
        if spec.training_version < self.training_version and not is_external(spec.method):
            return "trainer"
        return "evaluation" if spec.evaluation_version < self.evaluation_version else ""

    def fault(self, spec: TrialSpec) -> str:
        """The reason why results of a spec are of something else; empty where they are not."""
        match self.change(spec):
            case "data" | "protocol":
                return f"data {spec.data_fingerprint[:SHORT]}, protocol version {spec.protocol_version}"
            case "trainer":
                return f"trained by version {spec.training_version} of the trainer"
            case "evaluation":
                return f"measured by version {spec.evaluation_version} of the evaluation"
        return ""


def judge(
    recipe: Sequence[Run], full: Sequence[Run], valid: Validity, now: Current, old: Mapping[str, str]
) -> tuple[str, str]:
    """The section that a recipe stands in, and why it is not ranked."""
    first, missing = recipe[0].spec, reasons(recipe)
    if first.limit is not None:
        return "limited", missing
    if (fault := valid.fault(first)) and begun_before(recipe, valid.moment):
        return "stale", fault
    if is_external(first.method):
        is_old, what = recipe[0].key in old, "file"
    else:
        is_old, what = has_earlier_source(recipe, full, now.source(first.method)), "source of the method"
    if is_old:
        return "stale", f"an earlier {what}, {first.source[:SHORT]}"
    return ("incomplete", missing) if missing else ("ensembles" if is_composite(first) else "ranked", "")


def data_of(spec: TrialSpec) -> tuple[str, str, int]:
    """The values of DATA."""
    return spec.data_fingerprint, spec.test_fingerprint, spec.protocol_version


def has_earlier_source(recipe: Sequence[Run], full: Sequence[Run], now: str) -> bool:
    """Whether the same recipe has a result from the source as it is now, else from a later one."""
    first = recipe[0].spec
    if first.source == now:
        return False
    others = [run for run in full if run.spec.source != first.source and agree(run.spec, first, IDENTITY)]
    done = [run for run in others if run.is_done]
    if any(run.spec.source == now for run in done):
        return True
    return any(begun_before(recipe, run.started) for run in done if run.started is not None)


def agree(first: TrialSpec, second: TrialSpec, names: Iterable[str]) -> bool:
    """Whether two specs have the same values of these names."""
    return all(getattr(first, name) == getattr(second, name) for name in names)


def begun_before(recipe: Sequence[Run], moment: int | None) -> bool:
    """Whether a recipe was begun at all, and the last time before a moment, where there is one."""
    begun = [run.started for run in recipe if run.started is not None]
    return bool(begun) and (moment is None or max(begun) < moment)


def reasons(recipe: Iterable[Run]) -> str:
    """Why seeds are missing, those with one reason together; empty when all are done."""
    missing: dict[str, list[str]] = {}
    for run in recipe:
        if not run.is_done:
            missing.setdefault(reason(run), []).append(str(run.spec.seed))
    return "; ".join(f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}: {text}" for text, seeds in missing.items())


def reason(run: Run) -> str:
    match run.state:
        case State.WAITING:
            return "not run"
        case State.FAILED:
            return f"failed ({run.failure})" + (f": {run.message}" if run.message else "")
        case State.DONE:
            return "no rsum in the store"
    after = f"after epoch {run.last_epoch}" if run.last_epoch else "in its first epoch"
    if run.state is State.PRUNED:
        return f"pruned {after}"
    return f"{'running or cut off' if run.state is State.RUNNING else 'interrupted'} {after}"


def common_training(runs: Sequence[Run]) -> dict[str, str]:
    """The training that most runs share, as `-s` takes it; of equally many, the one nearest to the defaults."""
    trainings = Counter(tuple(sorted(training_of(run).items())) for run in runs if is_configured(run.spec))
    usual = default_training(runs[0].spec.dataset) if trainings else {}

    def rank(training: tuple[tuple[str, str], ...]) -> tuple[int, int, tuple[tuple[str, str], ...]]:
        return -trainings[training], sum(usual.get(name) != text for name, text in training), training

    return dict(sorted(trainings, key=rank)[0]) if trainings else {}


def default_training(dataset: str) -> dict[str, str]:
    """The training that is built in for a dataset, as `-s` takes it; an empty name is any that wants nothing else."""
    return choices({}, built_in().for_dataset(dataset).training)


def training_of(run: Run) -> dict[str, str]:
    return {name: text for name, text in run.choices.items() if name.startswith(TRAINING)}


def is_configured(spec: TrialSpec) -> bool:
    """Whether a trial was trained by [training]: not by its paper's recipe, not elsewhere, and at all."""
    return spec.training.epochs > 0 and not (spec.trained_as or is_external(spec.method) or is_composite(spec))


def differences(run: Run, others: Iterable[Run], training: Mapping[str, str]) -> str:
    """What a recipe has that the other recipes of its method, or the training that most rows share, have not.

    An external row is no other one for its file.
    """
    own = facts(run)
    rivals = [other for other in others if other.spec.method == run.spec.method]
    beside = [facts(rival) for rival in rivals if rival.spec.trained_as == run.spec.trained_as]
    beside += [{**own, **training}] if is_configured(run.spec) else []
    names = [*NAMES, *sorted({name for one in (own, *beside) for name in one} - {*NAMES})]
    varying = [name for name in names if any(other.get(name) != own.get(name) for other in beside)]
    parts = [f"{NAMES.get(name, name.removeprefix('settings.'))} {own.get(name, 'absent')}" for name in varying]
    return ", ".join([*(["the paper's recipe"] if run.spec.trained_as else []), *parts])


def facts(run: Run) -> dict[str, str]:
    """What may differ between two recipes of a method, hashes in short."""
    spec = run.spec
    return {
        "data_fingerprint": spec.data_fingerprint[:SHORT],
        **({"test_fingerprint": spec.test_fingerprint[:SHORT]} if spec.test_fingerprint else {}),
        "protocol_version": str(spec.protocol_version),
        **({} if is_external(spec.method) else {"source": spec.source[:SHORT]}),
        **({} if spec.limit is None else {"limit": str(spec.limit)}),
        **{name: str(getattr(spec, name)) for name in VERSIONS},
        **run.choices,
    }


def unlike_papers(members: Iterable[Run | None], methods: Mapping[str, MethodCard]) -> tuple[str, ...]:
    """`caan dim 128 (1024)`: the settings of an ensemble's members that are not those of their papers."""
    specs = [run.spec for run in members if run]
    return tuple(f"{spec.method} {text}" for spec in specs for text in unlike_paper(spec, methods.get(spec.method)))


def unlike_paper(spec: TrialSpec, card: MethodCard | None) -> Iterator[str]:
    """`dim 128 (1024)`: a setting, and the card's value; nothing without a paper, or by its recipe."""
    defaults = card.defaults if card and card.paper and not spec.trained_as else {}
    for name, value in sorted(defaults.items()):
        if (own := spec.settings.get(name, value)) != value:
            yield f"{name} {shortly(own)} ({shortly(value)})"


def fidelity(spec: TrialSpec, methods: Mapping[str, MethodCard]) -> str:
    """That of the method's card; an ensemble is a reconstruction where any of its members is."""
    if not is_composite(spec):
        return methods[spec.method].fidelity if spec.method in methods else ""
    kinds = {methods[name].fidelity for name in member_names(spec.method) if name in methods}
    return "reconstruction" if "reconstruction" in kinds else ""
