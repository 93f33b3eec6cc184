"""Rules of training on the embedded data: a step that waits for no number, and ranks that leave chance behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from harness.config.cards import DatasetCard, MethodCard, ProtocolCard, SplitSize
from harness.config.project import Config
from harness.config.registry import built_in_dataset, load_class, settings_for
from harness.config.sections import Training
from harness.contract.device_reads import DeviceReads
from harness.contract.gradients import trained
from harness.contract.rule import hold
from harness.contract.samples import inputs_of
from harness.data.content import Place
from harness.data.dataset import Dataset
from harness.evaluation.measures import measures
from harness.evaluation.protocols import expected_at_random, folds
from harness.evaluation.ranks import rank
from harness.evaluation.scoring import score_split
from harness.layouts.opening import LAYOUTS, open_dataset
from harness.trial.text_tower import FrozenTower
from harness.trial.training import Trainer

EMBEDDED = "scenes"
PICTURES = {"train": 160, "val": 60}
CPU = torch.device("cpu")
# The rounding of another CPU leads elsewhere: three epochs are enough for most, twelve for the slowest.
RECIPE = Training(
    epochs=12, batch_size=16, lr=5e-3, schedule="constant", all_negatives_epochs=12, drop_words=0.0, drop_regions=0.0
)


def pictures(folder: Path) -> Dataset:
    """The embedded data in a smaller edition, drawn into a folder, with the counts that its generator gives."""
    embedded = built_in_dataset(EMBEDDED)
    assert embedded is not None
    sizes = {name: SplitSize(images=images, captions=0) for name, images in PICTURES.items()}
    reader = LAYOUTS[embedded.layout](Place(edition(embedded, sizes), folder, folder))
    counts = {name: len(reader.read(name).captions) for name in sizes}
    whole = {name: SplitSize(images=PICTURES[name], captions=count) for name, count in counts.items()}
    return open_dataset(edition(embedded, whole), folder, folder)


def edition(card: DatasetCard, sizes: dict[str, SplitSize]) -> DatasetCard:
    """A dataset's card with other splits."""
    return card.model_copy(update={"splits": sizes})


def small_trainer(card: MethodCard, dataset: Dataset, training: Training) -> Trainer:
    """A trainer of a small method, from seed 0."""
    kind, train = load_class(card), dataset.split("train")
    settings = settings_for(card, Config(settings={"*": {"dim": 32, "word_dim": 32, "width": 8}}))
    torch.manual_seed(0)
    method = kind(kind.Settings(**settings), inputs_of(card, train.images.width, len(dataset.vocabulary)))
    return Trainer(method, train, training, seed=0, device=CPU)


def a_training_step_reads_nothing_from_the_device(card: MethodCard, dataset: Dataset) -> None:
    trained(card)
    trainer = small_trainer(card, dataset, Training(batch_size=16, clip=2.0))
    for part in trainer.method.modules():
        if isinstance(part, FrozenTower):
            part.KEPT = 0  # as on a GPU, where it keeps nothing
    batch = next(trainer.batches.epoch(np.random.default_rng(0)))
    with DeviceReads() as reads:
        trainer.step(batch, 0)
    hold(not reads.places, f"a step reads numbers, for which a GPU waits: {'; '.join(reads.places[:3])}")


def a_few_steps_on_the_embedded_data_leave_chance_behind(card: MethodCard, dataset: Dataset) -> None:
    trained(card)
    trainer, val = small_trainer(card, dataset, RECIPE), dataset.split("val")
    gallery = ProtocolCard(name="small", images=len(val.images), captions=len(val.captions))
    floor, rsum = expected_at_random(folds(gallery, len(val.images), val.pairs))["rsum"], 0.0
    while rsum <= 2 * floor and trainer.epoch < RECIPE.epochs:
        trainer.run_epoch()
        rsum = measures(rank(score_split(trainer.method, val, CPU).scores, val.pairs))["rsum"]
    epochs = f"after {RECIPE.epochs} epochs on {PICTURES['train']} pictures"
    hold(rsum > 2 * floor, f"rsum {rsum:.0f} {epochs}, where a random order has {floor:.0f}; twice that is asked for")
