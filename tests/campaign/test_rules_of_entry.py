"""What an external entry says of itself, and the mark `verified`: only where a result was made again and came back."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_projects import Finish
from tiny_project import CARD, Call

import harness
from harness.tracking.result_store import ResultStore
from harness.tracking.runs import Run

Captured = pytest.CaptureFixture[str]
MEAN = CARD.format(name="mean", fault="", after=0)
SAID = (
    *("--by", "A. <b>Author</b>", "--trained-on", "COCO train2014 | 400 M pairs", "--selected-on", "COCO val"),
    *("--how", "python score.py --seed 0", "--url", "https://user:secret@example.org/code"),
)
NAME = "external:clip"


def scores() -> np.ndarray:
    """Random scores of the split test."""
    (line,) = harness.open().datasets().query("name == 'tiny'").to_dict("records")
    return np.random.default_rng(0).normal(size=(line["images"], line["captions"])).astype(np.float32)


def score(call: Call, capsys: Captured, *more: str, table: np.ndarray | None = None) -> dict[str, Any]:
    np.save("clip.npy", scores() if table is None else table)
    assert call("score", "clip.npy", "--dataset", "tiny", "--name", "clip", "--json", *more) == 0, capsys.readouterr()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def run_of(key: str) -> Run:
    """The run of a trial as the store has it."""
    return next(run for run in ResultStore(f"sqlite:///{Path('runs/mlflow.db').absolute()}").runs() if run.key == key)


def page(call: Call, capsys: Captured, method: str = "external_clip") -> str:
    assert call("report", "--format", "md,html,json") == 0
    capsys.readouterr()
    (file,) = Path("reports/tiny-all").glob(f"{method}-*.md")
    return file.read_text()


def row(method: str = NAME) -> dict[str, Any]:
    board = json.loads(Path("reports/tiny-all.json").read_text())
    return next(one for one in board["rows"] if one["method"] == method)


@pytest.mark.slow
def test_what_is_said_of_scores_stands_escaped_on_the_page_and_in_json(
    project: Path, call: Call, capsys: Captured
) -> None:
    score(call, capsys, *SAID)
    text, sha = page(call, capsys), hashlib.sha256(Path("clip.npy").read_bytes()).hexdigest()
    entry = row()["entry"]
    assert entry["sha256 of the scores"] == sha and sha in text
    assert entry["handed in by"] == "A. <b>Author</b>" and entry["trained on"].startswith("COCO train2014 |")
    assert entry["address"] == "https://example.org/code" and "secret" not in text
    assert "<b>" not in text.partition("## Reproduce")[0], "but in the command's block of code"
    assert "<b>Author" not in Path("reports/tiny-all.html").read_text()
    assert row()["verified"] == [] and "verified" not in Path("reports/tiny-all.md").read_text()
    assert "--trained-on" in row()["command"]


@pytest.mark.slow
def test_an_entry_without_facts_shows_dashes_and_the_same_file_given_again_adds_them(
    project: Path, call: Call, capsys: Captured
) -> None:
    key = score(call, capsys)["key"]
    assert "| trained on | – |" in page(call, capsys)
    assert score(call, capsys, "--by", "Somebody")["key"] == key
    assert score(call, capsys, "--trained-on", "CC12M")["key"] == key
    assert "| handed in by | Somebody |" in (text := page(call, capsys)) and "| trained on | CC12M |" in text
    assert row()["seeds"] == [0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--url", "ftp://example.org"), "give the http or https address"),
        (("--by", "two\nlines"), "give one line of 1 to 500 printable characters"),
        (("--how", "x" * 501), "this has 501"),
    ],
)
def test_what_is_no_fact_is_named(
    words: tuple[str, str], message: str, project: Path, call: Call, capsys: Captured
) -> None:
    np.save("clip.npy", scores())
    assert call("score", "clip.npy", "--dataset", "tiny", "--name", "clip", *words) == 2
    assert message in capsys.readouterr().err and not Path("runs/trials").exists()


def remade(call: Call, table: np.ndarray, *more: str, name: str = NAME) -> int:
    np.save("again.npy", table)
    return call("reproduce", name, "--scores", "again.npy", "--by", "J. Doe", *more)


@pytest.mark.slow
def test_scores_made_again_verify_an_entry_to_the_bit_or_within_rounding(
    project: Path, call: Call, capsys: Captured
) -> None:
    key, table = score(call, capsys)["key"], scores()
    assert remade(call, table + np.float32(0.3) * np.sign(table), "--json") == 4
    assert json.loads(capsys.readouterr().out)["verdict"].startswith("not verified: first scores differ by up to")
    assert run_of(key).verification and not run_of(key).is_verified
    assert "not verified" in page(call, capsys) and row()["verified"] == []
    assert remade(call, table + np.float32(1e-5), name=f"{NAME}/tiny/s0") == 0
    assert "verified within rounding by J. Doe" in page(call, capsys) and row()["verified"] == [0]
    assert remade(call, table, "--json") == 0
    assert json.loads(capsys.readouterr().out)["same_file"]
    assert "; verified" in Path("reports/tiny-all.md").read_text() or "verified" in page(call, capsys)
    score(call, capsys, "--by", "Somebody")  # further facts change no number: the mark stays
    assert run_of(key).is_verified


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((NAME, "--scores", "again.npy"), 2, "belong together"),
        ((NAME, "--by", "J. Doe"), 2, "belong together"),
        ((NAME, "--scores", "again.npy", "--scores", "again.npy", "--by", "J."), 2, "is of 1 file, --scores names 2"),
        ((NAME, "--scores", "nothing.npy", "--by", "J."), 2, "no such file"),
        ((NAME, "--scores", "turned.npy", "--by", "J."), 3, "save scores.T"),
        (("external:nobody", "--scores", "again.npy", "--by", "J."), 2, "unknown run"),
        ((f"{NAME}/tiny/s0",), 2, "--scores FILE --by WHO"),
    ],
)
def test_what_verifies_nothing_is_named(
    words: tuple[str, ...], code: int, message: str, project: Path, call: Call, capsys: Captured
) -> None:
    key = score(call, capsys)["key"]
    np.save("again.npy", scores())
    np.save("turned.npy", scores().T)
    assert call("reproduce", *words) == code
    assert message in capsys.readouterr().err
    assert run_of(key).verification is None


@pytest.mark.slow
def test_a_trial_of_ours_is_marked_where_it_came_back_and_the_mark_outlives_the_store(
    finish: Finish, call: Call, capsys: Captured
) -> None:
    folder = finish(("run", "--methods", "mean", "--here", "--seeds", "0,1,2", "-q"), cards={"mean.toml": MEAN})
    assert call("reproduce", "mean/tiny/s1") == 0
    assert "verified: 1 of 3 runs" in page(call, capsys, "mean") and row("mean")["verified"] == [1]
    assert "| 1 | reproduced: every measure is the same |" in page(call, capsys, "mean")
    for file in folder.glob("runs/mlflow.db*"):
        file.unlink()
    shutil.rmtree(folder / "runs" / "artifacts")
    assert call("run", "--methods", "mean", "--here", "--seeds", "0,1,2", "-q") == 0
    page(call, capsys, "mean")
    assert row("mean")["verified"] == [1]
    assert call("reproduce", "mean/tiny/s1", "--scores", "x.npy", "--by", "J.") == 2
    assert "is a trial of ours" in capsys.readouterr().err
