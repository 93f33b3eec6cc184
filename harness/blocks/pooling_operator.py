"""The generalised pooling operator (GPO) of VSE-infinity: pooling by rank, with weights that are learned."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.blocks.host import Ints, lengths_of, to_device


class GeneralizedPooling(nn.Module):
    """GPO: in each dimension sum_k theta_k (k-th largest of the n vectors), theta = softmax_k(g(k, n) / temperature).

    g(k, n): the code of rank k, a GRU of both directions over the n ranks, a linear layer without bias.
    """

    def __init__(self, dim: int, temperature: float) -> None:
        super().__init__()
        self.dim, self.temperature = dim, temperature
        self.forwards = nn.GRU(dim, dim, batch_first=True)
        self.backwards = nn.GRU(dim, dim, batch_first=True)
        self.linear = nn.Linear(dim, 1, bias=False)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D), (B, L) -> (B, D)."""
        ranked = vectors.masked_fill(~mask[..., None], -torch.inf).sort(dim=1, descending=True).values
        ranked = ranked.masked_fill(~mask[..., None], 0.0)  # padding has come last
        sizes, own = np.unique(lengths_of(mask), return_inverse=True)
        weights = self.weights(sizes, mask.shape[1])[to_device(own, mask.device)]
        pooled: Tensor = (weights[..., None] * ranked).sum(1)
        return pooled

    def weights(self, sizes: Ints, longest: int) -> Tensor:
        """theta of sets of these sizes, (U, L); zero beyond a set's size."""
        code = to_device(position_code(longest, self.dim), self.linear.weight.device).to(self.linear.weight.dtype)
        rank, size = np.arange(longest), sizes[:, None]
        real = to_device(rank < size, code.device)
        turned = to_device(np.where(rank < size, size - 1 - rank, rank), code.device)[..., None].expand(
            -1, -1, self.dim
        )
        states = self.forwards(code[None])[0]  # the same for every size
        back = self.backwards(code.expand(len(sizes), -1, -1).gather(1, turned))[0].gather(1, turned)
        logits = self.linear((states + back) / 2).squeeze(2) / self.temperature
        theta: Tensor = logits.masked_fill(~real, -torch.inf).softmax(1)
        return theta


def position_code(count: int, dim: int) -> NDArray[np.float64]:
    """Sinusoidal codes of ranks, (count, dim): sines in even places, cosines in odd ones."""
    place = np.arange(dim)
    angle = np.arange(count)[:, None] / 10_000.0 ** ((place - place % 2) / dim)
    return np.where(place % 2, np.cos(angle), np.sin(angle))
