"""How long a plan will take: what it costs to say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.campaign.estimate import Basis, times_of
from harness.campaign.plan import Planned
from harness.config.cards import DatasetCard
from harness.config.project import Config
from harness.config.registry import discover
from harness.config.sections import Training
from harness.trial.folder import write_epochs, write_spec
from harness.trial.results import Assignment, EpochReport, TrialSpec

REGISTRY = discover(Config())
METHOD = REGISTRY.method("vsepp")


class CountedCards(dict[str, DatasetCard]):
    """Cards that count how often they are asked for, as each comparison of two datasets does."""

    asked = 0

    def get(self, *name: object) -> DatasetCard | None:  # type: ignore[override]
        self.asked += 1
        return super().get(*name)  # type: ignore[call-overload, no-any-return]


def trial(folder: Path, dataset: str, seed: int) -> Planned:
    spec = TrialSpec(
        method="vsepp",
        dataset=dataset,
        protocol="all",
        seed=seed,
        settings=METHOD.defaults,
        training=Training(epochs=2),
        data_fingerprint="data",
        protocol_version=1,
        source="source",
    )
    card = REGISTRY.dataset(dataset)
    place = folder / spec.key
    return Planned(
        Assignment(spec=spec, method_card=METHOD, dataset_card=card, data=folder, folder=place, cache=folder), "new"
    )


@pytest.mark.parametrize("seeds", [3, 40])
def test_more_seeds_of_a_recipe_take_no_more_comparisons_with_earlier_trials(tmp_path: Path, seeds: int) -> None:
    here, other = (REGISTRY.dataset(name) for name in ("scenes", "f30k"))
    known = [trial(tmp_path, other.name, seed) for seed in range(seeds)]
    for one in known:
        write_spec(one.folder, one.spec)
        write_epochs(one.folder, [EpochReport(key=one.spec.key, epoch=1, epochs=2, seconds=30.0)])
    cards = CountedCards({card.name: card for card in (here, other)})
    planned = [trial(tmp_path, here.name, seed) for seed in range(seeds)]
    times = times_of(planned, [one.folder for one in known], cards)
    scaled = 30.0 * here.splits["train"].captions / other.splits["train"].captions
    assert {time.basis for time in times.values()} == {Basis.DATASET} and len(times) == seeds
    assert [time.seconds for time in times.values()] == pytest.approx([2 * scaled] * seeds)
    assert cards.asked == 2 * seeds, "two cards for each earlier trial, whatever the number of those that are planned"
