"""Somebody else's score matrix as a trial: ranked under a dataset's protocol as ours are, kept, logged, listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.campaign.driver import only_driver
from harness.campaign.plan import check_numbers, check_protocol, check_writable
from harness.config.cards import DatasetCard, ProtocolCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.errors import UsageError
from harness.evaluation import positives
from harness.evaluation.measures import measures
from harness.evaluation.protocols import Fold, expected_at_random, gallery, rank_folds, split_folds
from harness.evaluation.ranks import Floats, Ranks
from harness.evaluation.records import RANKINGS, RANKS, evaluation, of_positives, of_shortlists
from harness.evaluation.score_files import as_floats, hold_scores, open_scores
from harness.evaluation.shortlists import shortlists
from harness.files import npz, sha256, write_atomic
from harness.layouts.opening import fingerprint, open_dataset
from harness.tracking.result_store import ResultStore
from harness.tracking.store import default_uri
from harness.tracking.tracker import Tracker
from harness.trial.external import FILE, PREFIX, file_name, method_of, recipe_of, spec_of
from harness.trial.folder import read_result, write_result, write_spec
from harness.trial.results import State, TrialResult, TrialSpec

if TYPE_CHECKING:
    import pandas

CAMPAIGN = "external"
FAR = 3.0  # times the rsum: from there on the reversed order is worth a warning
CLEAR = 10.0  # points of rsum above a random order
LARGEST = 600.0  # that an rsum can be


@dataclass(frozen=True)
class Wanted:
    """A file of scores, and as what it is to be ranked."""

    file: Path
    dataset: DatasetCard
    protocol: ProtocolCard
    spec: TrialSpec
    folder: Path  # of the trial
    data: Path
    cache: Path


class Scored(NamedTuple):
    """What became of a matrix: the result, and the arrays that are kept of it."""

    result: TrialResult
    ranks: dict[str, NDArray[Any]]
    rankings: dict[str, NDArray[Any]]
    warnings: tuple[str, ...]  # what looks odd, what is not measured


class Found(NamedTuple):
    """What a command has to say of a file."""

    result: TrialResult
    warnings: tuple[str, ...]
    again: bool  # it was ranked before


def wanted(
    config: Config, registry: Registry, file: Path, dataset: str, protocol: str, name: str, seed: int, note: str
) -> Wanted:
    """What is asked for, by names.

    UsageError for a dataset or protocol that is not there, and for a name that is a method of ours or no name;
    DataError where the file is no score matrix or the dataset's files are not the card's.
    """
    check_numbers([seed], None)
    check_protocol(protocol)
    method = method_of(name)
    if method.removeprefix(PREFIX) in registry.methods:
        raise UsageError(f"--name {name}: a method here has this name; choose one that tells the two apart")
    card = registry.dataset(dataset)
    found = card.protocol(protocol)
    open_scores(file)
    cache = config.cache
    about = (found.name, found.identity), seed, note, fingerprint(card, config.data, cache), sha256(file)
    spec = spec_of(method, dataset, *about)
    return Wanted(file, card, found, spec, config.trials / spec.key, config.data, cache)


def ranked(config: Config, asked: Wanted) -> tuple[ResultStore, Found]:
    """Rank a file, unless that was done before, and see that its result is in the folder and in the store.

    Raises as `scored` does; UsageError where the same file is another seed already, StoreError, ResourceError where
    another harness is at work.
    """
    check_writable(config.results)
    with only_driver(config.results):
        before = read_result(asked.folder)
        made = Scored(before, {}, {}, ()) if before else scored(asked)
        tracker, store = Tracker(default_uri(config)), ResultStore(default_uri(config))
        check_new(store.frame(), asked.spec)
        if not before:
            keep(asked, made)
        tracker.open_campaign(CAMPAIGN, [])  # nothing is expected: what was never ranked is not missing
        tracker.result(made.result, asked.folder)
        tracker.close_campaign(State.DONE)
    return store, Found(made.result, made.warnings, before is not None)


def scored(asked: Wanted) -> Scored:
    """The matrix ranked as a trial's scores are; DataError where it does not answer the protocol's queries."""
    split = open_dataset(asked.dataset, asked.data, asked.cache).split(asked.protocol.split)
    parts = split_folds(asked.protocol, split)
    saved = open_scores(asked.file)
    hold_scores(asked.file, saved, asked.dataset, asked.protocol, split)
    scores = as_floats(asked.file, saved)
    sets, absent = positives.open_sets(asked.dataset, asked.protocol.name, asked.data, split)
    further = positives.rank_sets(scores, sets)
    found, arrays = evaluation(asked.protocol, split.pairs, parts, rank_folds(scores, parts))
    result = TrialResult(
        spec=asked.spec,
        state=State.DONE,
        measures=found | positives.measures(further),
        gallery=gallery(parts),
        environment=surroundings() | positives.releases(sets) | {FILE: file_name(asked.file)},
    )
    heads = of_shortlists(shortlists(scores, parts), split.image_ids, split.captions)
    warnings = tuple(filter(None, (absent, reversal(scores, parts, found["rsum"]))))
    return Scored(result, arrays | of_positives(further), narrowed(heads), warnings)


def surroundings() -> dict[str, str]:
    """With what it is ranked: versions, machine, commit."""
    from harness.trial.device import choose_device
    from harness.trial.environment import environment

    return environment(choose_device("cpu"))


def narrowed(heads: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Scores as float32, as rankings.npz has them; their order was found before."""
    return {name: array.astype(np.float32) if name.endswith("_score") else array for name, array in heads.items()}


def reversal(scores: Floats, parts: Sequence[Fold], found: float) -> str:
    """A warning where the lowest scores are much the better answers; empty otherwise.

    Nothing tells a distance from a score for sure, but an order that is far better backwards than forwards, and clearly
    better than a random one, is hardly meant.
    """
    if FAR * found >= LARGEST:
        return ""
    backwards = mean_rsum(rank_folds(np.negative(scores), parts))
    if backwards < max(FAR * found, expected_at_random(parts)["rsum"] + CLEAR):
        return ""
    return (
        f"in the reversed order these scores reach a rsum of {backwards:.1f}, as they are {found:.1f}: if they "
        "are distances, lower is better in them; save -scores and give that file"
    )


def mean_rsum(ranks: Sequence[Ranks]) -> float:
    """The mean over folds."""
    return float(np.mean([measures(one)["rsum"] for one in ranks]))


def keep(asked: Wanted, made: Scored) -> None:
    """Write the trial's folder, the result last."""
    write_spec(asked.folder, asked.spec)
    write_atomic(asked.folder / RANKS, npz(**made.ranks))
    write_atomic(asked.folder / RANKINGS, npz(**made.rankings))
    write_result(asked.folder, made.result)


def check_new(frame: pandas.DataFrame, spec: TrialSpec) -> None:
    """UsageError where the file stands under the model's name with another seed: a copy is no repetition."""
    same = frame[(frame["source"] == spec.source) & (frame["recipe"] == recipe_of(spec)) & (frame["state"] == "done")]
    others = same[same["seed"] != spec.seed]["seed"].tolist()
    if others:
        raise UsageError(
            f"this very file is seed {others[0]} of {spec.method} already; give seed {spec.seed} a file of its own, "
            "from a model that was trained anew"
        )
