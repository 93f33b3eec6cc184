"""ranks.npz and rankings.npz, what is kept of a trial's scores: the one module that knows the names of their arrays.

docs/reference/protocols.md describes both files. A file that is damaged, or too old for what is asked, reads as None.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from harness.config.cards import ProtocolCard
from harness.data.arrays import BROKEN
from harness.evaluation.positives import PositiveSet, SetRanks
from harness.evaluation.protocols import Fold
from harness.evaluation.ranks import DIRECTIONS, DirectedRanks, Direction, Ints, Ranks, group, sides
from harness.evaluation.shortlists import Shortlist
from harness.files import save_arrays

RANKS = "ranks.npz"
RANKINGS = "rankings.npz"
SET_PAIRS = ".i2t_pairs"  # ends the name of an array that each named set of positives has
MOST = 2**31 - 1  # that a rank or a number of a split can be
IMAGE_IDS, CAPTIONS = "image_ids", "captions"  # arrays of text, which early files lack
UNREADABLE = (*BROKEN, OSError, EOFError, TypeError, RuntimeError, BadZipFile, zlib.error, struct.error)  # numpy, zip
Bools = NDArray[np.bool_]
Arrays = Mapping[str, NDArray[Any]]


class TrialRanks(NamedTuple):
    """The ranks of a trial, one row per pair of its folds, in the order of the pairs."""

    pairs: Ints  # (P, 2) rows (image, caption) of the split
    folds: Ints  # (P,) from 0
    ranks: Mapping[Direction, NDArray[np.int32]]  # (P,) of the pair's positive in its fold, 1 is best
    tied: Mapping[Direction, Bools]  # (P,) a negative has the score of the query's best positive; empty where not read


class TopResults(NamedTuple):
    """The head of every ranking of one direction: Q queries in order of fold and number, L results each."""

    queries: Ints  # (Q,) as the split numbers them
    folds: Ints  # (Q,) from 0
    results: Ints  # (Q, L) as the split numbers them, best first; -1 where nothing is known to stand
    scores: NDArray[np.float32]  # (Q, L) not finite there; all nan where not read


class TrialRankings(NamedTuple):
    image_ids: Sequence[str]  # of the split; none in a file of an early version
    captions: Sequence[str]  # likewise
    top: Mapping[Direction, TopResults]

    def names(self, direction: Direction) -> tuple[Sequence[str], Sequence[str]]:
        return (self.image_ids, self.captions) if direction == "i2t" else (self.captions, self.image_ids)


class Records(NamedTuple):
    protocol: ProtocolCard
    ranks: TrialRanks
    sets: Sequence[SetRanks]
    rankings: TrialRankings

    def save(self, folder: Path) -> None:
        version = np.array(self.protocol.identity, dtype=np.int64)
        protocol: Arrays = {"protocol": np.array(self.protocol.name), "version": version}
        save_arrays(folder / RANKS, {**protocol, **rank_arrays(self.ranks), **_set_arrays(self.sets)})
        save_arrays(folder / RANKINGS, ranking_arrays(self.rankings))


def of_ranks(pairs: Ints, folds: Sequence[Fold], ranks: Sequence[Ranks]) -> TrialRanks:
    """The ranks of all folds, from those of each; pairs (P, 2) are all of the split's."""
    members = np.concatenate([fold.members for fold in folds])
    order = np.argsort(members)
    queries = zip(folds, ranks, strict=True)
    i2t_tied, t2i_tied = zip(
        *((own.i2t_tied[fold.pairs[:, 0]], own.t2i_tied[fold.pairs[:, 1]]) for fold, own in queries), strict=True
    )
    of_pairs = np.repeat(np.arange(len(folds)), [len(fold.members) for fold in folds])[order]
    joined = {one: np.concatenate([getattr(own, one) for own in ranks])[order] for one in DIRECTIONS}
    tied: dict[Direction, Bools] = {"i2t": np.concatenate(i2t_tied)[order], "t2i": np.concatenate(t2i_tied)[order]}
    return TrialRanks(pairs[members[order]], of_pairs, joined, tied)


def of_shortlists(shortlists: Sequence[Shortlist], image_ids: Sequence[str], captions: Sequence[str]) -> TrialRankings:
    """The heads of all folds in numbers of the split, as wide as the widest; -1 and -inf where a fold ends."""
    width = max(max(one.captions.shape[1], one.images.shape[1]) for one in shortlists)
    i2t = [(one.fold.images, one.fold.captions, one.captions, one.caption_scores) for one in shortlists]
    t2i = [(one.fold.captions, one.fold.images, one.images, one.image_scores) for one in shortlists]
    return TrialRankings(image_ids, captions, {"i2t": _joined(i2t, width), "t2i": _joined(t2i, width)})


def _joined(parts: Sequence[tuple[Ints, Ints, Any, Any]], width: int) -> TopResults:
    return TopResults(
        queries=np.concatenate([queries for queries, *_ in parts]),
        folds=np.repeat(np.arange(len(parts)), [len(queries) for queries, *_ in parts]),
        results=np.concatenate([_padded(gallery[results], width, -1) for _, gallery, results, _ in parts]),
        scores=np.concatenate([_padded(scores, width, -np.inf) for *_, scores in parts]).astype(np.float32),
    )


def _padded(rows: NDArray[Any], width: int, value: float) -> NDArray[Any]:
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=value)


def read_ranks(file: bytes | None, ties: bool = False) -> TrialRanks | None:
    """The ranks in the bytes of a ranks.npz, with ties only where they are needed: reading costs more than fetching."""
    if not file:
        return None
    try:
        with np.load(BytesIO(file), allow_pickle=False) as arrays:
            pairs, folds = (_whole(array, 0).astype(np.int64) for array in (arrays["pairs"], arrays["fold"]))
            ranks = {direction: _whole(arrays[f"{direction}_rank"], 1).astype(np.int32) for direction in DIRECTIONS}
            tied = {direction: arrays[f"{direction}_tied"].astype(np.bool_) for direction in DIRECTIONS if ties}
    except UNREADABLE:
        return None
    is_whole = pairs.shape == (len(folds), 2) and len(folds) > 0
    shapes = {array.shape for array in (folds, *ranks.values(), *tied.values())}
    return TrialRanks(pairs, folds, ranks, tied) if is_whole and shapes == {(len(folds),)} else None


def _whole(array: NDArray[Any], least: int) -> NDArray[Any]:
    """An array of whole numbers, none below the least; ValueError for any other."""
    if array.dtype.kind not in "iu" or array.min(initial=least) < least or array.max(initial=0) > MOST:
        raise ValueError(f"{array.dtype} is no array of whole numbers from {least}")
    return array


def read_sets(file: bytes) -> list[SetRanks] | None:
    """The ranks of named sets of positives in the bytes of a ranks.npz, without ties, which it lacks for them."""
    try:
        with np.load(BytesIO(file), allow_pickle=False) as arrays:
            names = [name.removesuffix(SET_PAIRS) for name in arrays if name.endswith(SET_PAIRS)]
            return [_set(arrays, name) for name in names]
    except UNREADABLE:
        return None


def _set(arrays: Arrays, name: str) -> SetRanks:
    of_both = []
    for direction in DIRECTIONS:
        pairs = _whole(arrays[f"{name}.{direction}_pairs"], 0).astype(np.int64)
        ranks = _whole(arrays[f"{name}.{direction}_rank"], 1).astype(np.int32)
        if pairs.shape != (len(ranks), 2) or not len(ranks):
            raise ValueError(f"{name}: pairs {pairs.shape}, ranks {ranks.shape}")
        queries, _ = sides(pairs, direction)
        of_both.append((pairs, DirectedRanks(queries, ranks, np.zeros(len(np.unique(queries)), dtype=np.bool_))))
    (i2t_pairs, i2t), (t2i_pairs, t2i) = of_both
    return SetRanks(PositiveSet(name, i2t_pairs, t2i_pairs, ""), i2t, t2i)


def fold_ranks(ranks: TrialRanks) -> list[Ranks]:
    """The ranks of each fold, from those of all with their ties: what `of_ranks` has joined."""
    parts = []
    for fold in np.unique(ranks.folds):
        own = ranks.folds == fold
        pairs, (i2t, t2i) = ranks.pairs[own], (ranks.ranks[direction][own] for direction in DIRECTIONS)
        first = {direction: group(sides(pairs, direction)[0]).first for direction in DIRECTIONS}
        i2t_tied, t2i_tied = (ranks.tied[direction][own][first[direction]] for direction in DIRECTIONS)
        parts.append(Ranks(pairs, i2t, t2i, i2t_tied, t2i_tied))
    return parts


def read_rankings(file: bytes | None, scores: bool = True) -> TrialRankings | None:
    """The rankings in the bytes of a rankings.npz, without scores where they are not needed."""
    if not file:
        return None
    try:
        with np.load(BytesIO(file), allow_pickle=False) as arrays:
            image_ids, captions = (_lines(arrays, name) for name in (IMAGE_IDS, CAPTIONS))
            top = {direction: _top(arrays, direction, scores) for direction in DIRECTIONS}
    except UNREADABLE:
        return None
    return TrialRankings(image_ids, captions, top)


def _top(arrays: Arrays, direction: Direction, with_scores: bool) -> TopResults:
    least = {"query": 0, "fold": 0, "found": -1}
    queries, folds, results = (
        _whole(arrays[f"{direction}_{name}"], number).astype(np.int64) for name, number in least.items()
    )
    scores = arrays[f"{direction}_score"].astype(np.float32) if with_scores else np.full_like(results, np.nan, "f4")
    if results.ndim != 2 or 0 in results.shape or results.shape != scores.shape:
        raise ValueError(f"results {results.shape}, scores {scores.shape}")
    if not queries.shape == folds.shape == results.shape[:1]:
        raise ValueError(f"queries {queries.shape}, folds {folds.shape}, results {results.shape}")
    order = np.lexsort((queries, folds))
    return TopResults(queries[order], folds[order], results[order], scores[order])


def _lines(arrays: Arrays, name: str) -> Sequence[str]:
    """An array of text; none where the file lacks it, ValueError where it is something else."""
    lines: Any = json.loads(arrays[name].tobytes()) if name in arrays else []
    if not isinstance(lines, list) or not all(isinstance(one, str) for one in lines):
        raise ValueError(f"{name} is no list of text")
    return lines or ()


def is_of(rankings: TrialRankings, ranks: TrialRanks) -> bool:
    """Whether rankings are of the queries of ranks, and all that these have found is in their galleries."""
    return all(_is_of(rankings.top[direction], direction, ranks) for direction in DIRECTIONS)


def _is_of(top: TopResults, direction: Direction, ranks: TrialRanks) -> bool:
    queries, items = sides(ranks.pairs, direction)
    asked = group(ranks.folds, queries).first
    if not (np.array_equal(ranks.folds[asked], top.folds) and np.array_equal(queries[asked], top.queries)):
        return False
    size = 1 + max(int(items.max()), int(top.results.max()))
    found = (top.folds[:, None] * size + top.results)[top.results >= 0]
    is_inside = np.isin(found, np.unique(ranks.folds * size + items)).all()
    return bool(is_inside and (top.results[:, 0] >= 0).all())


def rank_arrays(ranks: TrialRanks) -> dict[str, NDArray[Any]]:
    return {
        "pairs": ranks.pairs.astype(np.int32),
        "fold": ranks.folds.astype(np.int32),
        **{f"{direction}_rank": array for direction, array in ranks.ranks.items()},
        **{f"{direction}_tied": array for direction, array in ranks.tied.items()},
    }


def _set_arrays(sets: Iterable[SetRanks]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for positives, i2t, t2i in sets:
        for direction, pairs, ranks in (("i2t", positives.i2t, i2t.ranks), ("t2i", positives.t2i, t2i.ranks)):
            arrays[f"{positives.name}.{direction}_pairs"] = pairs.astype(np.int32)
            arrays[f"{positives.name}.{direction}_rank"] = ranks
    return arrays


def ranking_arrays(rankings: TrialRankings) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {IMAGE_IDS: _bytes(rankings.image_ids), CAPTIONS: _bytes(rankings.captions)}
    for direction, top in rankings.top.items():
        arrays[f"{direction}_query"] = top.queries.astype(np.int32)
        arrays[f"{direction}_fold"] = top.folds.astype(np.int32)
        arrays[f"{direction}_found"] = top.results.astype(np.int32)
        arrays[f"{direction}_score"] = top.scores
    return arrays


def _bytes(lines: Sequence[str]) -> NDArray[np.uint8]:
    """Text of any length as an array; NumPy's own text is as wide everywhere as its longest line."""
    return np.frombuffer(json.dumps([*lines], ensure_ascii=False).encode(), dtype=np.uint8)
