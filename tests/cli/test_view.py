"""What is seen while a campaign runs: a picture that fits any screen, or plain lines."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console
from toy_trials import toy_assignment

from harness.campaign.plan import Plan, Planned
from harness.terminal.output import Output
from harness.terminal.view import LineView, LiveView, Totals, clock
from harness.trial.results import EpochReport, Failure, State, StepReport, TrialResult

EPOCHS = 10


def make_plan(folder: Path, trials: int, done: int = 0) -> Plan:
    """A plan of so many trials, the first of them done."""
    planned = [
        Planned(toy_assignment(folder, seed, EPOCHS), "done" if seed < done else "new") for seed in range(trials)
    ]
    return Plan("main", folder, "sqlite:///none", tuple(planned))


def report(plan: Plan, trial: int, epoch: int, phase: str = "train", seconds: float = 2.0) -> EpochReport:
    return EpochReport.model_validate(
        {
            "key": plan.trials[trial].spec.key,
            "epoch": epoch,
            "epochs": EPOCHS,
            "phase": phase,
            **(
                {"loss": 12.3456, "val": {"rsum": 123.4}, "seconds": seconds, "pairs_per_second": 1234.5}
                if epoch
                else {}
            ),
        }
    )


def part(plan: Plan, trial: int, epoch: int, share: float, seconds: float) -> StepReport:
    """How far the epoch after this one is."""
    return StepReport(
        **report(plan, trial, epoch).model_dump() | {"seconds": seconds, "pairs_per_second": 1234.5}, share=share
    )


def ended(plan: Plan, trial: int, state: State = State.DONE) -> TrialResult:
    measures = {"rsum": 234.5, "i2t_r1": 12.3, "t2i_r1": 10.1}
    return TrialResult(
        spec=plan.trials[trial].spec,
        state=state,
        failure=Failure.NONFINITE if state is State.FAILED else None,
        message="loss is NaN in epoch 2" if state is State.FAILED else "",
        measures=measures if state is State.DONE else {},
        cost={"seconds": 20.0},
        best_epoch=7,
        epochs=EPOCHS,
    )


def start(view: LineView | LiveView, plan: Plan) -> None:
    """The campaign begins, and every trial that is left is handed out."""
    view.start(len(plan.trials), len(plan.trials) - len(plan.todo))
    for trial in plan.todo:
        view.begin(trial.assignment)


def totals_of(plan: Plan, places: int = 2) -> Totals:
    """The campaign begins, and as many trials as there are places are handed out."""
    totals = Totals(len(plan.trials), len(plan.trials) - len(plan.todo), now=0.0)
    for trial in plan.todo[:places]:
        totals.begin(trial.assignment, 0.0)
    return totals


def screen(width: int, height: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)


def drawn(picture: LiveView, console: Console) -> list[str]:
    """The picture's lines, on a screen of the same size that nothing else writes to."""
    other = screen(console.width, console.height)
    with other.capture() as capture:
        other.print(picture.draw())
    return capture.get().rstrip("\n").splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 10)])
@pytest.mark.parametrize("running", [0, 2, 60])
def test_the_picture_never_overflows_the_screen(tmp_path: Path, width: int, height: int, running: int) -> None:
    plan, console = make_plan(tmp_path, 80), screen(width, height)
    with LiveView(console) as picture:
        start(picture, plan)
        for trial in range(running):
            picture.epoch(report(plan, trial, 0, "start"))
            picture.epoch(report(plan, trial, 3))
        lines = drawn(picture, console)
    assert len(lines) < height and all(len(line) <= width for line in lines)
    assert "0/80 trials" in lines[-1]
    assert f"and {80 - (height - 4)} more" in lines[-2]
    assert sum("3/10" in line for line in lines) == min(running, height - 4)  # before those that start
    assert any("start" in line for line in lines) == (running < height - 4)


def test_what_a_search_has_come_to_stands_in_one_line_however_narrow_the_screen(tmp_path: Path) -> None:
    plan, console, best = make_plan(tmp_path, 80), screen(60, 10), "best val rsum so far: " + "vsepp/x 131.4 (#3), " * 9
    with LiveView(console) as picture:
        start(picture, plan)
        picture.standing(best)
        lines = drawn(picture, console)
    assert len(lines) < 10 and all(len(line) <= 60 for line in lines)
    assert lines[-2].startswith("  best val rsum so far: vsepp/x 131.4 (#3)") and lines[-2].endswith("…")


@pytest.mark.parametrize(("quiet", "said"), [(False, ["best: 3", "best: 4"]), (True, [])])
def test_a_log_hears_of_a_new_best_once(tmp_path: Path, quiet: bool, said: list[str]) -> None:
    plan, file = make_plan(tmp_path, 1), io.StringIO()
    with LineView(Console(file=file, width=80), quiet) as lines:
        start(lines, plan)
        for text in ("", "best: 3", "best: 3", "best: 4"):
            lines.standing(text)
    assert file.getvalue().splitlines() == said


def test_before_the_first_trial_it_says_what_is_started_and_for_how_long(tmp_path: Path) -> None:
    console = screen(80, 24)
    with LiveView(console) as picture:
        picture.start(3, 0)
        (line,) = drawn(picture, console)
    assert "starting workers, opening the tracking store" in line and line.endswith("0:00")


def test_a_bar_moves_within_an_epoch_and_says_when_val_is_scored(tmp_path: Path) -> None:
    plan, console = make_plan(tmp_path, 1), screen(120, 24)
    with LiveView(console) as picture:
        start(picture, plan)
        picture.epoch(report(plan, 0, 0, "start"))
        assert drawn(picture, console)[0].split()[-1] == "0:00"
        bars = []
        for number in (0.2, 0.6):
            picture.epoch(part(plan, 0, 4, number, 30.0 * number))
            line = drawn(picture, console)[0]
            assert "4/10" in line and "pairs/s" in line and "left" in line
            bars.append(line.count("━"))
        picture.epoch(part(plan, 0, 4, 1.0, 30.0))
        assert "validating" in drawn(picture, console)[0]


def test_a_running_trial_shows_epoch_val_rsum_speed_and_time_left(tmp_path: Path) -> None:
    plan, console = make_plan(tmp_path, 2, done=1), screen(80, 24)
    with LiveView(console) as picture:
        start(picture, plan)
        picture.epoch(report(plan, 1, 0, "start"))
        picture.epoch(report(plan, 1, 4, seconds=60.0))
        running, totals = drawn(picture, console)
    for part in ("toy/none/s1", "4/10", "val 123.4", "1,234 pairs/s", "left"):
        assert part in running
    assert "0/1 trials" in totals and "1 were done before" in totals


def test_results_scroll_by_and_leave_the_picture(tmp_path: Path) -> None:
    plan, console = make_plan(tmp_path, 2), screen(80, 24)
    with LiveView(console) as picture:
        start(picture, plan)
        for trial in range(2):
            picture.epoch(report(plan, trial, 0, "start"))
        picture.result(ended(plan, 0))
        picture.result(ended(plan, 1, State.FAILED))
        lines = drawn(picture, console)
    assert len(lines) == 1 and "2/2 trials" in lines[0] and "1 failed" in lines[0]
    out = console.file.getvalue()  # type: ignore[attr-defined]
    assert "✓ toy/none/s0  rsum 234.5" in out and "✗ toy/none/s1  failed (nonfinite): loss is NaN" in out


def test_time_left_follows_the_epochs_of_this_run_and_the_clock(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, 1)
    totals = totals_of(plan)
    row = totals.epoch(report(plan, 0, 4, "start"), now=5.0)  # continued after its fourth epoch
    assert row.left(5.0) is None
    totals.epoch(report(plan, 0, 5, seconds=3.0), now=8.0)
    totals.epoch(report(plan, 0, 6, seconds=5.0), now=13.0)
    assert row.left(13.0) == pytest.approx(4 * 4.0)
    assert row.left(15.0) == pytest.approx(4 * 4.0 - 2.0)
    assert row.left(99.0) == 0.0


def test_time_left_is_known_within_the_first_epoch(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, 2)
    totals = totals_of(plan)
    totals.epoch(report(plan, 0, 0, "start"), now=0.0)
    row = totals.epoch(part(plan, 0, 0, 0.25, seconds=5.0), now=5.0)
    assert row.left(5.0) == pytest.approx(9.75 * 20.0)
    assert totals.left(5.0) == pytest.approx((9.75 * 20.0 + 200.0) / 2)  # the other one is starting


def test_time_left_of_a_campaign_spreads_what_waits_over_the_places_in_use(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, 6)
    totals = totals_of(plan)
    assert totals.left(0.0) is None
    for trial in range(2):
        totals.epoch(report(plan, trial, 0, "start"), now=0.0)
    assert totals.left(0.0) is None
    for trial in range(2):
        totals.epoch(report(plan, trial, 5, seconds=50.0), now=50.0)
    # each runs 50 s more; four wait, 100 s each, in two places
    assert totals.left(50.0) == pytest.approx(50 + 4 * 100 / 2)
    for trial in range(2):
        totals.result(replace_seconds(ended(plan, trial), 80.0))
    assert totals.left(50.0) == pytest.approx(4 * 80.0)  # no place in use is known at this moment
    assert "2/6 trials" in totals.line(50.0)


def test_a_log_hears_of_a_long_epoch_before_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, file, now = make_plan(tmp_path, 1), io.StringIO(), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with LineView(Console(file=file, width=80)) as lines:
        start(lines, plan)
        lines.epoch(report(plan, 0, 0, "start"))
        for minute in range(1, 13):
            now[0] = 60.0 * minute
            lines.epoch(part(plan, 0, 0, minute / 20, seconds=now[0]))
    said = file.getvalue().splitlines()
    assert said[1:] == [
        "toy/none/s0  25% of epoch 1/10  1,234 pairs/s  about 3:15:00 left",
        "toy/none/s0  50% of epoch 1/10  1,234 pairs/s  about 3:10:00 left",
    ]


def replace_seconds(result: TrialResult, seconds: float) -> TrialResult:
    return result.model_copy(update={"cost": {"seconds": seconds}})


@pytest.mark.parametrize(("quiet", "count"), [(False, 5), (True, 2)])
def test_lines_are_plain_and_one_a_report_or_result(tmp_path: Path, quiet: bool, count: int) -> None:
    plan, file = make_plan(tmp_path, 1), io.StringIO()
    with LineView(Console(file=file, width=80), quiet) as lines:
        start(lines, plan)
        lines.epoch(report(plan, 0, 0, "start"))
        lines.epoch(report(plan, 0, 1))
        lines.epoch(report(plan, 0, 1, "test"))
        lines.warn(
            "the store is away, and this sentence is longer than the eighty columns of the console that it is on"
        )
        lines.result(ended(plan, 0))
    said = file.getvalue().splitlines()
    assert len(said) == count and "\x1b" not in file.getvalue()
    assert said[-1].startswith("✓ toy/none/s0  rsum 234.5")
    if not quiet:
        assert said[1] == "toy/none/s0  epoch 1/10  loss 12.35  val rsum 123.4 (300 images)  1,234 pairs/s  2.0 s"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (61, "1:01"), (3599.6, "1:00:00"), (90061, "25:01:01")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(("columns", "width"), [("", 160), ("80", 80), ("wide", 160), ("0", 160), ("7", 40)])
def test_a_pipe_is_as_wide_as_columns_says(monkeypatch: pytest.MonkeyPatch, columns: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert Output().console.width == width
