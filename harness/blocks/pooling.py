"""Sets of vectors in one vector: sums over padded sets, and with weights that are learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize


def masked_mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """(B, L, D), (B, L) -> (B, D): the mean over real vectors."""
    weight = mask.to(vectors.dtype).unsqueeze(-1)
    mean: Tensor = (vectors * weight).sum(1) / weight.sum(1)
    return mean


def masked_softmax(logits: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax over the real entries of one axis; the mask broadcasts to the logits."""
    return logits.masked_fill(~mask, -torch.inf).softmax(dim)


class GatedPooling(nn.Module):
    """A set in one vector, each of its own weighed by how it goes with their mean (BCAN, SGRAF, MSSAN).

    l2(sum_i p_i v_i) with p = softmax_i(w3 . (tanh(W1 v_i) * tanh(W2 m))), m the mean of the set.
    """

    def __init__(self, dim: int, share: float) -> None:
        """Dropout of such a share behind each tanh."""
        super().__init__()
        self.vectors = nn.Linear(dim, dim)  # W1
        self.mean = nn.Linear(dim, dim)  # W2
        self.weight = nn.Linear(dim, 1, bias=False)  # w3; a softmax does not see a bias
        self.share = share
        for layer in (self.vectors, self.mean, self.weight):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.vectors, self.mean):
            nn.init.zeros_(layer.bias)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D), (B, L) -> (B, D)."""
        mean = masked_mean(vectors, mask)
        by_vector, by_mean = self.vectors(vectors).tanh(), self.mean(mean).tanh()
        logits = self.weight(self._dropped(by_vector) * self._dropped(by_mean).unsqueeze(1))
        weights = masked_softmax(logits, mask.unsqueeze(2), dim=1)
        return normalize((weights * vectors).sum(1), dim=1)

    def _dropped(self, hidden: Tensor) -> Tensor:
        return dropout(hidden, self.share, self.training)
