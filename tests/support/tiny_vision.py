"""Vision models that see in a moment: tiny, with random weights, in files as their makers publish them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SHAPES = ((64, 48), (48, 64), (90, 50), (64, 48), (31, 77))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ViT, a CLIP and a YOLOS."""
    from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel, YolosConfig, YolosForObjectDetection
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
    from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    ViTModel(ViTConfig(image_size=32, patch_size=8, **SMALL)).save_pretrained(folder / "vit")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder / "vit")
    words = {"vocab_size": 9, "bos_token_id": 1, "eos_token_id": 2, **SMALL}
    clip = CLIPConfig(vision_config={"image_size": 32, "patch_size": 8, **SMALL}, text_config=words)
    CLIPModel(clip).save_pretrained(folder / "clip")
    crop = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=crop).save_pretrained(folder / "clip")
    yolos = YolosConfig(image_size=[64, 96], patch_size=16, num_detection_tokens=10, num_labels=3, **SMALL)
    YolosForObjectDetection(yolos).save_pretrained(folder / "yolos")
    YolosImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder / "yolos")
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nine pictures of several shapes, some of one."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(9):
        coarse = generator.integers(0, 255, (5, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(SHAPES[number % len(SHAPES)]).save(folder / f"{number}.png")
    return folder
