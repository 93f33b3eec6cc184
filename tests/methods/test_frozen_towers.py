"""Dual encoders as they are, and heads on their frozen towers, which begin at the zero-shot scores."""

from __future__ import annotations

import math

import pytest
import torch

from harness.config.cards import MethodCard
from harness.config.project import Config
from harness.config.registry import discover, load_class, training_for
from harness.config.sections import Scalar, Training
from harness.contract import samples
from harness.contract.samples import inputs_with_a_tower
from harness.errors import DataError
from harness.method import Inputs, Method, Words
from methods.dual_encoder import LARGEST_LOG_SCALE

CARDS = discover(Config()).methods
WIDTH = samples.INPUTS.feature_width
HEADS = ("clip_heads", "siglip_heads")
each_head = pytest.mark.parametrize("name", HEADS)


def built(name: str, inputs: Inputs, **changes: Scalar) -> Method:
    kind = load_class(CARDS[name])
    torch.manual_seed(0)
    return kind(
        kind.Settings(**{**CARDS[name].defaults, "width": 8, **changes} if name in HEADS else CARDS[name].defaults),
        inputs,
    ).eval()


@torch.no_grad()
def test_the_zero_shot_score_is_the_cosine_of_the_mean_region_and_the_towers_embedding() -> None:
    method = built("zero_shot", inputs_with_a_tower(WIDTH, 50))
    (regions, region_mask), (tokens, token_mask) = samples.regions(), samples.words()
    scores, tower = method.score(*samples.encoded(method)), method.tower.tower
    for i in (0, 3):
        for j in (0, 5):
            image = regions[i][region_mask[i]].mean(0)
            caption = tower.embed(tokens[j : j + 1], token_mask[j : j + 1])[0]
            expected = torch.nn.functional.cosine_similarity(image, caption, dim=0)
            torch.testing.assert_close(scores[i, j], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", ["linear", "mlp"])
@each_head
@torch.no_grad()
def test_heads_begin_at_the_zero_shot_scores_where_widths_are_equal(name: str, head: str) -> None:
    inputs = inputs_with_a_tower(WIDTH, 50)
    begin, plain = built(name, inputs, head=head), built("zero_shot", inputs)
    samples.close(begin.score(*samples.encoded(begin)), plain.score(*samples.encoded(plain)))
    other = built(name, inputs_with_a_tower(WIDTH, 50, width=12), head=head)
    assert other.score(*samples.encoded(other)).std() > 0


@each_head
def test_training_moves_heads_and_scale_and_leaves_the_tower(name: str) -> None:
    method = built(name, inputs_with_a_tower(WIDTH, 50)).train()
    tower = {key: value.clone() for key, value in method.tower.named_buffers()}
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = method.loss(samples.batch())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert tower and all(torch.equal(value, tower[key]) for key, value in method.tower.named_buffers())


def test_scale_and_bias_begin_where_the_model_or_the_card_says() -> None:
    inputs = inputs_with_a_tower(WIDTH, 50)
    assert inputs.words.encoder

    def with_a_bias() -> torch.nn.Module:
        assert inputs.words.encoder
        encoder = inputs.words.encoder()
        encoder.model.logit_bias = torch.nn.Parameter(torch.tensor(-3.0))  # as SigLIP has one
        return encoder

    tower = built("zero_shot", inputs).tower
    assert tower.scale > 1 and tower.bias is None
    for encoder, scale, bias in ((inputs.words.encoder, 10.0, -10.0), (with_a_bias, tower.scale, -3.0)):
        own = built("siglip_heads", inputs._replace(words=Words(encoder=encoder)))
        assert own.log_scale.item() == pytest.approx(math.log(scale), abs=1e-6) and own.bias.item() == bias
    clip = built("clip_heads", inputs)
    assert clip.log_scale.item() == pytest.approx(math.log(tower.scale), abs=1e-6)
    given = built("siglip_heads", inputs._replace(words=Words(encoder=with_a_bias)), scale=3.0, bias=-2.0)
    assert given.log_scale.item() == pytest.approx(math.log(3.0)) and given.bias.item() == -2.0
    most = built("clip_heads", inputs, scale=500.0)
    most.loss(samples.batch()).backward()
    assert most.log_scale.item() == pytest.approx(LARGEST_LOG_SCALE) and most.log_scale.grad


def test_embeddings_of_another_width_are_refused_without_heads() -> None:
    with pytest.raises(DataError, match=r"regions have 20 numbers, embeddings of the \[text\] encoder 12; take"):
        built("zero_shot", inputs_with_a_tower(WIDTH, 50, width=12))


def test_a_frozen_tower_reads_each_caption_whole() -> None:
    training = Training(drop_words=0.3, epochs=7)

    def of(card: MethodCard) -> tuple[int, float]:
        used = training_for(card, Config(training=training))
        return used.epochs, used.drop_words

    assert [of(CARDS[name]) for name in ("zero_shot", "clip_heads", "clip_loss", "chance")] == [
        (0, 0.0),
        (7, 0.0),
        (7, 0.3),
        (0, 0.3),
    ]
