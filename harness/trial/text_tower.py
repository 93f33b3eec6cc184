"""The text tower of a pretrained dual encoder such as CLIP or SigLIP: states of words, or one embedding per caption.

What is embedded otherwise than before is another `text_encoder.VERSION`: keys of trials do not see this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.blocks.encoders import TextEncoder
from harness.blocks.host import lengths_of
from harness.errors import DataError

OF_EMBEDDINGS = ("text_model.head.", "text_model.pooler.")  # parts of a text model that no state passes through


class TextTower(TextEncoder):
    """A text encoder that also embeds whole captions, in the space that it shares with pictures.

    What only embeddings pass through is frozen: methods that take its states train the rest.
    """

    def __init__(self, model: Any, pad: int, length: int = 0, has_mask: bool = True, pads_left: bool = False) -> None:
        """`length`: tokens that captions are filled up to, 0: no more than the longest of a batch.

        `model` has get_text_features as those of Hugging Face do, and is told of padding only where it `has_mask`.
        """
        nn.Module.__init__(self)  # TextEncoder's own expects a model that has no other side than text
        self.model = model
        self.width: int = getattr(model.config, "text_config", model.config).hidden_size  # H
        self.pad, self.length, self.has_mask, self.pads_left = pad, length, has_mask, pads_left
        freeze(model, lambda name: not name.startswith("text_model.") or name.startswith(OF_EMBEDDINGS))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """States (B, T, H), whatever they are where the mask is False."""
        states: Tensor = self._output(tokens, mask).last_hidden_state
        places = torch.arange(tokens.shape[1], device=mask.device) + self._before(mask, states.shape[1])
        return states.gather(1, places.clamp(max=states.shape[1] - 1).unsqueeze(2).expand(-1, -1, states.shape[2]))

    def embed(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, T) -> (B, E), not normalised."""
        embeddings: Tensor = self._output(tokens, mask).pooler_output
        return embeddings

    def frozen(self, width: int = 0) -> FrozenTower:
        """Its embeddings, for a method that trains nothing of it; DataError where they lack the width that is given."""
        tower = FrozenTower(self)
        if width and width != tower.width:
            raise DataError(
                f"regions have {width} numbers, embeddings of the [text] encoder {tower.width}; take image embeddings "
                "of the same model, one per image, or a method that trains heads"
            )
        return tower

    def _output(self, tokens: Tensor, mask: Tensor) -> Any:
        """What the model gives for tokens that stand and are padded as it was trained on."""
        length = self.length or tokens.shape[1]
        sources = torch.arange(length, device=mask.device) - self._before(mask, length)  # (B, L)
        real = (sources >= 0) & (sources < mask.sum(1, keepdim=True))
        ids = tokens.gather(1, sources.clamp(0, tokens.shape[1] - 1)).masked_fill(~real, self.pad)
        masks = {"attention_mask": real.long()} if self.has_mask else {}
        return self.model.get_text_features(input_ids=ids, **masks)

    def _before(self, mask: Tensor, length: int) -> Tensor:
        """The number of padding tokens before the words of each caption, (B, 1)."""
        lengths = mask.sum(1, keepdim=True)
        return length - lengths if self.pads_left else torch.zeros_like(lengths)


class FrozenTower(nn.Module):
    """Tokens (B, T) -> embeddings (B, E) of a tower that is not trained: no parameter, and in no checkpoint.

    A CPU embeds each caption once, alone, so that its numbers depend on no batch, and keeps the embedding. A GPU is as
    fast without.
    """

    KEPT = 2**18  # embeddings

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        freeze(tower.model, lambda name: True)
        self.tower = tower.eval()
        self.width: int = self._alone(torch.zeros(1, dtype=torch.int64)).shape[0]  # E
        self._known: dict[bytes, Tensor] = {}

    @property
    def scale(self) -> float:
        """What the model multiplies cosines by; DataError where it has no such number."""
        log_scale = getattr(self.tower.model, "logit_scale", None)
        if log_scale is None:
            raise DataError("the dataset's [text] encoder has no scale of its own; give settings.*.scale a number")
        return math.exp(float(log_scale))

    @property
    def bias(self) -> float | None:
        """What the model adds to scaled cosines; None where it adds nothing."""
        bias = getattr(self.tower.model, "logit_bias", None)
        return None if bias is None else float(bias)

    def train(self, mode: bool = True) -> FrozenTower:
        """Stay as in evaluation, without dropout."""
        super().train(False)
        return self

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Embeddings in float32, not normalised."""
        if not self.KEPT or tokens.device.type != "cpu":
            return self._embeddings(tokens, mask)
        lengths = lengths_of(mask).tolist()
        return torch.stack([self._kept(row[:length]) for row, length in zip(tokens, lengths, strict=True)])

    def _kept(self, caption: Tensor) -> Tensor:
        """(T,) -> (E,)."""
        key = caption.numpy().tobytes()
        if key not in self._known:
            if len(self._known) >= self.KEPT:
                self._known.clear()
            self._known[key] = self._alone(caption)
        return self._known[key]

    def _alone(self, caption: Tensor) -> Tensor:
        return self._embeddings(caption[None], torch.ones(1, len(caption), dtype=torch.bool))[0]

    @torch.no_grad()
    def _embeddings(self, tokens: Tensor, mask: Tensor) -> Tensor:
        with torch.autocast(tokens.device.type, enabled=False):
            return self.tower.embed(tokens, mask)


def freeze(model: nn.Module, is_frozen: Callable[[str], bool]) -> None:
    """Make buffers, which no checkpoint holds, of the parameters of these names."""
    for path, part in model.named_modules():
        for name, value in list(part.named_parameters(recurse=False)):
            if is_frozen(f"{path}.{name}".lstrip(".")):
                delattr(part, name)
                part.register_buffer(name, value.detach(), persistent=False)
