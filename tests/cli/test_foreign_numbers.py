"""Numbers that are none, in cards, settings and score files: refused in words where they stand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_project import Call

from harness.foreign_text import json_text

Captured = pytest.CaptureFixture[str]
CARD = """
name = "odd"
title = "Odd"
class = "methods.chance:Chance"
summary = ""
scoring = "embedding"
fidelity = "paper"
choices = []
[defaults]
dim = {default}
[tunable]
dim = {{ type = "float", low = {low}, high = {high} }}
[[reported]]
dataset = "scenes"
protocol = "test"
i2t = [{recall}, 2.0, 3.0]
t2i = [1.0, 2.0, 3.0]
rsum = {rsum}
source = "x"
"""
GOOD = {"default": "5.0", "low": "4.0", "high": "8.0", "recall": "1.0", "rsum": "12.0"}


@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("place", GOOD)
def test_a_number_of_a_card_is_finite(project: Path, call: Call, capsys: Captured, place: str, number: str) -> None:
    card = project / "cards" / "odd.toml"
    card.write_text(CARD.format(**GOOD))
    assert call("list") == 0, capsys.readouterr().err
    card.write_text(CARD.format(**{**GOOD, place: number}))
    for words in (("list",), ("run", "--here"), ("report", "--format", "json")):
        assert call(*words) == 2, words
        said = capsys.readouterr()
        assert "odd.toml" in said.err and "finite number" in said.err, said.err


@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(
    "key", ["training.lr", "failures.trial_seconds", "resources.gpus_per_trial", "scan_t2i.margin"]
)
def test_a_number_of_a_setting_is_finite(project: Path, call: Call, capsys: Captured, key: str, number: str) -> None:
    key = key if key.split(".")[0] in ("training", "failures", "resources") else f"settings.{key}"
    assert call("run", "-n", "-s", f"{key}={number}") == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "kind"), [(np.nan, "float16"), pytest.param(np.inf, "float32", marks=pytest.mark.soak)]
)
def test_a_score_from_elsewhere_is_finite(
    project: Path, call: Call, capsys: Captured, number: float, kind: str
) -> None:
    from harness.config.project import load
    from harness.config.registry import discover

    card = discover(load()).dataset("tiny").protocols[0]
    scores = np.zeros((card.images, card.captions), dtype=kind)
    scores[1, 2] = number
    np.save("scores.npy", scores)
    assert call("score", "scores.npy", "--dataset", "tiny", "--protocol", card.name, "--name", "x", "--json") == 3
    said = capsys.readouterr()
    assert f"is {number}, which has no rank" in said.err and not said.out


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan, np.float32("nan"), np.float16("inf")])
def test_what_is_no_number_is_null_in_json(number: float) -> None:
    data = {"a": number, "b": [number, (number,)], "c": {"d": {"e": number}}, "f": np.int64(3)}
    assert json.loads(json_text(data)) == {"a": None, "b": [None, [None]], "c": {"d": {"e": None}}, "f": 3}
