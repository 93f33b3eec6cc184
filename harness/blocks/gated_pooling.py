"""A set of vectors in one vector: each is weighed by how it goes with the mean of its set (BCAN, SGRAF, MSSAN)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from harness.blocks.pooling import masked_mean, masked_softmax


class GatedPooling(nn.Module):
    """l2(sum_i p_i v_i) with p = softmax_i(w3 . (tanh(W1 v_i) * tanh(W2 m))), m the mean of the set."""

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
