"""A trial of the tracking store as a script reads it: settings, measures, epochs, ranks and top results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.api.frames import epochs_frame, results_frame, typed
from harness.board.comparison import Comparison
from harness.board.evidence import run_looks
from harness.board.export import with_records
from harness.board.markup import html_table
from harness.config.sections import Scalar, Training
from harness.diagnostics.table import Looks
from harness.errors import DataError, UsageError, count, unknown
from harness.evaluation.rankings import StoredRun, answers_of, judged
from harness.evaluation.ranks import DIRECTIONS, Direction
from harness.tracking import artifacts
from harness.tracking.result_store import ResultStore
from harness.tracking.runs import Run

if TYPE_CHECKING:
    import pandas

Ids = NDArray[np.object_]


class RankedQueries(NamedTuple):
    """Where the matches of every query stand: Q queries in order of fold and number."""

    ids: Ids  # (Q,) of an image, or IMAGE#K of its K-th caption
    folds: NDArray[np.int64]  # (Q,) from 0
    ranks: NDArray[np.int64]  # (Q,) of the best match, 1 is first
    tied: NDArray[np.bool_]  # (Q,) a wrong item has the score of the best match


class RetrievedItems(NamedTuple):
    """The first L items of every query, each match at its rank: Q queries in order of fold and number."""

    queries: Ids  # (Q,)
    folds: NDArray[np.int64]  # (Q,)
    items: Ids  # (Q, L) best first; None where nothing is known to stand
    scores: NDArray[np.float32]  # (Q, L)
    is_match: NDArray[np.bool_]  # (Q, L)


class ProjectTrial:
    """One trial, done or not."""

    def __init__(self, run: Run, store: ResultStore) -> None:
        self.run = run
        self._store = store

    @property
    def key(self) -> str:
        """16 hex digits over all that decides the result."""
        return self.run.key

    @property
    def name(self) -> str:
        """METHOD/DATASET/sSEED."""
        return self.run.label

    @property
    def state(self) -> str:
        """One of waiting, running, done, pruned, failed and interrupted."""
        return self.run.state.value

    @property
    def is_done(self) -> bool:
        """Whether it has a result to be ranked."""
        return self.run.is_done

    @property
    def message(self) -> str:
        """Why it failed; empty where it has not."""
        return self.run.message

    @property
    def settings(self) -> Mapping[str, Scalar]:
        """The method's settings."""
        return self.run.spec.settings

    @property
    def training(self) -> Training:
        """The training recipe: epochs, batch size, learning rate and so on."""
        return self.run.spec.training

    @property
    def measures(self) -> Mapping[str, float]:
        """Measures on the protocol's split; empty before it is done."""
        return self.run.result.measures if self.run.result else {}

    @property
    def cost(self) -> Mapping[str, float]:
        """Seconds, memory, speeds and parameters; empty before it has ended."""
        return self.run.result.cost if self.run.result else {}

    def epochs(self) -> pandas.DataFrame:
        """One row per epoch: loss, seconds, measures on val.

        >>> project.trial("vsepp/tiny/s0").epochs()["epoch"].to_list()
        [1, 2]
        """
        return epochs_frame(artifacts.epochs(self._store.artifact, self.run.run_id) if self.run.run_id else ())

    def ranks(self, direction: Direction) -> RankedQueries:
        """The rank of every query's best match, for `i2t` or `t2i`; DataError where the store has none.

        >>> trial = project.trial("vsepp/tiny/s0")
        >>> recall = 100 * (trial.ranks("i2t").ranks <= 5).mean()
        >>> bool(abs(recall - trial.measures["i2t_r5"]) < 1e-6)
        True
        """
        records = self._records(direction)
        answers = answers_of(direction, records.ranks)
        best = np.array([int(ranks[0]) for ranks in answers.ranks], dtype=np.int64)
        return RankedQueries(records.ids.of(direction)[0][answers.queries], answers.folds, best, answers.tied)

    def top(self, direction: Direction) -> RetrievedItems:
        """The first items of every query with scores, for `i2t` or `t2i`; DataError where the store has none.

        >>> project.trial("vsepp/tiny/s0").top("i2t").scores.shape[0]
        8
        """
        records = self._records(direction)
        if records.rankings is None:
            raise DataError(f"the tracking store has no rankings of {self.name}; run it again with force")
        top, is_match = judged(direction, records.ranks, records.rankings.top[direction])
        queries, items = records.ids.of(direction)
        known = items[top.results]
        known[top.results < 0] = None
        return RetrievedItems(queries[top.queries], top.folds, known, top.scores, is_match)

    def looks(self) -> Looks:
        """Further looks at the same scores, never ranked: hubness from its rankings, and what was kept with them.

        Empty where the store has neither. Category-level mAP is kept where the dataset has labels; of an older trial it
        is not: `Project.look` makes its scores again.
        """
        return run_looks(self._store.artifact, self.run.run_id)

    def _records(self, direction: Direction) -> StoredRun:
        if direction not in DIRECTIONS:
            raise UsageError(unknown("direction", direction, DIRECTIONS))
        read, run_id = self._store.artifact, self.run.run_id
        ranks = artifacts.ranks(read, run_id, ties=True) if self.is_done else None
        if ranks is None:
            raise DataError(
                f"the tracking store has no usable ranks of {self.name}, which is {self.state}; run it again"
            )
        return with_records(self.run, ranks, artifacts.rankings(read, run_id, scores=True))

    def _repr_html_(self) -> str:
        """The trial as a notebook shows it."""
        return Trials([self])._repr_html_()

    def __repr__(self) -> str:
        """The trial on one line."""
        rsum = self.measures.get("rsum")
        end = self.message if rsum is None else f"rsum {rsum:.1f}"
        return f"<trial {' '.join(filter(None, [self.name, self.key, self.state, end]))}>"


class Trials(list[ProjectTrial]):
    """Trials in the order of a plan or of the store: a list, which a notebook shows as a table."""

    def frame(self) -> pandas.DataFrame:
        """One row per trial, with the columns of `Project.results`."""
        return results_frame(trial.run for trial in self)

    def _repr_html_(self) -> str:
        head = ("trial", "protocol", "state", "rsum", "i2t R@1", "t2i R@1", "key", "message")
        return html_table(count(len(self), "trial"), head, map(cells_of, self))


class Comparisons(list[Comparison]):
    """The same two rows on each of their boards, or two trials alone: a list, which a notebook shows as tables."""

    def frame(self) -> pandas.DataFrame:
        """One row per board: both rows, their rsum, the difference with its interval, and what that means."""
        return typed(
            {
                **{"board": one.board, "first": one.sides[0].name, "second": one.sides[1].name},
                **{"first_rsum": one.means[0][-1], "second_rsum": one.means[1][-1], "difference": one.difference},
                **{"low": one.interval[0], "high": one.interval[1], "p": one.p, "verdict": one.verdict},
            }
            for one in self
        )

    def _repr_html_(self) -> str:
        return "".join(one._repr_html_() for one in self)


def cells_of(trial: ProjectTrial) -> tuple[str, ...]:
    """A trial as a row of text."""
    numbers = (trial.measures.get(name) for name in ("rsum", "i2t_r1", "t2i_r1"))
    shown = ("–" if number is None else f"{number:.1f}" for number in numbers)
    return trial.name, trial.run.spec.protocol, trial.state, *shown, trial.key, trial.message
