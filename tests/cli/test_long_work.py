"""Commands that can take long say what they are at: one name for each step, before it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
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


@pytest.mark.slow
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


@pytest.fixture
def at_work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What commands say that they are at."""
    names: list[str] = []

    @contextmanager
    def recorded(out: output.Output) -> Iterator[Callable[[str], None]]:
        yield names.append

    monkeypatch.setattr(output.Output, "at_work", recorded)
    return names


@pytest.mark.slow
def test_what_opens_datasets_loads_weights_or_tests_rows_says_what_it_is_at(
    finish: Finish, call: Call, at_work: list[str]
) -> None:
    finish(RUN)
    steps = {
        ("run", "-n", "--here", "--methods", "vsepp", "--seeds", "1"): ["opening tiny", "reading every split"],
        ("search", "-n", "--here", "--methods", "vsepp", "--trials", "2"): ["opening tiny"],
        ("compare", "vsepp", "chance"): ["reading the tracking store", "comparing vsepp with chance"],
        ("plan", "--methods", "vsepp,chance", "--seeds", "0,1", "--seed-sd", "2", "--image-sd", "100"): [
            "measuring how far rsum varies"
        ],
        ("looks", "vsepp/tiny/s0"): ["reading the tracking store"],
        ("reproduce", "vsepp/tiny/s0", "-n"): ["comparing data and code"],
        ("retrieve", "--trial", "vsepp/tiny/s0", "--text", "a dog"): ["loading vsepp/tiny/s0"],
        ("report", "--check"): ["making every board"],
        ("report", "--format", "md,examples"): ["pages of examples"],
    }
    for words, begun in steps.items():
        at_work.clear()
        assert call(*words) == 0, words
        assert len(at_work) == len(begun), (words, at_work)
        assert all(name.startswith(first) for name, first in zip(at_work, begun, strict=True)), (words, at_work)


@pytest.mark.slow
def test_scores_of_a_file_say_that_they_are_ranked(finish: Finish, call: Call, at_work: list[str]) -> None:
    from harness.config.project import load
    from harness.config.registry import discover
    from harness.layouts.opening import open_dataset

    finish(RUN)
    config = load()
    split = open_dataset(discover(config).datasets["tiny"], config.data, config.cache).split("test")
    np.save("scores.npy", np.random.default_rng(0).random((len(split.image_ids), len(split.captions))))
    assert call("score", "scores.npy", "--dataset", "tiny", "--name", "drawn") == 0
    assert at_work == ["opening tiny", "ranking the scores of tiny", "writing the board"]


def test_what_a_command_is_at_is_drawn_on_a_terminal_alone(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(quiet: bool = False) -> str:
        with output.Output(quiet=quiet).at_work() as tell:
            tell("opening \x1b[31mtiny")
        return capsys.readouterr().err

    assert drawn() == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "opening" in (text := drawn()) and "0:00:00" in text and "\x1b[31m" not in text
    assert drawn(quiet=True) == ""


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
    place = place_of(card, tmp_path, tmp_path / "cache")
    validation.look_at_files(dict.fromkeys(["words.txt", "folder/", "absent.txt"], place))
    assert steps == [(f"{card.name}: hashing files", 10)] and done == [5, 5, 0]
