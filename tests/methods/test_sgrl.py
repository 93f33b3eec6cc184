"""SGRL against its formula, and its document frequencies against a plain count."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fragment_oracle import (
    agrees_with_its_textbook,
    encoded,
    inputs,
    one_region_and_one_word_train,
    padding_decides_nothing,
    small,
    step,
)


def counted() -> Any:
    """A small method that has seen some captions."""
    method = small("sgrl")
    for _, _, tokens, mask in (inputs(), inputs()):
        method.count(tokens, mask)
    return method


@pytest.mark.parametrize("vectors", [1, 6, 1000])
def test_scores_and_gradients_equal_the_formula(vectors: int) -> None:
    agrees_with_its_textbook("sgrl", counted(), vectors)


def test_padding_decides_nothing_and_one_region_and_one_word_train() -> None:
    padding_decides_nothing(counted())
    one_region_and_one_word_train(counted())


@torch.no_grad()
def test_idf_is_that_of_a_plain_count_of_training_captions() -> None:
    method = small("sgrl")
    assert (method.idf() == 1).all()
    tokens = torch.tensor([[5, 5, 6, 9], [6, 5, 5, 5], [7, 8, 9, 9]])  # the padding of the second is 5
    method.count(tokens, torch.arange(4) < torch.tensor([[4], [1], [3]]))
    captions = [{5, 6, 9}, {6}, {7, 8, 9}]
    expected = [math.log(4 / (1 + sum(token in caption for caption in captions))) + 1 for token in range(30)]
    torch.testing.assert_close(method.idf(), torch.tensor(expected))
    words = method.encode_captions(tokens[:1], torch.ones(1, 4, dtype=torch.bool)).vectors[0, :, -1]
    torch.testing.assert_close(words, method.idf()[tokens[0]].double())


def test_captions_are_counted_in_training_alone() -> None:
    method = small("sgrl")
    method.loss(step())
    assert method.documents == 0
    method.train().loss(step())
    method.eval().score(*encoded(method))
    assert method.documents == 4 and method.occurrences.sum() > 4
