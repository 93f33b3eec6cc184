"""ranks.npz and rankings.npz: what is written comes back, what is damaged does not, and one module knows the arrays."""

from __future__ import annotations

import ast
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folds import card, five_each

from harness.evaluation.positives import PositiveSet, rank_sets
from harness.evaluation.protocols import folds, rank_folds
from harness.evaluation.ranks import DIRECTIONS
from harness.evaluation.records import (
    RANKINGS,
    RANKS,
    Records,
    is_of,
    of_ranks,
    of_shortlists,
    read_rankings,
    read_ranks,
)
from harness.evaluation.shortlists import shortlists
from harness.files import npz

HARNESS = Path(__file__).parents[2] / "harness"
IDS, TEXTS = [f"image {n}" for n in range(20)], [f"grün {n}" for n in range(100)]


@pytest.fixture
def records() -> Records:
    """Of two folds of ten images, with another set of positives."""
    scores, pairs = np.random.default_rng(0).normal(size=(20, 100)), five_each(20)
    parts, more = folds(card(20, 100, folds=2), 20, pairs), PositiveSet("more", pairs[:9], pairs[3:7], "abc")
    return Records(
        card(20, 100, folds=2),
        of_ranks(pairs, parts, rank_folds(scores, parts)),
        rank_sets(scores, [more]),
        of_shortlists(shortlists(scores, parts), IDS, TEXTS),
    )


@pytest.fixture
def arrays(records: Records, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """The arrays of both files, by the file's name."""
    records.save(tmp_path)
    return {name: dict(np.load(tmp_path / name, allow_pickle=False)) for name in (RANKS, RANKINGS)}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, tuple):
        return all(map(same, one, other))
    return bool(one == other)


def test_what_is_saved_is_read_back(records: Records, tmp_path: Path) -> None:
    records.save(tmp_path)
    assert same(read_ranks((tmp_path / RANKS).read_bytes(), ties=True), records.ranks)
    assert same(read_rankings((tmp_path / RANKINGS).read_bytes()), records.rankings)


def test_the_same_records_are_the_same_bytes(records: Records, tmp_path: Path) -> None:
    for folder in ("one", "other"):
        records.save(tmp_path / folder)
    for name in (RANKS, RANKINGS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_ties_and_scores_are_read_only_where_they_are_needed(records: Records, arrays: dict[str, Any]) -> None:
    ranks = {name: array for name, array in arrays[RANKS].items() if not name.endswith("_tied")}
    assert same(read_ranks(npz(**ranks)), records.ranks._replace(tied={}))
    assert read_ranks(npz(**ranks), ties=True) is None
    rankings = {name: array for name, array in arrays[RANKINGS].items() if not name.endswith("_score")}
    part = read_rankings(npz(**rankings), scores=False)
    assert part and all(np.isnan(part.top[direction].scores).all() for direction in DIRECTIONS)
    assert all(same(part.top[way].results, records.rankings.top[way].results) for way in DIRECTIONS)
    assert read_rankings(npz(**rankings)) is None


def test_rankings_of_an_early_version_have_no_names(records: Records, arrays: dict[str, Any]) -> None:
    early = {name: array for name, array in arrays[RANKINGS].items() if name not in ("image_ids", "captions")}
    part = read_rankings(npz(**early))
    assert part and (part.image_ids, part.captions) == ((), ()) and same(part.top, records.rankings.top)


def test_queries_are_read_in_order_of_fold_and_number(records: Records, arrays: dict[str, Any]) -> None:
    mixed = np.random.default_rng(1).permutation(20)
    moved = {name: array[mixed] for name, array in arrays[RANKINGS].items() if name.startswith("i2t")}
    assert same(read_rankings(npz(**{**arrays[RANKINGS], **moved})), records.rankings)


@pytest.mark.parametrize("file", [None, b"", b"no archive", b"PK\x03\x04 cut"])
def test_a_file_that_is_gone_or_none_is_none(file: bytes | None) -> None:
    assert read_ranks(file) is None and read_rankings(file) is None


@pytest.mark.parametrize("name", [RANKS, RANKINGS])
def test_a_file_with_any_byte_changed_or_cut_off_is_itself_or_none(records: Records, tmp_path: Path, name: str) -> None:
    records.save(tmp_path)
    whole, rng = (tmp_path / name).read_bytes(), np.random.default_rng(2)
    for place in rng.integers(0, len(whole), 300).tolist():
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        for file in (bytes(changed), whole[:place]):
            ranks, rankings = read_ranks(file, ties=True), read_rankings(file)
            assert ranks is None or len(ranks.pairs) == 100
            assert rankings is None or len(rankings.top["t2i"].queries) == 100


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "no pairs": (RANKS, {"pairs": np.zeros((0, 2), dtype=np.int32)}),
    "flat pairs": (RANKS, {"pairs": np.zeros(100, dtype=np.int32)}),
    "fewer ranks": (RANKS, {"t2i_rank": np.ones(99, dtype=np.int32)}),
    "ranks that are text": (RANKS, {"i2t_rank": np.array(["one"] * 100)}),
    "ranks with fractions": (RANKS, {"i2t_rank": np.full(100, 1.5)}),
    "ranks from 0": (RANKS, {"t2i_rank": np.zeros(100, dtype=np.int32)}),
    "pairs below 0": (RANKS, {"pairs": np.full((100, 2), -1, dtype=np.int32)}),
    "ties of other queries": (RANKS, {"i2t_tied": np.zeros(3, dtype=bool)}),
    "torn text": (RANKINGS, {"captions": np.frombuffer(b'["a', dtype=np.uint8)}),
    "fewer queries": (RANKINGS, {"i2t_query": np.arange(3, dtype=np.int32)}),
    "another shape": (RANKINGS, {"i2t_found": np.zeros(20, dtype=np.int32)}),
    "fewer scores": (RANKINGS, {"t2i_score": np.zeros((100, 3), dtype=np.float32)}),
    "text that is a number": (RANKINGS, {"image_ids": np.frombuffer(b"5", dtype=np.uint8)}),
    "text of numbers": (RANKINGS, {"captions": np.frombuffer(b"[1, 2]", dtype=np.uint8)}),
    "text that is nested too deep": (RANKINGS, {"captions": np.frombuffer(b"[" * 100_000, dtype=np.uint8)}),
    "queries below 0": (RANKINGS, {"i2t_query": np.full(20, -1, dtype=np.int32)}),
    "folds with fractions": (RANKINGS, {"i2t_fold": np.full(20, 0.5)}),
    "results below -1": (RANKINGS, {"i2t_found": np.full((20, 20), -2, dtype=np.int32)}),
    "results beyond any split": (RANKINGS, {"i2t_found": np.full((20, 20), 2**62)}),
    "no results": (RANKINGS, {"i2t_found": np.zeros((20, 0), dtype=np.int32)}),
}


@pytest.mark.parametrize("fault", WRONG)
def test_arrays_that_do_not_fit_together_are_none(arrays: dict[str, Any], fault: str) -> None:
    name, changes = WRONG[fault]
    read = {RANKS: lambda file: read_ranks(file, ties=True), RANKINGS: read_rankings}[name]
    assert read(npz(**arrays[name])) is not None
    assert read(npz(**{**arrays[name], **changes})) is None


@pytest.mark.parametrize(
    "fault", ["", "another query", "another fold", "beyond the gallery", "of the other fold", "nothing"]
)
def test_rankings_are_of_ranks_with_the_same_queries_and_galleries(records: Records, fault: str) -> None:
    top = records.rankings.top["i2t"]
    results = top.results.copy()
    results[0, 0] = {"beyond the gallery": 100, "of the other fold": 99, "nothing": -1}.get(fault, results[0, 0])
    changed = {
        "another query": top._replace(queries=top.queries + 1),
        "another fold": top._replace(folds=1 - top.folds),
    }.get(fault, top._replace(results=results))
    rankings = records.rankings._replace(top={**records.rankings.top, "i2t": changed})
    assert is_of(rankings, records.ranks) == (not fault)


def test_objects_are_never_unpickled(arrays: dict[str, Any]) -> None:
    file = io.BytesIO()
    np.savez(file, **{**arrays[RANKS], "pairs": np.array([[object(), 0]] * 100)})
    assert read_ranks(file.getvalue()) is None


# --- one module knows the arrays

WORDS = ("pairs", "fold", "image_ids")  # names of arrays that have other meanings too: no array is taken by them
MEASURES = ("i2t_tied", "t2i_tied")  # are measures as well
LAYERS = ("evaluation", "trial", "tracking", "board", "campaign", "explain", "cli")


def named(source: str, arrays: set[str]) -> list[str]:
    """What a module says of arrays by name: whole names, names put together from a direction, and subscripts."""
    directed = {one for name in arrays if (one := name.rpartition(".")[2]).startswith(DIRECTIONS)}
    endings = {f"_{name.partition('_')[2]}" for name in directed} - {"_tied"}
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            names += [part.value for part in node.values if isinstance(part, ast.Constant) and part.value in endings]
        elif isinstance(node, ast.Constant) and node.value in arrays - {*WORDS, *MEASURES}:
            names.append(node.value)
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in WORDS:
            names.append(f"[{node.slice.value}]")
    return names


def test_no_other_module_knows_the_name_of_an_array(arrays: dict[str, Any]) -> None:
    own = {name for file in arrays.values() for name in file if name not in ("protocol", "version", "captions")}
    for file in (file for layer in LAYERS for file in (HARNESS / layer).glob("*.py") if file.stem != "records"):
        assert not named(file.read_text(encoding="utf-8"), own), file
    assert {*named((HARNESS / "evaluation" / "records.py").read_text(encoding="utf-8"), own)} >= {"_rank", "[pairs]"}


@pytest.mark.parametrize(
    "source", ["a['i2t_rank']", "a[f'{way}_found']", "a['fold']", "'t2i_query'", "f'{n}.{d}_pairs'"]
)
def test_a_planted_name_is_seen(arrays: dict[str, Any], source: str) -> None:
    assert named(source, {name for file in arrays.values() for name in file})
