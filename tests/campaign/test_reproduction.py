"""`harness reproduce`: a trial of the store run again, what has changed since, and the verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest
from finished_projects import Finish
from fresh_process import Fresh
from sample_results import result_of, spec_of
from tiny_project import CARD, Call
from toy_trials import any_cards

from harness.campaign.reproduction import Case, Repetition
from harness.tracking.result_store import ResultStore
from harness.trial.results import Assignment, Failure, State

MEAN = CARD.format(name="mean", fault="", after=0)
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def trained(finish: Finish) -> Path:
    """A project with three finished trials of a method of its own."""
    return finish(("run", "--methods", "mean", "--here", "--seeds", "0,1,2", "-q"), cards={"mean.toml": MEAN})


@pytest.mark.slow
def test_a_trial_comes_back_to_the_last_digit_and_the_store_keeps_its_result_and_that_it_came_back(
    trained: Path, call: Call, capsys: Captured
) -> None:
    store = ResultStore(f"sqlite:///{trained / 'runs' / 'mlflow.db'}")
    before = store.runs()
    assert call("reproduce", "mean/tiny/s1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "reproduced: every measure is the same" and found["then"] == found["now"]
    assert [one["name"] for one in found["drift"]] == []
    after = store.runs()
    assert [replace(run, verification=None) for run in after] == before
    assert [run.spec.seed for run in after if run.is_verified] == [1]
    (run,) = [run for run in before if run.spec.seed == 1]
    assert call("reproduce", run.run_id[:10]) == 0
    assert "code, data, versions and machine are as they were" in capsys.readouterr().out


@pytest.mark.slow
def test_a_changed_method_is_told_before_it_is_run(trained: Path, call: Call, fresh: Fresh, capsys: Captured) -> None:
    source = trained / "cards" / "faulty.py"
    source.write_text(source.read_text().replace("return images.vectors", "return -images.vectors"))
    assert call("reproduce", "mean/tiny/s0", "-n", "--json") == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["drift"]] == ["source of the method"]
    assert not (trained / "runs" / "reproduced").exists()
    out = fresh("reproduce", "mean/tiny/s0").stdout
    assert "source of the method" in out and "rsum differs by" in out


def test_other_data_is_a_data_error_and_nothing_runs(trained: Path, call: Call, capsys: Captured) -> None:
    card = trained / "cards" / "tiny" / "card.toml"
    card.write_text(card.read_text().replace("min_count = 1", "min_count = 2"))
    assert call("reproduce", "mean/tiny/s0") == 3
    assert "data fingerprint was" in capsys.readouterr().err
    assert not (trained / "runs" / "reproduced").exists()


def test_an_unknown_run_is_refused_with_its_neighbours(trained: Path, call: Call, capsys: Captured) -> None:
    assert call("reproduce", "mean/tiny/s7") == 2
    assert "did you mean mean/tiny/s" in capsys.readouterr().err


def again(rsum: float, width: float, **changes: object) -> Repetition:
    then = result_of(spec_of(), 270.0)
    places = dict.fromkeys(("data", "cache", "folder"), Path())
    case = Case("caan", then, Assignment(spec=then.spec, **any_cards(), **places), (), width, Path())
    return Repetition(case, result_of(spec_of(), rsum, **changes))


def test_the_verdict_is_in_words() -> None:
    assert again(270.0, 3.0).verdict.startswith("reproduced: every")
    assert (
        again(272.0, 3.0).verdict == "reproduced within noise: rsum differs by +2.0, two seeds of its row by up to 3.0"
    )
    assert again(266.0, 3.0).verdict.startswith("not reproduced: rsum differs by -4.0")
    assert "cannot be told" in again(266.0, nan).verdict and not again(266.0, nan).is_reproduced
    failed = again(270.0, 3.0, state=State.FAILED, failure=Failure.OOM, message="no memory", measures={})
    assert not failed.is_reproduced and "failed (oom): no memory" in failed.verdict
