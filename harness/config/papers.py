"""What a method's card says of its paper: where it appeared, what it reported, how it trained."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

from harness.config.sections import Scalar, Training


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class Paper(Table):
    """The paper of a method."""

    title: str = Field(description="as printed")
    authors: str = Field(description="separated by commas")
    venue: str = Field(description="conference or journal")
    year: StrictInt = Field(description="of publication")
    doi: str = Field("", description="without https://doi.org/")
    url: str = Field("", description="of the paper, where it has no doi")


class Reported(Table):
    """The paper's own numbers, with the table they stand in."""

    dataset: str = Field(description="name of a dataset's card")
    protocol: str = Field(description="name of one of its protocols")
    i2t: tuple[StrictFloat, StrictFloat, StrictFloat] = Field(
        description="R@1, R@5, R@10 of images as queries, in percent"
    )
    t2i: tuple[StrictFloat, StrictFloat, StrictFloat] = Field(
        description="R@1, R@5, R@10 of captions as queries, in percent"
    )
    rsum: StrictFloat = Field(description="the six added, as printed or as added")
    ensemble: StrictBool = Field(False, description="scores of several models averaged; not compared with a single one")
    differs: str = Field("", description="why it does not compare with our runs: other features, another split")
    source: str = Field(description="the table that the numbers stand in")
    note: str = Field("", description="what else a reader should know")

    @property
    def apart(self) -> str:
        """Why the numbers are not comparable with a run of the method alone; empty where they are."""
        return self.differs or ("an ensemble of models" if self.ensemble else "")

    @property
    def remarks(self) -> str:
        return "; ".join(filter(None, (self.source, self.apart, self.note)))


class Cost(Table):
    """What a method costs at the settings of its card, by `benchmarks/costs.py`, which says of what data."""

    parameters: StrictInt = Field(
        ge=0, description="numbers that are trained, word embeddings of 10,000 words among them"
    )
    mflops_per_pair: StrictFloat = Field(ge=0, description="millions of operations of the products that score one pair")
    bytes_per_image: StrictInt = Field(ge=0, description="of an encoded image in an index, in float32")


class PaperRecipe(Table):
    """How a paper trained its method on one dataset; `--recipe paper` trains it so."""

    dataset: str = Field(description="name of the dataset")
    source: str = Field(description="where the recipe is from: the paper, or its code and commit")
    training: Training = Field(Training(), description="keys of [training]; what is left out is as harness has it")
    settings: dict[str, Scalar] = Field({}, description="settings that the paper has otherwise for this dataset")
    selected_on: Literal["val", "test"] = Field(
        "val", description="the split on which the paper chose its epoch; here it is val in any case"
    )
    differs: str = Field("", description="what of the paper's training this does not repeat, such as its text encoder")

    @property
    def unlike(self) -> tuple[str, ...]:
        """What of the paper's training is done otherwise here."""
        return tuple(filter(None, (self.differs, "its epoch was chosen on test" * (self.selected_on == "test"))))
