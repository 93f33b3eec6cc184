"""An ensemble as a trial: the mean of its members' scores on the split of the protocol, ranked once. Trains nothing."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray

from harness.data.dataset import Dataset
from harness.data.split import Split
from harness.diagnostics.looks import ScoreLooks, save_looks
from harness.errors import DataError, MemberError
from harness.evaluation import positives
from harness.evaluation.outcome import Evaluation, outcome, rank_scores
from harness.evaluation.protocols import split_folds
from harness.evaluation.scoring import MATRIX_BYTES, score_split
from harness.layouts.opening import open_dataset
from harness.trial import folder as record
from harness.trial.device import peak_mb, prepare_device
from harness.trial.ensembles import MEMBER, PEAK, added_costs
from harness.trial.environment import environment
from harness.trial.models import build_method, check_fingerprint, check_source, load_best
from harness.trial.results import Assignment, EpochReport, State, TrialResult

Floats = NDArray[np.float32]


def average(assignment: Assignment) -> Generator[EpochReport, bool | None, TrialResult]:
    """Score the test split with every member as it was trained, and rank the mean; a report before each member.

    MemberError where a member has not ended well, DataError where its weights are gone or its data have changed.
    """
    spec, folder = assignment.spec, assignment.folder
    record.write_spec(folder, spec)
    device = prepare_device(assignment.device, assignment.threads, assignment.gpus)
    surroundings = environment(device)  # now: the checkout may change meanwhile
    results = [member_result(member) for member in assignment.members]
    dataset = open_dataset(assignment.dataset_card, assignment.data, assignment.cache, spec.limit)
    check_fingerprint(dataset, spec.data_fingerprint)
    split = dataset.split(assignment.dataset_card.protocol(spec.protocol).split)
    check_room(split)
    total: Floats | None = None
    for member in assignment.members:
        yield EpochReport(key=spec.key, epoch=0, epochs=0, phase="test")
        scores = member_scores(member, dataset, split.name, device)
        total = scores if total is None else np.add(total, scores, out=total)
    assert total is not None
    test = ranked(assignment, split, np.divide(total, len(results), out=total))
    dataset.check_unchanged()
    test.records.save(folder)
    cost = added_costs([result.cost for result in results])
    return TrialResult(
        spec=spec,
        state=State.DONE,
        measures=test.measures,
        attempts=1 + record.attempts(folder),
        gallery=test.gallery,
        cost={PEAK: peak_mb(device)} | cost,
        environment=surroundings | test.releases | {f"{MEMBER}{one.spec.method}": one.key for one in results},
    )


def member_result(member: Assignment) -> TrialResult:
    """The result of a member; MemberError where it has none or has failed."""
    result = record.read_result(member.folder)
    if result is None or result.key != member.spec.key:
        raise MemberError(f"not made, as its member {member.name} has no result; run the same command again")
    if result.state is not State.DONE:
        why = f" ({result.failure})" if result.failure else ""
        retry = f"; run the same command with --retry {result.failure}" if result.failure else ""
        raise MemberError(f"not made, as its member {member.name} has {result.state.value}{why}{retry}")
    return result


def member_scores(member: Assignment, dataset: Dataset, name: str, device: torch.device) -> Floats:
    """Scores (N, M) of a member on a split with the weights of its best epoch, or its first where it is not trained."""
    spec = member.spec
    check_source(member.method_card, spec.source)
    own = dataset.for_settings(spec.settings)
    method = build_method(member.method_card, spec.settings, own, spec.seed)
    if spec.training.epochs:
        load_best(method, member.folder, member.name)
    return score_split(method.to(device), own.split(name), device, spec.training.score_precision).scores


def check_room(split: Split) -> None:
    """DataError where the scores of a split are more than are held together."""
    images, captions = len(split.images), len(split.captions)
    if 4 * images * captions > MATRIX_BYTES:
        raise DataError(f"{images} x {captions} scores are too many to hold, as the mean of an ensemble needs them")


def ranked(assignment: Assignment, split: Split, scores: Floats) -> Evaluation:
    """The mean scores as a trial's own are ranked, under every set of positives that is here; looks are kept."""
    spec, card, data = assignment.spec, assignment.dataset_card, assignment.data
    protocol = card.protocol(spec.protocol)
    folds = split_folds(protocol, split, limited=spec.limit is not None)
    present, _ = positives.present(card, spec.protocol, data, spec.limit)
    sets = positives.read_sets(present, data, split)
    save_looks(assignment.folder, ScoreLooks(split, folds)(scores))
    return outcome(protocol, split, folds, rank_scores(scores, folds, sets))
