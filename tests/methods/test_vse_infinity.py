"""VSE-infinity against its textbook."""

from __future__ import annotations

from single_sets import vectors_equal_the_textbook


def test_vectors_and_gradients_are_those_of_single_images_and_captions() -> None:
    vectors_equal_the_textbook("vse_infinity", position_dim=4)
