"""IMRAM against its formula."""

from __future__ import annotations

import pytest
import torch
from fragment_oracle import (
    agrees_with_its_textbook,
    encoded,
    one_region_and_one_word_train,
    padding_decides_nothing,
    small,
    stays_close_under_autocast,
)

import harness.blocks.strips

DIRECTIONS = pytest.mark.parametrize("direction", ["text", "image", "full"])


@DIRECTIONS
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_scores_and_gradients_equal_the_formula(direction: str, rounds: int) -> None:
    for vectors in (1, 6, 1000):
        agrees_with_its_textbook("imram", small("imram", direction=direction, rounds=rounds), vectors)


def test_a_strip_of_every_set_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.blocks.strips, "STRIP", 1)
    agrees_with_its_textbook("imram", small("imram", temperature=20.0), 1000)


@DIRECTIONS
def test_padding_decides_nothing_and_one_region_and_one_word_train(direction: str) -> None:
    padding_decides_nothing(small("imram", direction=direction))
    one_region_and_one_word_train(small("imram", direction=direction))


@torch.no_grad()
def test_with_one_round_the_image_version_is_scan() -> None:
    ours = small("imram", direction="image", rounds=1, temperature=9.0)
    scan = small("scan_i2t", temperature=9.0)
    scan.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours.score(*encoded(ours)), scan.score(*encoded(scan)))


def test_under_autocast_scores_stay_close() -> None:
    stays_close_under_autocast(small("imram"), tolerance=0.1)


@pytest.mark.parametrize(("changes", "growth"), [({"rounds": 1}, 1.0), ({"direction": "text"}, 2.0), ({}, 6.0)])
def test_tiles_leave_room_for_the_memories_of_the_direction(changes: dict[str, object], growth: float) -> None:
    assert small("imram", dim=36, **changes).tile_growth == growth
