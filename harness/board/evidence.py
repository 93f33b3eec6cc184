"""How sure a board can be: what the ranks of its rows' runs say, where the tracking store still has them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import NamedTuple

import numpy as np

from harness.board.standings import UNKNOWN, Board, Standing, boards_of
from harness.config.cards import MethodCard
from harness.diagnostics.hubness import hubness
from harness.diagnostics.looks import LOOKS, StoredLooks
from harness.diagnostics.table import Looks, looks_of, mean_looks
from harness.evaluation.measures import means
from harness.evaluation.queries import Floats, Hardest, Hits, hardest, hits_of, lists, profile, queries
from harness.evaluation.ranks import DIRECTIONS
from harness.evaluation.records import RANKINGS, RANKS, TrialRankings, TrialRanks
from harness.evaluation.statistics import Difference, differences, intervals
from harness.tracking import artifacts
from harness.tracking.artifacts import Read
from harness.tracking.result_store import ResultStore
from harness.tracking.runs import Run
from harness.trial.folder import EPOCHS
from harness.trial.results import Current

ARTIFACTS = (EPOCHS, RANKS, RANKINGS, LOOKS)  # the files of a run that evidence is from
LISTED = "i2t_map_r"  # a measure of whole lists, which runs of earlier versions lack
Load = Callable[[str], Hits | None]  # of a run, by its id in the store
Ends = tuple[float, float]


class LearningCurve(NamedTuple):
    seed: int
    points: tuple[tuple[int, float], ...]  # epoch, val rsum


@dataclass(frozen=True)
class Evidence:
    """Of the ranked rows of a board, by their place from 0; a row whose ranks are gone has none."""

    intervals: Mapping[int, Ends] = field(default_factory=dict)  # of rsum, 95 %
    groups: Mapping[int, str] = field(default_factory=dict)  # numbers of the rows that do not differ significantly
    differences: Sequence[Difference] = ()
    leading: Difference | None = None  # the first pair of trained rows that is tested
    lost: frozenset[int] = frozenset()  # rows that the store has no ranks of
    recalls: Mapping[int, tuple[Ends, ...]] = field(default_factory=dict)  # of the six, as RECALLS names them, 95 %
    profiles: Mapping[int, Floats] = field(default_factory=dict)  # (2, 100) i2t and t2i R@1 to R@100, mean over seeds
    lists: Mapping[int, Mapping[str, float]] = field(default_factory=dict)  # mAP@R and its like, where runs lack them
    hardest: Mapping[int, Hardest] = field(default_factory=dict)
    curves: Mapping[int, tuple[LearningCurve, ...]] = field(default_factory=dict)  # rows all of whose epochs are there
    looks: Mapping[int, Looks] = field(default_factory=dict)  # hubness and its like, means over seeds; never ranked
    ensembles: Evidence | None = None  # of the board's ensembles, by their place among them; none is tested

    @property
    def of_ensembles(self) -> Evidence:
        return self.ensembles or Evidence()

    @property
    def is_testable(self) -> bool:
        """Whether any difference can be tested: two rows have several seeds."""
        return any(pair.is_tested for pair in self.differences)

    @property
    def least(self) -> float:
        """The smallest difference of the leading rows that can be significant; nan where they are not tested."""
        return self.leading.least if self.leading else nan


class Assessed(NamedTuple):
    board: Board
    evidence: Evidence

    @property
    def of_ensembles(self) -> Assessed:
        """The ensembles alone, as if they were ranked."""
        return Assessed(self.board.of_ensembles, self.evidence.of_ensembles)


class RowEvidence(NamedTuple):
    hits: Sequence[Hits]  # of each run
    profile: Floats
    lists: Mapping[str, float]
    hardest: Hardest | None  # None where the runs have not answered the same queries
    looks: Looks


def assessed(
    runs: Iterable[Run], methods: Mapping[str, MethodCard], read: Read, current: Current = UNKNOWN
) -> list[Assessed]:
    return [Assessed(board, evidence(board, read)) for board in boards_of(runs, methods, current)]


def evidence(board: Board, read: Read) -> Evidence:
    """The evidence of the ranked rows, and apart from them that of the ensembles, which have no groups."""
    own = evidence_of(board, read)
    if not board.ensembles:
        return own
    apart = replace(evidence_of(board.of_ensembles, read), groups={}, differences=(), leading=None)
    return replace(own, ensembles=apart)


def evidence_of(board: Board, read: Read) -> Evidence:
    runs = {place: own for place, row in enumerate(board.ranked) if (own := row_evidence(row, read))}
    rows = comparable({place: row.hits for place, row in runs.items()})
    lost = frozenset({*range(len(board.ranked))} - rows.keys())
    curves = {place: lines for place, row in enumerate(board.ranked) if (lines := curves_of(row, read))}
    if not rows:
        return Evidence(lost=lost, curves=curves)
    places, hits = [*rows], [*rows.values()]
    bounds = [[(float(low), float(high)) for low, high in row] for row in intervals(hits)]
    pairs = tested(rows)
    groups = groups_of(pairs)
    return Evidence(
        intervals={place: ends[-1] for place, ends in zip(places, bounds, strict=True)},
        groups={place: numbers(alike, groups) for place, alike in groups.items()},
        differences=pairs,
        leading=next((pair for pair in pairs if pair.is_tested and are_trained(board, pair)), None),
        lost=lost,
        recalls={place: tuple(ends[:-1]) for place, ends in zip(places, bounds, strict=True)},
        profiles={place: runs[place].profile for place in places},
        lists={place: runs[place].lists for place in places},
        hardest={place: hard for place in places if (hard := runs[place].hardest)},
        curves=curves,
        looks={place: runs[place].looks for place in places},
    )


def comparable(rows: Mapping[int, Sequence[Hits]]) -> dict[int, Sequence[Hits]]:
    """The rows that have answered the same queries as most: ranks of another origin count as lost."""
    groups: dict[tuple[bytes, bytes], dict[int, Sequence[Hits]]] = {}
    for place, row in rows.items():
        queries = {(hits.folds.tobytes(), hits.queries.tobytes()) for hits in row}
        if len(queries) == 1:
            groups.setdefault(queries.pop(), {})[place] = row
    return max(groups.values(), key=len, default={})


def tested(rows: Mapping[int, Sequence[Hits]]) -> list[Difference]:
    """Every two rows of a board compared, by their places."""
    places = [*rows]
    pairs = differences([*rows.values()])
    return [pair._replace(first=places[pair.first], second=places[pair.second]) for pair in pairs]


def groups_of(pairs: Sequence[Difference]) -> dict[int, set[int]]:
    """For each row in a tested pair the rows that do not differ significantly from it, and itself."""
    groups: dict[int, set[int]] = {}
    for pair in (pair for pair in pairs if pair.is_tested):
        for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
            groups.setdefault(one, {one}).update(() if pair.is_significant else {other})
    return dict(sorted(groups.items()))


def numbers(group: Collection[int], tested: Iterable[int]) -> str:
    """The rows of a group by their numbers on the board, as in 1–3, 5; a range passes over rows that are not tested."""
    spans: list[list[int]] = [[]]
    for place in tested:
        if place in group:
            spans[-1].append(place + 1)
        elif spans[-1]:
            spans.append([])
    return ", ".join(str(span[0]) if len(span) == 1 else f"{span[0]}–{span[-1]}" for span in spans if span)


def are_trained(board: Board, pair: Difference) -> bool:
    """Whether neither row of a pair is an untrained baseline; what was trained elsewhere is none."""
    rows = (board.ranked[place] for place in (pair.first, pair.second))
    return all(row.remark or not row.is_untrained for row in rows)


def row_evidence(row: Standing, read: Read) -> RowEvidence | None:
    """What the ranks of a row's runs say; None where those of any run are gone or damaged."""
    ranks: list[TrialRanks] = []
    for run in row.run_ids:
        if (own := artifacts.ranks(read, run)) is None:
            return None
        ranks.append(own)
    runs = [{direction: queries(own, direction) for direction in DIRECTIONS} for own in ranks]
    first = runs[0]
    same = all(np.array_equal(run[way].numbers, first[way].numbers) for run in runs for way in DIRECTIONS)
    each = [] if all(LISTED in run.numbers for run in row.runs) else [lists(own) for own in ranks]
    rankings = [artifacts.rankings(read, run, scores=True) for run in row.run_ids]
    files = zip(row.run_ids, ranks, rankings, strict=True)
    looks = [looks_at(own, heads, artifacts.looks(read, run)) for run, own, heads in files]
    return RowEvidence(
        hits=[hits_of(own) for own in ranks],
        profile=np.mean([[profile(run[direction]) for direction in DIRECTIONS] for run in runs], axis=0),
        lists=means(each) if each else {},
        hardest=hardest(runs, ranks[0], rankings[0]) if same else None,
        looks=mean_looks(looks),
    )


def looks_at(ranks: TrialRanks | None, rankings: TrialRankings | None, stored: StoredLooks) -> Looks:
    """The further looks at a run, as far as its files are there."""
    return looks_of(hubness(ranks, rankings) if ranks and rankings else None, stored)


def run_looks(read: Read, run: str) -> Looks:
    """The further looks at a run, by its id."""
    rankings = artifacts.rankings(read, run, scores=True)
    return looks_at(artifacts.ranks(read, run), rankings, artifacts.looks(read, run))


def curves_of(row: Standing, read: Read) -> tuple[LearningCurve, ...]:
    """The learning curves of a row; none where those of any run are gone, or nothing was trained."""
    curves = []
    for seed, run in zip(row.seeds, row.run_ids, strict=True):
        epochs = [one for one in artifacts.epochs(read, run) if one.epoch and "rsum" in one.val]
        curves.append(LearningCurve(seed, tuple((one.epoch, one.val["rsum"]) for one in epochs)))
    common = set.intersection(*({epoch for epoch, _ in curve.points} for curve in curves))
    return tuple(curves) if common else ()


def hits(store: ResultStore, run_id: str) -> Hits | None:
    """The hits of a run, from the ranks that the store has of it; None where they are gone or damaged."""
    ranks = artifacts.ranks(store.artifact, run_id)
    return hits_of(ranks) if ranks else None
