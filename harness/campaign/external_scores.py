"""An external score matrix as a trial: ranked under a dataset's protocol as our own are, saved, logged and listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.campaign.driver import only_driver
from harness.campaign.plan import check_numbers, check_protocol, check_writable
from harness.config.cards import DatasetCard, ProtocolCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.diagnostics.looks import ScoreLooks, StoredLooks, save_looks
from harness.errors import UsageError
from harness.evaluation.measures import mean_measures
from harness.evaluation.outcome import Evaluation, outcome, rank_scores
from harness.evaluation.positives import open_sets
from harness.evaluation.protocols import Fold, expected_at_random, rank_folds, split_folds
from harness.evaluation.ranks import Floats
from harness.evaluation.records import Records
from harness.evaluation.score_files import array_scores, mean_scores, open_scores
from harness.files import sha256
from harness.layouts.opening import fingerprint, open_dataset
from harness.tracking.logged import write_memory
from harness.tracking.result_store import ResultStore
from harness.tracking.runs import Run, replaced
from harness.tracking.store import default_uri
from harness.tracking.tracker import Tracker
from harness.trial.ensembles import joint_source
from harness.trial.external import PREFIX, file_names, method_of, recipe_of, spec_of
from harness.trial.folder import read_result, write_result, write_spec
from harness.trial.results import State, TrialResult, TrialSpec

CAMPAIGN = "external"
FAR = 3.0  # times the rsum: from there on the reversed order is worth a warning
CLEAR = 10.0  # points of rsum above a random order
LARGEST = 600.0  # that an rsum can be


@dataclass(frozen=True)
class ScoreRequest:
    files: tuple[Path, ...]  # whose scores are averaged
    dataset: DatasetCard
    protocol: ProtocolCard
    spec: TrialSpec
    folder: Path  # of the trial
    data: Path
    cache: Path


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
) -> ScoreRequest:
    """UsageError for an unknown dataset or protocol, for a name that is a method of ours or no name, for a copy.

    DataError where a file is no score matrix or the dataset's files are not the card's.
    """
    check_numbers([seed], None)
    check_protocol(protocol)
    method = method_of(name)
    if method.removeprefix(PREFIX) in registry.methods:
        raise UsageError(f"--name {name}: a method here has this name; choose one that tells the two apart")
    card = registry.dataset(dataset)
    under = card.protocol(protocol)
    for file in files:
        open_scores(file)
    cache = config.cache
    about = (under.name, under.identity), seed, note, fingerprint(card, config.data, cache), joint_hash(files)
    spec = spec_of(method, dataset, *about, len(files))
    return ScoreRequest(tuple(files), card, under, spec, config.trials / spec.key, config.data, cache)


def joint_hash(files: Sequence[Path]) -> str:
    """The sha256 of a file, of several one over theirs, whatever their order; UsageError where two are the same."""
    hashes = [sha256(file) for file in files]
    if copies := [file for place, file in enumerate(files) if hashes[place] in hashes[:place]]:
        raise UsageError(f"{copies[0]}: an earlier file has the same scores; an ensemble is of different models")
    return hashes[0] if len(hashes) == 1 else joint_source(sorted(hashes))


def rank_file(config: Config, request: ScoreRequest) -> tuple[ResultStore, RankedScores]:
    """Rank a file, unless that was done before, and see that its result is in the folder and in the store.

    Raises as `evaluate` does; UsageError where the same file is another seed already, StoreError, ResourceError where
    another harness is at work.
    """
    check_writable(config.results)
    with only_driver(config.results):
        before = read_result(request.folder)
        scores = RankedScores(before, None, StoredLooks(), ()) if before else evaluate(request)
        tracker, store = Tracker(default_uri(config)), ResultStore(default_uri(config))
        runs = store.runs()
        check_new(runs, request.spec)
        if scores.records:
            write_spec(request.folder, request.spec)
            scores.records.save(request.folder)
            save_looks(request.folder, scores.looks)
            write_result(request.folder, scores.result)  # last: a folder with a result is complete
        tracker.open_campaign(CAMPAIGN, [])  # nothing is expected: what was never ranked is not missing
        tracker.result(scores.result, request.folder)
        if request.spec.key in replaced(runs):
            tracker.renew(scores.result)
        tracker.close_campaign(State.DONE)
        write_memory(config.results, tracker.uri)
    return store, scores


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
        environment=environment(choose_device("cpu")) | test.releases | file_names(request.files),
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
    return EvaluatedScores(test, ScoreLooks(split, folds)(scores), warnings)


def reversal(scores: Floats, folds: Sequence[Fold], rsum: float) -> str:
    """A warning where the lowest scores are much the better answers; empty otherwise.

    Nothing tells a distance from a score for sure, but an order that is far better backwards than forwards, and clearly
    better than a random one, is hardly meant.
    """
    if FAR * rsum >= LARGEST:
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
