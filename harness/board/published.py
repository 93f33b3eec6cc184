"""What papers reported beside what a board has measured. A printed number is one more run, on the same test images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isnan

from harness.board.standings import Board, Standing
from harness.config.cards import MethodCard
from harness.config.papers import Reported
from harness.config.registry import paper_recipe
from harness.config.sections import Training
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
        card = methods.get(row.method)
        for reported in card.reported if card else ():
            if (reported.dataset, reported.protocol) == (board.dataset, board.protocol):
                noise = run_noise(row.sd, row.n, mean_of=row.n) + ROUNDING
                yield Beside(place, reported, row.means["rsum"], noise, unlike(board, row, card), row.is_papers)


def unlike(board: Board, row: Standing, card: MethodCard | None) -> tuple[str, ...]:
    """What a row does otherwise than a run at the size of papers, or than that of its own paper."""
    if row.is_papers:
        recipe = paper_recipe(card, board.dataset) if card else None
        return (*(recipe.unlike if recipe else ()), *board.resized)
    epochs, usual = row.runs[0].spec.training.epochs, Training().epochs
    fewer = [f"only {epochs} epochs ({usual} by default)"] if epochs < usual and not row.is_untrained else []
    return (*row.unlike_paper, *fewer, *board.resized)
