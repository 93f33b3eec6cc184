"""The grid of methods and seeds: every state has a word of its own."""

from __future__ import annotations

from boards import html_tables, only_board, only_page, row, three_seeds
from sample_results import result_of, spec_of

from harness.board.tables import grid


def test_every_state_of_a_trial_has_a_word_of_its_own() -> None:
    done = three_seeds("caan", 260.0)
    waiting, running, pruned, failed, interrupted, empty = (
        {**row(result_of(spec_of(f"m{place}"))), "rsum": None, **state}
        for place, state in enumerate(
            (
                {"state": "waiting"},
                {"state": "running"},
                {"state": "pruned"},
                {"state": "failed", "failure": "nonfinite"},
                {"state": "interrupted"},
                {"state": "done"},
            )
        )
    )
    old = [
        {**row(result_of(spec_of("data", data_fingerprint="0" * 64))), "started": 5, "ended": 10},
        {**row(result_of(spec_of("rule", protocol_version=0))), "started": 4, "ended": 9},
        {**row(result_of(spec_of("caan", source="0" * 64))), "started": 3, "ended": 8},
    ]
    limited = row(result_of(spec_of("quick", limit=20)))
    trials = [*done, waiting, running, pruned, failed, interrupted, empty, *old, limited]
    (heads, *lines) = grid(only_board(trials))
    assert heads == ["method", "seed 0", "seed 1", "seed 2"]
    found = {(line[0].split(" (")[0], line[1]) for line in lines}
    assert found == {
        ("caan", "done"),
        *(("m0", "not run"), ("m1", "running"), ("m2", "pruned")),
        *(("m3", "failed: nonfinite"), ("m4", "interrupted"), ("m5", "no rsum")),
        *(("data", "stale data"), ("rule", "stale protocol"), ("caan", "stale source")),
        ("quick", "limited to 20"),
    }
    assert len({state for _, state in found}) == len(found)
    assert all(line[2:] == ["–", "–"] for line in lines[1:]), "nobody has asked for other seeds of these"


def test_a_board_whose_trials_are_all_ranked_needs_no_grid() -> None:
    assert grid(only_board(three_seeds("caan", 260.0))) == []
    assert "Where every trial stands" not in only_page(three_seeds("caan", 260.0))


def test_the_page_shows_the_grid_where_anything_is_missing() -> None:
    trials = three_seeds("caan", 260.0)
    trials[1] = {**trials[1], "rsum": None, "state": "failed", "failure": "a|b"}
    assert [["method", "seed 0", "seed 1", "seed 2"], ["caan", "done", "failed: a|b", "done"]] in html_tables(
        only_page(trials)
    )
