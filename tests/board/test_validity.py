"""Which results count: those of the project's files as they are now, whatever was run last."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from boards import run_of
from rich.console import Console
from sample_results import result_of, spec_of

from harness.board.evidence import assessed
from harness.board.forms import board_page, webpage
from harness.board.standings import Board, boards_of
from harness.terminal.board_page import tables
from harness.trial.results import TRAINING_VERSION, Current

FIRST, SECOND = "a" * 64, "b" * 64


def board(now: Current, **changes: list[object]) -> Board:
    """Of two runs that differ in one field, the second one newer."""
    ((name, values),) = changes.items()
    runs = [
        replace(run_of(result_of(spec_of(**{name: value}))), started=10 * place, ended=10 * place + 5)
        for place, value in enumerate(values, start=1)
    ]
    (one,) = boards_of(runs, {}, now)
    return one


def ranked(one: Board, name: str) -> list[object]:
    return [getattr(run.spec, name) for row in one.ranked for run in row.runs]


@pytest.mark.parametrize(("now", "current"), [(FIRST, FIRST), (SECOND, SECOND), ("c" * 64, SECOND), ("", SECOND)])
def test_data_that_are_changed_back_are_current_again(now: str, current: str) -> None:
    one = board(Current(data=lambda _: now, protocol=lambda *_: 1), data_fingerprint=[FIRST, SECOND])
    assert ranked(one, "data_fingerprint") == [current]
    assert one.data == current and len(one.stale) == 1


@pytest.mark.parametrize(("now", "current"), [(FIRST, FIRST), (SECOND, SECOND), ("c" * 64, SECOND), ("", SECOND)])
def test_a_source_that_is_changed_back_is_current_again(now: str, current: str) -> None:
    one = board(Current(source=lambda _: now), source=[FIRST, SECOND])
    assert ranked(one, "source") == [current]
    assert one.stale[0].reason.startswith("an earlier source of the method")


@pytest.mark.parametrize("name", ["training_version", "evaluation_version"])
@pytest.mark.parametrize("versions", [[1, 2], [2, 1]])
def test_trials_of_an_earlier_version_are_stale_whenever_they_were_run(name: str, versions: list[object]) -> None:
    one = board(Current(), **{name: versions})
    assert ranked(one, name) == [2]
    assert "version 1 of the" in one.stale[0].reason


def test_the_board_names_the_results_of_a_later_version_beside_which_others_are_stale() -> None:
    later = run_of(result_of(spec_of(training_version=TRAINING_VERSION + 1)))
    own = [run_of(result_of(spec_of(seed=seed, training_version=TRAINING_VERSION))) for seed in range(3)]
    (one,) = assessed([later, *own], {}, lambda *_: None)
    text = f"beside which those of this one are stale: caan/scenes/s0 (trial {later.key}); update harness"
    assert text in one.board.overtaken
    for page in (board_page(one, {}), webpage(one, {})):
        assert f"(trial {later.key}); update harness" in page
    console = Console(file=io.StringIO(), width=1000)
    console.print(*tables([one]))
    assert text in " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    (alone,) = boards_of(own, {})
    assert not alone.overtaken and alone.ranked


def test_seeds_of_two_versions_of_the_trainer_are_never_one_row() -> None:
    runs = [run_of(result_of(spec_of(seed=seed, training_version=1 + seed))) for seed in (0, 1)]
    (one,) = boards_of(runs, {})
    assert [row.n for row in one.ranked] == [1]
