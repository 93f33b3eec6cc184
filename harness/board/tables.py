"""Further tables of a board: what rows cost, the state of every trial by seed, measures beside the main table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from math import isnan, nan
from typing import NamedTuple

from harness.board.cells import label, millions, named, rate, rsum, tenths, titled
from harness.board.standings import SECTIONS, Board, Standing, mean
from harness.board.validity import Validity
from harness.evaluation.measures import KINDS, Measure, title
from harness.evaluation.ranks import DIRECTIONS
from harness.tracking.runs import Run
from harness.trial.ensembles import PAIRS, QUERY_MS
from harness.trial.external import is_external
from harness.trial.results import RECALLS, State, TrialSpec

ABSENT = "–"  # a seed that was never planned
SHOWN = {*RECALLS, "rsum", "i2t_tied", "t2i_tied"}  # elsewhere on the board
Lists = Mapping[int, Mapping[str, float]]
NONE: Lists = {}


class CostLine(NamedTuple):
    words: str  # on the page of a row
    name: str  # in a result
    form: Callable[[float], str]
    head: str = ""  # of a column on the board; empty: it stands on the page of a row alone


def whole(value: float) -> str:
    return f"{value:,.0f}"


def device_hours(seconds: float) -> str:
    return significant(seconds / 3600, 2)


def milliseconds(value: float) -> str:
    return significant(value, 3)


def significant(value: float, digits: int) -> str:
    """A number rounded to so many digits, or to a whole number where it has more, and never as 1e+02."""
    text = f"{value:.{digits}g}"
    return whole(value) if "e+" in text else f"{Decimal(text):f}"


COSTS = (
    CostLine("matching pairs trained per second", "train_pairs_per_second", rate),
    CostLine("images encoded per second", "encode_images_per_second", rate),
    CostLine("captions encoded per second", "encode_captions_per_second", rate),
    CostLine("image-caption pairs scored per second", "score_pairs_per_second", rate),
    CostLine("pairs scored again by the second stage", PAIRS, whole),
    CostLine("ms per query, both stages", QUERY_MS, milliseconds),
    CostLine("parameters", "parameters", millions, "parameters"),
    CostLine("bytes of an encoded image", "bytes_per_image", whole, "bytes/image"),
    CostLine("bytes of an encoded caption", "bytes_per_caption", whole, "bytes/caption"),
    CostLine("ms per image query", "i2t_query_ms", milliseconds, "i2t ms/query"),
    CostLine("ms per caption query", "t2i_query_ms", milliseconds, "t2i ms/query"),
    CostLine("device-hours of training", "device_seconds", device_hours, "device-hours"),
    CostLine("peak memory, MiB", "peak_memory_mb", whole, "peak MiB"),
    CostLine("seconds per run", "seconds", whole),
    CostLine("share of training spent waiting for data, %", "data_wait", lambda value: tenths(100 * value)),
    CostLine("load per CPU while it was timed", "load", lambda value: f"{value:.2f}", "load"),
)


def cost_table(board: Board) -> list[list[str]]:
    """A header, then a line per ranked row and ensemble; a dash where a seed lacks a number."""
    columns = [one for one in COSTS if one.head]
    lines = [["method", *(one.head for one in columns)]]
    for row in (*board.ranked, *board.ensembles):
        cells = ["–" if isnan(row.means[one.name]) else one.form(row.means[one.name]) for one in columns]
        cells[-1] += ", shared" * row.is_timed_beside_others
        lines.append([named(row), *cells])
    return lines


def index_rows(boards: Sequence[Board]) -> list[list[str]]:
    """A header, then a line per board: its gallery, how many methods it ranks, the first of them."""
    lines = [["dataset", "protocol", "images", "captions", "rows", "first", "rsum"]]
    for board in boards:
        sizes = [f"{board.gallery[name]:,}" if name in board.gallery else ABSENT for name in ("images", "captions")]
        first = [titled(board.ranked[0]), rsum(board.ranked[0])] if board.ranked else [ABSENT, ABSENT]
        lines.append([board_title(board), board.protocol, *sizes, str(len(board.ranked)), *first])
    return lines


def rows_across(boards: Sequence[Board]) -> list[list[str]]:
    """A header, then a line per method with its rsum on every board; empty where there are fewer than two boards.

    Of several rows of a method on a board the first counts.
    Ordered by how many boards they stand on, then by their mean over these, which is shown of those that stand on all.
    """
    ranked = [board for board in boards if board.ranked]
    if len(ranked) < 2:
        return []
    cells: dict[str, dict[int, Standing]] = {}
    for column, board in enumerate(ranked):
        for row in board.ranked:
            cells.setdefault(row.method, {}).setdefault(column, row)
    means = {name: mean([own[column].means["rsum"] for column in own]) for name, own in cells.items()}
    whole = {name for name, own in cells.items() if len(own) == len(ranked)}
    names = sorted(cells, key=lambda name: (-len(cells[name]), -means[name], name))
    lines = [["method", *(f"{board_title(board)} {board.protocol}" for board in ranked), "mean"]]
    for name in names:
        own = [rsum(cells[name][column]) if column in cells[name] else ABSENT for column in range(len(ranked))]
        lines.append([name, *own, tenths(means[name]) if name in whole else ABSENT])
    return lines


def board_title(board: Board) -> str:
    """The dataset of a board; of a transfer both."""
    return f"{board.dataset} → {board.tested_on}" if board.tested_on else board.dataset


def grid(board: Board) -> list[list[str]]:
    """A header with the seeds, then a line per row of the board; empty where every trial is ranked."""
    if not (board.incomplete or board.stale or board.limited):
        return []
    rows = [(section, row) for section in SECTIONS for row in getattr(board, section)]
    seeds = sorted({run.spec.seed for _, row in rows for run in row.runs})
    lines = [["method", *(f"seed {seed}" for seed in seeds)]]
    for section, row in rows:
        states = {run.spec.seed: state_of(board, section, run) for run in row.runs}
        lines.append([label(row), *(states.get(seed, ABSENT) for seed in seeds)])
    return lines


def state_of(board: Board, section: str, run: Run) -> str:
    """How a trial stands, in a word or two."""
    if run.is_done:
        if section == "limited":
            return f"limited to {run.spec.limit}"
        return f"stale {changed_since(board.valid, run.spec)}" if section == "stale" else "done"
    match run.state:
        case State.WAITING:
            return "not run"
        case State.FAILED:
            return f"failed: {run.failure or 'no reason in the store'}"
        case State.DONE:
            return "no rsum"
    return run.state.value


def changed_since(valid: Validity, spec: TrialSpec) -> str:
    return valid.change(spec) or ("file" if is_external(spec.method) else "source")


class Measures(NamedTuple):
    of: str  # the named set of positives; empty: the split's own pairs
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def more_measures(board: Board, lists: Lists = NONE) -> list[Measures]:
    """A table per set of positives, the split's own first; `lists` is what ranks say where older runs did not."""
    rows = [all_measures(row, lists.get(place, {})) for place, row in enumerate(board.ranked)]
    sets: dict[str, list[str]] = {}
    for name in sorted({name for row in rows for name in row}, key=place_of):
        if (of := set_of(name)) is not None:
            sets.setdefault(of, []).append(name)
    return [table(board, rows, of, sets[of]) for of in sorted(sets)]


def all_measures(row: Standing, lists: Mapping[str, float]) -> dict[str, float]:
    """Every measure of a row by its column, the mean over its seeds; none that a seed lacks."""
    names = {name for run in row.runs if run.result for name in run.result.measures if Measure.parse(name)}
    values = dict(lists) | {name: value for name in names if not isnan(value := measured(row, name))}
    return dict(sorted(values.items()))


def table(board: Board, rows: Sequence[Mapping[str, float]], of: str, names: list[str]) -> Measures:
    each = zip(board.ranked, rows, strict=True)
    cells = [(label(row), *(shown(name, values.get(name, nan)) for name in names)) for row, values in each]
    return Measures(of, ("method", *map(title, names)), tuple(cells))


def set_of(name: str) -> str | None:
    """The set of positives that a measure is of; None for what is no measure or stands elsewhere on the board."""
    measure = Measure.parse(name)
    return None if measure is None or name in SHOWN else measure.of


def measured(row: Standing, name: str) -> float:
    """The mean over a row's seeds; nan where one lacks it."""
    return mean([run.numbers.get(name) for run in row.runs])


def shown(name: str, value: float) -> str:
    """A measure as a cell: a rank of thousands without its tenth."""
    measure = Measure.parse(name)
    is_long = measure is not None and measure.is_rank and value >= 1000
    return f"{value:,.0f}" if is_long else tenths(value)


def place_of(name: str) -> tuple[int, int, int, str]:
    """Sorts columns: i2t before t2i, rsum last, what is read most often first."""
    measure = Measure.parse(name)
    if measure is None or measure.direction is None:
        return len(DIRECTIONS), 0, 0, name
    kind = KINDS.index(measure.kind) if measure.kind in KINDS else len(KINDS)
    return DIRECTIONS.index(measure.direction), kind, measure.k or 0, name
