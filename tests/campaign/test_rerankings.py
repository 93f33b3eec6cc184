"""Rerankings: an embedding method proposes, a fragment method orders the first k, in a row of its own kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from finished_projects import Finish
from tiny_project import Call, write_dataset

import harness
from harness.board.standings import Board, boards_of
from harness.campaign.current import current
from harness.campaign.plan import Plan, plan
from harness.config.project import load
from harness.config.registry import discover
from harness.config.selection import Reranking, Selection, member_names, reranking_named
from harness.errors import DataError, UsageError
from harness.evaluation.records import RANKS, TrialRanks, read_ranks
from harness.evaluation.scoring import score_split
from harness.layouts.opening import open_dataset
from harness.tracking.result_store import ResultStore
from harness.trial.device import choose_device
from harness.trial.ensembles import PAIRS, QUERY_MS, composite_spec, is_reranking
from harness.trial.folder import CHECKPOINT, read_result
from harness.trial.models import build_method, load_best
from harness.trial.results import Assignment, Failure, TrialResult

Captured = pytest.CaptureFixture[str]
RUN = ("run", "--here", "--methods")
NAME = "vsepp@3:scan_t2i"


@pytest.fixture
def stages(finish: Finish) -> Path:
    """A project with both stages, and rerankings of them with a small k and one as large as the gallery."""
    return finish((*RUN, f"{NAME},vsepp@32:scan_t2i"))


def planned(methods: str = NAME, **more: frozenset[Failure]) -> Plan:
    config = load()
    return plan(config, discover(config), Selection(tuple(methods.split(","))), **more)


def reranking_of(trials: Plan) -> Assignment:
    (one,) = (trial.assignment for trial in trials.trials if is_reranking(trial.spec))
    return one


def result_of(assignment: Assignment) -> TrialResult:
    result = read_result(assignment.folder)
    assert result is not None
    return result


def ranks_of(assignment: Assignment) -> TrialRanks:
    ranks = read_ranks((assignment.folder / RANKS).read_bytes())
    assert ranks is not None
    return ranks


def board() -> Board:
    config = load()
    registry = discover(config)
    runs = ResultStore(f"sqlite:///{Path('runs/mlflow.db').absolute()}").runs()
    (one,) = boards_of(runs, registry.methods, current(config, registry))
    return one


def scores_of(member: Assignment) -> np.ndarray:
    dataset = open_dataset(member.dataset_card, member.data, member.cache)
    method = build_method(member.method_card, member.spec.settings, dataset, member.spec.seed)
    load_best(method, member.folder, member.name, member.spec.key)
    return score_split(method, dataset.split("test"), choose_device("cpu")).scores


def textbook_ranks(first: np.ndarray, second: np.ndarray, pairs: np.ndarray, k: int) -> list[int]:
    """The rank of each pair's item for its query (the rows), one query after another."""
    ranks = []
    for query, item in pairs.tolist():
        proposed = np.argsort(-first[query], kind="stable")
        head, tail = proposed[:k], proposed[k:]
        order = [*head[np.argsort(-second[query, head], kind="stable")], *tail]
        others = {other for of, other in pairs.tolist() if of == query and other != item}
        ranks.append(1 + order.index(item))
        assert len(others) < len(order)
    return ranks


def test_with_k_of_the_whole_gallery_the_row_is_the_fragment_methods_own(stages: Path) -> None:
    one = reranking_of(planned("vsepp@32:scan_t2i"))
    mine, plain = ranks_of(one), ranks_of(one.members[1])
    for direction in ("i2t", "t2i"):
        assert mine.ranks[direction].tolist() == plain.ranks[direction].tolist()
    assert result_of(one).measures == result_of(one.members[1]).measures


@pytest.mark.parametrize("k", [1, 3, 9])
def test_a_small_k_gives_the_order_that_numpy_gives(stages: Path, call: Call, k: int) -> None:
    assert call(*RUN, f"vsepp@{k}:scan_t2i") == 0
    one = reranking_of(planned(f"vsepp@{k}:scan_t2i"))
    first, second = map(scores_of, one.members)
    ranks = ranks_of(one)
    assert ranks.ranks["i2t"].tolist() == textbook_ranks(first, second, ranks.pairs, k)
    assert ranks.ranks["t2i"].tolist() == textbook_ranks(first.T, second.T, ranks.pairs[:, ::-1], k)


def test_only_candidates_are_scored_and_the_cost_says_how_many(stages: Path) -> None:
    one = reranking_of(planned())
    first = scores_of(one.members[0])
    pairs = np.zeros(first.shape, bool)
    np.put_along_axis(pairs, np.argsort(-first, axis=1, kind="stable")[:, :3], True, axis=1)
    np.put_along_axis(pairs.T, np.argsort(-first.T, axis=1, kind="stable")[:, :3], True, axis=1)
    cost = result_of(one).cost
    assert cost[PAIRS] == pairs.sum() < pairs.size
    assert cost[QUERY_MS] > 0
    assert "score_pairs_per_second" not in cost
    assert cost["parameters"] == sum(result_of(member).cost["parameters"] for member in one.members)
    assert result_of(reranking_of(planned("vsepp@32:scan_t2i"))).cost[PAIRS] == pairs.size


@pytest.mark.slow
def test_members_that_are_done_are_not_trained_again(finish: Finish, call: Call, capsys: Captured) -> None:
    finish((*RUN, "vsepp,scan_t2i"))
    one = reranking_of(planned())
    before = {file: file.stat().st_mtime_ns for member in one.members for file in member.folder.iterdir()}
    assert call(*RUN, NAME) == 0
    assert "1 trial to run, 2 done" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for member in one.members for file in member.folder.iterdir()} == before


@pytest.mark.slow
def test_a_reranking_is_among_no_single_models_and_says_what_it_is(stages: Path, call: Call, capsys: Captured) -> None:
    assert {row.method for row in board().ranked} == {"vsepp", "scan_t2i"}
    _, other = sorted(board().ensembles, key=lambda row: row.method)
    assert (other.method, other.kind, other.remark) == (
        NAME,
        "reranking",
        "reranking: scan_t2i orders the first 3 of vsepp",
    )
    assert board().composites == "Rerankings"
    text = Path("reports/tiny-all.md").read_text()
    assert "## Rerankings" in text and "reranking: scan_t2i orders the first 3 of vsepp" in text
    assert other.command.startswith(
        "harness run --methods vsepp@3:scan_t2i --datasets tiny --protocol all --seeds 0 -s"
    )
    assert call(*RUN, "vsepp+chance") == 0
    assert board().composites == "Ensembles and rerankings"
    page = (Path("reports/tiny-all") / f"vsepp_3_scan_t2i-{other.recipe[:8]}.md").read_text()
    assert "among the ensembles and rerankings" in page and "pairs scored again by the second stage" in page
    assert call("report", "--format", "json,html,latex,csv") == 0
    assert "Ensembles and rerankings" in Path("reports/tiny-all.html").read_text()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("vsepp@0:scan_t2i", "k is 0; order at least the first item"),
        ("vsepp@33:scan_t2i", "k is 33, and the larger gallery of tiny, protocol all, has 32"),
        ("vsepp@many:scan_t2i", "a reranking is PROPOSER@K:METHOD"),
        ("vsepp@3", "a reranking is PROPOSER@K:METHOD"),
        ("vsepp@3:scan_*", "two full names"),
        ("vsepp@3:vsepp", "vsepp would order what it has proposed"),
        ("scan_t2i@3:scan_i2t", "scan_t2i is a fragment method, which scores every pair"),
        ("vsepp@3:chance", "chance is an embedding method"),
        ("nosuch@3:scan_t2i", "unknown method 'nosuch'"),
        ("chance+vsepp@3:scan_t2i", "a reranking is PROPOSER@K:METHOD"),
    ],
)
def test_a_wrong_reranking_is_named_and_nothing_is_run(
    project: Path, call: Call, capsys: Captured, name: str, why: str
) -> None:
    assert call("run", "--methods", name) == 2
    assert why in " ".join(capsys.readouterr().err.split())
    assert not Path("runs/trials").exists()


def test_stages_of_other_data_protocol_or_seed_are_refused(project: Path) -> None:
    first, second = (member.spec for member in reranking_of(planned()).members)
    for change in ({"data_fingerprint": "ef" * 32}, {"protocol": "half"}, {"seed": 3}):
        with pytest.raises(DataError, match="is no member of an ensemble or a reranking with vsepp/tiny/s0"):
            composite_spec(NAME, [first, second.model_copy(update=change)])


def test_k_is_part_of_the_identity(project: Path) -> None:
    assert reranking_of(planned("vsepp@3:scan_t2i")).spec.key != reranking_of(planned("vsepp@4:scan_t2i")).spec.key


@pytest.mark.slow
def test_weights_that_are_gone_fail_it_and_name_the_member(stages: Path, call: Call, capsys: Captured) -> None:
    (reranking_of(planned()).members[1].folder / CHECKPOINT).unlink()
    assert call(*RUN, "vsepp@5:scan_t2i") == 4
    assert "run scan_t2i/tiny/s0 again with --force" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_limited_gallery_may_be_smaller_than_k(project: Path, call: Call) -> None:
    assert call(*RUN, "vsepp@32:scan_t2i", "--limit", "4") == 0


@pytest.mark.slow
def test_what_was_trained_is_reranked_on_another_dataset(stages: Path, call: Call) -> None:
    (stages / "cards" / "other").mkdir()
    write_dataset(stages / "cards" / "other" / "card.toml", stages / "runs" / "cache", "other", seed=7)
    assert call(*RUN, f"{NAME},vsepp@39:scan_t2i", "--test-on", "other") == 0
    config = load()
    trials = plan(config, discover(config), Selection(("vsepp@39:scan_t2i",), test_on=("other",))).trials
    one = trials[-1].assignment
    assert one.spec.label == "vsepp@39:scan_t2i/tiny:other/s0"
    assert result_of(one).measures == result_of(one.members[1]).measures


@pytest.mark.slow
def test_other_commands_take_a_reranking_by_its_name_or_say_why_not(stages: Path, call: Call, capsys: Captured) -> None:
    assert call("compare", NAME, "scan_t2i", "--json") == 0
    (comparison,) = json.loads(capsys.readouterr().out)
    assert comparison["sides"][0]["name"] == f"{NAME} (n = 1)"
    assert call("status", "--methods", NAME, "--json") == 0
    assert [trial["state"] for trial in json.loads(capsys.readouterr().out)["trials"]] == ["done"] * 3
    assert call("export", NAME, "--format", "trec", "-o", "out") == 0
    for words, why in (
        (("search", "--methods", NAME), "a reranking has no settings to search; search its members (vsepp,scan_t2i)"),
        (("reproduce", f"{NAME}/tiny/s0"), "reproduce its members (vsepp, scan_t2i)"),
        (("export", f"{NAME}/tiny/s0", "--weights", "w"), "it is made of other trials and has no weights of its own"),
        (("looks", f"{NAME}/tiny/s0", "--score"), "scores only the first candidates of each query"),
    ):
        assert call(*words) == 2
        assert why in " ".join(capsys.readouterr().err.split())
    project = harness.open(".")
    assert [trial.name for trial in project.run(NAME, here=True)] == [
        *("vsepp/tiny/s0", "scan_t2i/tiny/s0"),
        f"{NAME}/tiny/s0",
    ]
    with pytest.raises(UsageError, match="has no weights of its own; name the trial of a member"):
        project.load(f"{NAME}/tiny/s0")
    assert call("forget", f"{NAME}/tiny/s0", "-y") == 0
    assert [trial.state for trial in planned().trials] == ["done", "done", "new"]


def test_names() -> None:
    assert reranking_named("vsepp@128:bssan") == Reranking("vsepp", 128, "bssan")
    assert str(Reranking("vsepp", 128, "bssan")) == "vsepp@128:bssan"
    assert reranking_named("a+b") is None
    assert member_names("vsepp@128:bssan") == ("vsepp", "bssan")
    assert member_names("a+b") == ("a", "b")
    assert member_names("external:x@3:y") == member_names("caan") == ()
