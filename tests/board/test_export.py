"""`harness export`: files from the store alone whose measures, by other people's tools, are those of the board."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pandas
import pytest
from folds import card
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_project import Call

from harness.board.export import write_trec
from harness.campaign.external_scores import rank_file, score_request
from harness.config.project import load
from harness.config.registry import discover
from harness.data.split import Split
from harness.evaluation.measures import mean_measures
from harness.evaluation.protocols import folds, rank_folds
from harness.evaluation.rankings import StoredRun, answers_of, falling, files_of, ids_of, judged
from harness.evaluation.records import of_ranks, of_shortlists
from harness.evaluation.shortlists import shortlists
from harness.layouts.opening import open_dataset
from harness.trial.results import TrialSpec

Captured = pytest.CaptureFixture[str]
Array = np.ndarray[Any, Any]
CUTOFFS = (1, 5, 10)


def pairs_of(rng: np.random.Generator, images: int) -> Array:
    """One to four captions per image, in a random order, and one caption of two images."""
    each = np.repeat(np.arange(images), rng.integers(1, 5, images))
    pairs = np.stack([each, rng.permutation(len(each))], axis=1)
    shared = [images - 1, pairs[0, 1]]
    return np.concatenate([pairs, [shared]]).astype(np.int64)


def run_of(scores: Array, pairs: Array, n_folds: int, ids: list[str]) -> tuple[StoredRun, dict[str, float]]:
    """A run with these scores, and the measures of a trial that has them."""
    n, m = scores.shape
    protocol = card(n, m, folds=n_folds)
    parts = folds(protocol, n, pairs)
    ranked = rank_folds(scores, parts)
    rankings = of_shortlists(shortlists(scores, parts), ids, ["a caption"] * m)
    ranks = of_ranks(pairs, parts, ranked)
    run = StoredRun("a" * 16, "a method", "b" * 16, 0, "data", "all", "v1-cdef", ranks, rankings)
    return run, mean_measures(ranked)


def files(run: StoredRun) -> list[tuple[str, str]]:
    assert run.rankings
    return [*files_of(run, run.rankings)]


def success(run: str, qrels: str) -> dict[int, float]:
    """R@K in percent as pytrec_eval has it, the mean over folds, which the queries' names tell."""
    wanted = [ir_measures.Success @ k for k in CUTOFFS]
    found = ir_measures.pytrec_eval.iter_calc(
        wanted, list(ir_measures.read_trec_qrels(qrels)), list(ir_measures.read_trec_run(run))
    )
    frame = pandas.DataFrame(
        [(one.query_id.partition("@")[2], one.measure.params["cutoff"], one.value) for one in found],
        columns=["fold", "k", "value"],
    )
    means = frame.groupby(["k", "fold"])["value"].mean().groupby("k").mean()
    return {k: 100 * float(means[k]) for k in CUTOFFS}


@pytest.mark.slow
@given(st.sampled_from([2, 5, 1000]), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_trec_files_have_our_recalls_for_other_tools_with_and_without_ties(levels: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = pairs_of(rng, images=36)
    scores = rng.integers(0, levels, (36, pairs[:, 1].max() + 1)).astype(np.float32)
    run, found = run_of(scores, pairs, n, [f"{number}.jpg" for number in range(36)])
    written = files(run)
    for way, (_, lines), (_, qrels) in zip(("i2t", "t2i"), written[::2], written[1::2], strict=True):
        assert success(lines, qrels) == pytest.approx({k: found[f"{way}_r{k}"] for k in CUTOFFS})


def test_a_query_finds_only_what_is_in_its_fold_in_order_of_falling_scores() -> None:
    rng = np.random.default_rng(0)
    pairs = pairs_of(rng, images=36)
    scores = rng.integers(0, 3, (36, pairs[:, 1].max() + 1)).astype(np.float32)
    run, _ = run_of(scores, pairs, 3, [f"{number}" for number in range(36)])
    (_, lines), *_ = files(run)
    captions: dict[str, set[str]] = {}
    last: tuple[str, float] = ("", np.inf)
    for line in lines.splitlines():
        query, _, found, _, score, tag = line.split()
        image, _, fold = query.partition("@")
        assert int(image) // 12 == int(fold) and tag == f"a%20method-s0-{'a' * 16}"
        captions.setdefault(fold, set()).add(found)
        assert query != last[0] or np.float32(score) < np.float32(last[1])
        last = query, float(score)
    assert not captions["1"] & captions["2"]


def test_scores_that_only_float64_tells_apart_stay_in_their_order() -> None:
    pairs = np.array([[0, 0], [1, 1], [2, 2]])
    scores = 0.5 + 1e-12 * np.array([[3, 2, 1], [3, 2, 1], [3, 2, 1]])
    run, found = run_of(scores, pairs, 1, ["a", "b", "c"])
    assert run.rankings
    top, is_positive = judged("i2t", run.ranks, run.rankings.top["i2t"])
    assert np.array_equal(top.results, [[0, 1, 2]] * 3) and found["i2t_r1"] == pytest.approx(100 / 3)
    assert (np.diff(falling(top.scores), axis=1) < 0).all()
    assert np.array_equal(is_positive, np.eye(3, dtype=bool))


def test_ids_are_unique_and_without_blanks() -> None:
    pairs = np.array([[0, 0], [0, 2], [1, 1], [1, 0]])
    run, _ = run_of(np.ones((2, 3)), pairs, 1, ["a b#1/ü.jpg", "@b"])
    assert run.ids.images.tolist() == ["a%20b%231/%C3%BC.jpg", "%40b"]
    assert run.ids.captions.tolist() == ["a%20b%231/%C3%BC.jpg#0", "%40b#0", "a%20b%231/%C3%BC.jpg#1"]
    twice, _ = run_of(np.ones((2, 3)), pairs, 1, ["same", "same"])
    assert twice.ids.images.tolist() == ["0", "1"] == ids_of(run.ranks, None).images.tolist()


def test_runs_with_and_without_stored_ids_have_relevant_items_of_their_own(tmp_path: Path) -> None:
    pairs = np.array([[0, 0], [1, 1], [2, 2]])
    named, _ = run_of(np.ones((3, 3)), pairs, 1, ["a", "b", "c"])
    assert named.rankings
    early = replace(named, key="c" * 16, rankings=named.rankings._replace(image_ids=(), captions=()))
    write_trec([named, early], tmp_path)
    for key, known in (("a" * 16, "-v1-cdef-"), ("c" * 16, "-v1-cdef-numbers-")):
        for way in ("i2t", "t2i"):
            (run,) = tmp_path.glob(f"*{key}-{way}.run")
            queries = {line.split()[0] for line in run.read_text().splitlines()}
            qrels = (tmp_path / f"data-all{known}{way}.qrels").read_text()
            assert queries == {line.split()[0] for line in qrels.splitlines()}


def test_every_query_has_the_ranks_of_all_its_positives() -> None:
    pairs = np.array([[0, 0], [0, 2], [1, 1], [1, 0]])
    run, _ = run_of(np.array([[3.0, 2, 1], [1, 2, 2]]), pairs, 1, ["a", "b"])
    answers = answers_of("i2t", run.ranks)
    assert [ranks.tolist() for ranks in answers.ranks] == [[1, 3], [2, 3]] and answers.tied.tolist() == [False, True]
    answers = answers_of("t2i", run.ranks)
    assert [ranks.tolist() for ranks in answers.ranks] == [[1, 2], [2], [2]] and answers.tied.tolist() == [0, 1, 0]


@pytest.fixture
def keys(project: Path) -> list[str]:
    """Two models on a dataset of two protocols, scored from files; one with many ties."""
    protocols = Path("cards/tiny/card.toml").read_text().partition("[[protocols]]")[2]
    with Path("cards/tiny/card.toml").open("a") as file:
        file.write("[[protocols]]" + protocols.replace('"all"', '"halves"') + "folds = 2\n")
    config, found = load(), []
    for name, levels, protocol in (("many ties", 3, "all"), ("no ties", 10**6, "all"), ("no ties", 10**6, "halves")):
        np.save("scores.npy", np.random.default_rng(levels).integers(0, levels, shape()).astype(np.float32))
        request = score_request(config, discover(config), [Path("scores.npy")], "tiny", protocol, name, 0, "")
        found.append(rank_file(config, request)[1].result.key)
    return found


def split() -> Split:
    config = load()
    return open_dataset(discover(config).datasets["tiny"], config.data, config.results / "cache").split("test")


def shape() -> tuple[int, int]:
    return len(split().images), len(split().captions)


def exported(call: Call, capsys: Captured, *words: str) -> dict[str, Any]:
    assert call("export", *words, "--json") == 0, capsys.readouterr().err
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def measures_of(key: str) -> dict[str, float]:
    found: dict[str, float] = json.loads((Path("runs/trials") / key / "result.json").read_text())["measures"]
    return found


def test_all_ranked_rows_are_exported_as_trec_files(keys: list[str], call: Call, capsys: Captured) -> None:
    found = exported(call, capsys, "--format", "trec", "-o", "out")
    names = {Path(file).name for file in found["files"]}
    assert names == {file.name for file in Path("out").iterdir()} and len(names) == 3 * 2 + 2 * 2
    assert (found["runs"], found["notes"]) == (3, [])
    for key in keys:
        for way in ("i2t", "t2i"):
            (run,) = Path("out").glob(f"*{key}-{way}.run")
            (qrels,) = Path("out").glob(f"tiny-{run.name.split('-')[2]}-v1-*-{way}.qrels")
            ours = measures_of(key)
            theirs = success(run.read_text(), qrels.read_text())
            assert theirs == pytest.approx({k: ours[f"{way}_r{k}"] for k in CUTOFFS})
    before = {file: file.read_bytes() for file in Path("out").iterdir()}
    exported(call, capsys, "--format", "trec", "-o", "again")
    assert {Path("again") / file.name: data for file, data in before.items()} == {
        file: file.read_bytes() for file in Path("again").iterdir()
    }


def test_tables_hold_the_ids_of_the_dataset_and_give_the_measures_again(
    keys: list[str], call: Call, capsys: Captured
) -> None:
    exported(call, capsys, "--format", "csv")
    ranks, rankings = (pandas.read_csv(f"export/{name}.csv", dtype={"run": str}) for name in ("ranks", "rankings"))
    assert ranks.columns[0] == rankings.columns[0] == "run", "a line begins with a word of ours"
    for key in keys:
        for way in ("i2t", "t2i"):
            own = ranks[(ranks["run"] == key) & (ranks["direction"] == way)]
            ours = measures_of(key)
            for k in CUTOFFS:
                assert (own["rank"] <= k).groupby(own["fold"]).mean().mean() == pytest.approx(ours[f"{way}_r{k}"] / 100)
            assert 100 * own["tied"].groupby(own["fold"]).mean().mean() == pytest.approx(ours[f"{way}_tied"])
    assert set(ranks[ranks["direction"] == "i2t"]["query"]) == set(split().image_ids)
    first = rankings[rankings["is_positive"]].groupby(["run", "direction", "fold", "query"])["rank"].min()
    best = ranks.set_index(["run", "direction", "fold", "query"])["rank"]
    assert first.eq(best.loc[first.index]).all() and len(first) == (best <= 20).sum()
    assert ranks["ranks"].astype(str).str.split().map(lambda all_: int(all_[0])).eq(ranks["rank"]).all()
    assert set(rankings["method"]) == {"external:many ties", "external:no ties"}


def test_parquet_has_what_csv_has(keys: list[str], call: Call, capsys: Captured) -> None:
    for form in ("csv", "parquet"):
        exported(call, capsys, "--format", form)
    for name in ("ranks", "rankings"):
        table = pandas.read_parquet(f"export/{name}.parquet")
        if name == "ranks":
            table["ranks"] = table["ranks"].map(lambda ranks: " ".join(map(str, ranks)))
        kinds = {column: "float32" if column == "score" else str for column in ("run", "score", "ranks")}
        plain = pandas.read_csv(f"export/{name}.csv", dtype={c: k for c, k in kinds.items() if c in table})
        pandas.testing.assert_frame_equal(table, plain, check_dtype=False)


@pytest.mark.slow
def test_rows_runs_datasets_and_protocols_can_be_chosen(keys: list[str], call: Call, capsys: Captured) -> None:
    def runs(*words: str) -> set[str]:
        exported(call, capsys, *words, "--format", "csv")
        return set(pandas.read_csv("export/ranks.csv", dtype={"run": str})["run"])

    assert runs("external:no ties") == set(keys[1:])
    assert runs("external:no ties", "--protocol", "halves") == {keys[2]}
    assert runs(keys[0][:8], "external:many ties") == {keys[0]}
    assert runs("--dataset", "tiny") == set(keys)


def test_what_cannot_be_chosen_is_refused(keys: list[str], call: Call, capsys: Captured) -> None:
    for words, code, message in (
        (("external:no tie",), 2, "unknown row 'external:no tie'; did you mean external:no ties"),
        (("--dataset", "tinny"), 2, "unknown dataset 'tinny'; did you mean tiny"),
        (("--protocol", "half"), 2, "unknown protocol 'half'; did you mean halves"),
        (("-o", "harness.toml/below"), 2, "choose another folder with -o"),
        (("-o", "/dev/null"), 2, "choose another folder with -o"),
    ):
        assert call("export", *words, "--format", "trec") == code
        assert message in capsys.readouterr().err


def lost(name: str, key: str) -> None:
    """Take a file of a run out of the store."""
    specs = {
        TrialSpec.model_validate_json(file.read_text()).key: file for file in Path("runs/artifacts").rglob("spec.json")
    }
    specs[key].with_name(name).unlink()


def test_what_the_store_has_lost_is_told_and_the_rest_exported(keys: list[str], call: Call, capsys: Captured) -> None:
    lost("rankings.npz", keys[0])
    found = exported(call, capsys, "--format", "trec", "-o", "trec")
    assert found["runs"] == 2 and not list(Path("trec").glob(f"*{keys[0]}*"))
    assert found["notes"] == [
        f"external:many ties/s0 {keys[0][:6]}: left out; csv and parquet have its ranks: "
        "the store has no usable rankings (earlier versions stored none)"
    ]
    found = exported(call, capsys, "--format", "csv", "-o", "csv")
    ranks = pandas.read_csv("csv/ranks.csv", dtype=str)
    assert found["runs"] == 3 and set(ranks["run"]) == set(keys) and "by numbers in the split" in found["notes"][0]
    assert set(ranks[(ranks["run"] == keys[0]) & (ranks["direction"] == "i2t")]["query"]) == set("01234567")
    lost("ranks.npz", keys[1])
    assert call("export", "external:no ties", "--protocol", "all", "--format", "csv") == 3
    assert "nothing could be exported:\nexternal:no ties/s0" in capsys.readouterr().err
    assert call("export", "--format", "csv") == 0
    page = capsys.readouterr().out
    assert "left out, as the store has no usable ranks" in page and "2 runs exported" in page


def test_what_many_runs_lack_is_said_once(keys: list[str], call: Call, capsys: Captured) -> None:
    for key in keys:
        lost("rankings.npz", key)
    (note,) = exported(call, capsys, "--format", "csv")["notes"]
    assert note.startswith("3 runs (external:") and note.count("earlier versions stored none") == 1
    assert all(key[:6] in note for key in keys)


def test_a_store_without_ranked_rows_has_nothing_to_export(project: Path, call: Call, capsys: Captured) -> None:
    assert call("export", "--format", "csv") == 3
    assert "no row is ranked yet" in capsys.readouterr().err and not Path("export").exists()
