"""All that is known of one ranked row: its own page in markdown, and its part of the page in HTML. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import NamedTuple

from harness.board.cells import (
    file_name,
    headings,
    label,
    notes,
    origin,
    published,
    saturation,
    search_name,
    tenths,
)
from harness.board.evidence import Assessed
from harness.board.markup import template
from harness.board.plots import Pictures, Plot
from harness.board.standings import Board, Standing, mean
from harness.board.tables import COSTS
from harness.config.cards import MethodCard
from harness.config.project import built_in
from harness.config.registry import choices, training_for
from harness.diagnostics.table import Line
from harness.evaluation.measures import title
from harness.evaluation.queries import Hardest
from harness.tracking.runs import Run
from harness.trial.ensembles import member_keys
from harness.trial.external import entry_lines, is_external
from harness.trial.results import RECALLS

DIGITS = 8  # of a recipe, in a file's name
LONGEST = 40  # characters of a method in a file's name
SEEDS = ("seed", "rsum", *map(title, RECALLS), "val rsum", "best epoch", "epochs", "trial", "run")


class Choice(NamedTuple):
    name: str
    value: str
    default: str  # of the card, or the harness's own; empty where the method has no card here

    @property
    def is_changed(self) -> bool:
        return bool(self.default) and self.value != self.default


@dataclass(frozen=True)
class RowFacts:
    row: Standing
    place: int  # from 0
    card: MethodCard | None
    notes: list[str]
    choices: list[Choice]
    seeds: list[list[str]]  # cells under SEEDS
    recalls: list[tuple[str, str, str]]  # measure, mean, 95 %
    costs: list[tuple[str, str]]
    published: list[list[str]]
    hardest: Hardest | None
    curve: Plot | None
    members: list[list[str]]  # of an ensemble: seed, method and key of each trial that was averaged
    entry: list[tuple[str, str]]  # of an external row: what whoever handed it in says of it
    remade: list[tuple[str, str]]  # seed, and what came of making its result again
    looks: list[Line]  # under LOOKS
    lacks: list[str]  # what the store has lost of it, and what follows

    @property
    def has_category(self) -> bool:
        """Whether its looks have category-level mAP."""
        return any(line[0].startswith("category") for line in self.looks)

    @property
    def anchor(self) -> str:
        """What distinguishes its headings from those of all other rows of a page."""
        return f"ensemble-{self.place}" if self.row.is_composite else str(self.place)


def facts(one: Assessed, methods: Mapping[str, MethodCard], place: int, pictures: Pictures | None = None) -> RowFacts:
    board, evidence = one
    row = board.ranked[place]
    return RowFacts(
        row=row,
        place=place,
        card=methods.get(row.method),
        notes=[note for note in notes(board, row) if not note.startswith("n = ")],
        choices=row_choices(board, row, methods.get(row.method)),
        seeds=[seed_cells(run) for run in row.runs],
        recalls=recalls(one, place),
        costs=list(costs(row)),
        published=[cells[1:] for cells in published(board, methods, place)],
        hardest=evidence.hardest.get(place),
        curve=(pictures or Pictures(one)).curve(place),
        members=[cells for run in row.runs for cells in member_cells(run)],
        entry=list(entry(row)),
        remade=[(str(run.spec.seed), run.verification.verdict) for run in row.done if run.verification],
        looks=evidence.looks[place].lines if place in evidence.looks else [],
        lacks=list(lacks(one, place)),
    )


def entry(row: Standing) -> Iterator[tuple[str, str]]:
    """What is known of an external row, a fact a line; of several runs what they differ in, in order of the seeds."""
    runs = [entry_lines(run.spec, run.environment) for run in row.done] if is_external(row.method) else []
    for facts in zip(*runs, strict=True):
        values = dict.fromkeys(value for _, value in facts)
        yield facts[0][0], "; ".join(values)


def member_cells(run: Run) -> Iterator[list[str]]:
    """The trials that an ensemble averaged: seed, method, key."""
    for method, key in member_keys(run.environment).items():
        yield [str(run.spec.seed), method, key]


def method_page(one: Assessed, methods: Mapping[str, MethodCard], place: int, pictures: Pictures | None = None) -> str:
    about = facts(one, methods, place, pictures)
    stem = file_stem(one.board, place)
    back = f"../{file_name(one.board.dataset, one.board.protocol)}"
    page = template("method.md.j2").render(
        **{
            "board": one.board,
            "one": about,
            "row": about.row,
            "card": about.card,
            "header": headings(one.board, SEEDS),
        },
        **{"name": label(about.row), "image": curve_name(stem), "back": back},
        **{
            "saturation": saturation(one.board),
            "origin": origin(about.row),
            "progress": f"{search_name(about.row.campaign)}.md",
        },
    )
    return str(page)


def file_stem(board: Board, place: int) -> str:
    """`<method>-<digits of its recipe>`, which no other row of the board changes."""
    row = board.ranked[place]
    name = re.sub(r"[^\w.-]|^\.", "_", row.method)[:LONGEST] or "_"
    return f"{name}-{row.recipe[:DIGITS]}"


def curve_name(stem: str) -> str:
    return f"{stem}-curve.svg"


def row_choices(board: Board, row: Standing, card: MethodCard | None) -> list[Choice]:
    plain = built_in().for_dataset(board.dataset)
    defaults = choices(card.defaults if card else {}, training_for(card, plain) if card else plain.training)
    kinds = ("settings.",) if is_external(row.method) or row.is_composite else ("settings.", "training.")
    return [
        Choice(name.removeprefix("settings."), text, defaults.get(name, ""))
        for name, text in sorted(row.runs[0].choices.items())
        if name.startswith(kinds)
    ]


def seed_cells(run: Run) -> list[str]:
    numbers = [run.numbers.get(name) for name in ("rsum", *RECALLS, "best_val_rsum")]
    whole = [run.numbers.get(name) for name in ("best_epoch", "epochs")]
    return [
        str(run.spec.seed),
        *("–" if value is None else tenths(value) for value in numbers),
        *("–" if value is None else f"{value:.0f}" for value in whole),
        *(run.key, run.run_id or "–"),
    ]


def recalls(one: Assessed, place: int) -> list[tuple[str, str, str]]:
    means, evidence = one.board.ranked[place].means, one.evidence
    ends: Sequence[tuple[float, float]] = evidence.recalls.get(place, ())
    ends = [*ends, evidence.intervals[place]] if place in evidence.intervals and ends else []
    texts = [f"{tenths(low)} to {tenths(high)}" for low, high in ends] or ["–"] * (len(RECALLS) + 1)
    names = [*RECALLS, "rsum"]
    heads = headings(one.board, map(title, names))
    values = [tenths(means[name]) for name in names]
    return list(zip(heads, values, texts, strict=True))


def costs(row: Standing) -> Iterator[tuple[str, str]]:
    for one in COSTS:
        value = mean([run.numbers.get(one.name) for run in row.runs])
        if not isnan(value) and one.form(value) != "–":
            yield one.words, one.form(value)


def lacks(one: Assessed, place: int) -> Iterator[str]:
    evidence, row = one.evidence, one.board.ranked[place]
    hardest = evidence.hardest.get(place)
    if place in evidence.lost:
        yield "The store has no usable ranks of its runs: no intervals, no hardest queries."
    elif not hardest:
        yield "Its runs have not answered the same queries: no hardest queries."
    elif not hardest.is_named:
        yield "Its runs have no rankings.npz: queries have numbers for names."
    if place not in evidence.curves and not row.is_untrained:
        yield "The store has no epochs of its runs: no learning curve."
