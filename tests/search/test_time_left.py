"""How long a search takes at most: the trials that its budget leaves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.config.sections import Search, Training
from harness.search.method_search import Spent
from harness.search.status import trials_left
from harness.search.studies import StudyDesign


def plan_with(each: int = 4, **budget: Any) -> Any:
    spec = SimpleNamespace(training=Training(epochs=each))
    return SimpleNamespace(design=StudyDesign(Search(**budget), {}, each), base=SimpleNamespace(spec=spec))


@pytest.mark.parametrize(
    ("budget", "spent", "left"),
    [
        ({"trials": 20}, Spent(), 20),
        ({"trials": 20}, Spent(trials=15), 5),
        ({"trials": 20}, Spent(trials=25), 0),
        ({"trials": 20, "epochs": 30}, Spent(trials=2, epochs=8), 6),
        ({"trials": 20, "seconds": 100.0}, Spent(trials=1, seconds=10.0), 9),
    ],
)
def test_the_trials_that_are_left_are_bounded_by_every_part_of_the_budget(
    budget: dict[str, Any], spent: Spent, left: int
) -> None:
    assert trials_left(plan_with(**budget), spent, seconds=10.0) == left
    assert trials_left(plan_with(each=0, trials=3), Spent(), seconds=0.0) == 3
