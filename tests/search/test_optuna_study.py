"""Ask and tell on a real file: the same values after any restart, pruned at the right epochs, one writer alone."""

from __future__ import annotations

import itertools
import math
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.sections import Scalar, Search, Tunable
from harness.errors import ConfigError, StoreError, UsageError
from harness.search.optuna_study import Storage, Study, _suggested, open_storage, read_studies, study_names
from harness.search.space import applies, within
from harness.search.studies import Ended, Proposal, StudyDesign, grid_of
from harness.search.study_records import front

pytestmark = pytest.mark.filterwarnings("error")  # people are shown none of optuna's

NAME = "main/scenes/mine"
MARGIN = Tunable(type="float", low=0.05, high=0.4)
TEMPERATURE = Tunable(type="float", low=3.0, high=30.0, log=True)
LAYERS = Tunable(type="int", low=1, high=4)
POOLING = Tunable(type="categorical", choices=("avg", "lse"))
NUMBERS = {"margin": MARGIN, "temperature": TEMPERATURE}
MIXED = {**NUMBERS, "layers": LAYERS, "pooling": POOLING}
CONDITIONAL = {
    "margin": MARGIN,
    "pooling": POOLING,
    "temperature": TEMPERATURE.model_copy(update={"when": {"pooling": "lse"}}),
    "layers": LAYERS.model_copy(update={"when": {"pooling": "avg"}}),
}
CELLS = {"layers": LAYERS, "pooling": POOLING}
Maker = Callable[..., Study]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "studies.journal"


@pytest.fixture
def storage(file: Path) -> Storage:
    return open_storage(file)


@pytest.fixture
def make(file: Path, request: pytest.FixtureRequest) -> Maker:
    """A study of this test; called again it is the same one as a driver that is started again has it, from the file."""

    def study(
        space: Mapping[str, Tunable] = NUMBERS,
        points: Sequence[Mapping[str, Scalar]] = (),
        epochs: int = 9,
        frozen: Mapping[str, str] | None = None,
        name: str = "",
        on: Storage | None = None,
        **search: Any,
    ) -> Study:
        name = name if on else f"{request.node.name}/{name}"
        design = StudyDesign(Search(**{"startup": 2, **search}), space, epochs, points, frozen or {})
        return Study(on or open_storage(file), name or NAME, design)

    return study


def ask(study: Study) -> Proposal:
    proposal = study.ask()
    assert proposal is not None
    return proposal


def complete(study: Study, objective: float, epochs: Sequence[float] = ()) -> int:
    """A trial that nothing stops, whatever it reports."""
    number = ask(study).number
    for epoch, value in enumerate(epochs, 1):
        study.report(number, epoch, value)
    study.tell(number, "complete", [objective])
    return number


def lies_in(space: Mapping[str, Tunable], values: Mapping[str, Scalar]) -> bool:
    here = {key for key in space if applies(space, key, values)}
    return set(values) == here and all(within(space[key], value) == value for key, value in values.items())


# What is asked


def score(values: Mapping[str, Scalar]) -> float:
    return sum(float(value) for value in values.values() if not isinstance(value, str))


def asked_in_turn(opened: Callable[[], Study], trials: int) -> list[dict[str, Scalar]]:
    """Values of trials of which one in five fails and another is never told."""
    proposals = []
    for turn in range(trials):
        study = opened()
        number, values = ask(study)
        proposals.append(values)
        if turn % 5 != 4:
            study.report(number, 3, score(values))
            study.tell(number, "failed" if turn % 5 == 3 else "complete", [score(values)])
    return proposals


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "space"),
    [("random", MIXED), ("tpe", MIXED), ("tpe", CONDITIONAL), ("grid", CELLS), ("gp", MIXED), ("cmaes", NUMBERS)],
    ids=["random", "tpe", "tpe with conditions", "grid", "gp", "cmaes"],
)
def test_a_study_that_is_opened_again_before_every_ask_asks_for_the_same(
    make: Maker, sampler: str, space: Mapping[str, Tunable]
) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes")

    def study(name: str) -> Study:
        return make(space, sampler=sampler, pruner="hyperband", name=name)

    one, trials = study("one"), 4 if sampler == "gp" else 7
    whole, broken = asked_in_turn(lambda: one, trials), asked_in_turn(lambda: study("other"), trials)
    assert whole == broken
    assert len({str(values) for values in whole}) > trials / 2


def test_trials_of_tpe_learn_where_the_random_ones_do_not(make: Maker) -> None:
    sums = {}
    for sampler in ("random", "tpe"):
        study = make({"margin": MARGIN}, sampler=sampler, name=sampler)
        for _ in range(20):
            proposal = ask(study)
            study.tell(proposal.number, "complete", [score(proposal.values)])
        sums[sampler] = sum(score(trial.values) for trial in study.ended()[10:])
    assert sums["tpe"] > sums["random"]


def test_the_seed_decides(make: Maker) -> None:
    one, same, other = (make(sampler="random", name=name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    first = [ask(study).values for study in (one, same, other)]
    assert first[0] == first[1] != first[2]
    assert ask(one).values != first[0]


def test_the_order_in_which_a_space_is_written_changes_nothing(make: Maker) -> None:
    forwards, backwards = MIXED, dict(reversed(MIXED.items()))
    one, other = make(forwards, name="a"), make(backwards, name="b")
    assert [ask(one).values for _ in range(3)] == [ask(other).values for _ in range(3)]
    assert make(backwards, name="a").ended() == []


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Tunable]:
    whole = st.integers(1, 10**6)
    numbers = {"int": st.tuples(whole, whole), "float": st.tuples(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))}
    space: dict[str, Tunable] = {}
    for key in draw(st.sets(st.sampled_from("abc"), min_size=1)):
        kind = draw(st.sampled_from(["int", "float", "categorical"]))
        if kind == "categorical":
            choices = draw(st.sampled_from([(True, False), ("x", "y"), (1, 2, 3), (0.1, 0.25)]))
            space[key] = Tunable(type=kind, choices=choices)
        else:
            low, high = sorted(draw(numbers[kind].filter(lambda pair: pair[0] != pair[1])))
            space[key] = Tunable(type=kind, low=low, high=high, log=draw(st.booleans()))
    parents = [key for key in space if space[key].choices]
    for key in space:
        if parents and key != parents[0] and draw(st.booleans()):
            space[key] = space[key].model_copy(update={"when": {parents[0]: space[parents[0]].choices[0]}})
    return space


names = itertools.count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies")


@settings(max_examples=8, deadline=None)
@given(spaces(), st.sampled_from(["tpe", "random"]), st.integers(0, 2**32 - 1))
def test_whatever_is_asked_lies_in_the_space(folder: Path, space: dict[str, Tunable], sampler: Any, seed: int) -> None:
    search = Search(sampler=sampler, startup=1, seed=seed)
    study = Study(open_storage(folder / "studies.journal"), f"{next(names)}", StudyDesign(search, space, 3))
    for _ in range(3):
        proposal = ask(study)
        assert lies_in(space, proposal.values), proposal
        study.tell(proposal.number, "complete", [score(proposal.values)])
    ended = [trial.values for trial in study.ended()]
    assert all(lies_in(space, values) for values in ended)
    assert all(type(values[key]) is type(within(space[key], values[key])) for values in ended for key in values)


def test_a_key_is_asked_for_only_where_its_condition_holds(make: Maker) -> None:
    points = [ask(study).values for study in [make(CONDITIONAL, sampler="random")] for _ in range(12)]
    assert {values["pooling"] for values in points} == {"avg", "lse"}
    assert all(("temperature" in values) == (values["pooling"] == "lse") for values in points)
    assert all(("layers" in values) == (values["pooling"] == "avg") for values in points)


def test_a_sampler_that_cannot_search_a_space_makes_no_study(make: Maker, storage: Storage) -> None:
    with pytest.raises(ConfigError, match="conditions"):
        make(CONDITIONAL, sampler="gp", name="none")
    assert not any(name.endswith("/none") for name in study_names(storage.file))


# Points, grids and spaces of nothing


def test_points_come_first_and_only_once(make: Maker) -> None:
    points = [{"margin": 0.2, "temperature": 4.0}, {"margin": 0.1}, {"margin": 0.2, "temperature": 4.0}]
    study = make(points=points, sampler="random")
    first, second = ask(study), ask(study)
    assert first == (0, points[0])
    assert (second.number, second.values["margin"]) == (1, 0.1)
    study.tell(0, "complete", [1.0])
    again = make(points=points, sampler="random")
    assert ask(again).values["margin"] not in (0.1, 0.2)


def test_points_that_no_driver_came_to_wait_for_the_next(make: Maker) -> None:
    points = [{"margin": 0.2, "temperature": 4.0}, {"margin": 0.1, "temperature": 5.0}]
    assert ask(make(points=points)).values == points[0]
    again = make(points=points)
    assert again.open() == [(0, points[0])]
    again.enqueue({"margin": 0.3, "temperature": 6.0})
    assert [ask(again), ask(again)] == [(1, points[1]), (2, {"margin": 0.3, "temperature": 6.0})]
    assert ask(again).number == 3


def test_values_that_are_enqueued_come_next_also_a_second_time(make: Maker) -> None:
    study = make()
    first = ask(study)
    study.tell(first.number, "failed")
    study.enqueue(first.values)
    assert ask(study) == (1, first.values)
    assert ask(study).number == 2


def test_an_empty_space_is_one_trial(make: Maker) -> None:
    for points in ([], [{}]):
        study = make({}, points=points, name=f"points {points}")
        assert ask(study) == (0, {})
        assert study.ask() is None
        study.tell(0, "complete", [1.0])
        assert make({}, points=points, name=f"points {points}").ask() is None


def test_a_grid_is_asked_for_cell_by_cell_and_then_is_exhausted(make: Maker) -> None:
    point = {"layers": 3, "pooling": "lse"}
    proposals = []
    for turn in range(8):
        study = make(CELLS, points=[point], sampler="grid", seed=5)  # another driver
        proposals.append(ask(study))
        if turn % 3:  # the others run on
            study.tell(turn, "complete" if turn % 2 else "failed", [1.0])
    grid = grid_of(CELLS)
    assert proposals[0] == (0, point)
    assert sorted(map(str, (values for _, values in proposals))) == sorted(
        str(dict(zip(grid, cell, strict=True))) for cell in itertools.product(*grid.values())
    )
    assert make(CELLS, points=[point], sampler="grid", seed=5).ask() is None
    assert study.ask() is None


# What is reported


def test_the_median_pruner_waits_for_startup_and_min_epochs(make: Maker) -> None:
    study = make(pruner="median", startup=2, min_epochs=3)
    complete(study, 9.0, [9.0] * 9)
    bad = ask(study).number
    assert all(study.report(bad, epoch, 1.0) for epoch in range(1, 9)), "before two trials are complete"
    study.tell(bad, "complete", [9.0])
    bad = ask(study).number
    assert [study.report(bad, epoch, 0.0) for epoch in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize("pruner", ["halving", "hyperband"])
@pytest.mark.parametrize("least", [1, 2])
def test_no_pruner_stops_a_trial_before_it_has_finished_min_epochs(make: Maker, pruner: str, least: int) -> None:
    study = make(pruner=pruner, min_epochs=least, sampler="random")
    stopped = []
    for turn in range(8):
        number, epoch = ask(study).number, 1
        while study.report(number, epoch, -float(turn)) and epoch < 9:  # each worse than all before it
            epoch += 1
        stopped.append(epoch)
        study.tell(number, "pruned" if epoch < 9 else "complete", [0.0])
    assert min(stopped) == least
    assert stopped[0] == 9


@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband"])
def test_nothing_is_pruned_after_its_last_epoch_nor_where_trials_are_too_short(make: Maker, pruner: str) -> None:
    for epochs, least in ((3, 1), (1, 3), (0, 1)):
        study = make(pruner=pruner, epochs=epochs, min_epochs=least, startup=1, name=f"{epochs} {least}")
        for value in (9.0, 1.0):
            number = ask(study).number
            for epoch in range(1, epochs):
                study.report(number, epoch, value if epochs > 2 else None)
            if epochs > 2 and not study.report(number, epochs - 1, value):
                break
            assert study.report(number, max(epochs, 1), value)
            study.tell(number, "complete", [value])


def judged(study: Callable[[], Study]) -> list[list[bool]]:
    decisions = []
    for turn in range(6):
        number, answers = ask(study()).number, [True]
        for epoch in range(1, 4):
            if answers[-1]:
                answers.append(study().report(number, epoch, float((turn * 7) % 5 - turn)))
        study().tell(number, "complete" if answers[-1] else "pruned", [1.0])
        decisions.append(answers)
    return decisions


@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband"])
def test_a_pruner_judges_the_same_in_another_driver(make: Maker, tmp_path: Path, pruner: str) -> None:
    search = {"pruner": pruner, "sampler": "random", "name": f"judged by {pruner}"}  # hyperband draws lots by name
    study = make(**search, on=open_storage(tmp_path / "one.journal"))
    whole = judged(lambda: study)
    broken = judged(lambda: make(**search, on=open_storage(tmp_path / "other.journal")))
    assert whole == broken
    assert {answers[-1] for answers in whole} == {True, False}


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_that_a_trial_should_stop_is_remembered_also_by_the_next_driver(make: Maker, pruner: str) -> None:
    search = {"pruner": pruner, "startup": 1, "sampler": "random"}
    study = make(**search)
    complete(study, 9.0, [9.0] * 9)
    number = ask(study).number
    assert not study.report(number, 1, 0.0)
    again = make(**search)
    for one in (study, again):
        assert not one.report(number, 1, 0.0)
        assert not one.report(number, 2, 99.0)
        assert not one.report(number, 3, None)
    again.tell(number, "pruned")
    assert again.ended()[-1] == (number, "pruned", again.ended()[-1].values, (0.0,), {"pruned_at": 1})


@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband"])
def test_a_trial_whose_driver_died_between_its_value_and_its_judgement_is_judged_by_the_next_one(
    make: Maker, tmp_path: Path, pruner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(_: optuna.Trial) -> bool:
        raise Killed

    def twice(number: int, epoch: int, value: float) -> bool:
        with monkeypatch.context() as patch, suppress(Killed):
            patch.setattr(optuna.Trial, "should_prune", killed)
            other().report(number, epoch, value)
        return other().report(number, epoch, value)

    search = {"pruner": pruner, "sampler": "random", "name": f"judged by {pruner}"}
    study = make(**search, on=open_storage(tmp_path / "one.journal"))
    whole = judged(lambda: study)

    def other() -> Study:
        return make(**search, on=open_storage(tmp_path / "other.journal"))

    broken = judged(lambda: SimpleNamespace(ask=other().ask, report=twice, tell=other().tell))  # type: ignore[arg-type]
    assert whole == broken
    assert {answers[-1] for answers in whole} == {True, False}


def test_an_epoch_that_is_known_keeps_its_value(make: Maker) -> None:
    study = make(pruner="none")
    number = ask(study).number
    for one in (study, make(pruner="none")):
        assert one.report(number, 1, 5.0)
        assert one.report(number, 1, 7.0)
    study.tell(number, "pruned")
    assert study.ended()[0].objective == (5.0,)


@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband"])
def test_a_value_that_is_none_never_prunes(make: Maker, pruner: str) -> None:
    study = make(pruner=pruner, startup=1, min_epochs=1)
    complete(study, 9.0, [9.0] * 3)
    number = ask(study).number
    for epoch, value in enumerate([math.nan, math.inf, -math.inf, None], 1):
        assert study.report(number, epoch, value)
    study.tell(number, "pruned")
    assert study.ended()[-1].objective == ()


def test_several_objectives_are_never_pruned(make: Maker) -> None:
    study = make(objective=("rsum", "-seconds"), startup=1)
    for value in (9.0, 0.0):
        number = ask(study).number
        assert all(study.report(number, epoch, value) for epoch in range(1, 10))
        assert study.tell(number, "complete", [value, value]) == "complete"
    number = ask(study).number
    study.report(number, 1, 5.0)
    study.tell(number, "pruned")  # as a result of another campaign may be
    assert [trial.state for trial in study.ended()] == ["complete", "complete", "pruned"]
    assert ask(study).number == 3


# How trials end


@pytest.mark.parametrize("objective", [None, [], [None], [math.nan], [math.inf], [1.0, 2.0], [1.0, None]], ids=str)
def test_complete_without_a_finite_value_for_each_objective_is_failed(
    make: Maker, objective: list[float | None] | None
) -> None:
    study = make()
    proposal = ask(study)
    assert study.tell(proposal.number, "complete", objective) == "failed"
    assert study.ended() == [Ended(0, "failed", proposal.values, (), {})]
    assert study.best() == []


def test_what_has_ended_is_told_with_its_notes(make: Maker) -> None:
    study = make(pruner="none")
    values = [ask(study).values for _ in range(4)]
    study.note(0, key="abc", epochs=9, seconds=1.5)
    study.note(0, key="abd")
    study.tell(0, "complete", [3.0])
    study.report(1, 1, 2.0)
    study.report(1, 3, 1.0)
    study.tell(1, "pruned", [99.0])
    study.tell(2, "failed", [99.0])
    ended = [
        (0, "complete", values[0], (3.0,), {"key": "abd", "epochs": 9, "seconds": 1.5}),
        (1, "pruned", values[1], (1.0,), {}),
        (2, "failed", values[2], (), {}),
    ]
    assert study.ended() == make(pruner="none").ended() == ended


@pytest.mark.parametrize(("objective", "best"), [("rsum", 1), ("-seconds", 0)])
def test_the_best_of_one_objective_is_the_first_of_the_best(make: Maker, objective: str, best: int) -> None:
    study = make(objective=(objective,), pruner="none")
    assert study.best() == []
    for value in (1.0, 3.0, 3.0, 1.0):
        complete(study, value)
    number = ask(study).number
    study.report(number, 1, 99.0 if best else -99.0)
    study.tell(number, "pruned")
    assert [trial.number for trial in study.best()] == [best]


def test_the_best_of_several_objectives_are_those_that_no_other_beats_in_all(make: Maker) -> None:
    study = make(objective=("rsum", "-seconds"))
    for values in ([1.0, 1.0], [3.0, 3.0], [2.0, 3.0], [3.0, 4.0], [0.0, 0.5]):
        study.tell(ask(study).number, "complete", values)
    assert [trial.number for trial in study.best()] == [1, 0, 4]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12), st.sampled_from([1, 2]))
def test_a_front_that_takes_in_each_trial_as_it_ends_is_that_of_all(
    points: list[tuple[int, int]], several: int
) -> None:
    objective = ("-seconds", "rsum")[:several]
    trials = [Ended(n, "complete", {}, tuple(map(float, point[:several])), {}) for n, point in enumerate(points)]
    best: list[Ended] = []
    for trial in random.Random(0).sample(trials, len(trials)):  # they end in another order than they begin
        best = front([*best, trial], objective)
    assert best == front(trials, objective)


# What makes it the same study


def test_a_study_that_was_begun_otherwise_is_refused_with_the_difference(make: Maker) -> None:
    make(frozen={"settings.dim": "256", "protocol": "1k"})
    wider = {**NUMBERS, "margin": Tunable(type="float", low=0.05, high=0.5)}
    with pytest.raises(UsageError) as caught:
        make(wider, frozen={"settings.dim": "128", "protocol": "1k"}, sampler="random")
    lines = str(caught.value).splitlines()
    assert lines[1:-1] == [
        "  space of margin: float 0.05 to 0.4 -> float 0.05 to 0.5",
        "  sampler: tpe, seed = 100, startup = 2 -> random, seed = 100",
        "  settings.dim: 256 -> 128",
    ]
    assert "test_a_study_that_was_begun_otherwise" in lines[0]
    assert "--campaign" in lines[-1]


def test_a_larger_budget_is_the_same_study(storage: Storage) -> None:
    complete(Study(storage, "budget", StudyDesign(Search(trials=2), NUMBERS, 9)), 1.0)
    larger = StudyDesign(Search(trials=50, epochs=90, seconds=5.0), NUMBERS, 9)
    assert len(Study(storage, "budget", larger).ended()) == 1


def test_a_study_whose_driver_died_while_it_was_made_is_made_whole(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [{"margin": 0.2, "temperature": 4.0}]
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "set_user_attr", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make(points=points)
    study = make(points=points)
    assert ask(study).values == points[0]
    assert ask(study).values != points[0]
    with pytest.raises(UsageError, match="points"):
        make()


def test_studies_of_one_file_do_not_meet(make: Maker, file: Path) -> None:
    storage = open_storage(file)
    one, other = make(on=storage, name="a/scenes/mine"), make(on=storage, name="a/f30k/mine")
    complete(one, 1.0)
    assert [ask(one).number, ask(other).number] == [1, 0]
    assert (len(one.ended()), other.ended()) == (1, [])
    assert study_names(file) == ["a/scenes/mine", "a/f30k/mine"]


# One writer, killed at any time


@pytest.mark.slow
def test_a_trial_of_a_driver_that_was_killed_is_found_by_the_next(make: Maker, file: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from harness.search.optuna_study import Study, open_storage
from harness.search.studies import StudyDesign
from harness.config.sections import Search
from test_optuna_study import CONDITIONAL, NAME
study = Study(open_storage(Path({str(file)!r})), NAME, StudyDesign(Search(startup=2), CONDITIONAL, 9))
study.tell(study.ask().number, "failed")
proposal = study.ask()
study.note(proposal.number, key="abc")
study.report(proposal.number, 1, 5.0)
print(dict(proposal.values), flush=True)
time.sleep(60)
"""
    driver = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert driver.stdout
    line = driver.stdout.readline()
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    study = make(CONDITIONAL, on=open_storage(file))
    [(number, values)] = study.open()
    assert (number, str(values)) == (1, line.strip())
    assert study.report(number, 1, 7.0)
    assert study.tell(number, "pruned") == "pruned"
    assert study.ended()[-1] == (1, "pruned", values, (5.0,), {"key": "abc"})
    assert study.open() == []
    assert ask(study).number == 2


@pytest.mark.parametrize("drawn", range(5))
def test_a_trial_whose_driver_died_while_it_drew_values_draws_the_rest(
    make: Maker, drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = {"margin": 0.1, "temperature": 4.0, "layers": 2, "pooling": "lse"}
    study, draws = make(MIXED, points=[point]), itertools.count()
    with monkeypatch.context() as patch:

        def dying(*arguments: Any) -> Any:
            if next(draws) >= drawn:
                raise KeyboardInterrupt
            return _suggested(*arguments)

        patch.setattr("harness.search.optuna_study._suggested", dying)
        if drawn < len(MIXED):
            with pytest.raises(KeyboardInterrupt):
                study.ask()
        else:
            ask(study)
    again = make(MIXED, points=[point])
    assert again.open() == [(0, point)]
    assert again.open() == [(0, point)]
    assert ask(again).number == 1


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(60, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
def test_a_kill_at_any_moment_loses_nothing_that_was_told(make: Maker, file: Path, tmp_path: Path, kills: int) -> None:
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from harness.search.optuna_study import Study, open_storage
from harness.search.studies import StudyDesign
from harness.config.sections import Search
from test_optuna_study import MIXED, NAME
study = Study(open_storage(Path({str(file)!r})), NAME, StudyDesign(Search(startup=2, sampler="random"), MIXED, 9))
print(flush=True)
while True:
    number = study.open()[0].number if study.open() else study.ask().number
    study.note(number, key="abc")
    study.report(number, 1, 5.0)
    study.tell(number, "complete", [float(number)])
    print(number, flush=True)
"""
    moments, numbers = random.Random(3), set[int]()
    for _ in range(kills):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout and driver.stdout.readline() == "\n"
            time.sleep(moments.uniform(0, 0.3))
            os.kill(driver.pid, signal.SIGKILL)
            numbers |= {int(line) for line in driver.stdout.read().split()}
    study = make(MIXED, on=open_storage(file), sampler="random")
    ended = {trial.number: trial.objective for trial in study.ended()}
    assert numbers <= set(ended)
    assert len(ended) + len(study.open()) == ask(study).number
    assert all(values == (float(number),) for number, values in ended.items())


def another_writer(study: Study, storage: Storage) -> optuna.Study:
    """The study as another program has it, over a storage of its own."""
    place = open_storage(storage.file).journal
    return optuna.load_study(study_name=study.name, storage=place, sampler=optuna.samplers.RandomSampler(1))


@pytest.mark.parametrize("points", [[], [{"margin": 0.1}, {"margin": 0.2}]], ids=["new trial", "queued trial"])
def test_a_trial_that_another_program_asked_for_is_noticed(
    make: Maker, storage: Storage, points: list[dict[str, Scalar]]
) -> None:
    study = make(points=points)
    ask(study)
    another_writer(study, storage).ask()
    with pytest.raises(StoreError, match=r"studies\.journal: another program writes to it \(.* of test_a.*stop it"):
        study.ask()


def test_a_trial_that_another_program_ended_is_noticed(make: Maker, storage: Storage) -> None:
    study = make()
    number = ask(study).number
    study.report(number, 1, 1.0)
    another_writer(study, storage).tell(number, 1.0)
    writes: list[Callable[[], object]] = [
        lambda: study.report(number, 2, 1.0),
        lambda: study.note(number, key="abc"),
        lambda: study.tell(number, "complete", [2.0]),
        lambda: study.tell(number, "failed"),
    ]
    for write in writes:
        with pytest.raises(StoreError, match=r"studies\.journal: another program writes to it \(.*stop it"):
            write()
    assert study.ended()[0].objective == (1.0,)


def test_a_study_that_another_program_deleted_is_noticed(make: Maker, storage: Storage) -> None:
    study = make()
    optuna.delete_study(study_name=study.name, storage=open_storage(storage.file).journal)
    with pytest.raises(StoreError, match=r"studies\.journal.*another program"):
        study.ask()


# The file


def test_a_file_is_made_with_its_folder_whatever_its_name(tmp_path: Path, make: Maker) -> None:
    file = tmp_path / "runs {x}?y=%20" / "studies#1.journal"
    assert study_names(file) == []
    assert not file.parent.exists()
    complete(make(on=open_storage(file)), 1.0)
    assert study_names(file) == [NAME]
    assert len(make(on=open_storage(file)).ended()) == 1


def test_reading_changes_nothing_and_sees_each_write(make: Maker, file: Path) -> None:
    study = make(name="scenes/mine")
    for count in range(3):
        before = file.read_bytes()
        (record,) = read_studies(file)
        assert len(record.trials) == count
        assert study_names(file) == [study.name]
        assert file.read_bytes() == before
        complete(study, 1.0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not a journal, by far" * 1000, "is no journal of Optuna's; move it away"),
        (b'{"a": 1}\n', "a record is damaged or of another Optuna.*move it away"),
        (b'{"op_code":99,"worker_id":"a"}\n', "a record is damaged or of another Optuna.*move it away"),
        (b'{"op_code":0,"wor{"op_code":0}\n{"op_code":0}\n', "a record is damaged or of another Optuna.*move it away"),
    ],
)
def test_a_damaged_or_foreign_file_is_named_with_what_to_do_and_left_as_it_is(
    file: Path, content: bytes, words: str
) -> None:
    file.write_bytes(content)
    for use in (open_storage, study_names, read_studies):
        with pytest.raises(StoreError, match=rf"studies\.journal.*{words}"):
            use(file)
    assert file.read_bytes() == content


def test_studies_of_an_earlier_harness_are_named_and_not_passed_over(file: Path) -> None:
    with closing(sqlite3.connect(file.with_name("studies.db"))) as connection, connection:
        connection.execute("CREATE TABLE studies (name)")
    for use in (open_storage, study_names, read_studies):
        with pytest.raises(StoreError, match=r"studies\.db: .*earlier harness.*move it away"):
            use(file)
    file.with_name("studies.db").rename(file.with_name("studies-before.db"))
    assert study_names(file) == []
    open_storage(file)


def test_a_file_whose_place_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StoreError, match="runs"):
        open_storage(tmp_path / "runs" / "studies.journal")
    (tmp_path / "studies.journal").mkdir()
    with pytest.raises(StoreError, match=r"studies\.journal cannot be used: Is a directory; move the folder away"):
        open_storage(tmp_path / "studies.journal")


@contextmanager
def no_more_room(file: Path, room: int) -> Iterator[None]:
    """No file may grow beyond so many bytes more than this one has: a disk that is full in the middle of a line."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_full_disk_loses_nothing_that_was_told_and_the_next_driver_goes_on(
    make: Maker, file: Path, room: int
) -> None:
    study = make(name="scenes/mine")
    complete(study, 1.0)
    number = ask(study).number
    with no_more_room(file, room), pytest.raises(StoreError, match=r"studies\.journal cannot be used: File too large"):
        study.tell(number, "complete", [2.0])
    assert len(file.read_bytes().rpartition(b"\n")[2]) == room
    assert len(read_studies(file)[0].trials) == 1
    again = make(name="scenes/mine")
    assert [proposal.number for proposal in again.open()] == [number]
    again.tell(number, "complete", [3.0])
    assert [trial.objective for trial in make(name="scenes/mine").ended()] == [(1.0,), (3.0,)]


@pytest.mark.slow
def test_the_lock_of_a_writer_that_was_killed_holds_nobody_up_for_long(
    make: Maker, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete(make(name="scenes/mine"), 1.0)
    Path(f"{file}.lock").touch()
    began = time.monotonic()
    assert len(read_studies(file)[0].trials) == 1, "who only reads needs no lock"
    assert time.monotonic() - began < 2
    complete(make(name="scenes/mine"), 2.0)
    assert time.monotonic() - began < 10
    assert not Path(f"{file}.lock").exists()


@pytest.mark.parametrize("pruner", ["none", "median"])
def test_asking_and_telling_write_no_more_when_there_are_more_trials(make: Maker, file: Path, pruner: str) -> None:
    study = make(sampler="random", pruner=pruner)
    counts = []
    for _ in range(15):
        ask(study)  # which stays under way
        before = file.read_bytes().count(b"\n")
        complete(study, 1.0, [1.0])
        counts.append(file.read_bytes().count(b"\n") - before)
    assert len(set(counts)) == 1
    writes = 5 if pruner == "none" else 6
    assert counts[-1] == writes, "a new trial, its two values, a report, that it goes on, its end"
