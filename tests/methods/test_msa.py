"""MSA against its formula."""

from __future__ import annotations

import pytest
from fragment_oracle import (
    agrees_with_its_textbook,
    one_region_and_one_word_train,
    padding_decides_nothing,
    small,
    stays_close_under_autocast,
)


@pytest.mark.parametrize("vectors", [1, 6, 1000])
def test_scores_and_gradients_equal_the_formula(vectors: int) -> None:
    agrees_with_its_textbook("msa", small("msa"), vectors)


def test_padding_decides_nothing_and_one_region_and_one_word_train() -> None:
    padding_decides_nothing(small("msa"))
    one_region_and_one_word_train(small("msa"))


def test_under_autocast_scores_stay_close() -> None:
    stays_close_under_autocast(small("msa"), tolerance=0.02)
