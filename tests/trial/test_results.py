"""What identifies a trial: keys that were given out stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_trials import any_cards

from harness.config.sections import Training
from harness.trial.results import Assignment, EpochReport, TrialSpec, best_rsum

SPEC = TrialSpec(
    method="vsepp",
    dataset="scenes",
    protocol="full",
    seed=1,
    settings={"dim": 64, "margin": 0.2, "word": "gru", "deep": False},
    training=Training(epochs=3),
    limit=None,
    data_fingerprint="0123456789abcdef" * 4,
    protocol_version=1,
    source="fedcba9876543210" * 4,
)


def test_the_key_of_a_spec_is_the_one_that_earlier_versions_gave() -> None:
    assert SPEC.key == "af378b75efc58f39"
    assert SPEC.recipe == SPEC.model_copy(update={"seed": 7}).recipe == "dd314a2dedcb955a"


def test_a_field_that_earlier_keys_do_not_have_changes_a_key_where_it_is_not_its_default() -> None:
    other = Training(epochs=3, score_precision="bf16")
    assert SPEC.model_copy(update={"training": other}).key != SPEC.key


@pytest.mark.parametrize("place", ["folder", "data", "cache"])
def test_where_a_trial_runs_and_what_its_cards_say_besides_changes_no_key(place: str) -> None:
    places = dict.fromkeys(("folder", "data", "cache"), Path("a"))
    first, other = (Assignment(spec=SPEC, **any_cards(), **places | {place: Path(name)}) for name in ("a", "b"))
    assert first.spec.key == other.spec.key and first != other


@pytest.mark.parametrize(("sums", "best"), [((), None), ((None,), None), ((3.0, 7.0, 5.0), 7.0), ((None, 2.0), 2.0)])
def test_the_best_rsum_on_val_is_of_the_epochs_that_have_one(sums: tuple[float | None, ...], best: float) -> None:
    reports = [EpochReport(key="", epoch=0, epochs=9, val={} if one is None else {"rsum": one}) for one in sums]
    assert best_rsum(reports) == best
