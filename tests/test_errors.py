"""Messages of harness/errors.py."""

from __future__ import annotations

from harness.errors import MOST_NAMES, unknown


def test_an_unknown_name_among_very_many_does_not_list_them_all() -> None:
    names = [f"net{number:04}" for number in range(MOST_NAMES + 1200)]
    message = unknown("model", "zzz", names)
    assert message.endswith(f"net{MOST_NAMES - 1:04} and 1,200 more") and message.count(",") == MOST_NAMES
    assert unknown("model", "zzz", names[:2]) == "unknown model 'zzz'; known: net0000, net0001"
