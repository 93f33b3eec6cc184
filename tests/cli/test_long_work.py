"""Commands that can take long say what they are at: one name for each step, before it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from finished_projects import Finish
from tiny_project import Call

from harness.terminal import output

Captured = pytest.CaptureFixture[str]
RUN = ("run", "--here", "--methods", "vsepp,chance", "--seeds", "0")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What commands say of their steps."""
    names: list[str] = []

    @contextmanager
    def recorded(total: int, visible: bool, counted: bool = True) -> Iterator[Callable[[str], None]]:
        yield names.append

    monkeypatch.setattr(output, "named_steps", recorded)
    return names


def test_report_export_gc_and_forget_name_their_steps(finish: Finish, call: Call, heard: list[str]) -> None:
    finish(RUN)
    assert call("report") == 0
    assert heard == ["tiny all"]
    heard.clear()
    assert call("export", "--format", "csv") == 0
    assert {name.partition("/")[0] for name in heard} == {"vsepp", "chance"}
    heard.clear()
    assert call("gc", "--checkpoints", "--yes") == 0
    assert heard[:2] == ["trials", "boards"] and heard[-1].startswith("checkpoints: ")
    heard.clear()
    assert call("forget", "chance", "--yes") == 0
    assert heard == ["chance/tiny/s0"]


def test_steps_are_drawn_on_a_terminal_alone_with_their_names(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn() -> str:
        with output.named_steps(2, visible=True) as tell:
            for name in ("first", "second", "one too many"):
                tell(name)
        return capsys.readouterr().err

    assert drawn() == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert "one too many" in (text := drawn()) and "2/2" in text


def test_validate_counts_the_bytes_that_it_hashes(tmp_path: Path) -> None:
    from harness.config.project import load
    from harness.config.registry import discover
    from harness.data.dataset import place_of
    from harness.preparation.validation import Validation

    (tmp_path / "folder").mkdir()
    for name in ("words.txt", "folder/more.txt"):
        (tmp_path / name).write_text("12345")
    steps: list[tuple[str, int]] = []
    done: list[int] = []

    @contextmanager
    def recorded(name: str, total: int) -> Iterator[Callable[[int], None]]:
        steps.append((name, total))
        yield done.append

    card = next(iter(discover(load(folder=tmp_path)).datasets.values())).model_copy(update={"folder": str(tmp_path)})
    validation = Validation(card, tmp_path, tmp_path / "cache", recorded)
    validation.look_at_files(place_of(card, tmp_path, tmp_path / "cache"), ["words.txt", "folder/", "absent.txt"])
    assert steps == [(f"{card.name}: hashing files", 10)] and done == [5, 5, 0]
