"""The arrays of ranks.npz and rankings.npz: the one module that knows their names."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from harness.config.cards import ProtocolCard
from harness.evaluation.measures import list_measures, measures
from harness.evaluation.positives import SetRanks
from harness.evaluation.protocols import Fold
from harness.evaluation.ranks import Ints, Ranks, ways
from harness.evaluation.shortlists import Shortlist

RANKS = "ranks.npz"
RANKINGS = "rankings.npz"
IMAGE_IDS, CAPTIONS = "image_ids", "captions"  # arrays of text
MEASURED = ("pairs", "fold", "i2t_rank", "t2i_rank")
HEADS = (IMAGE_IDS, CAPTIONS, *(f"{way}_{name}" for way in ("i2t", "t2i") for name in ("query", "fold", "found")))


def arrays(kept: bytes | None, names: Collection[str] = ()) -> dict[str, NDArray[Any]] | None:
    """The arrays of an .npz file, those of the names where some are given: reading one costs more than its file."""
    if not kept:
        return None
    try:
        with np.load(BytesIO(kept), allow_pickle=False) as found:
            return {name: found[name] for name in found.files if not names or name in names}
    except (ValueError, OSError, BadZipFile):
        return None


def of_positives(ranked: Iterable[SetRanks]) -> dict[str, NDArray[Any]]:
    """What ranks.npz has of the sets: pairs (P, 2) and ranks (P,) of each direction, int32."""
    arrays: dict[str, NDArray[Any]] = {}
    for one in ranked:
        for way, pairs, of in (("i2t", one.positives.i2t, one.i2t), ("t2i", one.positives.t2i, one.t2i)):
            arrays[f"{one.positives.name}.{way}_pairs"] = pairs.astype(np.int32)
            arrays[f"{one.positives.name}.{way}_rank"] = of.ranks
    return arrays


def evaluation(
    card: ProtocolCard, pairs: Ints, parts: Sequence[Fold], ranks: Sequence[Ranks]
) -> tuple[dict[str, float], dict[str, NDArray[Any]]]:
    """Measures averaged over the folds, and the arrays to keep of a trial (docs/reference/protocols.md)."""
    each = [measures(of) | list_measures(*ways(of)) for of in ranks]
    means = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    return means, _fold_arrays(card, pairs, parts, ranks)


def _fold_arrays(
    card: ProtocolCard, pairs: Ints, parts: Sequence[Fold], ranks: Sequence[Ranks]
) -> dict[str, NDArray[Any]]:
    """The arrays of ranks.npz, one row a pair of the folds, in the order of the pairs."""
    inside = np.sort(np.concatenate([fold.members for fold in parts]))  # of a gallery, not all of the split's
    size = len(inside)
    kept: dict[str, NDArray[Any]] = {
        "protocol": np.array(card.name),
        "version": np.array(card.identity, dtype=np.int64),
        "pairs": pairs[inside].astype(np.int32),
        "fold": np.zeros(size, dtype=np.int32),
        "i2t_rank": np.zeros(size, dtype=np.int32),
        "t2i_rank": np.zeros(size, dtype=np.int32),
        "i2t_tied": np.zeros(size, dtype=np.bool_),
        "t2i_tied": np.zeros(size, dtype=np.bool_),
    }
    for number, (fold, of) in enumerate(zip(parts, ranks, strict=True)):
        own = np.searchsorted(inside, fold.members)
        kept["fold"][own] = number
        kept["i2t_rank"][own], kept["t2i_rank"][own] = of.i2t, of.t2i
        kept["i2t_tied"][own] = of.i2t_tied[fold.pairs[:, 0]]
        kept["t2i_tied"][own] = of.t2i_tied[fold.pairs[:, 1]]
    return kept


def texts(arrays: Mapping[str, NDArray[Any]], name: str) -> list[str]:
    """An array of text of rankings.npz; KeyError where it is not there, ValueError where it is no text."""
    found: list[str] = json.loads(arrays[name].tobytes())
    return found


def of_shortlists(
    found: Sequence[Shortlist], image_ids: Sequence[str], captions: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """The arrays of rankings.npz, one row a query and fold, in numbers of the split; -1 and -inf where a fold ends.

    And what is behind the numbers, so that a report needs no dataset: image ids and captions, JSON as bytes.
    """
    width = max(max(one.captions.shape[1], one.images.shape[1]) for one in found)
    ways = {
        "i2t": [(one.fold.images, one.fold.captions, one.captions, one.caption_scores) for one in found],
        "t2i": [(one.fold.captions, one.fold.images, one.images, one.image_scores) for one in found],
    }
    arrays: dict[str, NDArray[Any]] = {IMAGE_IDS: _bytes(image_ids), CAPTIONS: _bytes(captions)}
    for way, parts in ways.items():
        arrays[f"{way}_query"] = np.concatenate([queries for queries, *_ in parts]).astype(np.int32)
        arrays[f"{way}_fold"] = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts]).astype(np.int32)
        places = [_padded(gallery[places], width, -1) for _, gallery, places, _ in parts]
        arrays[f"{way}_found"] = np.concatenate(places).astype(np.int32)
        arrays[f"{way}_score"] = np.concatenate([_padded(scores, width, -np.inf) for *_, scores in parts])
    return arrays


def _bytes(lines: Sequence[str]) -> NDArray[np.uint8]:
    """Text of any length as an array; NumPy's own text is as wide everywhere as its longest line."""
    return np.frombuffer(json.dumps([*lines], ensure_ascii=False).encode(), dtype=np.uint8)


def _padded(rows: NDArray[Any], width: int, value: float) -> NDArray[Any]:
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=value)
