"""Transfer: trained and selected on one dataset, tested on another, in rows that no other board has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_files import write_precomp
from finished_projects import Finish
from textbook_recalls import textbook
from tiny_project import Call, write_dataset

import harness
from harness.board.cells import file_name
from harness.board.standings import Board, boards_of
from harness.campaign.current import current
from harness.campaign.plan import Plan, plan
from harness.config.cards import SELECTION
from harness.config.project import load
from harness.config.registry import discover
from harness.config.selection import Selection
from harness.config.transfer import without_words
from harness.errors import UsageError
from harness.evaluation.scoring import score_split
from harness.executors.file_transfer import RemoteWorker, unpack
from harness.layouts.opening import open_dataset
from harness.tracking.result_store import ResultStore
from harness.trial.device import choose_device
from harness.trial.folder import CHECKPOINT, read_epochs, read_result
from harness.trial.models import build_method, load_best
from harness.trial.results import RECALLS, WEIGHTS_OF, Assignment, EpochReport, State, TrialResult

Captured = pytest.CaptureFixture[str]
RUN = ("run", "--here", "--datasets", "tiny", "--test-on", "other")
WIDE = """
name = "wide"
title = "Regions of another width"
summary = "For tests."
layout = "precomp"
folder = "wide"
licence = "none"
origin = "none"
feature_width = 7
max_regions = 3
[options]
captions_each = 5
[splits]
test = { images = 2, captions = 10 }
[text]
min_count = 1
vocabulary_splits = ["test"]
[[protocols]]
name = "all"
images = 2
captions = 10
"""


@pytest.fixture
def two(project: Path) -> Path:
    """A project with a second dataset of the same kind, and one of another width."""
    return with_others(project)


def with_others(project: Path) -> Path:
    for name in ("other", "wide"):
        (project / "cards" / name).mkdir()
    write_dataset(project / "cards" / "other" / "card.toml", project / "runs" / "cache", "other", seed=7)
    (project / "cards" / "wide" / "card.toml").write_text(WIDE)
    (project / "data" / "wide").mkdir(parents=True)
    write_precomp(project / "data" / "wide", "test", np.ones((2, 3, 7), np.float32), "a red circle\n" * 10)
    return project


def planned(*methods: str, **more: bool) -> Plan:
    config = load()
    return plan(config, discover(config), Selection(methods, ("tiny",), test_on=("other",)), **more)


def transfer_of(trials: Plan, method: str = "vsepp") -> Assignment:
    (one,) = (trial.assignment for trial in trials.trials if trial.spec.tested_on and trial.spec.method == method)
    return one


def result_of(assignment: Assignment) -> TrialResult:
    result = read_result(assignment.folder)
    assert result is not None
    return result


def boards() -> dict[tuple[str, str], Board]:
    config = load()
    registry = discover(config)
    runs = ResultStore(f"sqlite:///{Path('runs/mlflow.db').absolute()}").runs()
    return {(one.dataset, one.protocol): one for one in boards_of(runs, registry.methods, current(config, registry))}


def written(assignment: Assignment) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in assignment.folder.iterdir()}


@pytest.mark.slow
def test_a_transfer_is_tested_on_the_other_dataset_with_the_trained_vocabulary(two: Path, call: Call) -> None:
    assert call(*RUN, "--methods", "vsepp") == 0
    one = transfer_of(planned("vsepp"))
    assert one.test_card is not None
    own = open_dataset(one.dataset_card, one.data, one.cache)
    other = open_dataset(without_words(one.test_card), one.data, one.cache).split("test")
    method = build_method(one.method_card, one.spec.settings, own, 0)
    load_best(method, one.weights.folder, one.name, one.weights.spec.key)
    read = open_dataset(one.test_card, one.data, one.cache).worded_as(own).split("test")
    assert read.tokens.ids.tolist() == [
        token for caption in other.captions for token in own.vocabulary.encode_all([caption])[0][0]
    ]
    scores = score_split(method, read, choose_device("cpu")).scores
    result = result_of(one)
    assert {name: result.measures[name] for name in RECALLS} == pytest.approx(textbook(scores, read))
    source = result_of(one.weights)
    assert result.environment[WEIGHTS_OF] == source.key
    assert (result.val, result.best_epoch) == (source.val, source.best_epoch)
    assert [report.val for report in read_epochs(one.folder)] == [
        report.val for report in read_epochs(one.weights.folder)
    ]


@pytest.mark.slow
def test_what_is_trained_is_not_trained_again_under_whichever_protocol_it_was(
    two: Path, call: Call, capsys: Captured
) -> None:
    card = two / "cards" / "tiny" / "card.toml"
    whole = card.read_text()[card.read_text().index("[[protocols]]") :]
    card.write_text(card.read_text() + whole.replace('"all"', '"again"'))
    assert call("run", "--here", "--methods", "vsepp", "--protocol", "again") == 0
    capsys.readouterr()
    assert call(*RUN, "--methods", "vsepp") == 0
    printed = capsys.readouterr()
    assert "1 trial to run, 1 done" in printed.err + printed.out
    one = transfer_of(planned("vsepp"))
    assert one.weights.spec.protocol == "again"
    assert not (one.folder / CHECKPOINT).exists()
    assert call(*RUN, "--methods", "vsepp") == 0
    assert "nothing to do: 2 trials done" in capsys.readouterr().out


def test_a_search_s_weights_under_val_are_reused_and_its_trial_is_on_no_board(two: Path) -> None:
    config = load()
    registry = discover(config)
    (source,) = (trial.assignment for trial in planned("vsepp").trials if not trial.spec.tested_on)
    spec = source.spec.model_copy(update={"protocol": SELECTION, "protocol_version": 0})
    from harness.executors.executor import InProcess

    (result,) = InProcess().run(
        [source.model_copy(update={"spec": spec, "folder": config.trials / spec.key})], lambda _: True
    )
    assert result.state is State.DONE
    trials = plan(config, registry, Selection(("vsepp",), ("tiny",), test_on=("other",))).trials
    assert [trial.spec.protocol for trial in trials] == ["other:all"]
    assert trials[0].assignment.weights.spec.key == spec.key


@pytest.mark.slow
def test_where_the_weights_are_gone_the_transfer_is_trained_and_gives_the_same(two: Path, call: Call) -> None:
    assert call("run", "--here", "--methods", "vsepp") == 0
    (source,) = (trial.assignment for trial in planned("vsepp").trials if not trial.spec.tested_on)
    before = written(source)
    assert call(*RUN, "--methods", "vsepp") == 0
    reused = result_of(transfer_of(planned("vsepp")))
    assert call("forget", "vsepp/tiny:other/s0", "-y") == 0
    (source.folder / CHECKPOINT).unlink()
    assert call(*RUN, "--methods", "vsepp") == 0
    one = transfer_of(planned("vsepp"))
    assert (one.folder / CHECKPOINT).is_file() and one.members == ()
    assert result_of(one).measures == reused.measures and WEIGHTS_OF not in result_of(one).environment
    assert {file: when for file, when in before.items() if file.name != CHECKPOINT} == written(source)


@pytest.mark.slow
def test_weights_of_another_trial_in_the_folder_are_refused(two: Path, call: Call, capsys: Captured) -> None:
    assert call("run", "--here", "--methods", "vsepp", "--seeds", "0,1") == 0
    source, other = (trial.assignment for trial in plan_of_seeds((0, 1)).trials if not trial.spec.tested_on)
    (source.folder / CHECKPOINT).write_bytes((other.folder / CHECKPOINT).read_bytes())
    assert call(*RUN, "--methods", "vsepp") == 4
    assert "is damaged; run vsepp/tiny/s0 again with --force" in " ".join(capsys.readouterr().out.split())


def plan_of_seeds(seeds: tuple[int, ...]) -> Plan:
    config = load()
    return plan(config, discover(config), Selection(("vsepp",), ("tiny",), seeds=seeds, test_on=("other",)))


def page(suffix: str) -> Path:
    return Path("reports", file_name("tiny", "other:all", suffix))


@pytest.mark.slow
def test_rows_of_a_transfer_share_a_board_with_no_others_and_say_where_they_were_trained(
    two: Path, call: Call, capsys: Captured
) -> None:
    assert call("run", "--here", "--methods", "vsepp,chance", "--datasets", "tiny,other") == 0
    assert call(*RUN, "--methods", "vsepp,chance") == 0
    known = boards()
    assert sorted(known) == [("other", "all"), ("tiny", "all"), ("tiny", "other:all")]
    for place, board in known.items():
        assert sorted(row.method for row in board.ranked) == ["chance", "vsepp"], place
        assert not board.stale and not board.incomplete
    said = "trained on tiny, selected on its val, with its vocabulary, and tested on other"
    assert said in page("md").read_text()
    assert "Transfer" not in Path("reports/tiny-all.md").read_text() + Path("reports/other-all.md").read_text()
    assert "of the words unknown" in page("md").read_text()
    capsys.readouterr()
    assert call("report", "--format", "json,html,latex,csv") == 0
    board = json.loads(page("json").read_text())
    assert (board["dataset"], board["tested_on"], board["protocol"]) == ("tiny", "other", "other:all")
    row = known["tiny", "other:all"].ranked[0]
    assert row.command.startswith(f"harness run --methods {row.method} --datasets tiny --test-on other --protocol all")


@pytest.mark.slow
def test_other_files_of_the_other_dataset_are_another_row(two: Path, call: Call) -> None:
    assert call(*RUN, "--methods", "vsepp") == 0
    first = transfer_of(planned("vsepp"))
    card = two / "cards" / "other" / "card.toml"
    card.write_text(card.read_text().replace("min_count = 1", "min_count = 3"))
    assert transfer_of(planned("vsepp")).spec.key == first.spec.key  # its own words are nobody's here
    write_dataset(card, two / "runs" / "cache", "other", seed=8)
    again = transfer_of(planned("vsepp"))
    assert again.spec.key != first.spec.key
    assert again.spec.trained_key == first.spec.trained_key
    assert call(*RUN, "--methods", "vsepp") == 0
    board = boards()["tiny", "other:all"]
    assert len(board.ranked) == len(board.stale) == 1


def test_the_plan_names_unknown_words_before_anything_runs(two: Path, call: Call, capsys: Captured) -> None:
    assert call(*RUN, "--methods", "vsepp", "-n") == 0
    printed = capsys.readouterr()
    assert "vsepp/tiny:other/s0" in printed.out and "other:all" in printed.out
    assert "other test: 40 of 544 words (7.4 %) are unknown to methods trained on tiny" in " ".join(printed.out.split())
    assert not Path("runs/trials").exists()


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("--test-on", "wide"), 3, "wide: regions have 7 numbers, those of tiny 205"),
        (("--test-on", "tiny"), 2, "--test-on tiny: that is what is trained on"),
        (("--test-on", "othre"), 2, "unknown dataset 'othre'"),
        (("--test-on", "other", "--protocol", "half"), 2, "dataset other: unknown protocol 'half'"),
    ],
)
def test_a_wrong_test_is_named_and_nothing_is_run(
    two: Path, call: Call, capsys: Captured, words: tuple[str, ...], code: int, why: str
) -> None:
    assert call("run", "--here", "--methods", "vsepp", *words) == code
    assert why in " ".join(capsys.readouterr().err.split())
    assert not Path("runs/trials").exists()


def test_a_protocol_of_the_same_name_is_refused(two: Path, call: Call, capsys: Captured) -> None:
    card = two / "cards" / "tiny" / "card.toml"
    whole = card.read_text()[card.read_text().index("[[protocols]]") :]
    card.write_text(card.read_text() + whole.replace('"all"', '"other:all"'))
    assert call(*RUN) == 2
    assert "has the name of a test on other; rename it" in capsys.readouterr().err


@pytest.mark.slow
def test_an_ensemble_of_transfers_travels_to_another_node_with_all_weights(
    two: Path, call: Call, tmp_path: Path
) -> None:
    assert call(*RUN, "--methods", "vsepp+chance") == 0
    one = transfer_of(planned("vsepp+chance"), "chance+vsepp")
    there = one.model_copy(update={"folder": tmp_path / "there"})
    for assignment in (there, next(part for part in one.members if part.members)):
        at = assignment.model_copy(update={"folder": tmp_path / "there" / assignment.spec.key})
        worker = RemoteWorker()
        reply = worker.begin(at, worker.files_for(at))
        while isinstance(reply.outcome, EpochReport):
            reply = worker.step(True)
        unpack(reply.files, at.folder)
        assert result_of(at).measures == result_of(assignment if assignment is not there else one).measures


@pytest.mark.slow
def test_other_commands_work_or_say_why_not(two: Path, call: Call, capsys: Captured) -> None:
    assert call(*RUN, "--methods", "vsepp,chance") == 0
    capsys.readouterr()
    assert call("status", "--methods", "vsepp", "--datasets", "tiny", "--test-on", "other", "--json") == 0
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert [(trial["label"], trial["state"]) for trial in trials] == [
        ("vsepp/tiny/s0", "done"),
        ("vsepp/tiny:other/s0", "done"),
    ]
    assert call("compare", "vsepp/tiny/s0", "vsepp/tiny:other/s0") == 2
    assert "cannot be compared: protocol all and other:all" in capsys.readouterr().err
    assert call("compare", "vsepp", "chance", "--json") == 0
    assert {one["board"] for one in json.loads(capsys.readouterr().out)} == {"tiny/other:all"}
    assert call("export", "vsepp/tiny:other/s0", "--format", "trec", "-o", "out") == 0
    assert call("reproduce", "vsepp/tiny:other/s0") == 0
    assert "every measure is the same" in " ".join(capsys.readouterr().out.split())
    key = transfer_of(planned("vsepp")).spec.key
    assert call("explain", "--method", "bssan", "--dataset", "tiny", "--image", "x", "--run", key) == 2
    assert "with the weights of vsepp/tiny/s0; name that trial" in " ".join(capsys.readouterr().err.split())
    assert call("forget", "vsepp/tiny:other/s0", "-y") == 0
    assert [trial.state for trial in planned("vsepp").trials] == ["done", "new"]


@pytest.mark.slow
def test_the_python_api_runs_transfers(two: Path) -> None:
    project = harness.open(two)
    trials = project.run("vsepp", datasets="tiny", test_on="other", here=True)
    assert [trial.name for trial in trials] == ["vsepp/tiny/s0", "vsepp/tiny:other/s0"]
    assert list(project.board("tiny", "other:all")["row"]) == ["vsepp"]
    assert sorted(project.results()["tested_on"]) == ["", "other"]
    with pytest.raises(UsageError, match="with the weights of vsepp/tiny/s0"):
        project.load("vsepp/tiny:other/s0")


@pytest.mark.slow
def test_a_transfer_of_a_trial_that_failed_is_not_made_and_names_it(
    finish: Finish, call: Call, capsys: Captured
) -> None:
    project = finish(("run", "--here", "--methods", "nan"), code=4)
    with_others(project)
    trials = planned("nan").trials
    assert [trial.state for trial in trials] == ["failed", "new"]
    assert call(*RUN, "--methods", "nan") == 4
    assert "not made, as its member nan/tiny/s0 has failed" in " ".join(capsys.readouterr().out.split())
