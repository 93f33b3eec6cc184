"""What papers reported beside what a board has measured. A printed number is one more run, on the same test images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from harness.board.standings import Board, Standing
from harness.config.cards import MethodCard
from harness.config.papers import Reported
from harness.config.registry import paper_recipe
from harness.config.sections import Training
from harness.config.selection import JOIN
from harness.evaluation.statistics import run_noise

UNLIKE = "settings or data are not the paper's"
OTHER_RECIPE = "our recipe, not the paper's (--recipe paper)"
ROUNDING = 0.3  # six printed recalls, each rounded to a tenth


@dataclass(frozen=True)
class Beside:
    place: int  # of the row, from 0
    reported: Reported
    rsum: float  # ours
    noise: float  # how far one more run may lie from our mean; nan for one seed
    unlike: tuple[str, ...] = ()  # what of our row is not the paper's: settings, epochs, sizes of the data
    is_papers: bool = True  # whether our row was trained by the recipe of the paper

    @property
    def difference(self) -> float:
        """Ours less theirs."""
        return self.rsum - self.reported.rsum

    @property
    def verdict(self) -> str:
        """Whether our row reproduces the number, and what of the row is not the paper's."""
        if self.reported.apart:
            return f"not comparable: {self.reported.apart}"
        if not self.is_papers:
            return f"not compared: {OTHER_RECIPE}"
        return "; ".join([self.outcome, *([f"not the paper's: {', '.join(self.unlike)}"] if self.unlike else [])])

    @property
    def short_verdict(self) -> str:
        return "; ".join([self.outcome, *([UNLIKE] if self.unlike else [])])

    @property
    def outcome(self) -> str:
        if isnan(self.noise):
            return "cannot be told from one seed"
        if abs(self.difference) <= self.noise:
            return "reproduced within noise"
        return "above" if self.difference > 0 else "below"


def beside(board: Board, methods: Mapping[str, MethodCard]) -> Iterator[Beside]:
    """Every ranked row with every number that its card reports for this dataset and protocol."""
    for place, row in enumerate(board.ranked):
        cards = cards_of(row, methods)
        for reported in reports_of(row, cards):
            if (reported.dataset, reported.protocol) == (board.dataset, board.protocol):
                noise = run_noise(row.sd, row.n, mean_of=row.n) + ROUNDING
                yield Beside(place, reported, row.means["rsum"], noise, unlike(board, row, cards), row.is_papers)


def cards_of(row: Standing, methods: Mapping[str, MethodCard]) -> list[MethodCard]:
    """The card of a row's method, of an ensemble those of its members; none where one of them has no card."""
    names = [row.method] if row.kind != "ensemble" else row.method.split(JOIN)
    cards = [methods[name] for name in names if name in methods]
    return cards if len(cards) == len(names) else []


def reports_of(row: Standing, cards: Sequence[MethodCard]) -> Iterator[Reported]:
    """What a card reports; of an ensemble the numbers that the cards of all members report as those of an ensemble."""
    for reported in cards[0].reported if cards else ():
        if not row.is_composite:
            yield reported
        elif reported.ensemble and all(numbers(reported) in map(numbers, card.reported) for card in cards):
            yield reported.model_copy(update={"ensemble": False})  # which is no reason against this row


def numbers(reported: Reported) -> tuple[object, ...]:
    return reported.dataset, reported.protocol, reported.i2t, reported.t2i, reported.rsum, reported.ensemble


def unlike(board: Board, row: Standing, cards: Sequence[MethodCard]) -> tuple[str, ...]:
    """What a row does otherwise than a run at the size of papers, or than that of its own paper."""
    if row.is_papers:
        recipes = filter(None, (paper_recipe(card, board.dataset) for card in cards))
        return (*dict.fromkeys(text for recipe in recipes for text in recipe.unlike), *board.resized)
    epochs, usual = row.runs[0].spec.training.epochs, Training().epochs
    fewer = [f"only {epochs} epochs ({usual} by default)"] if epochs < usual and not row.is_untrained else []
    return (*row.unlike_paper, *fewer, *board.resized)
