"""What each method costs at the settings of its card: parameters, operations per pair, bytes per image in an index.

    python benchmarks/costs.py [METHOD ...]

Of 36 regions of 2,048 numbers, captions of 12 words, and 10,000 known words. Operations are those of matrix products,
two per multiplication, in scoring 8 images against 8 captions whose sides are ready. Prints the [cost] of each card.
A method on a frozen dual encoder has one image embedding of 512 numbers instead of regions, and a tower that is not
counted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import methods
from harness.blocks.host import with_lengths
from harness.config.cards import MethodCard, read_card
from harness.config.papers import Cost
from harness.config.registry import load_class
from harness.method import Inputs, Words
from harness.trial.text_tower import TextTower

REGIONS, FEATURES, WORDS, VOCABULARY, SETS = 36, 2048, 12, 10_000, 8
EMBEDDING = 512  # numbers of CLIP's ViT-B/32


class StandIn(TextTower):
    """A tower that costs nothing."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.model = nn.Module()
        self.model.logit_scale = torch.zeros(())

    def embed(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return torch.randn(len(tokens), EMBEDDING)


@torch.no_grad()
def cost(card: MethodCard) -> Cost:
    """The cost of a method, as its card has it."""
    kind = load_class(card)
    torch.manual_seed(0)
    regions, features = (1, EMBEDDING) if card.text_tower else (REGIONS, FEATURES)
    words = Words(encoder=StandIn) if card.text_tower else Words()
    method = kind(kind.Settings(**card.defaults), Inputs(features, VOCABULARY, words)).eval()
    region_mask, token_mask = (full_mask(length) for length in (regions, WORDS))
    images = method.encode_images(torch.randn(SETS, regions, features), region_mask)
    captions = method.encode_captions(torch.randint(4, VOCABULARY, (SETS, WORDS)), token_mask)
    image_side, caption_side = method.image_side(images), method.caption_side(captions)
    with FlopCounterMode(display=False) as counter:
        method.score_sides(image_side, caption_side)
    return Cost(
        parameters=sum(part.numel() for part in method.parameters()),
        mflops_per_pair=float(f"{counter.get_total_flops() / SETS**2 / 1e6:.3g}"),
        bytes_per_image=4 * images.vectors[0].numel(),
    )


def full_mask(length: int) -> torch.Tensor:
    return with_lengths(torch.ones(SETS, length, dtype=torch.bool), np.full(SETS, length))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*")
    names = parser.parse_args().methods
    for file in sorted(Path(methods.__path__[0]).glob("*.toml")):
        card = read_card(MethodCard, file)
        if not names or card.name in names:
            lines = [f"{name} = {value}" for name, value in cost(card).model_dump().items()]
            print("\n".join([f"# {card.name}", "[cost]", *lines, ""]))


if __name__ == "__main__":
    main()
