"""Exported weights on a dataset: its split encoded with their words, ranked as a trial is, listed as external."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.campaign.external_scores import RankedScores, check_name, rank_external
from harness.campaign.plan import check_protocol
from harness.config.cards import DatasetCard, ProtocolCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.data.dataset import Dataset
from harness.data.split import Split
from harness.data.tokens import Tokens
from harness.diagnostics.looks import ScoreLooks, StoredLooks
from harness.errors import DataError
from harness.evaluation.outcome import outcome
from harness.evaluation.positives import open_sets
from harness.evaluation.protocols import split_folds
from harness.layouts.opening import open_dataset
from harness.portable.loading import StoredInputs, installed_card, load_method
from harness.portable.weights_folder import TENSORS, FeatureFacts, WeightsFolder, read_weights_folder
from harness.tracking.result_store import ResultStore
from harness.trial.external import FILE, file_name, method_of, spec_of, weights_settings
from harness.trial.results import State, TrialResult, TrialSpec

OF_FILES = (
    "files",
    "folders",
    "ids",
    "beside",
    "bytes",
    "boxes",
    "pictures",
    "channels",
)  # of an origin: one dataset's
DRAWN = ("scenes", "coco", "entities")  # layouts whose reader makes the regions, so that they are of one kind


@dataclass(frozen=True)
class WeightsRequest:
    weights: WeightsFolder
    dataset: DatasetCard
    protocol: ProtocolCard
    opened: Dataset
    spec: TrialSpec
    config: Config
    registry: Registry
    notes: tuple[str, ...]  # what is not known of the features


def weights_request(
    config: Config, registry: Registry, folder: Path, dataset: str, protocol: str, name: str = "", note: str = ""
) -> WeightsRequest:
    """UsageError for unknown names; DataError for a damaged folder, another source, features of another kind."""
    check_protocol(protocol)
    weights = read_weights_folder(folder)
    then = weights.spec
    name = name or f"{then.method} trained on {then.dataset}"
    check_name(name, registry)
    installed_card(weights, registry)
    card = registry.dataset(dataset)
    under = card.protocol(protocol)
    opened = open_dataset(card, config.data, config.cache)
    notes = tuple(check_features(weights, opened))
    about = (under.name, under.identity), then.seed, note, opened.fingerprint, weights.facts.files[TENSORS]
    spec = spec_of(method_of(name), dataset, *about, extra=weights_settings(then))
    return WeightsRequest(weights, card, under, opened, spec, config, registry, notes)


def check_features(weights: WeightsFolder, dataset: Dataset) -> Iterator[str]:
    """DataError where regions are of another width or extractor than the weights'; a note where that is not known."""
    then, name = weights.facts.features, weights.spec.dataset
    if dataset.fingerprint == weights.spec.data_fingerprint:
        return
    if dataset.feature_width != then.width:
        raise DataError(
            f"{dataset.card.name} has regions of {dataset.feature_width} numbers, the weights take {then.width}, those "
            f"of {name}; take features of the same extractor"
        )
    now = FeatureFacts(
        width=then.width, max_regions=dataset.card.max_regions, layout=dataset.card.layout, origins=dataset.origins
    )
    mine, other = kind_of(then), kind_of(now)
    if mine and other and mine != other:
        raise DataError(
            f"{dataset.card.name} has features of another kind than {name}: {shortly(other)}, not {shortly(mine)}; "
            "take features of the same extractor"
        )
    if not (mine and other):
        unknown = name if not mine else dataset.card.name
        yield f"nothing says which model made the features of {unknown}: see yourself that both are of one extractor"


def kind_of(features: FeatureFacts) -> list[dict[str, Any]]:
    """What decides the numbers of regions, without the files of one dataset; empty where nothing says."""
    if features.layout in DRAWN and not features.origins:
        return [{"layout": features.layout}]
    kinds = [{name: one for name, one in origin.items() if name not in OF_FILES} for origin in features.origins]
    return [kind for kind in kinds if "model" in kind]


def shortly(kinds: list[dict[str, Any]]) -> str:
    return "; ".join(", ".join(f"{name} {str(value)[:40]}" for name, value in kind.items()) for kind in kinds)


def score_weights(request: WeightsRequest) -> tuple[ResultStore, RankedScores]:
    """Encode, score and rank, unless that was done before, and see that the result is in the folder and in the store.

    Raises as `external_scores.rank_file` does.
    """

    def scores(before: TrialResult | None) -> RankedScores:
        return RankedScores(before, None, StoredLooks(), ()) if before else evaluate_weights(request)

    return rank_external(request.config, request.spec, scores)


def evaluate_weights(request: WeightsRequest) -> RankedScores:
    """Rank the dataset's split with the method, as the method's own trial ranked its own."""
    from harness.evaluation.scoring import rank_split
    from harness.trial.device import prepare_device
    from harness.trial.environment import environment

    config, then, card = request.config, request.weights.spec, request.registry.methods[request.weights.spec.method]
    method, inputs = load_method(request.weights, request.registry, config.data)
    cpus = config.resources.cpus_per_trial if config.resources.cpus_per_trial > 0 else card.resources.cpus
    device = prepare_device(config.resources.device, max(1, int(cpus)), config.resources.gpus_per_trial)
    split = in_words_of(inputs, request.opened.split(request.protocol.split))
    folds = split_folds(request.protocol, split)
    sets, absent = open_sets(request.dataset, request.protocol.name, config.data, split)
    looks = ScoreLooks(split, folds)
    precision, look = then.training.score_precision, looks if looks.are_wanted else None
    ranks, cost, _ = rank_split(method.to(device), split, device, folds, sets, precision=precision, look=look)
    test = outcome(request.protocol, split, folds, ranks)
    request.opened.check_unchanged()
    result = TrialResult(
        spec=request.spec,
        state=State.DONE,
        measures=test.measures,
        gallery=test.gallery,
        cost=cost | {"parameters": float(sum(part.numel() for part in method.parameters()))},
        environment=environment(device) | test.releases | {FILE: file_name(request.weights.folder.resolve())},
    )
    warnings = filter(None, (*request.notes, absent, unknown_words(split, then.dataset)))
    return RankedScores(result, test.records, looks.stored, tuple(warnings))


def in_words_of(inputs: StoredInputs, split: Split) -> Split:
    """A split whose captions have the ids of the weights' words."""
    return replace(split, tokens=Tokens.encode(split.captions, inputs.vocabulary))


def unknown_words(split: Split, trained_on: str) -> str:
    """How many words of a split the weights do not know; empty where they know all."""
    number, words = split.tokens.unknown_words
    if not number:
        return ""
    alone = split.tokens.unknown_only
    return f"{number:,} of {words:,} words ({100 * number / words:.1f} %) are not in the vocabulary of {trained_on}" + (
        f"; {alone:,} captions have no other" if alone else ""
    )
