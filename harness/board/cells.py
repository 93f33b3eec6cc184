"""Boards as cells of text, for the terminal and every page. Pure: no clock, no path, the same from the same runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isnan
from pathlib import Path

from harness.board.evidence import Evidence
from harness.board.published import beside
from harness.board.standings import SPENT, Board, Standing
from harness.board.validity import TRAINING, default_training
from harness.config.cards import MethodCard
from harness.evaluation.measures import title
from harness.evaluation.statistics import LEVEL
from harness.files import safe_name
from harness.trial.results import RECALLS, UNKNOWN_WORDS

Methods = Mapping[str, MethodCard]
TIED = 0.05  # percent of queries from which ties are worth a note


def file_name(dataset: str, protocol: str, suffix: str = "md") -> str:
    """`<dataset>-<protocol>.<suffix>`, without anything that leads out of its folder."""
    return f"{safe_name(f'{dataset}-{protocol}')}.{suffix}"


def folder_name(board: Board) -> str:
    """The folder beside a board's file that has its plots and the pages of its rows."""
    return Path(file_name(board.dataset, board.protocol)).stem


def search_name(campaign: str) -> str:
    return f"search-{safe_name(campaign)}"


VAL = "val rsum"
OTHERWISE = "; a row that was trained otherwise names the difference behind its name"
MARK = "*"  # at an R@K that says nothing
SETTINGS = "settings from"  # a column where any are from a search, or not those of the paper
DEFAULT = "default"  # settings that the card has
PUBLISHED = "published"  # a column where any paper's number compares
HEADER = (
    *("#", "method", "n", "rsum", "95 %", "group"),
    *map(title, RECALLS),
    *(VAL, "train pairs/s", "score pairs/s", "parameters", "notes"),
)
MEANINGS = {  # of columns, for whoever points at their heads; a page says more below
    "#": "place by mean rsum",
    "n": "seeds",
    "rsum": "the six R@K added, mean over seeds ± standard deviation over seeds",
    "95 %": "interval of rsum over test images; the spread over seeds is not in it",
    "group": "the rows, by their numbers, that do not differ significantly from this one; – is not tested",
    **{title(f"i2t_r{k}"): f"percent of images with a caption of theirs among the first {k}" for k in (1, 5, 10)},
    **{title(f"t2i_r{k}"): f"percent of captions with their image among the first {k}" for k in (1, 5, 10)},
    VAL: "rsum on val of the epoch that was chosen; galleries of other sizes do not compare",
    "train pairs/s": "matching pairs trained per second",
    "score pairs/s": "image-caption pairs scored per second, encoding not included",
    "parameters": "trainable numbers",
    SETTINGS: "default: as on the card; else what differs, with the card's value in brackets",
    PUBLISHED: "the paper's rsum, our difference, and whether ours reproduces it",
}
SINGLE = ("#", "group", VAL)  # columns of single models alone: ensembles are not ranked, and none is scored on val
STATED = ("epochs", "batch_size", "optimizer", "lr")  # of a board's recipe, by default or not
LEFT = ("method", "rsum", "group", "notes", SETTINGS, PUBLISHED)


def header(board: Board, methods: Methods) -> tuple[str, ...]:
    more = [SETTINGS] if board.is_configured else []
    return (*HEADER, *more, *([PUBLISHED] if papers_numbers(board, methods) else []))


def headings(board: Board, names: Iterable[str]) -> list[str]:
    """Columns as a reader sees them: val with the size of its gallery, and a mark at an R@K that says nothing."""
    saturated = {title(name) for name in board.saturated}
    val = {VAL: f"{VAL}, {board.val_images:,} images"} if board.val_images else {}
    return [val.get(name, f"{name}{MARK}" if name in saturated else name) for name in names]


def saturation(board: Board) -> str:
    """What the mark at an R@K means; empty where no column has it."""
    if not board.saturated:
        return ""
    names = ", ".join(map(title, board.saturated))
    why = "fewer than K wrong answers are in this gallery"
    return f"{MARK} {why}: {names} is 100 whatever the scores, and is part of rsum."


def unknown_words(row: Standing) -> list[str]:
    """`2.6 % of the words unknown`: of a transfer the words that its training had not, empty where there are none."""
    said = row.done[0].environment.get(UNKNOWN_WORDS, "") if row.done else ""
    unknown, _, words = said.partition(" of ")
    share = 100 * int(unknown) / int(words) if unknown.isdecimal() and words.isdecimal() and int(words) else 0.0
    return [f"{share:.1f} % of the words unknown"] if share else []


def recipe(board: Board) -> str:
    """How the rows of a board were trained, empty where none was.

    Named are what people ask for first, what this dataset wants otherwise, and what is not its default.
    """
    if not board.training:
        return ""
    own = {name.removeprefix(TRAINING): text for name, text in board.training.items()}
    usual, plain = (
        {name.removeprefix(TRAINING): text for name, text in default_training(dataset).items()}
        for dataset in (board.dataset, "")
    )
    unusual = {name for name in usual if own.get(name, usual[name]) != usual[name]}
    wanted = {name for name in usual if usual[name] != plain[name]}
    names = [*STATED, *(name for name in own if name in unusual | wanted and name not in STATED)]
    texts = [f"{name} {own[name]}" + f" (default {usual.get(name)})" * (name in unusual) for name in names]
    is_other = any(TRAINING in row.differs for row in board.ranked)
    return ", ".join([*texts, "all else by default"]) + OTHERWISE * is_other


def rows(board: Board, evidence: Evidence, methods: Methods) -> list[list[str]]:
    papers = papers_numbers(board, methods)
    return [
        [*cells(board, evidence, place, row), *([papers.get(place, "")] if papers else [])]
        for place, row in enumerate(board.ranked)
    ]


def papers_numbers(board: Board, methods: Methods) -> dict[int, str]:
    """The numbers of papers that compare with ranked rows, by the rows' places, each with its verdict."""
    numbers: dict[int, list[str]] = {}
    for one in beside(board, methods):
        if one.is_papers and not one.reported.apart:
            text = f"{tenths(one.reported.rsum)} ({one.difference:+.1f}, {one.short_verdict})"
            numbers.setdefault(one.place, []).append(text)
    return {place: "; ".join(texts) for place, texts in numbers.items()}


def ensemble_header(board: Board) -> list[str]:
    return headings(board, (name for name in HEADER if name not in SINGLE))


def ensemble_rows(board: Board, evidence: Evidence) -> list[list[str]]:
    """The ensembles of a board as cells under their own header."""
    return [[*line.values()] for line in ensemble_cells(board, evidence)]


def ensemble_cells(board: Board, evidence: Evidence) -> list[dict[str, str]]:
    """The cells of each ensemble by their column, without those of single models alone."""
    each = enumerate(board.ensembles)
    lines = [zip(HEADER, cells(board, evidence.of_ensembles, place, row), strict=False) for place, row in each]
    return [{name: text for name, text in line if name not in SINGLE} for line in lines]


def cells(board: Board, evidence: Evidence, place: int, row: Standing) -> list[str]:
    return [
        *(str(place + 1), titled(row), str(row.n)),
        rsum(row),
        " to ".join(map(tenths, evidence.intervals.get(place, ()))) or "–",
        evidence.groups.get(place, "–"),
        *(tenths(row.means[name]) for name in RECALLS),
        tenths(row.means["best_val_rsum"]),
        *(rate(row.means[f"{name}_pairs_per_second"]) for name in ("train", "score")),
        millions(row.means["parameters"]),
        "; ".join([*notes(board, row), *(["no usable ranks in the store"] if place in evidence.lost else [])]),
        *([origin(row)] if board.is_configured else []),
    ]


def pairs(board: Board, evidence: Evidence) -> list[list[str]]:
    return [
        [
            *(label(board.ranked[one.first]), label(board.ranked[one.second])),
            *(f"{one.rsum:+.1f}", probability(one.p), probability(one.adjusted), tenths(one.least)),
        ]
        for one in evidence.differences
    ]


def published(board: Board, methods: Methods, place: int | None = None) -> list[list[str]]:
    """Ranked rows and then ensembles, or the ranked row at a place, beside the numbers of their papers."""
    return [
        [
            *(label(part.ranked[one.place]), tenths(one.rsum), tenths(one.reported.rsum), f"{one.difference:+.1f}"),
            *(one.verdict, f"{' '.join(map(tenths, one.reported.i2t))} / {' '.join(map(tenths, one.reported.t2i))}"),
            one.reported.remarks,
        ]
        for part in ((board, board.of_ensembles) if place is None else (board,))
        for one in beside(part, methods)
        if place is None or one.place == place
    ]


def probability(value: float) -> str:
    """A probability in three digits, in more where these would put it on the other side of the level of tests."""
    if isnan(value) or value < 0.001:
        return "–" if isnan(value) else "< 0.001"
    texts = (f"{value:.{digits}f}" for digits in range(3, 20))
    return next(text for text in texts if (float(text) < LEVEL) == (value < LEVEL))


def rsum(row: Standing) -> str:
    return tenths(row.means["rsum"]) + ("" if isnan(row.sd) else f" ± {tenths(row.sd)}")


def origin(row: Standing) -> str:
    """Where the settings of a row come from, and which are not those of its paper."""
    unlike = [f"not the paper's: {', '.join(row.unlike_paper)}"] if row.unlike_paper else []
    return "; ".join([spent(row), *unlike] if row.search else unlike or [DEFAULT])


def spent(row: Standing) -> str:
    trials, epochs, seconds, device = (row.search[name] for name in SPENT)
    cost = f"{trials:.0f} trials, {epochs:.0f} epochs, {hours(seconds)} h, {hours(device)} device h"
    return f"search {row.campaign}: {cost}"


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}"


def label(row: Standing) -> str:
    return f"{row.method} ({row.differs})" if row.differs else row.method


def titled(row: Standing) -> str:
    """The label of a row, which also says where its method was rebuilt without all of its paper, or never trained."""
    return f"{label(row)}, {row.mark}" if row.mark else label(row)


def named(row: Standing) -> str:
    """The title of a row outside of the section of ensembles, where it also says that it is one."""
    return f"{titled(row)}, {row.kind}" if row.kind else titled(row)


def notes(board: Board, row: Standing) -> list[str]:
    lines = ["n = 1"] if row.n == 1 else []
    lines += [row.remark] if row.remark else []
    lines += unknown_words(row)
    lines += [f"not the paper's: {', '.join(row.unlike_paper)}"] if row.is_composite and row.unlike_paper else []
    lines += [noise] if (noise := row.noise) else []
    lines += [verified(row)] if row.verified else []
    lines += precisions(row)
    lines += ["uncommitted changes"] if row.dirty else []
    lines += ["smaller search budget than others"] if board.is_unequal(row) else []
    lines += on_machines(board, row)
    lines += ["timed beside others"] if row.is_timed_beside_others else []
    ties = {"i2t": row.means["i2t_tied"], "t2i": row.means["t2i_tied"]}
    lines += [f"{way} ties {tenths(share)} %" for way, share in ties.items() if share >= TIED]
    return lines


def on_machines(board: Board, row: Standing) -> list[str]:
    """The machines of a row by their numbers, where the board has several; a row that is not ranked may have others."""
    if not row.machines or len(board.machines) < 2:
        return []
    numbers = [str(number) for number, name in enumerate(board.machines, start=1) if name in row.machines]
    own = [f"machine {' and '.join(numbers)}"] if numbers else []
    return [" and ".join([*own, *["another machine"] * (len(numbers) < len(row.machines))])]


def verified(row: Standing) -> str:
    """The mark of a row whose results were made again and came back, with how many of them."""
    return "verified" if len(row.verified) == row.n else f"verified: {len(row.verified)} of {row.n} runs"


def precisions(row: Standing) -> list[str]:
    """In what a row was trained or scored where that is not float32."""
    training = row.runs[0].spec.training
    trained = [f"trained in {training.precision}"] if training.precision == "bf16" and not row.is_untrained else []
    return trained + ([f"scored in {training.score_precision}"] if training.score_precision != "fp32" else [])


def tenths(value: float) -> str:
    return "–" if isnan(value) else f"{value:.1f}"


def rate(value: float) -> str:
    """A rate, such as pairs per second; a dash where nothing was measured."""
    return millions(value) if value >= 1e6 else f"{value:,.0f}" if value > 0 else "–"


def millions(value: float) -> str:
    return "–" if isnan(value) else f"{value / 1e6:.2f} M"
