"""What the trials of a plan are made of: datasets, opened once each, and sources; and whether they can be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from harness.campaign.composites import TransferTest
from harness.config.cards import SELECTION, DatasetCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.sources import source_hash
from harness.config.transfer import tests_of, without_words
from harness.data.dataset import Dataset
from harness.evaluation.positives import open_sets
from harness.evaluation.protocols import split_folds
from harness.layouts.opening import open_dataset
from harness.trial.results import Assignment

TRAINED_ON = ("train", "val")


class PlanInputs:
    """What trials are made of: each dataset is opened once, the source of each method hashed once."""

    def __init__(
        self,
        config: Config,
        registry: Registry,
        limit: int | None,
        folder: Path | None = None,
        tell: Callable[[str], object] = lambda _: None,
    ) -> None:
        """folder: where generated data are kept, that of the results folder where not given.

        tell: is called before a dataset is opened: files that were never hashed are read from end to end.
        """
        place = folder or config.cache

        def opened(card: DatasetCard) -> Dataset:
            tell(f"opening {card.name} and checking its files")
            return open_dataset(card, config.data, place, limit)

        self.dataset = cache(lambda name: opened(registry.dataset(name)))
        self.tests = cache(lambda name: opened(without_words(registry.dataset(name))))
        self.has_text_tower = cache(self._has_text_tower)
        self.source = cache(lambda name: source_hash(registry.method(name)))
        self._registry = registry

    def _has_text_tower(self, dataset: str) -> bool:
        """Without a look at files where the card names no encoder."""
        return bool(self._registry.dataset(dataset).text.encoder) and self.dataset(dataset).has_text_tower

    def transfers(self, dataset: DatasetCard, tests: Sequence[str], protocol: str) -> tuple[TransferTest, ...]:
        """The tests on other datasets that follow training on one; of an empty protocol the first of each card."""
        cards = tests_of(dataset, [self._registry.dataset(name) for name in tests]) if tests else ()
        return tuple(TransferTest(card, card.protocol(protocol), self.tests(card.name).fingerprint) for card in cards)

    def tested(self, trial: Assignment) -> Dataset:
        """The dataset that a trial is tested on, as it reads it; DataError where its regions are of another kind."""
        own = self.dataset(trial.spec.dataset).for_settings(trial.spec.settings)
        if trial.test_card is None:
            return own
        other = self.tests(trial.test_card.name)
        other.check_alike(own)
        return other.worded_as(own)


def check_data(trials: Sequence[Assignment], inputs: PlanInputs) -> None:
    """Open every split that is about to be used and compare it with its card and protocol: DataError with both numbers.

    Trials of one dataset use the same splits; of trials under `val` these are train and val. DataError, too, for a
    dataset to be tested on whose regions are not of the kind that is trained on. ConfigError for a text encoder that
    this Python cannot load, and for a prompt that is none.
    """
    for trial in trials:
        dataset = inputs.dataset(trial.spec.dataset)
        dataset.for_settings(trial.spec.settings)
        for name in TRAINED_ON if trial.spec.training.epochs or trial.spec.protocol == SELECTION else ():
            dataset.split(name)  # also one that the card does not name
        if trial.method_card.text_tower and not trial.method_card.trainable:
            dataset.check_widths()
    for trial in {(trial.spec.dataset, trial.spec.protocol): trial for trial in trials}.values():
        dataset = inputs.dataset(trial.spec.dataset)
        dataset.check_encoder()
        if dataset.card.noise.is_on:
            _ = dataset.training  # wrong pairs that cannot be had are an error now
        if trial.spec.protocol == SELECTION:
            continue
        for name in trial.dataset_card.splits:
            dataset.split(name)
        protocol, limit = trial.test_protocol, trial.spec.limit
        scored = inputs.tested(trial).split(protocol.split)
        split_folds(protocol, scored, limited=limit is not None)
        open_sets(trial.tested_card, protocol.name, trial.data, scored, limit)


def doubtful_pairs(trials: Sequence[Assignment], inputs: PlanInputs) -> Iterator[str]:
    """A line for each dataset whose image embeddings are not of the model that embeds its captions, as far as it shows.

    No error: one model may lie in two files, in halves and in floats.
    """
    for name in dict.fromkeys(trial.spec.dataset for trial in trials if trial.method_card.text_tower):
        if inputs.dataset(name).is_of_two_models:
            yield (
                f"{name}: its image embeddings were made with other weights than its [text] encoder has; where that is "
                "another model, their cosines mean nothing"
            )


def transfer_notes(trials: Sequence[Assignment], inputs: PlanInputs) -> Iterator[str]:
    """Lines for each transfer: words that the trained vocabulary lacks, and that nothing says what made the regions."""
    transfers = {(trial.spec.dataset, trial.spec.protocol): trial for trial in trials if trial.test_card}
    for trial in transfers.values():
        if note := inputs.tests(trial.spec.tested_on).check_alike(inputs.dataset(trial.spec.dataset)):
            yield note
        split = inputs.tested(trial).split(trial.test_protocol.split)
        if unknown := split.tokens.unknown_to(trial.spec.dataset):
            yield f"{trial.spec.tested_on} {split.name}: {unknown}"
