"""What is timed: a method's scores and training steps, the same by the textbook, and the products nobody can avoid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import textbook
import torch
from torch import Tensor

import methods
from harness.blocks.losses import hinge
from harness.blocks.tiles import Tile, in_tiles
from harness.config.cards import MethodCard, read_card
from harness.config.registry import load_class
from harness.evaluation.scoring import score_encoded
from harness.method import Batch, Encoded, Inputs

METHODS = ("scan_t2i", "scan_i2t", "bssan", "caan")
REGIONS = 36
WORDS = (12.5, 2.4, 7, 30)  # mean, deviation, least and most of a COCO caption with <start> and <end>
FEATURES = 64  # width of the raw regions: encoding them is not timed


@dataclass(frozen=True)
class Case:
    """One method, task and shape on one device."""

    method: str
    task: str  # score: n images against m captions; step: scores, loss and backward of a batch of n = m pairs
    images: int
    captions: int
    dim: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def shape(self) -> str:
        """For people."""
        return f"{self.images} x {self.captions}, {REGIONS} regions, D {self.dim}"

    @cached_property
    def model(self) -> Any:
        """The method with its card's defaults, at this case's D."""
        card = read_card(MethodCard, Path(methods.__path__[0]) / f"{self.method}.toml")
        kind = load_class(card)
        torch.manual_seed(0)
        return kind(kind.Settings(**{**card.defaults, "dim": self.dim}), Inputs(FEATURES, 1000)).to(self.device)

    @cached_property
    def sets(self) -> tuple[Encoded, Encoded]:
        """Encoded images and captions, on the device."""
        torch.manual_seed(1)
        mean, deviation, least, most = WORDS
        lengths = (mean + deviation * torch.randn(self.captions)).round().clamp(least, most).int()
        tokens = torch.randint(4, 1000, (self.captions, int(lengths.max())))
        mask = torch.arange(tokens.shape[1]) < lengths[:, None]
        full = torch.ones(self.images, REGIONS, dtype=torch.bool)
        with torch.no_grad():
            images = self.model.encode_images(
                torch.randn(self.images, REGIONS, FEATURES).to(self.device), full.to(self.device)
            )
            captions = self.model.encode_captions(tokens.to(self.device), mask.to(self.device))
        return Encoded(images.vectors.to(self.dtype), images.mask), Encoded(
            captions.vectors.to(self.dtype), captions.mask
        )

    def calls(self) -> dict[str, Callable[[], Any]]:
        """The three things to time, by name."""
        formula = textbook.formula(self.method, self.model)
        if self.task == "score":
            return {
                "ours": self._scored,
                "textbook": torch.no_grad()(lambda: textbook.scores(formula, *self.sets)),
                "floor": torch.no_grad()(lambda: self._products(1)),
            }
        return {
            "ours": lambda: self._step(lambda i, c: in_tiles(self.model, i, c)),
            "textbook": lambda: self._step(lambda i, c: textbook.scores(formula, i, c)),
            "floor": torch.no_grad()(lambda: self._products(3)),
        }

    @property
    def flops(self) -> int:
        """Floating-point operations of those products."""
        once = sum(2 * left.numel() * right.shape[1] for left, right in self._factors)
        return once * (1 if self.task == "score" else 3)

    def _scored(self) -> Tensor:
        images, captions = ([Tile(torch.arange(len(of.mask)), of)] for of in self.sets)
        return score_encoded(self.model, images, captions, torch.device(self.device))

    def _step(self, score: Callable[[Encoded, Encoded], Tensor]) -> Tensor:
        """Scores, the hinge with hardest negatives, gradients of the sets and of the method's parameters."""
        leaves = [Encoded(of.vectors.detach().requires_grad_(), of.mask) for of in self.sets]
        self.model.zero_grad()
        matching = torch.eye(self.images, dtype=torch.bool, device=self.device)
        nothing = torch.empty(0)
        loss = hinge(score(*leaves), Batch(nothing, nothing, nothing, nothing, matching), 0.2)
        loss.backward()
        return loss.detach()

    def _products(self, times: int) -> None:
        """The matrix products that the scores need, bare, over real words; a step needs each three times."""
        for left, right in self._factors:
            for _ in range(times):
                left @ right

    @cached_property
    def _factors(self) -> list[tuple[Tensor, Tensor]]:
        """All regions with all words, once an affinity and once a cosine; for CAAN the four with k columns besides."""
        images, captions = self.sets
        regions, words = images.vectors[..., : self.dim].flatten(0, 1), captions.vectors[captions.mask].T
        if self.method != "caan":
            return [(regions, words)] * (4 if self.method == "bssan" else 1)
        width = self.model.settings.width
        a = torch.rand(len(words.T), REGIONS, dtype=self.dtype, device=self.device)
        x = torch.rand(REGIONS, width, dtype=self.dtype, device=self.device)
        return [(regions, words)] * 2 + [(a, x)] * (4 * self.images)
