"""R@K as a textbook has it, by sorting every row: an oracle for what ranks scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.data.split import Split

Array = np.ndarray[Any, Any]


def textbook(scores: Array, split: Split) -> dict[str, float]:
    """R@K by sorting, for scores without ties."""
    found = {}
    for way, table, own in (("i2t", scores, 0), ("t2i", scores.T, 1)):
        order = np.argsort(-table, axis=1)
        matches = [set(split.pairs[split.pairs[:, own] == query, 1 - own]) for query in range(len(table))]
        for k in (1, 5, 10):
            hits = [bool(right & set(row[:k])) for right, row in zip(matches, order, strict=True)]
            found[f"{way}_r{k}"] = 100 * float(np.mean(hits))
    return found
