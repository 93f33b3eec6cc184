"""Two rows of a board, or two runs, side by side: by how much they differ, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb, isnan

import numpy as np

from harness.board.cells import label, probability, tenths
from harness.board.evidence import Load, comparable
from harness.board.markup import html_table
from harness.board.standings import Board, Standing
from harness.errors import DataError, UsageError, unknown
from harness.evaluation.measures import title
from harness.evaluation.queries import Hits, recalls
from harness.evaluation.statistics import LEVEL, differ_significantly, differences, is_tested, resampled
from harness.tracking.naming import date, of_run, run_named, short_recipe
from harness.tracking.runs import SHORTEST, Run
from harness.trial.results import HEADLINE

SAME = (
    "dataset",
    "protocol",
    "tested_on",
    "protocol_version",
    "data_fingerprint",
    "test_fingerprint",
    "limit",
)  # what two runs must share


@dataclass(frozen=True)
class Side:
    """A row with the runs of its seeds, or one run."""

    name: str
    runs: tuple[str, ...]
    is_tested: bool = True


@dataclass(frozen=True, repr=False)
class Comparison:
    board: str  # dataset/protocol
    sides: tuple[Side, Side]
    means: tuple[tuple[float, ...], tuple[float, ...]]  # of HEADLINE
    interval: tuple[float, float]  # of the difference of rsum, by image, 95 %
    p: float  # nan: nothing can be said
    least: float  # no smaller difference would have been significant
    is_significant: bool  # as the board says, which corrects for all its pairs
    runs_only: bool  # of these very runs: other seeds are not in it

    @property
    def difference(self) -> float:
        return self.means[0][-1] - self.means[1][-1]

    @property
    def verdict(self) -> str:
        which = "runs" if self.runs_only else "methods"
        if isnan(self.p):
            return f"not tested: {self.untested}; give two runs to compare these models alone"
        if self.p >= LEVEL:
            least = tenths(self.least)
            return (
                f"the {which} do not differ significantly; no difference below {least} rsum would have been significant"
            )
        if not self.is_significant:
            among = "among all pairs of the board (Benjamini and Hochberg)"
            return f"the methods do not differ significantly {among}, only as a pair alone"
        better, worse = self.sides if self.difference > 0 else self.sides[::-1]
        of = " as they were trained; other seeds may differ" if self.runs_only else ""
        return f"{better.name} is better than {worse.name}{of}"

    @property
    def outcome(self) -> str:
        """The difference of rsum with its interval and p, in words."""
        low, high = self.interval
        return f"rsum {self.difference:+.1f}, 95 % by image {low:+.1f} to {high:+.1f}; p {probability(self.p)}"

    def __repr__(self) -> str:
        """The comparison on one line."""
        first, second = (side.name for side in self.sides)
        return f"<{first} and {second} on {self.board}: {self.outcome}; {self.verdict}>"

    def _repr_html_(self) -> str:
        """The comparison as a notebook shows it."""
        first, second = (side.name for side in self.sides)
        return html_table(
            self.board,
            ("", first, second, "difference"),
            [
                (title(name), tenths(mine), tenths(other), f"{mine - other:+.1f}")
                for name, mine, other in zip(HEADLINE, *self.means, strict=True)
            ],
            (self.outcome, self.verdict),
        )

    @property
    def untested(self) -> str:
        """Which rows cannot be tested, and why."""
        names = " and ".join(side.name for side in self.sides if not side.is_tested)
        return f"{names}: other seeds may move rsum by several points, and fewer than two that differ were run"


def comparisons(runs: Sequence[Run], boards: Sequence[Board], names: Sequence[str], load: Load) -> list[Comparison]:
    """Two rows on every board that has both, or two runs; UsageError for other names, DataError for lost ranks."""
    rows = [(board, [side for name in names if (side := row_of(board, name))]) for board in boards]
    for _, sides in rows:
        check_differ(sides, names)
    if results := [compared_rows(board, sides, load) for board, sides in rows if len(sides) == len(names)]:
        return results
    single = [run for name in names if (run := run_named(runs, name))]
    if len(single) < len(names):
        mixed = f"{names[0]} and {names[1]} are a row and a run; give two rows or two runs"
        raise UsageError(mixed if single and any(sides for _, sides in rows) else missing(boards, names))
    check_same(single)
    check_differ(single, names)
    sides = [Side(run.short_name, (run.run_id,)) for run in single]
    return [compared(f"{single[0].spec.dataset}/{single[0].spec.protocol}", sides, load, runs_only=True)]


def check_differ(sides: Sequence[Side | Run], names: Sequence[str]) -> None:
    """UsageError where two names mean the same row or run."""
    if len(sides) == 2 and sides[0] == sides[1]:
        kind = "run" if isinstance(sides[0], Run) else "row"
        raise UsageError(f"{names[0]} and {names[1]} are one {kind}; give two that differ")


def compared_rows(board: Board, sides: Sequence[Side], load: Load) -> Comparison:
    """Two rows compared as the board compares them."""
    alone = compared(f"{board.dataset}/{board.protocol}", sides, load, runs_only=False)
    return replace(alone, is_significant=alone.p < LEVEL and is_significant(board, alone, load))


def is_significant(board: Board, alone: Comparison, load: Load) -> bool:
    """Whether two rows differ among all pairs of their board; other rows are read only where they decide that.

    An ensemble is in no pair of the board: with one, the pair alone counts.
    """
    if {side.runs for side in alone.sides} & {row.run_ids for row in board.ensembles}:
        return True
    several = sum(row.n > 1 for row in board.ranked)
    if alone.p * comb(several, 2) < LEVEL:  # then it differs, whatever p the other pairs have
        return True
    hits = {place: [load(run) for run in row.run_ids] for place, row in enumerate(board.ranked)}
    rows = comparable({place: [one for one in row if one] for place, row in hits.items() if all(row)})
    sides = {side.runs for side in alone.sides}
    places = [place for place, row in enumerate(rows) if board.ranked[row].run_ids in sides]
    return len(places) == 2 and differ_significantly([*rows.values()], places[0], places[1])


def compared(board: str, sides: Sequence[Side], load: Load, runs_only: bool) -> Comparison:
    rows = [loaded(side, load) for side in sides]
    (difference,) = differences(rows, retrained=not runs_only)
    sums = resampled(rows)
    low, high = np.quantile(sums[:, 0] - sums[:, 1], [LEVEL / 2, 1 - LEVEL / 2])
    first, second = (measures(row) for row in rows)
    marked = [replace(side, is_tested=is_tested(row)) for side, row in zip(sides, rows, strict=True)]
    return Comparison(
        board=board,
        sides=(marked[0], marked[1]),
        means=(first, second),
        interval=(float(low), float(high)),
        p=difference.p,
        least=difference.least,
        is_significant=difference.p < LEVEL,
        runs_only=runs_only,
    )


def loaded(side: Side, load: Load) -> list[Hits]:
    hits = [own for run in side.runs if (own := load(run))]
    if len(hits) < len(side.runs):
        raise DataError(f"the tracking store has no usable ranks of {side.name}; run it again with --force")
    return hits


def measures(row: Sequence[Hits]) -> tuple[float, ...]:
    """The mean recalls of runs, and their sum."""
    mean = np.mean([recalls(hits).ravel() for hits in row], axis=0)
    return (*map(float, mean), float(mean.sum()))


def row_of(board: Board, name: str) -> Side | None:
    """A ranked row or an ensemble by its method, or by its whole label where a method has several recipes."""
    rows = [row for row in (*board.ranked, *board.ensembles) if name in (row.method, label(row))]
    exact = [row for row in rows if label(row) == name] or rows
    if len(exact) > 1:
        labels = ", ".join(repr(label(row)) for row in exact)
        listed = "".join(f"\n  {label(row)}: {about(row)}" for row in exact)
        where = f"{board.dataset}/{board.protocol}"
        raise UsageError(f"{name} has several rows on {where}; name one of {labels}{listed}")
    return Side(f"{label(exact[0])} (n = {exact[0].n})", exact[0].run_ids) if exact else None


def about(row: Standing) -> str:
    """Which runs a row has, for a reader who must choose among rows."""
    last = of_run(max(row.done, key=lambda run: run.ended or 0))
    keys = ", ".join(run.key for run in row.done)
    return f"recipe {short_recipe(last.spec)}, rsum {tenths(row.means['rsum'])}, n = {row.n}, {date(last)}, keys {keys}"


def check_same(runs: Sequence[Run]) -> None:
    """UsageError where two runs have not answered the same queries."""
    for name in SAME:
        first, second = (getattr(run.spec, name) for run in runs)
        if first != second:
            raise UsageError(f"the runs cannot be compared: {name.replace('_', ' ')} {first} and {second}")


def missing(boards: Sequence[Board], names: Sequence[str]) -> str:
    """Which name is not known, or that the two never meet."""
    rows = [row for board in boards for row in (*board.ranked, *board.ensembles)]
    known = {text for row in rows for text in (row.method, label(row))}
    for name in names:
        if name not in known:
            named = f"or name a run: METHOD/DATASET/sSEED, or {SHORTEST} characters or more of its key or id"
            return f"{unknown('row', name, known)}; {named}"
    return f"{' and '.join(names)} are ranked on no common board"
