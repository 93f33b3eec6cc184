"""The trials of a plan that are made of others, each behind those: transfers, ensembles, rerankings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.config.cards import SELECTION, DatasetCard, ProtocolCard
from harness.config.selection import JOIN, Reranking, members_named
from harness.config.transfer import protocol_across
from harness.errors import UsageError
from harness.trial.ensembles import composite_spec, ensemble_spec
from harness.trial.folder import CHECKPOINT, result_of
from harness.trial.results import Assignment, State, TrialSpec


class TransferTest(NamedTuple):
    """A test on another dataset than the one that is trained on."""

    card: DatasetCard  # of the other dataset, without its words
    protocol: ProtocolCard
    fingerprint: str


@dataclass(frozen=True)
class Composites:
    """What is to be made of the trials of single methods, of one dataset and seed."""

    ensembles: Sequence[tuple[str, ...]]  # their members
    rerankings: Sequence[Reranking]
    tests: Sequence[TransferTest]  # none: the trials are tested where they are trained
    force: bool = False  # whether trials that are done are run again

    def with_singles(self, singles: Sequence[Assignment]) -> Iterator[Assignment]:
        """The single trials, each before what is made of it; of a transfer those alone that train."""
        if not self.tests:
            yield from singles
            yield from self._combined({trial.spec.method: trial for trial in singles})
            return
        sources = [trial if self.force else trained_already(trial) for trial in singles]
        yield from (one for one in sources if one.spec.training.epochs and one.spec.protocol != SELECTION)
        for test in self.tests:
            transfers = [transfer(source, test, self.force) for source in sources]
            yield from transfers
            yield from self._combined({trial.spec.method: trial for trial in transfers})

    def _combined(self, trials: Mapping[str, Assignment]) -> Iterator[Assignment]:
        """The ensembles and the rerankings of the trials of one dataset and seed, which are given by their methods."""
        for members in self.ensembles:
            own = sorted((trials[name] for name in members), key=lambda member: member.spec.method)
            yield combined(own, ensemble_spec([member.spec for member in own]))
        for reranking in self.rerankings:
            stages = [trials[name] for name in reranking.members]
            check_k(reranking, stages[0])
            yield combined(stages, composite_spec(str(reranking), [stage.spec for stage in stages]))


def trained_already(trial: Assignment) -> Assignment:
    """The trial under whichever protocol it has been trained; itself where it has not been yet."""
    card = trial.dataset_card
    for name in (trial.spec.protocol, *(protocol.name for protocol in card.protocols), SELECTION):
        protocol, version = card.protocol_identity(name)
        spec = trial.spec.model_copy(update={"protocol": protocol, "protocol_version": version})
        other = trial.model_copy(update={"spec": spec, "folder": trial.folder.parent / spec.key})
        if is_done(other) and has_weights(other):
            return other
    return trial


def transfer(source: Assignment, test: TransferTest, force: bool = False) -> Assignment:
    """A trial's test on another dataset, with its weights; trained by itself where the trial is done and has none."""
    spec = source.spec.model_copy(
        update={
            "protocol": protocol_across(test.card.name, test.protocol.name),
            "protocol_version": test.protocol.identity,
            "tested_on": test.card.name,
            "test_fingerprint": test.fingerprint,
        }
    )
    trains = source.spec.training.epochs > 0
    gives_weights = trains and (force or not is_done(source) or has_weights(source))
    return source.model_copy(
        update={
            "spec": spec,
            "folder": source.folder.parent / spec.key,
            "test_card": test.card,
            "members": (source,) if gives_weights else (),
        }
    )


def is_done(trial: Assignment) -> bool:
    result = result_of(trial.spec, trial.folder)
    return result is not None and result.state is State.DONE


def has_weights(trial: Assignment) -> bool:
    return (trial.folder / CHECKPOINT).is_file()


def check_k(reranking: Reranking, stage: Assignment) -> None:
    """UsageError where more items are to be ordered than the larger gallery of the protocol has."""
    protocol = stage.test_protocol
    size = max(protocol.images, protocol.captions) // protocol.folds
    if reranking.k > size:
        raise UsageError(
            f"{reranking}: k is {reranking.k:,}, and the larger gallery of {stage.tested_card.name}, protocol "
            f"{protocol.name}, has {size:,}; order no more than these"
        )


def combined(members: Sequence[Assignment], spec: TrialSpec) -> Assignment:
    """The trial of a spec that is made of its members' scores, with as much room as the largest of them asks for."""
    first, gpus = members[0], [member.gpus for member in members]
    return first.model_copy(
        update={
            "spec": spec,
            "folder": first.folder.parent / spec.key,
            "threads": max(member.threads for member in members),
            "cpus": max(member.cpus for member in members),
            "gpus": -1.0 if -1.0 in gpus else max(gpus),
            "members": tuple(members),
        }
    )


def refuse_composites(patterns: Sequence[str]) -> None:
    """UsageError where an ensemble or a reranking is named: a search has nothing to choose for it."""
    for pattern in patterns:
        if len(members := members_named(pattern)) > 1:
            what = "an ensemble" if JOIN in pattern else "a reranking"
            raise UsageError(
                f"{pattern}: {what} has no settings to search; search its members ({','.join(members)}), then give it "
                "to `harness run`"
            )
