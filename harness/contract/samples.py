"""Small methods, and the random sets that they are tried on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from harness.config.cards import MethodCard
from harness.config.project import Config
from harness.config.registry import load_class, settings_for
from harness.config.sections import Scalar
from harness.contract.rule import BrokenRule, hold
from harness.method import Batch, Encoded, Inputs, Method, Words
from harness.trial.text_tower import TextTower

INPUTS = Inputs(feature_width=20, vocabulary_size=50)
SMALL = Config(settings={"*": {"dim": 16, "word_dim": 12, "width": 8}})
IMAGES, CAPTIONS = 9, 11
TOLERANCE = 1e-5


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread, so that numbers repeat: sums of small sets gain nothing by more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def build(card: MethodCard, seed: int = 0, **changes: Scalar) -> Method:
    """A small method with the weights of a seed."""
    kind = load_class(card)
    torch.manual_seed(seed)
    return kind(kind.Settings(**{**settings_for(card, SMALL), **changes}), inputs_of(card)).eval()


def inputs_of(card: MethodCard, feature_width: int = 0, vocabulary_size: int = 0) -> Inputs:
    """What a method is built from: with a text tower where its card needs one."""
    sizes = feature_width or INPUTS.feature_width, vocabulary_size or INPUTS.vocabulary_size
    if card.text_tower:
        return inputs_with_a_tower(*sizes)
    return INPUTS._replace(feature_width=sizes[0], vocabulary_size=sizes[1])


class MeanOfWords(nn.Module):
    """What a text tower expects of a model: an embedding is the mean of fixed vectors of a caption's words."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_size=width)
        vectors = torch.randn(words, width, generator=torch.Generator().manual_seed(0))
        self.text_model = nn.Embedding.from_pretrained(vectors, freeze=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """States and embeddings, in the form of Hugging Face."""
        states = self.text_model(input_ids) * attention_mask.unsqueeze(2)
        pooled = states.sum(1) / attention_mask.sum(1, keepdim=True)
        return SimpleNamespace(last_hidden_state=states, pooler_output=pooled)


def inputs_with_a_tower(feature_width: int, vocabulary_size: int, width: int = 0) -> Inputs:
    """Inputs of a dataset with a dual encoder; its embeddings are as wide as regions where no width is given."""
    words = Words(encoder=lambda: TextTower(MeanOfWords(vocabulary_size, width or feature_width), pad=1))
    return Inputs(feature_width, vocabulary_size, words)


def random_sets(sizes: list[int], seed: int, width: int = 0) -> tuple[Tensor, Tensor]:
    """Padded regions (B, R, F), or token ids (B, T) without a width; and their mask. Padding is not zero."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    if width:
        return torch.randn(*mask.shape, width, generator=generator), mask
    return torch.randint(4, INPUTS.vocabulary_size, mask.shape, generator=generator), mask


def regions(count: int = IMAGES) -> tuple[Tensor, Tensor]:
    """Images of three to six regions."""
    return random_sets([3 + k % 4 for k in range(count)], seed=1, width=INPUTS.feature_width)


def words(count: int = CAPTIONS) -> tuple[Tensor, Tensor]:
    """Captions of two to seven tokens."""
    return random_sets([2 + k % 6 for k in range(count)], seed=2)


def encoded(method: Method) -> tuple[Encoded, Encoded]:
    """Nine images and eleven captions."""
    return method.encode_images(*regions()), method.encode_captions(*words())


def rows(sets: Encoded, places: Any) -> Encoded:
    """Some of the sets."""
    return Encoded(sets.vectors[places], sets.mask[places])


def padded(sets: tuple[Tensor, Tensor], by: int = 3) -> tuple[Tensor, Tensor]:
    """The same sets with further padding, of other values than zero."""
    values, mask = sets
    more = torch.full((len(values), by, *values.shape[2:]), 7, dtype=values.dtype)
    return torch.cat([values, more], 1), torch.cat([mask, torch.zeros(len(mask), by, dtype=torch.bool)], 1)


def batch(hardest: bool = True) -> Batch:
    """Eight pairs of random regions and words; the first two share their image."""
    images, mask = regions(8)
    positives = torch.eye(8, dtype=torch.bool)
    for values in (images, mask):
        values[1] = values[0]
    positives[:2, :2] = True
    return Batch(images, mask, *words(8), positives, hardest)


def close(actual: Tensor, expected: Tensor, what: str = "scores", tolerance: float = TOLERANCE) -> None:
    """BrokenRule where numbers differ by more than a tolerance, with the place where they differ most."""
    kinds = [f"{tuple(of.shape)} of {of.dtype}" for of in (actual, expected)]
    hold(kinds[0] == kinds[1], f"{what}: {kinds[0]} instead of {kinds[1]}")
    difference = (actual - expected).abs().nan_to_num(torch.inf).flatten()
    if not len(difference) or difference.max() <= tolerance:
        return
    worst = int(difference.argmax())
    place = ", ".join(str(int(index)) for index in torch.unravel_index(torch.tensor(worst), actual.shape))
    numbers = f"{actual.flatten()[worst]:.5g} instead of {expected.flatten()[worst]:.5g}"
    many = int((difference > tolerance).sum())
    raise BrokenRule(f"{what}: {numbers} at [{place}], and {many} of {len(difference)} numbers differ")
