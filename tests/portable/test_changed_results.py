"""A finished trial from elsewhere is believed only where its ranks give its numbers: whatever was changed is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_projects import Finish
from folds import card, five_each
from tiny_project import Call

from harness.evaluation.measures import mean_measures
from harness.evaluation.positives import PositiveSet, measures, rank_sets
from harness.evaluation.protocols import folds, rank_folds
from harness.evaluation.ranks import DIRECTIONS
from harness.evaluation.records import RANKINGS, RANKS, Records, fold_ranks, of_ranks, of_shortlists, read_sets
from harness.evaluation.shortlists import shortlists
from harness.files import npz
from harness.portable.record_checks import gallery_faults, is_method, measure_faults, of_sets, ranks_of
from harness.trial.folder import CHECKPOINT, EPOCHS, RESULT, SPEC, TRACEBACK

Captured = pytest.CaptureFixture[str]
Change = Callable[[dict[str, Any]], object]
SMALLER = {"images": 7, "captions": 32, "folds": 1}


@pytest.fixture
def trial(finish: Finish, tmp_path: Path) -> Path:
    """The folder of a trial that another project has finished; the working folder has the same cards."""
    project = finish(("run", "--here", "--methods", "vsepp", "--seeds", "0"))
    shutil.move(project / "runs", tmp_path / "other")
    (folder,) = (file.parent for file in (tmp_path / "other" / "trials").glob(f"*/{RESULT}"))
    return folder


def refusal(trial: Path, call: Call, capsys: Captured) -> str:
    """What `harness import` says of a trial; nothing is copied."""
    capsys.readouterr()
    assert call("import", str(trial)) == 3
    assert not Path("runs/trials").exists()
    return " ".join(capsys.readouterr().err.split())


RESULTS: dict[str, tuple[Change, str]] = {
    "rsum": (lambda r: r["measures"].update(rsum=r["measures"]["rsum"] + 100), "gives rsum"),
    "a rsum of text": (lambda r: r["measures"].update(rsum="NaN"), "'rsum' = nan"),
    "a mean rank": (lambda r: r["measures"].update(i2t_mean_rank=1.0), "gives i2t_mean_rank"),
    "ties": (lambda r: r["measures"].update(t2i_tied=r["measures"]["t2i_tied"] + 1), "gives t2i_tied"),
    "lists": (lambda r: r["measures"].update(i2t_ndcg=100.0), "gives i2t_ndcg"),
    "a recall is absent": (lambda r: r["measures"].pop("i2t_r5"), "i2t_r5 nan"),
    "none": (lambda r: r.update(measures={}), "i2t_r1 nan"),
    "another name": (lambda r: r["measures"].update({"<b>x": 1e308}), "'<b>x', which ranks.npz"),
    "a measure of no set": (lambda r: r["measures"].update({"cxc.i2t_tied": 0.0}), "'cxc.i2t_tied', which ranks.npz"),
    "val": (lambda r: r["val"].update(rsum="Infinity"), "val has 'rsum' = inf"),
    "a name in val": (lambda r: r["val"].update(best=1.0), "val has 'best'"),
    "a cost": (lambda r: r["cost"].update(seconds="NaN"), "'seconds' = nan"),
    "a cost below 0": (lambda r: r["cost"].update(seconds=-5), "'seconds' = -5"),
    "a name of a cost": (lambda r: r["cost"].update({"a b\n": 1}), "'a b\\n', which is no name"),
    "no gallery": (lambda r: r.update(gallery={}), "is of {'images': 8, 'captions': 32, 'folds': 1}"),
    "an empty gallery": (lambda r: r.update(gallery=dict.fromkeys(SMALLER, 0)), "gallery is"),
    "a smaller gallery": (lambda r: r.update(gallery=SMALLER), "gallery is"),
    "the best epoch": (lambda r: r.update(best_epoch=99), "best_epoch is 99"),
    "no epochs": (lambda r: r.update(epochs=0), "epochs is 0"),
    "more epochs": (lambda r: r.update(epochs=1000), "epochs is 1000"),
    "attempts": (lambda r: r.update(attempts=-3), "attempts is -3"),
}


@pytest.mark.parametrize("case", RESULTS)
def test_a_result_that_was_changed_is_refused_with_what_differs(
    trial: Path, case: str, call: Call, capsys: Captured
) -> None:
    change, words = RESULTS[case]
    result = json.loads((trial / RESULT).read_text())
    change(result)
    (trial / RESULT).write_text(json.dumps(result))
    said = refusal(trial, call, capsys)
    assert words in said and RESULT in said and "copy the folder again" in said


SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "lines": ({"method": "a\nb"}, r"method is 'a\nb', which is no name"),
    "no method": ({"method": ""}, "method is ''"),
    "a path": ({"method": "../../etc"}, "method is '../../etc'"),
    "half a reranking": ({"method": "@9:"}, "method is '@9:'"),
    "a reranking of none": ({"method": "vsepp@0:caan"}, "method is 'vsepp@0:caan'"),
    "half an ensemble": ({"method": "vsepp+"}, "method is 'vsepp+'"),
    "a model without a name": ({"method": "external:"}, "method is 'external:'"),
    "a dataset": ({"dataset": "Tiny <b>"}, "dataset is 'Tiny <b>'"),
    "noise beyond all": ({"dataset": "tiny.noise9-s1"}, "dataset is 'tiny.noise9-s1'"),
    "another dataset": ({"tested_on": "a|b"}, "tested_on is 'a|b'"),
    "a setting": ({"settings": {"dim|": 8}}, "settings has 'dim|'"),
    "a long setting": ({"settings": {"d" * 300: 8}}, "settings has 'ddd"),
    "a seed": ({"seed": -1}, "seed is -1"),
    "a limit": ({"limit": 0}, "limit 0"),
}


@pytest.mark.parametrize("case", SPECS)
def test_a_trial_of_a_name_that_nothing_can_be_called_is_refused(
    trial: Path, case: str, call: Call, capsys: Captured
) -> None:
    """Such a trial would lie in the project, and every later command would end where its name is read."""
    changes, words = SPECS[case]
    for name in (RESULT, SPEC):
        content = json.loads((trial / name).read_text())
        (content["spec"] if name == RESULT else content).update(changes)
        (trial / name).write_text(json.dumps(content))
    said = refusal(trial, call, capsys)
    assert words in said and RESULT in said and "copy the folder again" in said


@pytest.mark.parametrize("name", ["vsepp", "caan+vsepp", "vsepp@10:caan", "external:CLIP ViT-B/32"])
def test_every_name_that_a_trial_can_have_is_one(name: str) -> None:
    assert is_method(name)


ARRAYS: dict[str, Change] = {
    "negative ranks": lambda a: a.update(i2t_rank=-a["i2t_rank"]),
    "ranks that are no numbers": lambda a: a.update(t2i_rank=a["t2i_rank"] + np.nan),
    "ranks with fractions": lambda a: a.update(t2i_rank=a["t2i_rank"] + 0.25),
    "ranks from 0": lambda a: a.update(i2t_rank=a["i2t_rank"] - 1),
    "ranks beyond the gallery": lambda a: a.update(t2i_rank=np.where(a["t2i_rank"] > 7, 9, a["t2i_rank"])),
    "pairs of no item": lambda a: a.update(pairs=a["pairs"] - 1),
    "items that no split has": lambda a: a.update(pairs=a["pairs"] + (a["pairs"] == a["pairs"].max()) * 2**30),
    "folds from 1": lambda a: a.update(fold=a["fold"] + 1),
    "no ties": lambda a: a.pop("i2t_tied"),
    "a set of nobody": lambda a: a.update({"x.i2t_pairs": a["pairs"]}),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_ranks_that_no_gallery_gives_are_refused(trial: Path, case: str, call: Call, capsys: Captured) -> None:
    arrays = dict(np.load(trial / RANKS, allow_pickle=False))
    arrays["t2i_rank"][0] = 8  # the last of the gallery, so that one is there to be moved beyond it
    ARRAYS[case](arrays)
    (trial / RANKS).write_bytes(npz(**arrays))
    assert RANKS in refusal(trial, call, capsys)


RANKED: dict[str, Change] = {
    "other queries": lambda a: a.update(t2i_query=a["t2i_query"][::-1] // 2),
    "an item of no gallery": lambda a: a["i2t_found"].__setitem__((0, 1), 32),
    "a number beyond any split": lambda a: a.update(i2t_found=a["i2t_found"].astype(np.int64) + 2**62),
    "too few captions": lambda a: a.update(captions=np.frombuffer(json.dumps(["a dog"] * 31).encode(), dtype=np.uint8)),
    "ids that are a number": lambda a: a.update(image_ids=np.frombuffer(b"5", dtype=np.uint8)),
}


@pytest.mark.parametrize("case", RANKED)
def test_rankings_of_no_query_of_the_ranks_are_refused(trial: Path, case: str, call: Call, capsys: Captured) -> None:
    arrays = dict(np.load(trial / RANKINGS, allow_pickle=False))
    RANKED[case](arrays)
    (trial / RANKINGS).write_bytes(npz(**arrays))
    assert RANKINGS in refusal(trial, call, capsys)


def test_a_gallery_is_that_of_the_smallest_fold_or_as_earlier_versions_kept_it_of_the_first() -> None:
    pairs = np.array([[0, 0], [0, 1], [1, 2], [2, 3], [3, 3]])
    ranks = rank_folds(np.zeros((4, 4), dtype=np.float32), folds(card(4, 4, folds=2), 4, pairs))
    for captions, fits in ((1, True), (3, True), (2, False)):
        assert fits != any(gallery_faults({"images": 2, "captions": captions, "folds": 2}, ranks))


def test_an_epoch_without_a_finite_number_is_refused_by_its_line(trial: Path, call: Call, capsys: Captured) -> None:
    (trial / EPOCHS).write_text((trial / EPOCHS).read_text().replace('"loss":', '"loss":NaN,"x":'))
    assert EPOCHS in refusal(trial, call, capsys)
    epoch = {"key": trial.name, "epoch": 1, "epochs": 2, "val": {"rsum": 1}}
    wrong = epoch | {"loss": float("inf")}
    (trial / EPOCHS).write_text(f"{json.dumps(epoch)}\n{json.dumps(wrong)}\n")
    assert "line 2 has a number that is not finite" in refusal(trial, call, capsys)


@pytest.mark.parametrize("name", [CHECKPOINT, RESULT, RANKS, TRACEBACK])
@pytest.mark.parametrize("leads", [True, False])
def test_a_link_in_place_of_a_file_is_refused(
    trial: Path, tmp_path: Path, name: str, leads: bool, call: Call, capsys: Captured
) -> None:
    content = (trial / name).read_bytes() if (trial / name).exists() else b"secret"
    (trial / name).unlink(missing_ok=True)
    (tmp_path / "secret").write_bytes(content)
    (trial / name).symlink_to(tmp_path / ("secret" if leads else "nowhere"))
    if name == RESULT and not leads:  # a folder without a result has nothing to take
        assert call("import", str(trial)) == 0 and not Path("runs/trials").exists()
        return
    said = refusal(trial, call, capsys)
    assert name in said and "it is a link" in said


def test_measures_of_folds_and_of_sets_are_made_again_from_what_is_kept(tmp_path: Path) -> None:
    scores, pairs = np.random.default_rng(0).normal(size=(20, 100)).round(1), five_each(20)
    protocol = card(20, 100, folds=2)
    parts = folds(protocol, 20, pairs)
    ranks, sets = rank_folds(scores, parts), rank_sets(scores, [PositiveSet("more", pairs[:9], pairs[3:7], "abc")])
    tops = of_shortlists(shortlists(scores, parts), [""] * 20, [""] * 100)
    Records(protocol, of_ranks(pairs, parts, ranks), sets, tops).save(tmp_path)
    kept, kept_sets = ranks_of(tmp_path)
    for own, again in zip(ranks, fold_ranks(kept), strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(own[1:], again[1:], strict=True))
    values = mean_measures(ranks) | measures(sets)
    again_values = mean_measures(fold_ranks(kept)) | of_sets(kept_sets)
    assert again_values.keys() == values.keys() - {"more.i2t_tied", "more.t2i_tied"}
    assert not [*measure_faults(values, again_values)]
    changed = values | {"more.t2i_map_r": 99.0}
    assert "more.t2i_map_r 99.000" in next(measure_faults(changed, again_values))


@pytest.mark.parametrize("pairs", [np.zeros((0, 2), dtype=np.int32), np.zeros(3, dtype=np.int32)])
def test_sets_of_positives_that_are_damaged_are_none(pairs: np.ndarray) -> None:
    ranks = np.ones(len(pairs), dtype=np.int32)
    arrays = {f"x.{way}_{name}": array for way in DIRECTIONS for name, array in (("pairs", pairs), ("rank", ranks))}
    assert read_sets(npz(**arrays)) is None and read_sets(b"no archive") is None
