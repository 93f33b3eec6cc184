"""Dual encoders that read in a moment: tiny, with random weights, in folders as their makers publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
PICTURES = {**SMALL, "image_size": 16, "patch_size": 8}
WIDTH = 12  # of embeddings
LENGTH = 14  # tokens
WORDS = ("a", "photo", "of", "red", "blue", "circle", "square", "dog", "cats", "is", "left", "the", "one", "two", ".")


def save_clip(folder: Path, width: int = WIDTH) -> None:
    """A CLIP; its tokenizer knows letters and, by merging them, a few words."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,'-{}!?"]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
            vocabulary.append(parts[0])
    names = [*dict.fromkeys(vocabulary), "<|startoftext|>", "<|endoftext|>"]
    ids = {name: number for number, name in enumerate(names)}
    tokenizer = CLIPTokenizer(vocab=ids, merges=[*dict.fromkeys(merges)], model_max_length=LENGTH)
    tokenizer.save_pretrained(folder)
    ends = {"bos_token_id": len(ids) - 2, "eos_token_id": len(ids) - 1, "pad_token_id": len(ids) - 1}
    text = {"vocab_size": len(ids), "max_position_embeddings": LENGTH, **ends, **SMALL}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=PICTURES, projection_dim=width)).save_pretrained(folder)


def save_siglip(folder: Path, names: tuple[str, ...] = ("input_ids",), side: str = "right") -> None:
    """A SigLIP, whose tokenizer lower-cases, ends a caption, and says nothing of padding."""
    from transformers import SiglipModel

    ids = save_words(folder, begins=False, model_input_names=list(names), padding_side=side, model_max_length=LENGTH)
    torch.manual_seed(1)
    SiglipModel(siglip_config(len(ids), WIDTH, LENGTH)).save_pretrained(folder)


def save_chinese_clip(folder: Path) -> None:
    """A Chinese-CLIP, whose text tower is a BERT that is told of padding."""
    from transformers import ChineseCLIPConfig, ChineseCLIPModel

    ids = save_words(folder, begins=True, model_max_length=LENGTH)
    text = {"vocab_size": len(ids), "max_position_embeddings": LENGTH, "pad_token_id": ids["<pad>"], **SMALL}
    torch.manual_seed(2)
    config = ChineseCLIPConfig(text_config=text, vision_config=PICTURES, projection_dim=WIDTH)
    ChineseCLIPModel(config).save_pretrained(folder)


SAVE = {"clip": save_clip, "siglip": save_siglip, "chinese_clip": save_chinese_clip}


def save_words(folder: Path, begins: bool, **options: Any) -> dict[str, int]:
    """A tokenizer of whole lower-cased words; their ids."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(("<pad>", "</s>", "<unk>", "<s>", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    single = "<s> $A </s>" if begins else "$A </s>"
    marks = [(mark, ids[mark]) for mark in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=marks)
    named = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named, **options).save_pretrained(folder)
    return ids


def siglip_config(ids: int, width: int, length: int) -> Any:
    from transformers import SiglipConfig

    text = {"vocab_size": ids, "max_position_embeddings": length, "projection_size": width, **SMALL}
    return SiglipConfig(text_config=text, vision_config={**PICTURES, "hidden_size": width, "num_attention_heads": 1})
