"""Exported weights on a dataset: its split encoded with their words, ranked as a trial is, listed as external."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.campaign.external_scores import RankedScores, check_name, rank_external
from harness.campaign.plan import check_protocol
from harness.config.cards import DatasetCard, ProtocolCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.sections import Training
from harness.data.dataset import Dataset
from harness.data.region_store import check_alike
from harness.data.split import Split
from harness.data.tokens import Tokens
from harness.diagnostics.looks import ScoreLooks, StoredLooks
from harness.evaluation.outcome import outcome
from harness.evaluation.positives import open_sets
from harness.evaluation.protocols import split_folds
from harness.layouts.opening import open_dataset
from harness.portable.loading import StoredInputs, installed_card, load_method
from harness.portable.weights_folder import TENSORS, WeightsFolder, read_weights_folder
from harness.tracking.result_store import ResultStore
from harness.trial.external import FILE, file_name, method_of, spec_of, weights_settings
from harness.trial.results import State, TrialResult, TrialSpec


@dataclass(frozen=True)
class WeightsRequest:
    weights: WeightsFolder
    dataset: DatasetCard
    protocol: ProtocolCard
    opened: Dataset
    spec: TrialSpec
    config: Config
    registry: Registry
    note: str  # on features of which nothing says what made them


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
    of_features = check_features(weights, opened)
    about = (under.name, under.identity), then.seed, note, opened.fingerprint, weights.facts.files[TENSORS]
    scored = Training(epochs=0, score_precision=then.training.score_precision)
    spec = spec_of(method_of(name), dataset, *about, extra=weights_settings(then), training=scored)
    return WeightsRequest(weights, card, under, opened, spec, config, registry, of_features)


def check_features(weights: WeightsFolder, dataset: Dataset) -> str:
    """DataError where regions are of another kind than those that the weights were trained on; a note, else empty."""
    then = weights.spec
    if dataset.fingerprint == then.data_fingerprint:
        return ""
    return check_alike(dataset.card.name, dataset.features, then.dataset, weights.facts.features)


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
    from harness.explain.weights import method_errors
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
    precision, look = then.training.score_precision, looks.take if looks.are_wanted else None
    with method_errors(type(method), then.method):
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
    warnings = filter(None, (request.note, absent, split.tokens.unknown_to(then.dataset)))
    return RankedScores(result, test.records, looks.stored, tuple(warnings))


def in_words_of(inputs: StoredInputs, split: Split) -> Split:
    """A split whose captions have the ids of the weights' words."""
    return replace(split, tokens=Tokens.encode(split.captions, inputs.vocabulary))
