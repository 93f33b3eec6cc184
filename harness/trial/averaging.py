"""An ensemble as a trial: the mean of its members' scores on the split of the protocol, ranked once. Trains nothing."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray

from harness.data.split import Split
from harness.errors import DataError, MemberError
from harness.evaluation import positives
from harness.evaluation.outcome import Evaluation, outcome, rank_scores
from harness.evaluation.protocols import split_folds
from harness.evaluation.scoring import MATRIX_BYTES, score_split
from harness.trial import folder as record
from harness.trial.device import peak_mb, prepare_device
from harness.trial.ensembles import MEMBER, PEAK, added_costs
from harness.trial.environment import environment
from harness.trial.models import TrialData, build_method, check_source, load_best, open_data
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
    data = open_data(assignment)
    split = data.tests(data.own).split(assignment.test_protocol.split)
    check_room(split)
    total: Floats | None = None
    for member in assignment.members:
        yield EpochReport(key=spec.key, epoch=0, epochs=0, phase="test")
        scores = member_scores(member, data, split.name, device)
        total = scores if total is None else np.add(total, scores, out=total)
    assert total is not None
    test = ranked(assignment, split, np.divide(total, len(results), out=total))
    data.check_unchanged()
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


def member_scores(member: Assignment, data: TrialData, name: str, device: torch.device) -> Floats:
    """Scores (N, M) of a member on a split with the weights of its best epoch, or its first where it is not trained."""
    spec = member.spec
    check_source(member.method_card, spec.source)
    own = data.own.for_settings(spec.settings)
    method = build_method(member.method_card, spec.settings, own, spec.seed)
    if spec.training.epochs:
        load_best(method, member.weights.folder, member.name)
    return score_split(method.to(device), data.tests(own).split(name), device, spec.training.score_precision).scores


def check_room(split: Split) -> None:
    """DataError where the scores of a split are more than are held together."""
    images, captions = len(split.images), len(split.captions)
    if 4 * images * captions > MATRIX_BYTES:
        raise DataError(f"{images} x {captions} scores are too many to hold, as the mean of an ensemble needs them")


def ranked(assignment: Assignment, split: Split, scores: Floats) -> Evaluation:
    """The mean scores as a trial's own are ranked, under every set of positives that is here."""
    spec, protocol, data = assignment.spec, assignment.test_protocol, assignment.data
    folds = split_folds(protocol, split, limited=spec.limit is not None)
    present, _ = positives.present(assignment.tested_card, protocol.name, data, spec.limit)
    sets = positives.read_sets(present, data, split)
    return outcome(protocol, split, folds, rank_scores(scores, folds, sets))
