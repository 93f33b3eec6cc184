"""Text towers against the models that they are of: every caption as the model's own tokenizer and method embed it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_towers import LENGTH, SAVE, WIDTH, save_siglip
from torch import Tensor

from harness.blocks.encoders import WordEncoder
from harness.blocks.host import with_lengths
from harness.contract.device_reads import DeviceReads
from harness.data.text_encoder import PretrainedTokenizer, load_tower
from harness.data.tokens import Tokens
from harness.errors import DataError
from harness.method import Inputs, Words
from harness.trial.batches import hide_words
from harness.trial.text_tower import FrozenTower, TextTower

transformers = pytest.importorskip("transformers")
CAPTIONS = [
    "a dog",
    "Two CATS, one red circle.",
    "the",
    "a photo of a blue square left of the red circle . a dog is left",
]
SAVED = {
    **SAVE,
    "siglip with a mask": partial(save_siglip, names=("input_ids", "attention_mask")),
    "siglip padded left": partial(save_siglip, side="left"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("towers")
    for name, save in SAVED.items():
        save(root / name)
    return root


each_tower = pytest.mark.parametrize("name", SAVED)


def tower_of(folder: Path) -> TextTower:
    return TextTower(*load_tower(folder, len(PretrainedTokenizer(folder))))


def batch_of(folder: Path, captions: list[str], prompt: str = "{}") -> tuple[Tensor, Tensor]:
    """A batch as the harness makes it; under padding lies what must not matter."""
    split = Tokens.encode(captions, PretrainedTokenizer(folder, prompt))
    tokens, mask = split.gather(range(len(captions)))
    mask_tensor = with_lengths(torch.from_numpy(mask), mask.sum(1))
    return torch.where(mask_tensor, torch.from_numpy(tokens), 5), mask_tensor


@torch.no_grad()
def of_the_model(folder: Path, captions: list[str]) -> tuple[Any, Tensor]:
    """What transformers give, as their documentation has it; and the captions' lengths."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    how: dict[str, Any] = {"padding": "max_length" if "siglip" in folder.name else True, "truncation": True}
    batch = tokenizer(captions, max_length=LENGTH, return_tensors="pt", **how)
    assert ("attention_mask" in batch) == (folder.name not in ("siglip", "siglip padded left"))
    return model.get_text_features(**batch), batch["input_ids"]


@each_tower
@pytest.mark.parametrize("prompt", ["{}", "a photo of {}", "the {}."])
@torch.no_grad()
def test_embeddings_of_captions_of_all_lengths_are_those_of_the_whole_model(
    folders: Path, name: str, prompt: str
) -> None:
    folder, texts = folders / name, [prompt.replace("{}", caption) for caption in CAPTIONS]
    expected = of_the_model(folder, texts)[0].pooler_output
    assert expected.shape == (len(CAPTIONS), WIDTH) and expected.std(0).min() > 1e-4
    tower, (tokens, mask) = tower_of(folder).eval(), batch_of(folder, CAPTIONS, prompt)
    assert mask.sum(1).max() == LENGTH and mask.sum(1).min() < LENGTH
    torch.testing.assert_close(tower.embed(tokens, mask), expected, rtol=0, atol=1e-5)
    frozen = FrozenTower(tower)
    torch.testing.assert_close(frozen(tokens, mask), expected, rtol=0, atol=1e-5)
    wider = torch.nn.functional.pad(tokens, (0, 3), value=7), torch.nn.functional.pad(mask, (0, 3))
    if "siglip" in name:  # others have no place for more
        torch.testing.assert_close(tower.embed(*wider), expected, rtol=0, atol=1e-5)


@each_tower
@torch.no_grad()
def test_states_of_words_are_those_of_the_whole_model(folders: Path, name: str) -> None:
    folder, captions = folders / name, CAPTIONS[:3]
    output, ids = of_the_model(folder, captions)
    (tokens, mask), expected = batch_of(folder, captions), output.last_hidden_state
    states = tower_of(folder).eval()(tokens, mask)
    for row, length in enumerate(mask.sum(1).tolist()):
        start = ids.shape[1] - length if "left" in name else 0
        assert tokens[row, :length].tolist() == ids[row, start : start + length].tolist()
        torch.testing.assert_close(states[row, :length], expected[row, start : start + length], rtol=0, atol=1e-5)


@each_tower
def test_methods_that_read_words_train_all_that_states_pass_through_and_nothing_else(folders: Path, name: str) -> None:
    folder = folders / name
    tokens, mask = batch_of(folder, CAPTIONS)
    words = WordEncoder(Inputs(4, 99, Words(encoder=lambda: tower_of(folder))), 3, 6)
    words(tokens, mask).square().sum().backward()
    assert not [key for key, value in words.named_parameters() if value.grad is None or not value.grad.any()]
    names = set(words.state_dict())
    assert not any("vision" in key or "visual" in key or "projection" in key or "logit" in key for key in names)


@each_tower
def test_a_frozen_tower_has_no_parameter_is_in_no_checkpoint_and_stays_without_dropout(
    folders: Path, name: str
) -> None:
    frozen = FrozenTower(tower_of(folders / name)).train()
    assert not list(frozen.parameters()) and not any(part.training for part in frozen.modules())
    assert sum(value.numel() for value in frozen.state_dict().values()) < 100, "positions at most"
    assert frozen.width == WIDTH


def test_a_caption_is_embedded_once_and_its_numbers_depend_on_no_batch(folders: Path) -> None:
    folder = folders / "clip"
    frozen, (tokens, mask) = FrozenTower(tower_of(folder)), batch_of(folder, [*CAPTIONS, *CAPTIONS])
    seen: list[int] = []
    embed, frozen.tower.embed = frozen.tower.embed, lambda *of: (seen.append(len(of[0])), embed(*of))[1]  # type: ignore[method-assign]
    first = frozen(tokens, mask)
    assert seen == [1] * len(CAPTIONS) and torch.equal(first[:4], first[4:])
    again = frozen(tokens[[6]], with_lengths(mask[[6]], mask[[6]].sum(1).numpy()))
    assert len(seen) == len(CAPTIONS) and torch.equal(again[0], first[2])
    other = FrozenTower(tower_of(folder))
    assert torch.equal(other(*batch_of(folder, CAPTIONS[2:3]))[0], first[2])


@each_tower
def test_a_gpu_embeds_a_batch_at_once_and_reads_nothing_of_its_own(
    folders: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transformers itself looks at a mask, whether it hides anything."""
    frozen, batch = FrozenTower(tower_of(folders / name)), batch_of(folders / name, CAPTIONS)
    expected = frozen(*batch)
    monkeypatch.setattr(FrozenTower, "KEPT", 0)
    with DeviceReads() as reads:
        embeddings = frozen(*batch)
    assert not reads.places or frozen.tower.has_mask
    torch.testing.assert_close(embeddings, expected, rtol=0, atol=1e-5)


def test_no_word_is_hidden_where_the_unknown_word_would_end_the_caption(folders: Path) -> None:
    hidden = {name: PretrainedTokenizer(folders / name).special_ids.hidden for name in ("clip", "siglip")}
    assert hidden == {"clip": -1, "siglip": 2}
    split = Tokens.encode(CAPTIONS, PretrainedTokenizer(folders / "clip"))
    tokens, _ = split.gather(range(len(CAPTIONS)))
    assert (hide_words(tokens, split.special_ids, 0.9, np.random.default_rng(0)) == tokens).all()


def test_embeddings_of_another_width_than_regions_are_refused(folders: Path) -> None:
    assert tower_of(folders / "clip").frozen(WIDTH).width == WIDTH
    with pytest.raises(DataError, match=r"regions have 20 numbers, embeddings of the \[text\] encoder 12; take"):
        tower_of(folders / "clip").frozen(20)


@each_tower
def test_scale_and_bias_are_the_models_own(folders: Path, name: str) -> None:
    model = transformers.AutoModel.from_pretrained(folders / name, local_files_only=True)
    frozen = tower_of(folders / name).frozen()
    assert frozen.scale == pytest.approx(model.logit_scale.exp().item())
    assert frozen.bias == (pytest.approx(model.logit_bias.item()) if "siglip" in name else None)
    del frozen.tower.model.logit_scale
    with pytest.raises(DataError, match="no scale of its own; give settings"):
        _ = frozen.scale
