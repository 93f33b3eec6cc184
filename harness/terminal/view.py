"""Views of a running campaign: redrawn in place on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table

from harness.config.cards import SELECTION
from harness.terminal.output import Console, Output, Text
from harness.trial.results import Assignment, EpochReport, State, TrialResult

MARKS = {State.DONE: ("✓", "green"), State.FAILED: ("✗", "red"), State.PRUNED: ("■", "yellow")}
WIDE = 100  # columns from which a running trial also shows its loss
FRAMES = 4  # per second


@dataclass
class RunningRow:
    label: str
    report: EpochReport
    seen: float  # when the report came, seconds of a monotonic clock
    began: int  # epochs that an earlier run had finished
    spent: float = 0.0  # seconds of the epochs that this run has finished
    val: str = ""  # the size of the gallery that val rsum is of, as ` (300 images)`

    def update(self, report: EpochReport, now: float) -> None:
        self.report, self.seen = report, now
        self.spent += report.seconds if report.phase == "train" else 0.0

    @property
    def stage(self) -> str:
        return "testing" if self.report.phase == "test" else f"{self.report.epoch}/{self.report.epochs}"

    def left(self, now: float) -> float | None:
        """Seconds until its last epoch, from the mean of its own epochs; None before the first one has ended."""
        done = self.report.epoch - self.began
        if self.report.phase == "test":
            return 0.0
        if done < 1:
            return None
        return max(0.0, (self.report.epochs - self.report.epoch) * self.spent / done - (now - self.seen))


class Totals:
    def __init__(self, total: int, before: int, now: float) -> None:
        self.labels: dict[str, str] = {}
        self.val: dict[str, str] = {}
        self.widest = 0  # the longest label so far
        self.began = now
        self.before = before
        self.total = total - before
        self.rows: dict[str, RunningRow] = {}
        self.ended: list[State] = []
        self.seconds: list[float] = []  # of the trials that this run has done

    def begin(self, assignment: Assignment) -> None:
        self.labels[assignment.spec.key] = assignment.name
        self.val[assignment.spec.key] = val_size(assignment)
        self.widest = max(self.widest, len(assignment.name))
        self.rows.pop(assignment.spec.key, None)

    def epoch(self, report: EpochReport, now: float) -> RunningRow:
        row = self.rows.setdefault(report.key, self.new_row(report, now))
        row.update(report, now)
        return row

    def new_row(self, report: EpochReport, now: float) -> RunningRow:
        return RunningRow(self.labels[report.key], report, now, report.epoch, val=self.val[report.key])

    def result(self, result: TrialResult) -> None:
        self.rows.pop(result.key, None)
        self.ended.append(result.state)
        if "seconds" in result.cost:
            self.seconds.append(result.cost["seconds"])

    def left(self, now: float) -> float | None:
        """Seconds until all trials are done, those that wait spread over the slots in use; None if unknown."""
        known = [left for row in self.rows.values() if (left := row.left(now)) is not None]
        waiting = self.total - len(self.ended) - len(self.rows)
        guesses = self.seconds or [row.spent + (row.left(now) or 0.0) for row in self.rows.values() if row.spent]
        if len(known) < len(self.rows) or (waiting and not guesses):
            return None
        mean = sum(guesses) / len(guesses) if guesses else 0.0
        return max([(sum(known) + waiting * mean) / max(1, len(self.rows)), *known])

    def line(self, now: float) -> str:
        parts = [f"{len(self.ended)}/{self.total} trials", clock(now - self.began)]
        if self.before:
            parts.insert(1, f"{self.before} were done before")
        if failed := self.ended.count(State.FAILED):
            parts.insert(1, f"{failed} failed")
        if left := self.left(now):
            parts.append(f"about {clock(left)} left")
        return " · ".join(parts)


class LineView:
    """One line per report and per result, for logs and pipes; with `quiet` results alone."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._totals: Totals | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    def start(self, total: int, before: int) -> None:
        self._totals = Totals(total, before, time.monotonic())

    def begin(self, assignment: Assignment) -> None:
        assert self._totals
        self._totals.begin(assignment)

    def epoch(self, report: EpochReport) -> None:
        assert self._totals
        row = self._totals.epoch(report, time.monotonic())
        if not self._quiet:
            self._print(Text(epoch_line(row)))

    def result(self, result: TrialResult) -> None:
        assert self._totals
        self._totals.result(result)
        self._print(result_line(result, self._totals.labels.get(result.key, ""), self._totals.widest))

    def warn(self, message: str) -> None:
        self._print(Text(f"warning: {message}", style="yellow"))

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)


class LiveView(LineView):
    """For a terminal: results scroll by, below them one line per running trial and the totals are redrawn in place."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, quiet=True)
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console, get_renderable=self.draw, refresh_per_second=FRAMES, transient=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()

    def start(self, total: int, before: int) -> None:
        super().start(total, before)
        self._live.start()

    def _print(self, line: Text) -> None:
        self._console.print(line)

    def draw(self) -> RenderableType:
        if self._totals is None:
            return Text("")
        now, rows = time.monotonic(), list(self._totals.rows.values())
        room = max(1, self._console.height - 4)
        parts: list[RenderableType] = [trial_rows(rows[:room], now, self._console.width)] if rows else []
        if len(rows) > room:
            parts.append(Text(f"  … and {len(rows) - room} more running", style="dim"))
        self._spinner.update(text=Text(self._totals.line(now) if rows or self._totals.ended else "starting …"))
        return Group(*parts, self._spinner)


def view_for(out: Output) -> LineView:
    """The view of a campaign where a command prints."""
    return LiveView(out.console) if out.is_live else LineView(out.console, out.is_quiet)


def trial_rows(rows: list[RunningRow], now: float, width: int) -> Table:
    table = Table.grid(padding=(0, 1), expand=False)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(16, width - 56))
    for _ in range(5 + (width >= WIDE)):
        table.add_column(no_wrap=True, justify="right")
    for row in rows:
        report, left = row.report, row.left(now)
        cells: list[RenderableType] = [
            Text(f"  {row.label}"),
            ProgressBar(total=max(1, report.epochs), completed=report.epoch, width=14 if width < WIDE else 24),
            Text(row.stage),
            Text(
                f"val {report.val['rsum']:.1f}{row.val * (width >= WIDE)}" if "rsum" in report.val else "", style="bold"
            ),
            Text(f"{report.pairs_per_second:,.0f} pairs/s" if report.pairs_per_second else "", style="dim"),
            Text(f"{clock(left)} left" if left else ""),
        ]
        if width >= WIDE:
            cells.append(Text(f"loss {report.loss:.4g}" if report.loss is not None else "", style="dim"))
        table.add_row(*cells)
    return table


def val_text(row: RunningRow, width: int) -> str:
    rsum = row.report.val.get("rsum")
    return "" if rsum is None else f"val {rsum:.1f}{row.val if width >= WIDE else ''}"


def val_size(assignment: Assignment) -> str:
    """How many images val has, because its rsum does not compare with that of a larger test split."""
    split = assignment.dataset_card.splits.get("val")
    if split is None:
        return ""
    return f" ({min(split.images, assignment.spec.limit or split.images):,} images)"


def epoch_line(row: RunningRow) -> str:
    report = row.report
    if report.phase == "start":
        return f"{row.label}  starts" + (f" after epoch {report.epoch}" if report.epoch else "")
    if report.phase == "test":
        return f"{row.label}  testing"
    parts = [f"{row.label}  epoch {row.stage}"]
    if report.loss is not None:
        parts.append(f"loss {report.loss:.4g}")
    if "rsum" in report.val:
        parts.append(f"val rsum {report.val['rsum']:.1f}{row.val}")
    return "  ".join([*parts, f"{report.pairs_per_second:,.0f} pairs/s", f"{report.seconds:.1f} s"])


def result_line(result: TrialResult, label: str = "", width: int = 0) -> Text:
    """One line on how a trial ended; labels are padded to a width, so that lines align."""
    mark, style = MARKS.get(result.state, ("·", ""))
    line = Text.assemble((mark, style), f" {label or result.spec.label:<{width}}  ")
    if result.state is State.FAILED:
        tried = f", attempt {result.attempts}" if result.attempts > 1 else ""
        return line.append(f"failed ({result.failure.value if result.failure else 'bug'}{tried}): {result.message}")
    if result.state is State.PRUNED:
        return line.append(f"pruned after epoch {result.epochs}: val rsum {result.val.get('rsum', 0.0):.1f}")
    where = "val " if result.spec.protocol == SELECTION else ""
    line.append(f"{where}rsum {result.measures['rsum']:5.1f}", style="bold")
    r1 = f"  R@1 {result.measures['i2t_r1']:4.1f} {result.measures['t2i_r1']:4.1f}"
    return line.append(f"{r1}  best epoch {result.best_epoch}/{result.epochs}  {clock(result.cost['seconds'])}")


def clock(seconds: float) -> str:
    """A span of time: 0:07, 12:34, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
