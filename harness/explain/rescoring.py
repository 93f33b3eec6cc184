"""The scores of a finished trial made again from its weights, for looks that its stored rankings cannot give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.campaign.reproduction import add_to_trial
from harness.config.cards import SELECTION, DatasetCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.data.dataset import Dataset
from harness.diagnostics.choices import TwoWayChoices, choice_measures, read_choices
from harness.diagnostics.looks import LOOKS, ScoreLooks, StoredLooks
from harness.errors import DataError, UsageError
from harness.evaluation.protocols import split_folds
from harness.explain.encoding import TrialEncoder
from harness.explain.weights import Trained, TrialChoice, best_weights, no_transfer, trained
from harness.layouts.opening import open_dataset
from harness.tracking.runs import Run
from harness.trial.ensembles import is_ensemble, is_reranking, member_keys
from harness.trial.external import is_external

CATEGORISED = ("coco",)  # layouts whose files say what images show
NOTHING = "no categories of its images, and no file of choices below the data root"
TOGETHER = 64  # choices
Floats = NDArray[np.float32]


def look_again(config: Config, registry: Registry, run: Run, device: str = "cpu") -> StoredLooks:
    """The looks at the scores of a finished trial, made again from its weights and recorded in folder and store.

    Of an ensemble the scores are the mean of its members'. UsageError where weights, source or data are no longer here,
    DataError where its dataset has nothing to look at.
    """
    looks = rescored(config, registry, run, device)
    assert run.result is not None  # of a run that is done
    add_to_trial(config, run.result, LOOKS, looks.model_dump_json(indent=2))
    return looks


def rescored(config: Config, registry: Registry, run: Run, device: str) -> StoredLooks:
    """The looks at the scores of a finished trial; errors as `look_again`."""
    if reason := why_not_again(run):
        raise UsageError(f"{run.spec.label} {reason}")
    spec, card = run.spec, registry.dataset(run.spec.dataset)
    members = trials_behind(config, registry, run)
    dataset, protocol = open_dataset(card, config.data, config.cache, spec.limit), card.protocol(spec.protocol)
    split = dataset.split(protocol.split)
    looks = ScoreLooks(split, split_folds(protocol, split, limited=spec.limit is not None))
    sets = {one: read_choices(one, config.data, dataset.split(one.split).image_ids) for one in card.choices}
    if not looks.are_wanted and not any(sets.values()):
        raise DataError(f"{spec.dataset} has {NOTHING}; scoring again would give nothing new")
    encoders = [encoder_of(one, registry, dataset, device) for one in members]
    if looks.are_wanted:
        look_at(encoders, protocol.split, looks)
    answers = {
        one.name: choice_measures(
            choices.images, *np.mean([scores_of(by, one.split, choices) for by in encoders], axis=0)
        )
        for one, choices in sets.items()
        if choices
    }
    return looks.stored.model_copy(update={"choices": answers})


def look_at(encoders: Sequence[TrialEncoder], split: str, looks: ScoreLooks) -> None:
    """Take looks at the scores of a method, of several at their mean, which is held whole."""
    from harness.evaluation.scoring import look_at_split, score_split

    if len(encoders) == 1:
        (one,) = encoders
        with one.method_errors():
            look_at_split(one.method, one.dataset.split(split), one.device, looks.take, precision=one.precision)
        return
    total: Any = 0
    for one in encoders:
        with one.method_errors():
            total = total + score_split(one.method, one.dataset.split(split), one.device, one.precision).scores
    looks.of_all(total / np.float32(len(encoders)))


def scores_of(encoder: TrialEncoder, name: str, choices: TwoWayChoices) -> Floats:
    """Scores (2, Q) of the right and the wrong captions of choices on a split, some of them scored at a time."""
    split, parts = encoder.dataset.split(name), []
    for start in range(0, len(choices.images), TOGETHER):
        some = slice(start, start + TOGETHER)
        numbers, right, wrong = choices.images[some], choices.right[some], choices.wrong[some]
        images = encoder.images([split.image_ids[number] for number in numbers], split.images.choose(numbers))
        scores = encoder.score(images, encoder.captions([*right, *wrong]))
        own = np.arange(len(right))
        parts.append(scores[own, np.stack([own, len(own) + own])])
    return np.concatenate(parts, axis=1)


def trials_behind(config: Config, registry: Registry, run: Run) -> list[Trained]:
    """The trials whose weights make a trial's scores: its own, of an ensemble its members'."""
    spec = run.spec
    keys = member_keys(run.environment) if is_ensemble(spec) else {spec.method: spec.key}
    return [
        trained(config, registry, TrialChoice(method, spec.dataset, spec.protocol, key=key))
        for method, key in keys.items()
    ]


def encoder_of(one: Trained, registry: Registry, dataset: Dataset, device: str) -> TrialEncoder:
    own = dataset.for_settings(one.spec.settings)
    return TrialEncoder(one, best_weights(one, registry, own), own, device)


def has_categories(card: DatasetCard) -> bool:
    """Whether the images of a dataset have categories, as its files would say, which are not opened."""
    return card.layout in CATEGORISED


def why_not_again(run: Run) -> str:
    """Why the scores of a trial cannot be made again from weights; empty where they can."""
    spec = run.spec
    if is_external(spec.method):
        return "is ranked from a file of scores; give that file to `harness score` again"
    if is_reranking(spec):
        return "scores only the first candidates of each query, and looks need all scores; look at the trial of a stage"
    if spec.protocol == SELECTION:
        return "is a trial of a search, which never opens test; look at a trial of its row"
    return no_transfer(spec)
