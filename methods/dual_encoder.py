"""Two encoders and a contrastive loss: that of CLIP (arXiv 2103.00020) or that of SigLIP (arXiv 2303.15343).

Trained here from the beginning, pretrained as they are, or heads that are trained on frozen towers. Of these, regions
are image embeddings that the pretrained model gave, one per image (of several the mean is taken), and its text tower is
the dataset's [text] encoder, whose tokenizer puts prompts around captions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, softplus

from harness.blocks.encoders import WordEncoder
from harness.blocks.families import EmbeddingMethod, one_vector
from harness.blocks.pooling import masked_mean
from harness.blocks.residual_mlp import ResidualMLP
from harness.method import Batch, Encoded, Inputs

LARGEST_LOG_SCALE = math.log(100.0)  # CLIP's
SIGMOID_SCALE = 10.0  # SigLIP's at the start
Head = Literal["linear", "mlp"]


class DualEncoder(EmbeddingMethod):
    """The mean of encoded regions and the mean of word states; a subclass has the loss of their cosines."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        dim: int
        word_dim: int
        scale: float  # of cosines, at the start; learned

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.regions = ResidualMLP(inputs.feature_width, settings.dim)
        self.words = WordEncoder(inputs, settings.word_dim, settings.dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.scale)))

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """(B, R, F) -> (B, 1, D)."""
        return one_vector(masked_mean(self.regions(regions, mask), mask))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """(B, T) -> (B, 1, D)."""
        return one_vector(masked_mean(self.words(tokens, mask), mask))

    def cosines(self, batch: Batch) -> Tensor:
        """(B, B)."""
        images = self.encode_images(batch.regions, batch.region_mask)
        return self.score(images, self.encode_captions(batch.tokens, batch.token_mask))


class CLIP(DualEncoder):
    """Cross entropy of each image among the captions of the batch, and of each caption among the images."""

    def loss(self, batch: Batch) -> Tensor:
        """Mean over the batch and both directions; other true matches are in no denominator."""
        return softmax_loss(bounded_scale(self.log_scale) * self.cosines(batch), batch.positives)


class SigLIP(DualEncoder):
    """Every image and caption of the batch for themselves: do they match?"""

    @dataclass(frozen=True)
    class Settings(DualEncoder.Settings):
        """Settings of the card."""

        bias: float  # at the start; learned

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.bias = nn.Parameter(torch.tensor(settings.bias))

    def loss(self, batch: Batch) -> Tensor:
        """-(1/B) sum of log sigmoid(y (scale · cosine + bias)), y = 1 for true matches, else -1."""
        return sigmoid_loss(self.log_scale.exp() * self.cosines(batch) + self.bias, batch.positives)


class ZeroShot(EmbeddingMethod):
    """The cosine of image and caption in the model's own space."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        prompt: str  # with {} where the caption stands; the dataset's tokenizer reads it

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.tower = text_encoder(inputs).frozen(inputs.feature_width)

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """(B, R, F) -> (B, 1, E), the mean over regions."""
        return one_vector(masked_mean(regions, mask))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """(B, T) -> (B, 1, E)."""
        return one_vector(self.tower(tokens, mask))

    def loss(self, batch: Batch) -> Tensor:
        """CLIP's of the cosines, which nothing here is trained by."""
        images = self.encode_images(batch.regions, batch.region_mask)
        captions = self.encode_captions(batch.tokens, batch.token_mask)
        return softmax_loss(self.score(images, captions), batch.positives)


class ResidualHead(nn.Module):
    """Unit vectors (B, F) -> (B, E): x + f(x), f linear or an MLP that starts at zero.

    Where F is not E, a linear layer of x stands for x.
    """

    def __init__(self, kind: Head, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.skip = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs, bias=False)
        last = nn.Linear(width if kind == "mlp" else inputs, outputs)
        self.change = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), last) if kind == "mlp" else last
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """Not normalised."""
        unit = normalize(vectors, dim=-1)
        changed: Tensor = self.skip(unit) + self.change(unit)
        return changed


class TrainedHeads(EmbeddingMethod):
    """A residual head on each side's embeddings: where widths are equal, training starts at the zero-shot scores."""

    @dataclass(frozen=True)
    class Settings:
        """Settings of the card."""

        prompt: str  # with {} where the caption stands; the dataset's tokenizer reads it
        head: Head
        width: int  # hidden, of an MLP
        scale: float  # of cosines, at the start; learned; 0: the pretrained model's

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        self.tower = text_encoder(inputs).frozen()
        self.image_head = ResidualHead(settings.head, inputs.feature_width, self.tower.width, settings.width)
        self.text_head = ResidualHead(settings.head, self.tower.width, self.tower.width, settings.width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.scale or self.tower.scale)))

    def encode_images(self, regions: Tensor, mask: Tensor) -> Encoded:
        """(B, R, F) -> (B, 1, E), the mean over regions through its head."""
        return one_vector(self.image_head(masked_mean(regions, mask)))

    def encode_captions(self, tokens: Tensor, mask: Tensor) -> Encoded:
        """(B, T) -> (B, 1, E)."""
        return one_vector(self.text_head(self.tower(tokens, mask)))

    def cosines(self, batch: Batch) -> Tensor:
        """(B, B)."""
        images = self.encode_images(batch.regions, batch.region_mask)
        return self.score(images, self.encode_captions(batch.tokens, batch.token_mask))


class SoftmaxHeads(TrainedHeads):
    """Heads trained by CLIP's loss."""

    def loss(self, batch: Batch) -> Tensor:
        """Mean over the batch and both directions."""
        return softmax_loss(bounded_scale(self.log_scale) * self.cosines(batch), batch.positives)


class SigmoidHeads(TrainedHeads):
    """Heads trained by SigLIP's loss."""

    @dataclass(frozen=True)
    class Settings(TrainedHeads.Settings):
        """Settings of the card."""

        bias: float  # of scaled cosines, at the start; learned; with scale 0 the pretrained model's, where it has one

    def __init__(self, settings: Any, inputs: Inputs) -> None:
        super().__init__(settings, inputs)
        own = None if settings.scale else self.tower.bias
        if not settings.scale and own is None:  # a scale that a softmax learned has no bias to go with it
            self.log_scale.data.fill_(math.log(SIGMOID_SCALE))
        self.bias = nn.Parameter(torch.tensor(settings.bias if own is None else own))

    def loss(self, batch: Batch) -> Tensor:
        """The sum over all pairs of the batch, per image."""
        return sigmoid_loss(self.log_scale.exp() * self.cosines(batch) + self.bias, batch.positives)


def text_encoder(inputs: Inputs) -> Any:
    """The text tower that the dataset names as its text encoder; a card with `text_tower` runs on no other dataset."""
    if inputs.words.encoder is None:
        raise ValueError("the dataset has no [text] encoder")
    return inputs.words.encoder()


def bounded_scale(log_scale: nn.Parameter) -> Tensor:
    """The scale of cosines; one that a step took beyond CLIP's bound is put back, as no gradient passes a clamp."""
    with torch.no_grad():
        log_scale.clamp_(max=LARGEST_LOG_SCALE)
    return log_scale.exp()


def softmax_loss(logits: Tensor, positives: Tensor) -> Tensor:
    """CLIP's loss of scaled cosines (B, B): mean over the batch and both directions.

    Other true matches, of positives (B, B), are in no denominator.
    """
    own = torch.arange(len(logits), device=logits.device)
    others = positives & (own[:, None] != own)
    logits = logits.masked_fill(others, -torch.inf)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def sigmoid_loss(logits: Tensor, positives: Tensor) -> Tensor:
    """SigLIP's loss: -(1/B) sum of log sigmoid(y logit) over (B, B), y = 1 for true matches, else -1."""
    return softplus(torch.where(positives, -logits, logits)).sum() / len(logits)
