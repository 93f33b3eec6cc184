"""An external score matrix as a trial: ranked under a dataset's protocol as our own are, saved, logged and listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isnan, nan
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from harness.campaign.driver import only_driver
from harness.campaign.plan import check_numbers, check_protocol, check_writable
from harness.config.cards import DatasetCard, ProtocolCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.diagnostics.looks import ScoreLooks, StoredLooks, read_looks, save_looks
from harness.errors import DataError, UsageError, count
from harness.evaluation.measures import MOST_RSUM, mean_measures
from harness.evaluation.outcome import Evaluation, outcome, rank_scores
from harness.evaluation.positives import open_sets
from harness.evaluation.protocols import Fold, expected_at_random, rank_folds, split_folds
from harness.evaluation.ranks import Floats
from harness.evaluation.records import Records, TrialRankings
from harness.evaluation.score_files import array_scores, mean_scores, open_scores
from harness.files import sha256
from harness.layouts.opening import fingerprint, open_dataset
from harness.tracking import artifacts
from harness.tracking.logged import write_memory
from harness.tracking.naming import alone, known_run, of_run
from harness.tracking.result_store import ResultStore
from harness.tracking.runs import Run, replaced
from harness.tracking.store import default_uri
from harness.tracking.tracker import Tracker
from harness.trial.ensembles import joint_source
from harness.trial.external import (
    ENTRY,
    LONGEST_FACT,
    PREFIX,
    SHA256,
    entry_facts,
    file_names,
    files_of,
    is_external,
    method_of,
    one_line,
    recipe_of,
    spec_of,
)
from harness.trial.folder import result_of, write_result, write_spec
from harness.trial.results import RECALLS, State, TrialResult, TrialSpec, Verification

CAMPAIGN = "external"
NOTHING: Mapping[str, str] = MappingProxyType({})
FAR = 3.0  # times the rsum: from there on the reversed order is worth a warning
CLEAR = 10.0  # points of rsum above a random order
ROUNDING, POINTS = 1e-3, 0.1  # by which scores, and recalls in percent, made again may differ


@dataclass(frozen=True)
class ScoreRequest:
    files: tuple[Path, ...]  # whose scores are averaged
    dataset: DatasetCard
    protocol: ProtocolCard
    spec: TrialSpec
    folder: Path  # of the trial
    data: Path
    cache: Path
    entry: dict[str, str]  # names, hashes and what is said of the files, for the environment


class EvaluatedScores(NamedTuple):
    test: Evaluation
    looks: StoredLooks
    warnings: tuple[str, ...]  # what looks odd, what is not measured


class RankedScores(NamedTuple):
    result: TrialResult
    records: Records | None  # None: the file was ranked before, they are kept already
    looks: StoredLooks
    warnings: tuple[str, ...]  # what looks odd, what is not measured


def score_request(
    config: Config,
    registry: Registry,
    files: Sequence[Path],
    dataset: str,
    protocol: str,
    name: str,
    seed: int,
    note: str,
    entry: Mapping[str, str] = NOTHING,
) -> ScoreRequest:
    """What is to be ranked; `entry` is what is said of it, by the keys of `trial.external.ENTRY`.

    UsageError for an unknown dataset or protocol, for a name that is a method of ours or no name, for a copy.

    DataError where a file is no score matrix or the dataset's files are not the card's.
    """
    check_numbers([seed], None)
    check_protocol(protocol)
    method = check_name(name, registry)
    card = registry.dataset(dataset)
    under = card.protocol(protocol)
    for file in files:
        open_scores(file)
    hashes = hashes_of(files)
    data = fingerprint(card, config.data, config.cache)
    spec = spec_of(method, dataset, (under.name, under.identity), seed, note, data, joint_hash(hashes), len(files))
    facts = file_names(files) | {f"{SHA256}{number}": one for number, one in enumerate(hashes, start=1)}
    folder = config.trials / spec.key
    return ScoreRequest(tuple(files), card, under, spec, folder, config.data, config.cache, facts | entry_facts(entry))


def check_name(name: str, registry: Registry) -> str:
    """The method of a model's name; UsageError where it is no name, or that of a method here."""
    method = method_of(name)
    if method.removeprefix(PREFIX) in registry.methods:
        raise UsageError(f"--name {name}: a method here has this name; choose one that tells the two apart")
    return method


def hashes_of(files: Sequence[Path]) -> list[str]:
    """The sha256 of each file; UsageError where two are the same."""
    hashes = [sha256(file) for file in files]
    if copies := [file for place, file in enumerate(files) if hashes[place] in hashes[:place]]:
        raise UsageError(f"{copies[0]}: an earlier file has the same scores; an ensemble is of different models")
    return hashes


def joint_hash(hashes: Sequence[str]) -> str:
    """The sha256 of a file, of several one over theirs, whatever their order."""
    return hashes[0] if len(hashes) == 1 else joint_source(sorted(hashes))


def rank_file(config: Config, request: ScoreRequest) -> tuple[ResultStore, RankedScores]:
    """Rank a file, unless that was done before, and see that its result is in the folder and in the store.

    Raises as `evaluate` does; UsageError where the same file is another seed already, StoreError, ResourceError where
    another harness is at work.
    """

    def scores(before: TrialResult | None) -> RankedScores:
        return known_scores(request, before) if before else evaluate(request)

    return rank_external(config, request.spec, scores)


def rank_external(
    config: Config, spec: TrialSpec, evaluation: Callable[[TrialResult | None], RankedScores]
) -> tuple[ResultStore, RankedScores]:
    """Rank a model from elsewhere by `evaluation`, which is given an earlier result; raises as `rank_file` does."""
    check_writable(config.results)
    folder = config.trials / spec.key
    with only_driver(config.results):
        before = result_of(spec, folder)
        scores = evaluation(before)
        tracker, store = Tracker(default_uri(config)), ResultStore(default_uri(config))
        runs = store.runs()
        check_new(runs, spec)
        if scores.records:
            write_spec(folder, spec)
            scores.records.save(folder)
        if not scores.looks.is_empty:
            save_looks(folder, scores.looks)
        if scores.result != before:
            write_result(folder, scores.result)  # last: a folder with a result is complete
        tracker.open_campaign(CAMPAIGN, [])  # nothing is expected: what was never ranked is not missing
        tracker.result(scores.result, folder)
        if spec.key in replaced(runs):
            tracker.renew(scores.result)
        tracker.close_campaign(State.DONE)
        write_memory(config.results, tracker.uri)
    return store, scores


def known_scores(request: ScoreRequest, before: TrialResult) -> RankedScores:
    """A file that was ranked before, with what is said of it now, and the looks that were not made then."""
    facts = {name: text for name, text in request.entry.items() if name in ENTRY}
    result = before.model_copy(update={"environment": {**before.environment, **facts}})
    looks = read_looks(request.folder)
    if looks.is_empty:
        split = open_dataset(request.dataset, request.data, request.cache).split(request.protocol.split)
        of = ScoreLooks(split, split_folds(request.protocol, split))
        scores = mean_scores(request.files, request.dataset, request.protocol, split) if of.are_wanted else None
        looks = looks if scores is None else of.of_all(scores)
    return RankedScores(result, None, looks, ())


def evaluate(request: ScoreRequest) -> RankedScores:
    """Rank a matrix as a trial's scores are; DataError where it does not answer the protocol's queries."""
    from harness.trial.device import choose_device
    from harness.trial.environment import environment

    read = partial(mean_scores, request.files)
    test, looks, warnings = evaluate_scores(read, request.dataset, request.protocol, request.data, request.cache)
    result = TrialResult(
        spec=request.spec,
        state=State.DONE,
        measures=test.measures,
        gallery=test.gallery,
        environment=environment(choose_device("cpu")) | test.releases | request.entry,
    )
    return RankedScores(result, test.records, looks, warnings)


def evaluate_array(
    scores: object, card: DatasetCard, protocol: ProtocolCard, data: Path, cache: Path
) -> EvaluatedScores:
    """Rank an array in memory as a file is ranked, and store nothing of it; DataError as `evaluate`."""
    return evaluate_scores(partial(array_scores, scores), card, protocol, data, cache)


def evaluate_scores(
    read: Callable[..., Floats], card: DatasetCard, protocol: ProtocolCard, data: Path, cache: Path
) -> EvaluatedScores:
    """Rank the scores (N, M) that `read` gives for a card, a protocol and the split that it scores."""
    split = open_dataset(card, data, cache).split(protocol.split)
    folds = split_folds(protocol, split)
    scores = read(card, protocol, split)
    sets, absent = open_sets(card, protocol.name, data, split)
    test = outcome(protocol, split, folds, rank_scores(scores, folds, sets))
    warnings = tuple(filter(None, (absent, reversal(scores, folds, test.measures["rsum"]))))
    return EvaluatedScores(test, ScoreLooks(split, folds).of_all(scores), warnings)


def reversal(scores: Floats, folds: Sequence[Fold], rsum: float) -> str:
    """A warning where the lowest scores are much the better answers; empty otherwise.

    Nothing tells a distance from a score for sure, but an order that is far better backwards than forwards, and clearly
    better than a random one, is hardly meant.
    """
    if FAR * rsum >= MOST_RSUM:
        return ""
    backwards = mean_measures(rank_folds(np.negative(scores), folds))["rsum"]
    if backwards < max(FAR * rsum, expected_at_random(folds)["rsum"] + CLEAR):
        return ""
    return (
        f"in the reversed order these scores reach a rsum of {backwards:.1f}, as they are {rsum:.1f}: if they "
        "are distances, lower is better in them; save -scores and give that file"
    )


def check_new(runs: Sequence[Run], spec: TrialSpec) -> None:
    """UsageError where the file stands under the model's name with another seed: a copy is no repetition."""
    same = [run for run in runs if run.is_done and run.spec.source == spec.source and run.recipe == recipe_of(spec)]
    others = [run.spec.seed for run in same if run.spec.seed != spec.seed]
    if others:
        raise UsageError(
            f"this very file is seed {others[0]} of {spec.method} already; give seed {spec.seed} a file of its own, "
            "from a model that was trained again"
        )


@dataclass(frozen=True)
class RemadeScores:
    """Scores of an external entry that somebody made again, beside those that were ranked."""

    result: TrialResult  # that was ranked
    measures: Mapping[str, float]  # of the scores made again
    is_same_file: bool
    difference: float  # largest of the stored first scores, as a share of the largest of them; nan: none are stored
    by: str

    @property
    def points(self) -> float:
        """The largest difference of a recall."""
        return max(abs(self.measures[name] - self.result.measures[name]) for name in RECALLS)

    @property
    def is_verified(self) -> bool:
        """Whether the scores came back: to the last bit, or within rounding."""
        return self.is_same_file or (self.difference <= ROUNDING and self.points <= POINTS)

    @property
    def verdict(self) -> str:
        """What came of it, in words."""
        if self.is_same_file:
            return f"verified by {self.by}: the scores are the same to the last bit"
        if isnan(self.difference):
            return "not verified: the store has no first scores to compare with; `harness score` the first file again"
        apart = f"first scores differ by up to {self.difference:.2g} of the largest, recalls by up to {self.points:.2f}"
        return f"verified within rounding by {self.by}: {apart}" if self.is_verified else f"not verified: {apart}"

    @property
    def verification(self) -> Verification:
        """What is recorded of it."""
        return Verification(numbers=self.result.numbers, is_verified=self.is_verified, verdict=self.verdict, by=self.by)


def remade_scores(
    config: Config, registry: Registry, store: ResultStore, name: str, files: Sequence[Path], by: str
) -> RemadeScores:
    """Compare files made again with the external entry that a name means.

    UsageError where it is none, where nobody is said to have made them, where there are more or fewer files; DataError
    where they do not fit, or where data or protocol have changed since.
    """
    run = external_run(store.runs(), name)
    spec, result, who = run.spec, run.result, one_line("--by", by, LONGEST_FACT)
    assert result is not None  # of a run that is done
    if len(files) != files_of(spec):
        number = count(files_of(spec), "file")
        raise UsageError(f"{spec.label} is of {number}, --scores names {len(files)}; give as many")
    for file in files:
        open_scores(file)
    card = registry.dataset(spec.dataset)
    now = fingerprint(card, config.data, config.cache), card.protocol_identity(spec.protocol)[1]
    if now != (spec.data_fingerprint, spec.protocol_version):
        raise DataError(f"the data or the protocol of {spec.label} have changed since; nothing was compared")
    protocol = card.protocol(spec.protocol)
    split = open_dataset(card, config.data, config.cache).split(protocol.split)
    scores = mean_scores(files, card, protocol, split)
    measures = mean_measures(rank_folds(scores, split_folds(protocol, split)))
    heads = artifacts.rankings(store.artifact, run.run_id, scores=True)
    apart = largest_difference(heads, scores) if heads else nan
    return RemadeScores(result, measures, joint_hash(hashes_of(files)) == spec.source, apart, who)


def external_run(runs: Sequence[Run], name: str) -> Run:
    """The external entry that a label, a model's name or the start of a key means; UsageError where not one."""
    named = [run for run in runs if run.is_done and run.spec.method == name]
    run = alone(name, named, of_run) or known_run(runs, name)
    if not is_external(run.spec.method):
        raise UsageError(f"{run.label} is a trial of ours, which is run again; leave --scores out")
    return run


def largest_difference(heads: TrialRankings, scores: Floats) -> float:
    """The largest difference of the stored first scores from scores (N, M), as a share of the largest of them."""
    most, largest = 0.0, 0.0
    for direction, top in heads.top.items():
        table = scores if direction == "i2t" else scores.T
        known = top.results >= 0
        before = top.scores[known].astype(np.float64)
        now = table[np.broadcast_to(top.queries[:, None], known.shape)[known], top.results[known]]
        most = max(most, float(np.abs(now - before).max()))
        largest = max(largest, float(np.abs(before).max()))
    return most / largest if largest else most
