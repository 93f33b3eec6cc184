"""Encoders of regions and words that papers share."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harness.blocks.host import in_order, lengths_of
from harness.errors import DataError
from harness.method import Inputs, Words


class RegionEncoder(nn.Module):
    """Regions (B, R, F) -> (B, R, D) by one linear layer, Xavier-uniform with zero bias (SCAN's)."""

    def __init__(self, feature_width: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(feature_width, dim)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, regions: Tensor, mask: Tensor) -> Tensor:
        """Projected regions, not normalised; zeros where the mask is False."""
        projected: Tensor = self.linear(regions)
        return projected * mask.unsqueeze(2)


class WordEncoder(nn.Module):
    """Tokens (B, T) -> (B, T, D): a recurrent layer over word vectors, or the dataset's pretrained text encoder.

    Of the latter, `word_dim`, `cell` and `bidirectional` decide nothing. Captions go through in groups of about equal
    length; packed sequences, torch's own answer to padding, took 1.6 times as long in training on a CPU.
    """

    GROUP = 64  # captions, on a CPU; a GPU computes a batch faster whole

    def __init__(
        self,
        inputs: Inputs,
        word_dim: int,
        dim: int,
        cell: Literal["gru", "lstm"] = "gru",
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        encoder = inputs.words.encoder
        self.layers = Pretrained(encoder(), dim) if encoder else Recurrent(inputs, word_dim, dim, cell, bidirectional)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """States of every word; zeros where the mask is False."""
        lengths = lengths_of(mask)
        order = np.argsort(lengths, kind="stable")
        group = self.GROUP if mask.device.type == "cpu" else len(order)
        longest = [int(part[-1]) for part in np.split(lengths[order], range(group, len(order), group))]
        parts = zip(in_order(tokens, order).split(group), in_order(mask, order).split(group), longest, strict=True)
        states = torch.cat([self._states(*part) for part in parts])
        return in_order(states, np.argsort(order)) * mask.unsqueeze(2)

    def _states(self, tokens: Tensor, mask: Tensor, longest: int) -> Tensor:
        """(B, T, D) of captions of about equal length, computed up to the longest of them."""
        states = self.layers(tokens[:, :longest], mask[:, :longest])
        return pad(states, (0, 0, 0, tokens.shape[1] - longest))


class Recurrent(nn.Module):
    """Tokens (B, T) -> (B, T, D): embedding uniform(-0.1, 0.1) and a recurrent layer, its directions averaged.

    Known word vectors replace the drawn ones, and are trained on. The backward direction is a layer of its own over
    each caption turned round in place: padding stays at the end, where it reaches no real word.
    """

    def __init__(
        self, inputs: Inputs, word_dim: int, dim: int, cell: Literal["gru", "lstm"], bidirectional: bool
    ) -> None:
        super().__init__()
        layer = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.embedding = nn.Embedding(inputs.vocabulary_size, word_dim)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        set_known(self.embedding, inputs.words)
        self.forwards = layer(word_dim, dim)
        self.backwards = layer(word_dim, dim) if bidirectional else None

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """States of every word, whatever they are where the mask is False."""
        words = self.embedding(tokens).transpose(0, 1)  # (T, B, word_dim)
        states: Tensor = self.forwards(words)[0]
        if self.backwards is not None:
            turned = turned_round(mask).T.unsqueeze(2)
            back = self.backwards(words.gather(0, turned.expand_as(words)))[0]
            states = (states + back.gather(0, turned.expand_as(back))) / 2
        return states.transpose(0, 1)


class Pretrained(nn.Module):
    """Tokens (B, T) -> (B, T, D): the last states of a pretrained encoder through one linear layer, as of regions."""

    def __init__(self, encoder: Any, dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.linear = nn.Linear(encoder.width, dim)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """States of every token, whatever they are where the mask is False."""
        states: Tensor = self.linear(self.encoder(tokens, mask))
        return states


class TextEncoder(nn.Module):
    """A pretrained text encoder: tokens (B, T), mask (B, T) -> its last hidden states (B, T, H).

    `model` takes input_ids and attention_mask as those of Hugging Face do. Training gives its parameters a learning
    rate of their own (`training.encoder_lr`).
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.width: int = model.config.hidden_size  # H

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """States, whatever they are where the mask is False."""
        states: Tensor = self.model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        return states


@torch.no_grad()
def set_known(embedding: nn.Embedding, words: Words) -> None:
    """Write the known vectors of words into an embedding; DataError where they have another width."""
    if words.vectors is None or words.known is None:
        return
    width, expected = words.vectors.shape[1], embedding.embedding_dim
    if width != expected:
        raise DataError(
            f"the dataset's word vectors have {width} numbers, the method's word_dim is {expected}; "
            f"run with -s 'settings.*.word_dim={width}', or take vectors of {expected}"
        )
    embedding.weight[words.known] = words.vectors[words.known]


def turned_round(mask: Tensor) -> Tensor:
    """(B, T) -> (B, T): the position each position has when the real part of its row is read backwards."""
    place = torch.arange(mask.shape[1], device=mask.device)
    last = mask.sum(1, keepdim=True) - 1
    return torch.where(mask, last - place, place)
