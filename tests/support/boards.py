"""Boards that several tests look at."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import pandas
from markdown_it import MarkdownIt
from sample_results import ranks_of, reports_of, result_of, spec_of

from harness.board.evidence import Assessed, assessed
from harness.board.forms import files
from harness.board.standings import Board, boards_of
from harness.config.cards import MethodCard
from harness.evaluation.records import RANKS
from harness.files import npz
from harness.tracking.columns import described, final_metrics, final_tags, finite
from harness.tracking.frame import typed
from harness.trial.folder import EPOCHS
from harness.trial.results import EpochReport, TrialResult


def row(result: TrialResult, ended: int = 2000, **changes: Any) -> dict[str, Any]:
    """The row that a logged result becomes."""
    ends = {"state": result.state.value, "failure": result.failure or "", "message": result.message}
    tags = {name.removeprefix("harness."): text for name, text in final_tags(result, "digest").items()}
    times = {"started": ended - 1000, "ended": ended}
    return {**described(result.spec), **tags, **ends, **finite(final_metrics(result)), **times, **changes}


def three_seeds(method: str, rsum: float, **changes: Any) -> list[dict[str, Any]]:
    return [row(result_of(spec_of(method, seed, **changes), rsum + seed)) for seed in range(3)]


def only_board(rows: Sequence[dict[str, Any]]) -> Board:
    (board,) = boards_of(typed(rows), {})
    return board


def all_files(frame: pandas.DataFrame) -> dict[str, bytes]:
    """The files of a frame all of whose runs have found the same."""
    kept = {RANKS: npz(**ranks_of(spec_of())), EPOCHS: b"".join(map(as_line, reports_of(spec_of())))}
    return files(assessed(frame, {}, lambda _run, name: kept.get(name)), {})


def as_line(report: EpochReport) -> bytes:
    return report.model_dump_json().encode() + b"\n"


def pages_of(frame: pandas.DataFrame) -> dict[str, str]:
    """The pages of its boards."""
    return {name: page.decode() for name, page in all_files(frame).items() if "/" not in name}


def only_page(rows: Sequence[dict[str, Any]]) -> str:
    (page,) = pages_of(typed(rows)).values()
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
Rows = list[dict[str, Any]]


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


def one_of(found: Rows, methods: dict[str, MethodCard] | None = None) -> Assessed:
    """The board of a frame whose runs have ranks of their own."""
    frame = typed([{**line, "run_id": str(place)} for place, line in enumerate(found)])
    epochs = b"".join(map(as_line, reports_of(spec_of())))

    def kept(run: str, name: str) -> bytes | None:
        arrays = ranks_of(spec_of(seed=int(run)), worst=20 + 4 * int(run))
        return {RANKS: npz(**arrays), EPOCHS: epochs}.get(name)

    (one,) = assessed(frame, methods or {}, kept)
    return one


def with_speed(method: str, rsum: float, speed: float | None, **changes: Any) -> Rows:
    return [{**line, "score_pairs_per_second": speed, **changes} for line in three_seeds(method, rsum)]


def four() -> Rows:
    """Four methods, the slowest of which is not the best."""
    sums = {"bssan": 290.0, "caan": 260.0, "scan_t2i": 250.0, "vsepp": 200.0}
    return [line for method, rsum in sums.items() for line in with_speed(method, rsum, SPEEDS[method])]
