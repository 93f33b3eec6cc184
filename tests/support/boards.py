"""Boards that several tests look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from markdown_it import MarkdownIt
from sample_results import ranks_of, reports_of, result_of, spec_of

from harness.board.evidence import Assessed, assessed
from harness.board.forms import files
from harness.board.standings import Board, boards_of
from harness.config.cards import MethodCard
from harness.evaluation.records import RANKS
from harness.files import npz
from harness.tracking.columns import final_metrics, finite
from harness.tracking.runs import Run
from harness.trial.folder import EPOCHS
from harness.trial.results import EpochReport, Failure, State, TrialResult, TrialSpec


def run_of(result: TrialResult, ended: int = 2000, **changes: Any) -> Run:
    """The run that a logged result becomes."""
    run = Run(result.spec, result.state, "", result, ended - 1000, ended, metrics=finite(final_metrics(result)))
    return replace(run, **changes)


def changed(run: Run, **parts: Any) -> Run:
    """The run with other parts of its result."""
    assert run.result
    result = run.result.model_copy(update=parts)
    return replace(run, spec=result.spec, result=result, metrics=finite(final_metrics(result)))


def with_measures(run: Run, measures: Mapping[str, float | None]) -> Run:
    """The run with other measures; None takes one away."""
    assert run.result
    merged = run.result.measures | measures
    return changed(run, measures={name: value for name, value in merged.items() if value is not None})


def of_method(run: Run, method: str) -> Run:
    """The run as one of another method."""
    return changed(run, spec=run.spec.model_copy(update={"method": method}))


def unfinished(spec: TrialSpec, state: State, epoch: int = 0) -> Run:
    """A run that has no result yet."""
    return Run(spec, state, "begun", started=1000, metrics={"epoch": float(epoch)} if epoch else {})


def failed(spec: TrialSpec, failure: Failure = Failure.OOM, message: str = "") -> Run:
    """A run that has failed."""
    return run_of(result_of(spec, state=State.FAILED, failure=failure, message=message, measures={}, val={}))


def three_seeds(method: str, rsum: float, **changes: Any) -> list[Run]:
    return [run_of(result_of(spec_of(method, seed, **changes), rsum + seed)) for seed in range(3)]


def only_board(runs: Sequence[Run]) -> Board:
    (board,) = boards_of(runs, {})
    return board


def all_files(runs: Iterable[Run]) -> dict[str, bytes]:
    """The files of runs all of which have found the same."""
    kept = {RANKS: npz(**ranks_of(spec_of())), EPOCHS: b"".join(map(as_line, reports_of(spec_of())))}
    return files(assessed(runs, {}, lambda _run, name: kept.get(name)), {})


def as_line(report: EpochReport) -> bytes:
    return report.model_dump_json().encode() + b"\n"


def pages_of(runs: Iterable[Run]) -> dict[str, str]:
    """The pages of their boards."""
    return {name: page.decode() for name, page in all_files(runs).items() if "/" not in name}


def only_page(runs: Sequence[Run]) -> str:
    (page,) = pages_of(runs).values()
    return page


def html_tables(page: str) -> list[list[list[str]]]:
    """The tables of a page as a markdown renderer sees them: rows of cells."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(page)
    found: list[list[list[str]]] = []
    for place, token in enumerate(tokens):
        if token.type == "table_open":
            found.append([])
        if token.type == "tr_open":
            found[-1].append([])
        if token.type in ("td_open", "th_open"):
            children = tokens[place + 1].children or []
            assert {child.type for child in children} <= {"text", "text_special", "strong_open", "strong_close"}
            found[-1][-1].append("".join(child.content for child in children))
    return found


EMPTY = {"meta", "link", "br", "input", "img", "hr"}
HOSTILE = (
    *("<script>alert(1)</script>", "a|b", "\"' onmouseover=alert(2) x='", "{{ 7 * 7 }}"),
    *("</title></style><b>", "&amp;", "]]><!-- x"),
)
SPEEDS = {"bssan": 2e5, "caan": 1e5, "scan_t2i": 4e5, "vsepp": 5e7}
Rows = list[Run]


class Page(HTMLParser):
    """The elements of a page, each with its attributes and all text within, in the order in which they begin."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(page)
        self.close()
        assert not self.open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attrs), []))
        if tag not in EMPTY:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, _, texts in self.open:
            texts.append(data)

    def texts(self, *tags: str) -> list[str]:
        """The text of each element with one of the tags."""
        return [" ".join("".join(texts).split()) for tag, _, texts in self.elements if tag in tags]

    def lines(self) -> list[list[str]]:
        """The cells of every row of every table."""
        found: list[list[str]] = []
        for tag, _, texts in self.elements:
            if tag == "tr":
                found.append([])
            if tag in ("td", "th"):
                found[-1].append("".join(texts))
        return found


def one_of(runs: Rows, methods: dict[str, MethodCard] | None = None) -> Assessed:
    """The board of runs that have ranks of their own."""
    epochs = b"".join(map(as_line, reports_of(spec_of())))

    def kept(run: str, name: str) -> bytes | None:
        arrays = ranks_of(spec_of(seed=int(run)), worst=20 + 4 * int(run))
        return {RANKS: npz(**arrays), EPOCHS: epochs}.get(name)

    (one,) = assessed([replace(run, run_id=str(place)) for place, run in enumerate(runs)], methods or {}, kept)
    return one


def with_speed(method: str, rsum: float, speed: float | None, **environment: str) -> Rows:
    """Three seeds with a throughput, on a machine that may be another one."""
    rows = []
    for run in three_seeds(method, rsum):
        assert run.result
        cost = {name: value for name, value in run.result.cost.items() if name != "score_pairs_per_second"}
        cost |= {} if speed is None else {"score_pairs_per_second": speed}
        rows.append(changed(run, cost=cost, environment=run.result.environment | environment))
    return rows


def four() -> Rows:
    """Four methods, the slowest of which is not the best."""
    sums = {"bssan": 290.0, "caan": 260.0, "scan_t2i": 250.0, "vsepp": 200.0}
    return [run for method, rsum in sums.items() for run in with_speed(method, rsum, SPEEDS[method])]
