"""Which regions the words of a caption attend to: one image, one caption, the weights of a trained method."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.config.cards import SELECTION, DatasetCard
from harness.config.project import Config
from harness.config.registry import Registry, load_class
from harness.data.content import Preview
from harness.data.dataset import Dataset
from harness.data.regions import Ragged
from harness.data.split import Split
from harness.data.tokens import Part, Tokens
from harness.errors import HarnessError, NonFiniteError, TrialError, UsageError, first_line, unknown
from harness.evaluation.ranks import DIRECTIONS
from harness.evaluation.records import RANKS, read_ranks
from harness.explain.encoding import on_one_line
from harness.explain.weights import (
    Command,
    Trained,
    TrialChoice,
    UntrainedError,
    best_weights,
    method_errors,
    plain_command,
    trained,
)
from harness.layouts.opening import open_dataset
from harness.layouts.previews import Previews

if TYPE_CHECKING:
    from harness.method import Method

Datasets = Callable[[str], Dataset]
MOST_WORDS = 100  # of a picture or page, which draws the image once for each
SUM = 0.01  # by which weights that were rounded may miss a sum of one


class Pair(NamedTuple):
    image: str  # its id; empty: the first of the split
    caption: str | None = None  # the image's own first one
    split: str = ""  # empty: the protocol's
    words: str = ""  # those to show, with commas between; empty: all


class Word(NamedTuple):
    text: str  # or a phrase of words, whose weights are their mean
    is_known: bool  # to the vocabulary; all others are one word to the method
    weights: tuple[float, ...]  # of every region, at least zero


class Rank(NamedTuple):
    """Where the pair stands among its galleries in the trial; 1 is best."""

    caption: int  # for the image
    image: int  # for the caption
    captions: int  # in the gallery
    images: int


@dataclass(frozen=True)
class Explanation:
    trial: Trained
    card: DatasetCard
    split: str
    image: str
    caption: str
    words: tuple[Word, ...]
    boxes: tuple[tuple[float, ...], ...]  # of every region x, y, width, height in pixels; empty: the data has none
    look: Preview
    score: float
    rank: Rank | None  # None for a caption that is not one of the image's, and for images that were not ranked

    @property
    def regions(self) -> int:
        return len(self.words[0].weights)


class Explanations(NamedTuple):
    ones: tuple[Explanation, ...]  # of one pair and the same words, by one method each
    left_out: Mapping[str, Sequence[str]]  # methods that have none, by the reason


class InattentiveError(UsageError):
    """A method scores without looking from words to regions."""


def explanations(
    config: Config,
    registry: Registry,
    choices: Sequence[TrialChoice],
    pair: Pair,
    command: Command = plain_command,
) -> Explanations:
    """One explanation by each method that has attention and weights and does not fail; the errors where none has."""
    ones, errors, left_out = [], list[HarnessError](), defaultdict[str, list[str]](list)
    datasets = datasets_of(config, registry)
    for choice in choices:
        try:
            ones.append(explanation(config, registry, choice, pair, datasets, command))
        except HarnessError as error:
            errors.append(error)
            left_out[reason_of(error)].append(choice.method)
    if not ones:
        raise united_error(errors)
    return Explanations(tuple(ones), left_out)


def reason_of(error: HarnessError) -> str:
    """Why a method is left out among others, in few words."""
    if isinstance(error, InattentiveError):
        return "no attention to show"
    return "no trained trial that can be used" if isinstance(error, UntrainedError) else first_line(error)


def united_error(errors: Sequence[HarnessError]) -> HarnessError:
    """Errors as one of the kind of the gravest, a line each."""
    lines = [*dict.fromkeys(map(str, errors))]
    gravest = max(errors, key=lambda error: error.exit_code)
    return type(gravest)("\n".join(lines)) if len(lines) > 1 else gravest


def datasets_of(config: Config, registry: Registry) -> Datasets:
    """Datasets by name, each opened once."""
    return cache(lambda name: open_dataset(registry.dataset(name), config.data, config.cache))


def explanation(
    config: Config,
    registry: Registry,
    choice: TrialChoice,
    pair: Pair,
    datasets: Datasets | None = None,
    command: Command = plain_command,
) -> Explanation:
    """UsageError for a method without attention or weights, an unknown image, a caption without a known word.

    TrialError where the method fails.
    """
    card, datasets = registry.dataset(choice.dataset), datasets or datasets_of(config, registry)
    check_attends(registry, choice.method)
    trial = trained(config, registry, choice, command)
    dataset = datasets(card.name).for_settings(trial.spec.settings)
    ranked = "val" if trial.spec.protocol == SELECTION else card.protocol(trial.spec.protocol).split
    if pair.split and pair.split not in card.splits:
        raise UsageError(f"--split: {unknown('split', pair.split, card.splits)}")
    split = dataset.split(pair.split or ranked)
    row = row_of(split, pair.image) if pair.image else 0
    image = split.image_ids[row]
    caption = split.captions[own_captions(split, row)[0]] if pair.caption is None else spoken(pair.caption)
    parts = dataset.vocabulary.parts(caption)
    check_words(parts)
    if not pair.words:
        check_most(len(parts), "the caption has")
    tokens = Tokens.encode([caption], dataset.vocabulary)
    method = best_weights(trial, registry, dataset)
    with method_errors(type(method), choice.method):
        score, weights = attended(method, split.images[row], tokens)
    words = [Word(*part, of) for part, of in zip(parts, weights, strict=True)]
    return Explanation(
        trial=trial,
        card=card,
        split=split.name,
        image=image,
        caption=caption,
        words=chosen(words, pair.words) if pair.words else tuple(words),
        boxes=boxes_of(split, row),
        look=Previews(card, config.data, config.cache).of(image),
        score=score,
        rank=rank_of(trial, split, row, caption) if split.name == ranked else None,
    )


def attends(registry: Registry, method: str) -> bool:
    from harness.method import Method

    return load_class(registry.method(method)).regions_of_words is not Method.regions_of_words


def check_attends(registry: Registry, method: str) -> None:
    """UsageError for a method that is unknown or has no attention to show."""
    if not attends(registry, method):
        others = ", ".join(name for name, card in registry.methods.items() if card.scoring == "fragment")
        reason = f"it scores without looking from words to regions; try {others}"
        raise InattentiveError(f"{method} has no attention to show: {reason}")


def check_words(parts: Sequence[Part]) -> None:
    """UsageError for a caption without a word that the method has learnt."""
    if not any(part.is_known for part in parts):
        reason = f"{', '.join(repr(part.text) for part in parts)} not in the vocabulary" if parts else "it is empty"
        raise UsageError(f"--caption: no word to explain: {reason}; use words of the dataset's training captions")


def check_most(count: int, what: str) -> None:
    """UsageError for more words than can be shown: of each the image is drawn."""
    if count > MOST_WORDS:
        raise UsageError(f"--words: {what} {count:,} words, and {MOST_WORDS} can be shown; choose some with --words")


def chosen(words: Sequence[Word], text: str) -> tuple[Word, ...]:
    """The words or phrases that a text names with commas between, wherever they stand in a caption.

    UsageError where one does not, and where they are too many to be shown.
    """
    selection: list[Word] = []
    for phrase in (part.lower().split() for part in text.split(",")):
        spans = [words[start : start + len(phrase)] for start in range(len(words)) if phrase]
        spans = [span for span in spans if [word.text.lower() for word in span] == phrase]
        if not spans:
            known = ", ".join(dict.fromkeys(word.text for word in words))
            raise UsageError(f"--words: {' '.join(phrase)!r} is not in the caption, whose words are: {known}")
        selection += map(united, spans)
    check_most(len(selection), "these stand in the caption as")
    return tuple(selection)


def united(span: Sequence[Word]) -> Word:
    weights = np.mean([word.weights for word in span], axis=0).tolist()
    return Word(" ".join(word.text for word in span), all(word.is_known for word in span), tuple(weights))


def spoken(caption: str) -> str:
    """A caption as readers of files take it; UsageError where nothing is left."""
    text = on_one_line(caption)
    if not text:
        raise UsageError("--caption is empty; give words, or leave it out for the image's own first caption")
    return text


def row_of(split: Split, image: str) -> int:
    """The row of an image by its id; UsageError with the nearest ids."""
    if image in split.image_ids:
        return split.image_ids.index(image)
    near = difflib.get_close_matches(image, split.image_ids, n=3, cutoff=0.0)
    raise UsageError(f"the split {split.name} has no image {image!r}; ids like it: {', '.join(near)} (see --split)")


def own_captions(split: Split, row: int) -> list[int]:
    return sorted(split.pairs[split.pairs[:, 0] == row, 1].tolist())


def boxes_of(split: Split, row: int) -> tuple[tuple[float, ...], ...]:
    """The boxes of an image's regions in pixels, in their order; empty where the data has none."""
    return tuple(map(tuple, split.boxes[row].tolist())) if split.boxes is not None else ()


def attended(method: Method, regions: np.ndarray, tokens: Tokens) -> tuple[float, list[tuple[float, ...]]]:
    """The score of regions (R, F) and one caption, and of each of its words the weights of the regions, (R,)."""
    from harness.evaluation.scoring import encode, scoring
    from harness.trial.device import choose_device

    device, images = choose_device("cpu"), Ragged.stack([regions])
    with scoring(method):
        image = encode(method.encode_images, images, images.counts, device)[0].sets
        caption = encode(method.encode_captions, tokens, tokens.lengths, device)[0].sets
        weights = method.regions_of_words(image, caption)
        score = float(method.score(image, caption)[0, 0])
    if weights is None:
        raise UsageError("the method has no attention to show in these settings")
    check_weights(weights, (1, 1, len(tokens.ids), len(regions)))
    is_word = ~np.isin(tokens.ids, tokens.special_ids.specials)
    return score, [tuple(word) for word in weights[0, 0].numpy()[is_word].tolist()]


def check_weights(weights: object, needed: tuple[int, ...]) -> None:
    """TrialError for weights of words and regions that are not finite numbers, one of each."""
    import torch

    if not (isinstance(weights, torch.Tensor) and tuple(weights.shape) == needed and weights.is_floating_point()):
        kind = f"{tuple(weights.shape)} of {weights.dtype}" if isinstance(weights, torch.Tensor) else type(weights)
        raise TrialError(f"the method's regions_of_words gives {kind}; floating numbers {needed} are needed")
    if not weights.isfinite().all():
        raise NonFiniteError("the method's regions_of_words gives numbers that are not finite, which show nothing")


def rank_of(trial: Trained, split: Split, row: int, caption: str) -> Rank | None:
    """Where a pair of the split stands, from the trial's ranks; None for a caption that is not one of the image's."""
    own = next((number for number in own_captions(split, row) if split.captions[number] == caption), None)
    file = trial.folder / RANKS
    if own is None or trial.spec.limit is not None or not file.is_file():
        return None
    ranks = read_ranks(file.read_bytes())
    places = np.zeros(0, int) if ranks is None else np.flatnonzero((ranks.pairs == [row, own]).all(axis=1))
    if ranks is None or not len(places):
        return None
    sizes = (trial.result.gallery[name] for name in ("captions", "images"))
    return Rank(*(int(ranks.ranks[direction][places[0]]) for direction in DIRECTIONS), *sizes)


def notes(one: Explanation) -> list[str]:
    """What a reader of the weights should know, a sentence each."""
    unheard = [word.text for word in one.words if not word.is_known]
    lines = [f"not in the vocabulary, all one word to the method: {', '.join(unheard)}"] if unheard else []
    lines += [] if one.boxes else ["the dataset has no boxes: regions are shown by number, not by place"]
    if any(abs(sum(word.weights) - 1) > SUM for word in one.words):
        lines.append("the weights of a word do not add up to one: compare them within the word alone")
    limit = one.trial.spec.limit
    return lines + ([f"trained with --limit {limit}"] if limit is not None else [])
