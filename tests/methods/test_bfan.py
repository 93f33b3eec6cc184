"""BFAN against its formula."""

from __future__ import annotations

import pytest
from fragment_oracle import agrees_with_its_textbook, one_region_and_one_word_train, padding_decides_nothing, small

CARDS = pytest.mark.parametrize("name", ["bfan_equal", "bfan_prob"])


@CARDS
@pytest.mark.parametrize("changes", [{}, {"temperature": 6.0}, {"slope": 0.0}])
def test_scores_and_gradients_equal_the_formula(name: str, changes: dict[str, object]) -> None:
    for vectors in (1, 6, 1000):
        agrees_with_its_textbook(name, small(name, **changes), vectors)


@CARDS
def test_padding_decides_nothing(name: str) -> None:
    padding_decides_nothing(small(name))


@CARDS
def test_one_region_and_one_word_train(name: str) -> None:
    one_region_and_one_word_train(small(name))
