"""Trials made of others' scores: an ensemble ranks the mean of its members', a reranking orders one's by another's.

They train nothing; scores are made again from the members' weights.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from harness.data.dataset import Dataset
from harness.data.split import Split
from harness.diagnostics.looks import ScoreLooks, save_looks
from harness.errors import DataError, MemberError
from harness.evaluation import positives
from harness.evaluation.outcome import Evaluation, outcome, rank_scores
from harness.evaluation.positives import PositiveSet
from harness.evaluation.protocols import split_folds
from harness.evaluation.scoring import MATRIX_BYTES, Scored, score_split
from harness.method import Method
from harness.reranking.order import ordered, pairs_of, proposed, rank_ordered
from harness.reranking.pairs import score_pairs
from harness.trial import folder as record
from harness.trial.device import peak_mb, prepare_device
from harness.trial.ensembles import MEMBER, PAIRS, PEAK, QUERY_MS, added_costs, reranking_of
from harness.trial.environment import environment
from harness.trial.models import TrialData, build_method, check_source, load_best, open_data
from harness.trial.results import Assignment, EpochReport, State, TrialResult

Floats = NDArray[np.float32]
SCORED = "score_pairs_per_second"


@dataclass(frozen=True)
class Combination:
    """A trial made of others that has begun: how its members ended, and the split that is scored with them again."""

    assignment: Assignment
    device: torch.device
    environment: dict[str, str]
    members: list[TrialResult]
    data: TrialData
    split: Split

    @classmethod
    def of(cls, assignment: Assignment) -> Combination:
        """Begin a trial; MemberError for a member that has not ended well, DataError for data that cannot be used."""
        record.write_spec(assignment.folder, assignment.spec)
        device = prepare_device(assignment.device, assignment.threads, assignment.gpus)
        surroundings = environment(device)  # now: the checkout may change meanwhile
        members = [member_result(member) for member in assignment.members]
        data = open_data(assignment)
        split = data.tests(data.own).split(assignment.test_protocol.split)
        check_room(split)
        return cls(assignment, device, surroundings, members, data, split)

    @property
    def report(self) -> EpochReport:
        """What is reported before each member is at work."""
        return EpochReport(key=self.assignment.spec.key, epoch=0, epochs=0, phase="test")

    def scored(self, member: Assignment) -> Scored:
        """The scores (N, M) of a member."""
        method, own = with_weights(member, self.data)
        split, precision = self.data.tests(own).split(self.split.name), member.spec.training.score_precision
        return score_split(method.to(self.device), split, self.device, precision)

    def result(self, test: Evaluation, cost: dict[str, float]) -> TrialResult:
        """The result, its records in the trial's folder; DataError where its data have changed since it began."""
        self.data.check_unchanged()
        test.records.save(self.assignment.folder)
        members = {f"{MEMBER}{one.spec.method}": one.key for one in self.members}
        return TrialResult(
            spec=self.assignment.spec,
            state=State.DONE,
            measures=test.measures,
            attempts=1 + record.attempts(self.assignment.folder),
            gallery=test.gallery,
            cost=cost,
            environment=self.environment | test.releases | members,
        )


def average(assignment: Assignment) -> Generator[EpochReport, bool | None, TrialResult]:
    """Score the test split with every member as it was trained, and rank the mean; a report before each member.

    MemberError where a member has not ended well, DataError where its weights are gone or its data have changed.
    """
    trial = Combination.of(assignment)
    total: Floats | None = None
    for member in assignment.members:
        yield trial.report
        scores = trial.scored(member).scores
        total = scores if total is None else np.add(total, scores, out=total)
    assert total is not None
    test = ranked(assignment, trial.split, np.divide(total, len(trial.members), out=total))
    cost = {PEAK: peak_mb(trial.device)} | added_costs([member.cost for member in trial.members])
    return trial.result(test, cost)


def rerank(assignment: Assignment) -> Generator[EpochReport, bool | None, TrialResult]:
    """Score the test split with the proposing member, then its candidates alone with the other; errors of `average`."""
    trial, (by, method) = Combination.of(assignment), assignment.members
    split, protocol, spec = trial.split, assignment.test_protocol, assignment.spec
    folds = split_folds(protocol, split, limited=spec.limit is not None)
    yield trial.report
    first = trial.scored(by)
    shortlists = proposed(first.scores, folds, reranking_of(spec).k)
    pairs = pairs_of(folds, shortlists, first.scores.shape)
    yield trial.report
    trained, own = with_weights(method, trial.data)
    read, precision = trial.data.tests(own).split(split.name), method.spec.training.score_precision
    second = score_pairs(trained.to(trial.device), read, trial.device, pairs, precision)
    ranks = rank_ordered(ordered(first.scores, second.scores, folds, shortlists), folds, sets_of(assignment, split))
    test = outcome(protocol, split, folds, ranks)
    seconds = second.seconds + first.scores.size / first.cost[SCORED]
    cost = added_costs([member.cost for member in trial.members])
    cost |= {PAIRS: float(second.number), QUERY_MS: 1000 * seconds / sum(first.scores.shape)}
    cost = {PEAK: peak_mb(trial.device)} | {name: value for name, value in cost.items() if name != SCORED}
    return trial.result(test, cost)


def member_result(member: Assignment) -> TrialResult:
    """The result of a member; MemberError where it has none or has failed."""
    result = record.result_of(member.spec, member.folder)
    if result is None:
        raise MemberError(f"not made, as its member {member.name} has no result; run the same command again")
    if result.state is not State.DONE:
        why = f" ({result.failure})" if result.failure else ""
        retry = f"; run the same command with --retry {result.failure}" if result.failure else ""
        raise MemberError(f"not made, as its member {member.name} has {result.state.value}{why}{retry}")
    return result


def with_weights(member: Assignment, data: TrialData) -> tuple[Method, Dataset]:
    """A member with the weights of its best epoch, or its first where it is not trained, and the dataset it reads."""
    spec = member.spec
    check_source(member.method_card, spec.source)
    own = data.own.for_settings(spec.settings)
    method = build_method(member.method_card, spec.settings, own, spec.seed)
    if spec.training.epochs:
        load_best(method, member.weights.folder, member.name, member.weights.spec.key)
    return method, own


def check_room(split: Split) -> None:
    """DataError where the scores of a split are more than are held together."""
    images, captions = len(split.images), len(split.captions)
    if 4 * images * captions > MATRIX_BYTES:
        raise DataError(f"{images} x {captions} scores are too many to hold, as an ensemble or a reranking needs them")


def ranked(assignment: Assignment, split: Split, scores: Floats) -> Evaluation:
    """The mean scores as a trial's own are ranked, under every set of positives that is here; looks are kept."""
    protocol = assignment.test_protocol
    folds = split_folds(protocol, split, limited=assignment.spec.limit is not None)
    save_looks(assignment.folder, ScoreLooks(split, folds).of_all(scores))
    return outcome(protocol, split, folds, rank_scores(scores, folds, sets_of(assignment, split)))


def sets_of(assignment: Assignment, split: Split) -> list[PositiveSet]:
    """The named sets of positives of the protocol that are here."""
    card, protocol, limit = assignment.tested_card, assignment.test_protocol.name, assignment.spec.limit
    present, _ = positives.present(card, protocol, assignment.data, limit)
    return positives.read_sets(present, assignment.data, split)
