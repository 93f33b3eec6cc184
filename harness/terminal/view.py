"""Views of a running campaign: redrawn in place on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
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
from harness.trial.results import Assignment, EpochReport, State, StepReport, TrialResult

MARKS = {State.DONE: ("✓", "green"), State.FAILED: ("✗", "red"), State.PRUNED: ("■", "yellow")}
NARROW, WIDE = 72, 100  # columns from which a running trial also shows its pace, and its loss
FRAMES = 4  # per second
SILENCE = 300.0  # seconds of a trial's epoch after which a log hears of it before its end


@dataclass
class RunningRow:
    label: str
    report: EpochReport | None  # None until its worker is there
    seen: float  # when the report came, or the trial was handed out; seconds of a monotonic clock
    began: int  # epochs that an earlier run had finished
    epochs: int
    spent: float = 0.0  # seconds of the epochs that this run has finished
    val: str = ""  # the size of the gallery that val rsum is of, as ` (300 images)`
    loss: float | None = None  # of the last epoch
    printed: float = math.inf  # when a line of it was, by the same clock

    def update(self, report: EpochReport, now: float) -> None:
        if self.report is None:
            self.began = report.epoch
        self.report, self.seen, self.epochs = report, now, report.epochs
        if report.phase == "train" and not isinstance(report, StepReport):
            self.spent += report.seconds
            self.loss = report.loss

    @property
    def share(self) -> float:
        """Of the epoch under way that is trained."""
        return self.report.share if isinstance(self.report, StepReport) else 0.0

    @property
    def done(self) -> float:
        """Epochs, with the part of the one under way."""
        return self.report.epoch + self.share if self.report else 0.0

    @property
    def stage(self) -> str:
        if self.report is None:
            return "starting"
        if self.report.phase == "test":
            return "testing"
        return "validating" if self.share == 1.0 else f"{self.report.epoch}/{self.epochs}"

    @property
    def pace(self) -> float | None:
        """Seconds per epoch in this run; None before a part of its first one is over."""
        if self.done <= self.began:
            return None
        under_way = self.report.seconds if isinstance(self.report, StepReport) else 0.0
        return (self.spent + under_way) / (self.done - self.began)

    def left(self, now: float) -> float | None:
        """Seconds until its last epoch, by the pace of its own; None before there is one."""
        if self.report and self.report.phase == "test":
            return 0.0
        return None if self.pace is None else max(0.0, (self.epochs - self.done) * self.pace - (now - self.seen))

    def cells(self, now: float, width: int) -> list[RenderableType]:
        """What a terminal of so many columns shows of it."""
        report, left = self.report, self.left(now)
        val = f"val {report.val['rsum']:.1f}{self.val * (width >= WIDE)}" if report and "rsum" in report.val else ""
        rate = report.pairs_per_second if report and width >= NARROW else 0.0
        cells: list[RenderableType] = [
            Text(f"  {self.label}"),
            ProgressBar(total=max(1, self.epochs), completed=self.done, width=24 if width >= WIDE else width // 6),
            Text(self.stage),
            Text(val, style="bold"),
            Text(f"{rate:,.0f} pairs/s" if rate else "", style="dim"),
            Text(clock(now - self.seen) if left is None else f"{clock(left)} left" if left else ""),
        ]
        loss = [Text("" if self.loss is None else f"loss {self.loss:.4g}", style="dim")]
        return cells + loss * (width >= WIDE)


class Totals:
    def __init__(self, total: int, before: int, now: float) -> None:
        self.widest = 0  # the longest label so far
        self.labels: dict[str, str] = {}
        self.began = now
        self.before = before
        self.total = total - before
        self.rows: dict[str, RunningRow] = {}
        self.ended: list[State] = []
        self.seconds: list[float] = []  # of the trials that this run has done
        self.standing = ""  # what they have come to

    def begin(self, assignment: Assignment, now: float) -> None:
        name, epochs = assignment.name, assignment.spec.training.epochs
        self.labels[assignment.spec.key] = name
        self.widest = max(self.widest, len(name))
        self.rows[assignment.spec.key] = RunningRow(name, None, now, 0, epochs, val=val_size(assignment))

    def epoch(self, report: EpochReport, now: float) -> RunningRow:
        row = self.rows[report.key]
        row.update(report, now)
        return row

    def result(self, result: TrialResult) -> None:
        self.rows.pop(result.key, None)
        self.ended.append(result.state)
        if "seconds" in result.cost:
            self.seconds.append(result.cost["seconds"])

    def left(self, now: float) -> float | None:
        """Seconds until all trials are done, those that wait spread over the slots in use; None if unknown."""
        known = [left for row in self.rows.values() if (left := row.left(now)) is not None]
        others = self.total - len(self.ended) - len(known)  # that wait, or cannot say yet
        guesses = self.seconds or [row.pace * row.epochs for row in self.rows.values() if row.pace]
        if others and not guesses:
            return None
        mean = sum(guesses) / len(guesses) if guesses else 0.0
        return max([(sum(known) + others * mean) / max(1, len(self.rows)), *known])

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
    """One line per epoch and per result, in long epochs one every few minutes; with `quiet` results alone."""

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
        self._totals.begin(assignment, time.monotonic())

    def epoch(self, report: EpochReport) -> None:
        assert self._totals
        now = time.monotonic()
        row = self._totals.epoch(report, now)
        is_due = not isinstance(report, StepReport) or now - row.printed >= SILENCE
        if not self._quiet and is_due:
            row.printed = now
            self._print(Text(epoch_line(row)))

    def result(self, result: TrialResult) -> None:
        assert self._totals
        self._totals.result(result)
        self._print(result_line(result, self._totals.labels.get(result.key, ""), self._totals.widest))

    def standing(self, text: str) -> None:
        assert self._totals
        if text != self._totals.standing and not self._quiet:
            self._print(Text(text))
        self._totals.standing = text

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
        now, rows = time.monotonic(), sorted(self._totals.rows.values(), key=lambda row: row.report is None)
        standing = self._totals.standing
        room = max(1, self._console.height - 4 - bool(standing))
        parts: list[RenderableType] = [trial_rows(rows[:room], now, self._console.width)] if rows else []
        if len(rows) > room:
            parts.append(Text(f"  … and {len(rows) - room} more running", style="dim"))
        at = "" if rows or self._totals.ended else "starting workers, opening the tracking store · "
        self._spinner.update(text=Text(at + self._totals.line(now)))
        best = [Text(f"  {standing}", no_wrap=True, overflow="ellipsis")] if standing else []
        return Group(*parts, *best, self._spinner)


def view_for(out: Output) -> LineView:
    """The view of a campaign where a command prints."""
    return LiveView(out.console) if out.is_live else LineView(out.console, out.is_quiet)


def trial_rows(rows: list[RunningRow], now: float, width: int) -> Table:
    table = Table.grid(padding=(0, 1), expand=False)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(16, width - 56))
    for _ in range(5 + (width >= WIDE)):
        table.add_column(no_wrap=True, justify="right")
    for row in rows:
        table.add_row(*row.cells(now, width))
    return table


def val_size(assignment: Assignment) -> str:
    """How many images val has, because its rsum does not compare with that of a larger test split."""
    split = assignment.dataset_card.splits.get("val")
    if split is None:
        return ""
    return f" ({min(split.images, assignment.spec.limit or split.images):,} images)"


def epoch_line(row: RunningRow) -> str:
    report = row.report
    assert report
    if isinstance(report, StepReport):
        rate, left = f"{report.pairs_per_second:,.0f} pairs/s", clock(row.left(row.seen) or 0.0)
        return f"{row.label}  {report.share:.0%} of epoch {report.epoch + 1}/{row.epochs}  {rate}  about {left} left"
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
        why = f"; training has collapsed: {result.message}" if result.message else ""
        return line.append(f"pruned after epoch {result.epochs}: val rsum {result.val.get('rsum', 0.0):.1f}{why}")
    where = "val " if result.spec.protocol == SELECTION else ""
    line.append(f"{where}rsum {result.measures['rsum']:5.1f}", style="bold")
    line.append(f"  R@1 i2t {result.measures['i2t_r1']:4.1f} t2i {result.measures['t2i_r1']:4.1f}")
    best = f"best epoch {result.best_epoch}/{result.epochs}  " if result.epochs else ""
    return line.append(f"  {best}{clock(result.cost['seconds'])}")


def clock(seconds: float) -> str:
    """A span of time: 0:07, 12:34, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
