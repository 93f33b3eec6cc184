"""Wrong pairs to train on: how many, or which, and the name that a dataset has with them."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, StrictFloat, StrictInt, ValidationError, model_validator

from harness.config.paths import InnerPath
from harness.config.sections import SEEDS, Section

SEPARATOR = ".noise"  # no card's name has a dot
DRAWN = re.compile(r"([0-9.]+(?:e-?[0-9]+)?)-s([0-9]+)")  # 0.2-s1
READ = re.compile(r"-(.+)")  # -FILE


class Noise(Section):
    """Wrong pairs among those that are trained on; val and test stay as they are."""

    share: StrictFloat = Field(0.0, ge=0, le=1, description="of the training pairs whose image is exchanged; 0: none")
    seed: StrictInt = Field(0, ge=0, lt=SEEDS.stop, description="of the draw")
    file: InnerPath = Field("", description="instead of a draw: .npy or .json, an image's number per caption")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.file and (self.share or self.seed):
            raise ValueError("give share and seed to draw wrong pairs, or the file that says which they are")
        return self

    @property
    def is_on(self) -> bool:
        """Whether there are any."""
        return bool(self.share or self.file)

    @property
    def text(self) -> str:
        """The noise in words, for boards; empty without any."""
        draw = f"{100 * self.share:g} % wrong training pairs, drawn with seed {self.seed}"
        return f"wrong training pairs of {self.file}" if self.file else draw if self.share else ""

    @property
    def suffix(self) -> str:
        """What stands behind the name of a dataset that is trained on with it."""
        ending = f"-{self.file}" if self.file else f"{self.share!r}-s{self.seed}"
        return f"{SEPARATOR}{ending}" if self.is_on else ""


def noise_of(name: str) -> Noise | None:
    """The noise that the name of a dataset says; None where it says none, or not as it is written."""
    _, mark, ending = name.partition(SEPARATOR)
    draw, read = DRAWN.fullmatch(ending), READ.fullmatch(ending)
    try:
        noise = Noise(share=float(draw[1]), seed=int(draw[2])) if draw else Noise(file=read[1]) if read else Noise()
    except (ValidationError, ValueError):
        return None
    return noise if mark and noise.suffix == f"{mark}{ending}" else None


def base_name(dataset: str) -> str:
    """The name of the card that a dataset with noise is made of; any other name as it is."""
    return dataset.partition(SEPARATOR)[0] if noise_of(dataset) else dataset
