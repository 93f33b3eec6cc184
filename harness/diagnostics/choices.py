"""Two-way choices: an image, its right caption and a wrong one, as compositional tests such as ARO and SugarCrepe ask.

A choice is right where the right caption's score is higher. Equal scores are wrong, as ties count against the method
everywhere here. The interval is a bootstrap by image, as choices of one image are right or wrong together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.config.cards import ChoiceSet
from harness.errors import DataError, Location, NonFiniteError
from harness.evaluation.ranks import Floats, Ints
from harness.files import has_file, read_json, sha256

FIELDS = ("image", "right", "wrong")
ALWAYS = ("accuracy", "tied", "choices")  # of what is measured
ENDS = ("low", "high")  # of the interval of the accuracy
RESAMPLES, SEED = 10_000, 0


class TwoWayChoices(NamedTuple):
    """The choices of one file, images as numbers in their split."""

    images: Ints  # (Q,)
    right: tuple[str, ...]  # (Q,) captions
    wrong: tuple[str, ...]  # (Q,)


def read_choices(card: ChoiceSet, data: Path, image_ids: Sequence[str]) -> TwoWayChoices | None:
    """The choices of a set; None where its file is not below the data root, DataError names a wrong entry."""
    file = data / card.folder / card.file
    if not has_file(file):
        return None
    if card.sha256 and (own := sha256(file)) != card.sha256:
        raise DataError(f"its sha256 is {own}, the card says {card.sha256}; get it from {card.origin}", Location(file))
    content, numbers = read_json(file), {image: number for number, image in enumerate(image_ids)}
    if not isinstance(content, list) or not content:
        raise DataError('a list of {"image": id, "right": caption, "wrong": caption} is needed', Location(file))
    entries = [_entry(one, numbers, Location(file, f"entry {place}")) for place, one in enumerate(content, start=1)]
    images, right, wrong = zip(*entries, strict=True)
    return TwoWayChoices(np.array(images, dtype=np.int64), right, wrong)


def _entry(entry: object, numbers: Mapping[str, int], where: Location) -> tuple[int, str, str]:
    if not isinstance(entry, dict) or any(name not in entry for name in FIELDS):
        raise DataError(f"expected an object with {', '.join(FIELDS)}", where)
    image, right, wrong = str(entry["image"]), entry["right"], entry["wrong"]
    if image not in numbers:
        raise DataError(f"image {image[:60]!r} is not in the split that the card names", where)
    if not all(isinstance(text, str) and text.strip() for text in (right, wrong)):
        raise DataError("right and wrong are captions; one of them is empty or no text", where)
    if right == wrong:
        raise DataError("right and wrong are the same caption, which nothing can choose between", where)
    return numbers[image], right, wrong


def choice_measures(images: Ints, right: Floats, wrong: Floats) -> dict[str, float]:
    """Accuracy in percent with its 95 % interval, the share of ties, and the number of choices, from scores (Q,).

    NonFiniteError where a score is NaN or inf, which is neither right nor wrong.
    """
    finite = np.isfinite(right) & np.isfinite(wrong)
    if not finite.all():
        raise NonFiniteError(f"a score of choice {int(finite.argmin()) + 1} is NaN or inf; nothing was counted")
    _, owner = np.unique(images, return_inverse=True)
    asked = np.bincount(owner)
    correct = np.bincount(owner, weights=right > wrong)
    rng = np.random.default_rng(SEED)
    shares = np.empty(RESAMPLES)
    for place in range(RESAMPLES):
        of = rng.integers(0, len(asked), len(asked))
        shares[place] = correct[of].sum() / asked[of].sum()
    low, high = 100 * np.quantile(shares, [0.025, 0.975])
    return {
        **{"accuracy": 100 * float((right > wrong).mean()), "low": float(low), "high": float(high)},
        **{"tied": 100 * float((right == wrong).mean()), "choices": float(len(right))},
    }
