"""`harness looks`: from the store, from scores made again, on the row's page and in Python."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boards import run_of
from finished_projects import Finish
from sample_results import result_of, spec_of
from tiny_project import Call

import harness
from harness.api.running import Progress
from harness.cli.looks import missing
from harness.config.project import Config
from harness.config.registry import discover
from harness.data.content import Content, Labels
from harness.diagnostics.looks import LOOKS
from harness.diagnostics.table import Looks
from harness.layouts.scenes import Scenes

pytestmark = pytest.mark.slow

Captured = pytest.CaptureFixture[str]
TRIAL = "vsepp/tiny/s0"


@pytest.fixture
def labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generated scenes whose images have one of two categories in turn."""
    read = Scenes.read

    def with_labels(self: Scenes, split: str) -> Content:
        content = read(self, split)
        return replace(
            content, labels=Labels(("even", "odd"), np.eye(2, dtype=bool)[np.arange(len(content.images)) % 2])
        )

    monkeypatch.setattr(Scenes, "read", with_labels)


def looked(call: Call, capsys: Captured, *words: str) -> dict[str, Any]:
    assert call("looks", TRIAL, "--json", *words) == 0, capsys.readouterr()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_hubness_needs_the_store_alone(finish: Finish, call: Call, capsys: Captured) -> None:
    finish(("run", "--here", "--methods", "vsepp"))
    answer = looked(call, capsys)
    trial = harness.open().trial(TRIAL)
    top = trial.top("t2i")
    assert answer["hubness"]["t2i"] == trial.looks().hubness["t2i"].as_json()
    assert 0 < answer["hubness"]["t2i"]["times"] <= len(top.queries) and answer["category"] == {}
    assert answer["notes"] == ["no category-level mAP: the images of tiny have no categories"]
    assert call("looks", TRIAL, "--score") == 3
    assert "has no categories of its images" in capsys.readouterr().err
    assert call("looks", "nobody/tiny/s0") == 2


@pytest.mark.parametrize(("dataset", "is_offered"), [("coco-objects", True), ("f30k", False)])
def test_scores_are_offered_to_be_made_again_where_that_gives_something_new(dataset: str, is_offered: bool) -> None:
    run = run_of(result_of(spec_of(dataset=dataset)))
    *_, note = missing(Looks(), run, discover(Config(root=Path.cwd())))
    assert ("--score" in note) == is_offered == (f"the images of {dataset} have no categories" not in note)


def test_category_level_map_is_kept_and_can_be_made_again(
    labelled: None, project: Path, call: Call, capsys: Captured
) -> None:
    assert call("run", "--here", "--methods", "vsepp,chance") == 0
    capsys.readouterr()
    kept = looked(call, capsys)
    assert {"i2t_map", "t2i_map"} <= {*kept["category"]} and not kept["notes"]
    copies = [*Path("runs").rglob(LOOKS)]
    assert len(copies) == 4, "in the folders of two trials, and in the store"
    for copy in copies:
        copy.unlink()
    assert looked(call, capsys)["category"] == {}
    assert looked(call, capsys, "--score")["category"] == pytest.approx(kept["category"], abs=0.01)
    assert len([*Path("runs").rglob(LOOKS)]) == 2
    assert looked(call, capsys)["category"] == pytest.approx(kept["category"], abs=0.01)
    steps: list[Progress] = []
    looks = harness.open().look(TRIAL, progress=steps.append)
    assert looks.category == pytest.approx(kept["category"], abs=0.01)
    assert [(step.name, step.state) for step in steps] == [(TRIAL, "ranking")]


def test_the_rows_page_and_json_have_looks_and_the_ranking_has_not(
    labelled: None, project: Path, call: Call, capsys: Captured
) -> None:
    assert call("run", "--here", "--methods", "vsepp,chance") == 0
    assert call("report", "--format", "md,html,json") == 0
    (page,) = Path("reports/tiny-all").glob("vsepp-*.md")
    assert "## Further looks" in page.read_text() and "category-level mAP, %, 2 categories" in page.read_text()
    assert "Further looks" in Path("reports/tiny-all.html").read_text()
    board = json.loads(Path("reports/tiny-all.json").read_text())
    (row,) = [row for row in board["rows"] if row["method"] == "vsepp"]
    assert row["looks"]["category"]["i2t_queries"] == 8 and row["looks"]["hubness"]["i2t"]["k"] == 10
    assert not [name for name in row["measures"] if "category" in name]
    assert "category" not in Path("reports/tiny-all.md").read_text()


def test_scores_of_a_file_have_looks_too(labelled: None, project: Path, call: Call, capsys: Captured) -> None:
    result = harness.evaluate(np.random.default_rng(0).normal(size=shape()), "tiny")
    assert result.category["i2t_random"] == pytest.approx(50, abs=5) and result.hubness["i2t"].k == 10
    np.save("scores.npy", np.random.default_rng(0).normal(size=shape()))
    assert call("score", "scores.npy", "--dataset", "tiny", "--name", "noise") == 0
    capsys.readouterr()
    assert call("looks", "external:noise/tiny/s0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["category"] == pytest.approx(result.category)
    assert call("looks", "external:noise/tiny/s0", "--score") == 2
    assert "give that file to `harness score` again" in capsys.readouterr().err


def shape() -> tuple[int, int]:
    """Images and captions of the test split."""
    (line,) = harness.open().datasets().query("name == 'tiny'").to_dict("records")
    return line["images"], line["captions"]


def test_an_ensemble_is_looked_at_by_the_mean_of_its_members_scores(
    labelled: None, project: Path, call: Call, capsys: Captured
) -> None:
    assert call("run", "--here", "--methods", "vsepp+chance,vsepp@3:scan_t2i") == 0
    ask("swap")
    capsys.readouterr()
    assert call("looks", "chance+vsepp/tiny/s0", "--json") == 0
    before = json.loads(capsys.readouterr().out)
    assert "two-way choices not answered yet: swap" in "".join(before["notes"])
    assert call("looks", "chance+vsepp/tiny/s0", "--score", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["category"] == pytest.approx(before["category"], abs=0.01) and not again["notes"]
    members = [harness.open().load(f"{name}/tiny/s0") for name in ("chance", "vsepp")]
    right, wrong = (
        sum(one.score(one.encode_images(), one.encode_captions([text])) for one in members) for text in CHOICE
    )
    assert again["choices"]["swap"]["accuracy"] == pytest.approx(100 * (right > wrong).mean())
    assert call("looks", "vsepp@3:scan_t2i/tiny/s0", "--json") == 0
    assert "scores only the first candidates of each query" in "".join(json.loads(capsys.readouterr().out)["notes"])
    assert call("looks", "vsepp@3:scan_t2i/tiny/s0", "--score") == 2
    assert "look at the trial of a stage" in capsys.readouterr().err


CHOICE = ("a red circle", "a blue square")


def ask(name: str) -> None:
    """Give the dataset a set of two-way choices, one per image."""
    ids = harness.open().load("vsepp/tiny/s0").gallery.image_ids
    folder = harness.open().config.data / "sets"
    folder.mkdir(parents=True)
    right, wrong = CHOICE
    (folder / "own.json").write_text(json.dumps([{"image": one, "right": right, "wrong": wrong} for one in ids]))
    card = Path("cards/tiny/card.toml")
    card.write_text(
        f'{card.read_text()}\n[[choices]]\nname = "{name}"\nfolder = "sets"\nfile = "own.json"\norigin = "x"\n'
    )
