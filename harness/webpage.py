"""A board as one web page that needs no other file. Pure: the same bytes from the same board."""

from __future__ import annotations

from collections.abc import Mapping

from harness.charts import SPEED, intervals, tradeoff
from harness.config.cards import MethodCard
from harness.evidence import Assessed
from harness.grid import grid
from harness.lines import learning, recall
from harness.markup import markup
from harness.method_page import SEEDS, facts
from harness.more_measures import more_measures
from harness.report import LEFT, header, pairs, published, rows
from harness.trial.results import RECALLS

MEASURES = {
    **{"rsum": "rsum", **{name.replace("_r", " R@"): name for name in RECALLS}, "val rsum": "best_val_rsum"},
    **{"train pairs/s": "train_pairs_per_second", "score pairs/s": SPEED, "parameters": "parameters"},
}  # columns, and what they are the means of
NUMBERS = (*MEASURES, "n", "95 %")  # columns that are sorted with the largest first


def webpage(one: Assessed, methods: Mapping[str, MethodCard]) -> str:
    """A board as HTML."""
    board, evidence = one
    made = markup("board.html.j2").render(
        **{"board": board, "evidence": evidence, "header": header(board, methods), "left": LEFT},
        **{"rows": sortable(one, methods), "pairs": pairs(board, evidence), "published": published(board, methods)},
        **{"facts": [facts(one, methods, place) for place in range(len(board.ranked))], "seeds": SEEDS},
        **{"measures": more_measures(board, evidence.lists), "grid": grid(board)},
        **{"intervals": intervals(board, evidence), "tradeoff": tradeoff(board)},
        **{"recall": recall(one), "learning": learning(one), "numbers": NUMBERS},
    )
    return str(made)


def sortable(one: Assessed, methods: Mapping[str, MethodCard]) -> list[list[tuple[str, float | None]]]:
    """The ranked rows as cells, with numbers in full; an interval counts as its lower end."""
    board, evidence = one
    found = []
    for place, texts in enumerate(rows(board, evidence, methods)):
        row = board.ranked[place]
        known: dict[str, float] = {column: row.means[name] for column, name in MEASURES.items()}
        known |= {"#": place + 1, "n": row.n} | dict(zip(["95 %"], evidence.intervals.get(place, ()), strict=False))
        cells = zip(header(board, methods), texts, strict=True)
        found.append([(text, None if text == "–" else known.get(name)) for name, text in cells])
    return found
