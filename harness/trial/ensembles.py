"""Ensembles and rerankings: what identifies what is made of several trials' scores, and what it costs. No torch.

An ensemble of our own methods is a trial whose method is the names of its members with + between them; one of files of
scores is an external model that says of how many files. A reranking is named PROPOSER@K:METHOD. None is a method:
nothing is trained, and no card has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from harness.config.sections import Training
from harness.config.selection import FIRST, JOIN, Reranking, reranking_named
from harness.errors import DataError
from harness.trial.external import FILES, is_external
from harness.trial.results import TrialSpec

SHARED = (  # what members must have in common, or their scores are not of the same pairs
    *("dataset", "protocol", "seed", "limit", "data_fingerprint", "protocol_version"),
    *("training_version", "evaluation_version", "trained_as", "tested_on", "test_fingerprint"),
)
RATES = (
    "train_pairs_per_second",
    "encode_images_per_second",
    "encode_captions_per_second",
    "score_pairs_per_second",
)
SUMS = (
    *("parameters", "seconds", "device_seconds"),
    *("bytes_per_image", "bytes_per_caption", "i2t_query_ms", "t2i_query_ms"),
)
PEAK = "peak_memory_mb"
LARGEST = (PEAK, "load", "shared")
PAIRS, QUERY_MS = "pairs_reordered", "milliseconds_per_query"  # of a reranking: pairs that its second stage scored
MEMBER = "member_"  # of the environment of an ensemble, before a method's name: the key of its trial


def is_reranking(spec: TrialSpec) -> bool:
    return not is_external(spec.method) and FIRST in spec.method


def is_composite(spec: TrialSpec) -> bool:
    """Whether a trial is made of others' scores, and so stands apart from single methods on a board."""
    return is_ensemble(spec) or is_reranking(spec)


def is_ensemble(spec: TrialSpec) -> bool:
    return FILES in spec.settings if is_external(spec.method) else JOIN in spec.method


def ensemble_spec(members: Sequence[TrialSpec]) -> TrialSpec:
    """The spec of an ensemble; its settings are the recipes of its members, so that a change of any makes another.

    DataError, which names the member, where one is of other data, another protocol or another seed.
    """
    members = sorted(members, key=lambda spec: spec.method)
    return composite_spec(JOIN.join(spec.method for spec in members), members)


def composite_spec(name: str, members: Sequence[TrialSpec]) -> TrialSpec:
    """The spec of what is made of several trials' scores, for example of a reranking, whose name has its k."""
    first, *others = members
    for other in others:
        check_alike(first, other)
    precisions = {spec.training.score_precision for spec in members}
    precision = precisions.pop() if len(precisions) == 1 else Training().score_precision
    return first.model_copy(
        update={
            "method": name,
            "settings": {spec.method: member_recipe(spec) for spec in members},
            "training": Training(epochs=0, score_precision=precision),
            "source": joint_source(spec.source for spec in members),
        }
    )


def check_alike(first: TrialSpec, other: TrialSpec) -> None:
    for name in SHARED:
        mine, its = getattr(first, name), getattr(other, name)
        if mine != its:
            raise DataError(
                f"{other.label} is no member of an ensemble or a reranking with {first.label}: its "
                f"{name.replace('_', ' ')} is {its}, not {mine}; take trials of the same data, protocol and seed"
            )


def member_recipe(spec: TrialSpec) -> str:
    """The key of a member without its seed and its source, which the ensemble has itself."""
    return spec.model_copy(update={"seed": 0, "source": ""}).key


def joint_source(sources: Iterable[str]) -> str:
    """One hash for the sources of all members, in the order of their names; empty where one is not known."""
    known = [*sources]
    return hashlib.sha256("\n".join(known).encode()).hexdigest() if all(known) else ""


def added_costs(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What members cost together, one after another: times, parameters and bytes add up; peak and load: the largest.

    A rate is that of all members in turn; members that train nothing take no time for it. What one of them lacks is
    left out, never a sum over the others.
    """

    def every(name: str) -> list[float]:
        return [cost[name] for cost in costs] if all(name in cost for cost in costs) else []

    rates = {name: in_turn(values) for name in RATES if (values := every(name))}
    sums = {name: sum(values) for name in SUMS if (values := every(name))}
    return {**rates, **sums, **{name: max(values) for name in LARGEST if (values := every(name))}}


def in_turn(rates: Iterable[float]) -> float:
    """The rate of several steps that follow one another; 0 where none was measured."""
    seconds = sum(1 / rate for rate in rates if rate > 0)
    return 1 / seconds if seconds else 0.0


def reranking_of(spec: TrialSpec) -> Reranking:
    """The stages of a reranking's trial."""
    reranking = reranking_named(spec.method)
    assert reranking is not None
    return reranking


def composite_remark(spec: TrialSpec) -> str:
    """The remark on a board; empty where the trial is no ensemble of our own methods and no reranking."""
    if is_reranking(spec):
        by, k, method = reranking_of(spec)
        return f"reranking: {method} orders the first {k:,} of {by}"
    if is_external(spec.method) or not is_ensemble(spec):
        return ""
    return f"ensemble: mean of the scores of {len(spec.settings)} methods"


def member_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """The keys of the trials that an ensemble averaged, by their methods."""
    names = sorted(name for name in environment if name.startswith(MEMBER))
    return {name.removeprefix(MEMBER): environment[name] for name in names}
