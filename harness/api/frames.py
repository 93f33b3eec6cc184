"""Frames of pandas: typed, one row per trial or per row of a board."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.board.cells import notes
from harness.board.evidence import Assessed
from harness.board.forms import flat, placed
from harness.config.cards import DatasetCard, MethodCard
from harness.tracking.runs import Run
from harness.trial.results import HEADLINE, EpochReport

if TYPE_CHECKING:
    import pandas

IDENTITY = ("name", "method", "dataset", "protocol", "seed", "state")  # first columns of a frame of trials
RETRIEVED = ("rank", "item", "score")  # columns of a frame of retrieved items
TIMES = ("started", "ended")  # ms since the epoch in the store


def typed(lines: Iterable[Mapping[str, Any]], first: Iterable[str] = ()) -> pandas.DataFrame:
    """Lines as a frame whose columns have the narrowest type that holds them, `first` before the others."""
    import pandas

    frame = pandas.DataFrame.from_records([*map(dict, lines)])
    for name in frame.columns.intersection(TIMES):
        frame[name] = pandas.to_datetime(frame[name], unit="ms", utc=True)
    columns = [*(name for name in first if name in frame), *frame.columns.difference([*first], sort=False)]
    return frame[columns].convert_dtypes()


def results_frame(runs: Iterable[Run]) -> pandas.DataFrame:
    """One row per trial: its identity, settings, measures, costs, environment and times."""
    return typed((trial_line(run) for run in runs), (*IDENTITY, *HEADLINE))


def trial_line(run: Run) -> dict[str, Any]:
    """A trial as values of their own types: the store has settings as text."""
    spec, line = run.spec, flat(run)
    line["name"] = line.pop("label")
    line |= {f"settings.{name}": value for name, value in spec.settings.items()}
    return line | {f"training.{name}": value for name, value in spec.training.model_dump().items()}


def board_frame(one: Assessed) -> pandas.DataFrame:
    """One row per row of a board, ranked ones first: means over seeds, interval of rsum, group, what it must say."""
    return typed(
        {
            **at.position,
            **{"method": at.row.method, "recipe": at.row.recipe, "n": at.row.n, "seeds": list(at.row.seeds)},
            **at.row.means,
            **{"sd": at.row.sd, "notes": "; ".join(notes(one.board, at.row)), "command": at.row.command},
        }
        for at in placed(one)
    )


def epochs_frame(reports: Iterable[EpochReport]) -> pandas.DataFrame:
    """One row per epoch: loss, learning rate, seconds, measures on val as `val_rsum`."""
    lines = (
        {
            **report.model_dump(include={"epoch", "loss", "lr", "seconds", "pairs_per_second", "data_wait"}),
            **{f"val_{name}": value for name, value in report.val.items()},
        }
        for report in reports
    )
    return typed(lines, ("epoch",))


def retrieved_frame(hits: Iterable[tuple[int, str, float]]) -> pandas.DataFrame:
    """One row per retrieved item, the best first: its rank, the item, its score."""
    import pandas

    frame = pandas.DataFrame.from_records([*hits], columns=RETRIEVED)
    return frame.astype({"rank": "int64", "item": "string", "score": "float32"})


def methods_frame(cards: Iterable[MethodCard]) -> pandas.DataFrame:
    """One row per method."""
    return typed(
        {
            **{"name": card.name, "scoring": card.scoring, "fidelity": card.fidelity},
            **{"venue": card.paper.venue if card.paper else None, "year": card.paper.year if card.paper else None},
            **{"title": card.title, "summary": card.summary},
        }
        for card in cards
    )


def datasets_frame(cards: Iterable[DatasetCard]) -> pandas.DataFrame:
    """One row per protocol of each dataset."""
    return typed(
        {
            **{"name": card.name, "protocol": protocol.name, "split": protocol.split, "images": protocol.images},
            **{"captions": protocol.captions, "folds": protocol.folds, "title": card.title},
        }
        for card in cards
        for protocol in card.protocols
    )
