"""The scores of a finished trial made again from its weights, for looks that its stored rankings cannot give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.campaign.reproduction import add_to_trial
from harness.config.cards import SELECTION
from harness.config.project import Config
from harness.config.registry import Registry
from harness.data.dataset import Dataset
from harness.data.split import Split
from harness.data.tokens import Tokens
from harness.diagnostics.choices import TwoWayChoices, choice_measures, read_choices
from harness.diagnostics.looks import LOOKS, ScoreLooks, StoredLooks
from harness.errors import DataError, UsageError
from harness.evaluation.protocols import split_folds
from harness.explain.weights import TrialChoice, best_weights, check_is_no_composite, trained
from harness.layouts.opening import open_dataset
from harness.tracking.runs import Run
from harness.trial.external import is_external

if TYPE_CHECKING:
    import torch

    from harness.method import Method, ScorePrecision

NOTHING = "no categories of its images, and no file of choices below the data root"
TOGETHER = 64  # choices


def look_again(config: Config, registry: Registry, run: Run, device: str = "cpu") -> StoredLooks:
    """The looks at the scores of a finished trial, made again from its weights and recorded in folder and store.

    UsageError where its weights, source or data are no longer here, DataError where its dataset has nothing to look at.
    """
    looks = rescored(config, registry, run, device)
    assert run.result is not None  # of a run that is done
    add_to_trial(config, run.result, LOOKS, looks.model_dump_json(indent=2))
    return looks


def rescored(config: Config, registry: Registry, run: Run, device: str) -> StoredLooks:
    """The looks at the scores of a finished trial; errors as `look_again`."""
    from harness.evaluation.scoring import score_split
    from harness.trial.device import choose_device

    spec = run.spec
    check_weights(run)
    one = trained(config, registry, TrialChoice(spec.method, spec.dataset, spec.protocol, key=spec.key))
    card = registry.dataset(spec.dataset)
    dataset = open_dataset(card, config.data, config.cache, spec.limit).for_settings(spec.settings)
    protocol = card.protocol(spec.protocol)
    split = dataset.split(protocol.split)
    looks = ScoreLooks(split, split_folds(protocol, split, limited=spec.limit is not None))
    sets = {one.name: read_choices(one, config.data, dataset.split(one.split).image_ids) for one in card.choices}
    if not looks.are_wanted and not any(sets.values()):
        raise DataError(f"{spec.dataset} has {NOTHING}: there is nothing to score again for")
    where = choose_device(device)
    method = best_weights(one, registry, dataset).to(where)
    if looks.are_wanted:
        looks(score_split(method, split, where, spec.training.score_precision).scores)
    splits = {one.name: dataset.split(one.split) for one in card.choices}
    answers = {
        name: answered(method, dataset, splits[name], choices, where, spec.training.score_precision)
        for name, choices in sets.items()
        if choices
    }
    return looks.stored.model_copy(update={"choices": answers})


def answered(
    method: Method,
    dataset: Dataset,
    split: Split,
    choices: TwoWayChoices,
    device: torch.device,
    precision: ScorePrecision,
) -> dict[str, float]:
    """How a method answers two-way choices on the images of a split, some choices scored at a time."""
    from harness.evaluation.scoring import encode, score_encoded, scoring

    parts = []
    for start in range(0, len(choices.images), TOGETHER):
        images = split.images.choose(choices.images[start : start + TOGETHER])
        right, wrong = (texts[start : start + TOGETHER] for texts in (choices.right, choices.wrong))
        tokens = Tokens.encode([*right, *wrong], dataset.vocabulary)
        with scoring(method):
            tiles = encode(method.encode_images, images, images.counts, device)
            captions = encode(method.encode_captions, tokens, tokens.lengths, device)
            scores = score_encoded(method, tiles, captions, device, precision=precision).cpu().numpy()
        own = np.arange(len(right))
        parts.append(np.stack([scores[own, own], scores[own, len(own) + own]]))
    first, second = np.concatenate(parts, axis=1)
    return choice_measures(choices.images, first, second)


def check_weights(run: Run) -> None:
    """UsageError for a trial that has no weights to score with."""
    spec = run.spec
    if is_external(spec.method):
        raise UsageError(f"{spec.label} is ranked from a file of scores; give that file to `harness score` again")
    check_is_no_composite(spec.method, spec.label)
    if spec.protocol == SELECTION:
        raise UsageError(f"{spec.label} is a trial of a search, which never opens test; look at a trial of its row")
