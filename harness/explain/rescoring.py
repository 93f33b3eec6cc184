"""The scores of a finished trial made again from its weights, for looks that its stored rankings cannot give."""

from __future__ import annotations

from harness.campaign.reproduction import add_to_trial
from harness.config.cards import SELECTION
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.selection import JOIN
from harness.diagnostics.looks import LOOKS, ScoreLooks, StoredLooks
from harness.errors import DataError, UsageError
from harness.evaluation.protocols import split_folds
from harness.explain.weights import TrialChoice, best_weights, trained
from harness.layouts.opening import open_dataset
from harness.tracking.runs import Run
from harness.trial.external import is_external

NOTHING = "no categories of its images"


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
    if not looks.are_wanted:
        raise DataError(f"{spec.dataset} has {NOTHING}: there is nothing to score again for")
    where = choose_device(device)
    method = best_weights(one, registry, dataset).to(where)
    return looks(score_split(method, split, where, spec.training.score_precision).scores)


def check_weights(run: Run) -> None:
    """UsageError for a trial that has no weights to score with."""
    spec = run.spec
    if is_external(spec.method):
        raise UsageError(f"{spec.label} is ranked from a file of scores; give that file to `harness score` again")
    if JOIN in spec.method:
        raise UsageError(f"{spec.label} is an ensemble, which has no weights of its own; look at its members")
    if spec.protocol == SELECTION:
        raise UsageError(f"{spec.label} is a trial of a search, which never opens test; look at a trial of its row")
