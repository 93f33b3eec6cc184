"""Each fragment method's tiled scores against the textbook formula, values and gradients, in float64."""

from __future__ import annotations

import pytest
import torch
from fragment_oracle import (
    agrees_with_its_textbook,
    encoded,
    padding_decides_nothing,
    small,
    stays_close_under_autocast,
)
from textbook.formula import formula, scores

from harness.blocks.attention import as_context, as_queries, attended_cosine, products, stacked_weights
from harness.blocks.encoders import turned_round
from harness.blocks.pooling import masked_mean
from harness.method import Encoded

CASES = [
    ("scan_t2i", {}),
    ("scan_t2i", {"pooling": "lse", "slope": 0.0}),
    ("scan_i2t", {}),
    ("scan_i2t", {"pooling": "lse"}),
    ("caan", {"attention_over": "other"}),
    ("caan", {"attention_over": "own"}),
    ("caan", {"correlation": "feature", "similarity": "inner"}),
    ("bssan", {}),
    ("bssan", {"competition": False}),
    ("bssan", {"networks": "w2r"}),
    ("bssan", {"networks": "o2w"}),
]


@pytest.mark.parametrize("vectors", [1, 6, 1000])
@pytest.mark.parametrize(("name", "changes"), CASES)
def test_scores_and_gradients_equal_the_formula(name: str, changes: dict[str, object], vectors: int) -> None:
    agrees_with_its_textbook(name, small(name, **changes), vectors, relative=1e-9, absolute=1e-11)


def test_a_caption_is_read_backwards_from_its_own_last_word() -> None:
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    assert turned_round(mask).tolist() == [[2, 1, 0, 3], [0, 1, 2, 3]]


def test_words_are_encoded_as_torch_encodes_packed_sequences() -> None:
    method = small("scan_t2i")
    tokens = torch.randint(4, 30, (5, 6))
    mask = torch.arange(6) < torch.tensor([6, 2, 4, 3, 1])[:, None]
    words = method.words.layers
    reference = torch.nn.GRU(8, 12, batch_first=True, bidirectional=True).double()
    for ours, suffix in ((words.forwards, ""), (words.backwards, "_reverse")):
        for parameter, value in ours.named_parameters():
            getattr(reference, f"{parameter}{suffix}").data = value.data
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        words.embedding(tokens), mask.sum(1), batch_first=True, enforce_sorted=False
    )
    states, _ = torch.nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True, total_length=6)
    torch.testing.assert_close(method.words(tokens, mask), (states[..., :12] + states[..., 12:]) / 2)


def test_a_masked_mean_ignores_padding() -> None:
    vectors = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert masked_mean(vectors, torch.tensor([[True, True, False]])).item() == 2.0


@pytest.mark.parametrize("temperature", [4.0, 12.0, 13.0, 40.0])
def test_a_context_that_no_query_likes_still_has_its_cosine(temperature: float) -> None:
    method = small("scan_t2i", temperature=temperature).float()
    vectors = torch.nn.functional.normalize(torch.randn(1, 3, 12), dim=-1)
    against = torch.nn.functional.normalize(-vectors.sum(1, keepdim=True), dim=-1)  # every product is below zero
    sets = Encoded(vectors, torch.ones(1, 3, dtype=torch.bool)), Encoded(against, torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(method.score(*sets), scores(formula("scan_t2i", method), *sets))


@pytest.mark.parametrize("name", ["scan_t2i", "scan_i2t", "bssan", "caan"])
def test_what_stands_in_the_padding_decides_nothing(name: str) -> None:
    padding_decides_nothing(small(name))


@pytest.mark.parametrize("name", ["scan_t2i", "scan_i2t", "bssan", "caan"])
def test_under_autocast_scores_are_summed_in_float32_and_stay_close(name: str) -> None:
    stays_close_under_autocast(small(name), tolerance=0.02)


def test_padding_passes_no_gradient_even_where_its_own_result_is_used() -> None:
    torch.manual_seed(3)
    mask = torch.arange(3) < torch.tensor([3, 1])[:, None]
    context = as_context(Encoded(torch.randn(2, 4, 5, dtype=torch.float64), torch.ones(2, 4, dtype=torch.bool)))
    queries = as_queries(Encoded(torch.randn(2, 3, 5, dtype=torch.float64), mask))
    temperature = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)

    def cosines(product: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
        weights = stacked_weights(product, context, temperature, slope=0.1)
        return attended_cosine(weights, fixed, context.gram)

    fixed = products(context.vectors, queries.vectors)
    assert torch.autograd.gradcheck(cosines, (fixed.clone().requires_grad_(), temperature))


@torch.no_grad()
@pytest.mark.parametrize("name", ["scan_t2i", "bssan"])
def test_the_attention_that_is_shown_is_what_words_are_scored_by(name: str) -> None:
    method = small(name, **({"networks": "w2r"} if name == "bssan" else {}))
    images, captions = encoded(method)
    alpha = method.regions_of_words(images, captions)
    attended = torch.einsum("nmtr,nrd->nmtd", alpha, images.vectors * images.mask[..., None])
    cosines = torch.nn.functional.cosine_similarity(captions.vectors[None], attended, dim=-1) * captions.mask
    salience = captions.mask.double() / captions.mask.sum(1, keepdim=True)
    if name == "bssan":
        salience = method.word_attention.attending(captions).salience.T
    torch.testing.assert_close((cosines * salience).sum(2), method.score(images, captions), atol=1e-9, rtol=0)


@torch.no_grad()
def test_regions_share_their_attention_out_over_words() -> None:
    method = small("scan_i2t")
    images, captions = encoded(method)
    alpha = method.regions_of_words(images, captions)
    attended = torch.einsum("nmtr,mtd->nmrd", alpha, captions.vectors * captions.mask[..., None])
    cosines = torch.nn.functional.cosine_similarity(images.vectors[:, None], attended, dim=-1) * images.mask[:, None]
    relevance = cosines.sum(2) / images.mask.sum(1)[:, None]
    torch.testing.assert_close(relevance, method.score(images, captions), atol=1e-9, rtol=0)
