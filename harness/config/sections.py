"""The tables of harness.toml: frozen, every key with its default and its meaning; an unknown key is an error."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StrictFloat,
    StrictInt,
    field_validator,
    model_validator,
)

from harness.config.names import RESULTS

OWN_RESOURCES = ("CPU", "GPU", "memory", "object_store_memory")  # of Ray, beside the custom ones
SEEDS = range(2**32)  # that the generators of NumPy and torch both take
CONTEXT_MB = 700.0  # that a process holds on a GPU beside its tensors: CUDA, its libraries and their kernels


def one_value(value: object) -> object:
    """A setting, unconverted; ValueError for anything but a number, text or truth value, and for infinite numbers."""
    if not isinstance(value, bool | int | float | str):
        raise ValueError("give one number, text, true or false")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("give a finite number")
    return value


Scalar = Annotated[bool | int | float | str, PlainValidator(one_value, json_schema_input_type=bool | int | float | str)]
SettingTables = dict[str, dict[str, Scalar]]  # by method or glob


# A number or truth value is strict, as settings are: true is no number, a text is neither; an int will do for a float.
# More than any campaign needs, and few enough for what is done per epoch, trial or seed to end.
Count = Annotated[StrictInt, Field(le=10**9)]
Hundreds = Annotated[StrictInt, Field(le=100)]
Thousands = Annotated[StrictInt, Field(le=100_000)]
LARGEST_RATE = 1000.0  # with which no training goes anywhere, and float32 still holds what it gives
LEAST_AMOUNT = 1e-4  # Ray counts its resources in ten-thousandths


def amount_of_ray(value: float) -> float:
    """So much of one of Ray's resources; ValueError for what it cannot count. -1 leaves it to somebody else."""
    if value not in (-1, 0) and value < LEAST_AMOUNT:
        raise ValueError(f"give at least {LEAST_AMOUNT}, as Ray counts no finer, or -1")
    return value


Amount = Annotated[StrictFloat, Field(ge=LEAST_AMOUNT, le=10_000)]
OpenAmount = Annotated[StrictFloat, AfterValidator(amount_of_ray), Field(le=10_000)]
Seconds = Annotated[StrictFloat, Field(le=10**9)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


RecipeName = Literal["common", "paper"]


class Campaign(Section):
    """What `harness run` runs when no flag says otherwise."""

    name: str = Field(
        "main",
        pattern=r"^[^\s-]",
        max_length=200,
        description="of the parent run in MLflow; does not begin with a blank or -",
    )
    methods: tuple[str, ...] = Field(("*",), description='names, globs, a+b, a@9:b; ["*"]: all methods')
    datasets: tuple[str, ...] = Field(("scenes",), description="names or globs")
    seeds: tuple[StrictInt, ...] = Field(
        (0, 1, 2), max_length=10_000, description="one trial per method, dataset and seed"
    )
    protocol: str = Field("", description="empty: the first protocol of the dataset's card")
    recipe: RecipeName = Field("common", description="trained by [training], or each as its paper")

    @field_validator("methods", "datasets", "seeds")
    @classmethod
    def _some(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("give at least one, or leave the key out for its default")
        return value


class Paths(Section):
    """Folders, relative to the folder of this file."""

    data: Path = Field(Path("data"), description="root of datasets on disk; HARNESS_DATA overrides it")
    results: Path = Field(Path(RESULTS), description="trials, tracking store, caches")
    reports: Path = Field(Path("reports"), description="generated leaderboards")
    methods: tuple[Path, ...] = Field((), description="folders or files of further method cards")
    datasets: tuple[Path, ...] = Field((Path("datasets"),), description="folders of dataset cards")


class Training(Section):
    """One recipe for every method; all of it is part of a trial's identity."""

    epochs: Thousands = Field(30, ge=0, description="passes over all training pairs")
    batch_size: Count = Field(
        128, ge=2, description="pairs per step; hard negatives depend on it, so it is never shrunk"
    )
    optimizer: Literal["adam", "adamw"] = Field("adam", description="how weights are updated")
    lr: StrictFloat = Field(1e-3, gt=0, le=LARGEST_RATE, description="peak learning rate")
    weight_decay: StrictFloat = Field(0.0, ge=0, le=LARGEST_RATE, description="of the optimizer")
    warmup_steps: Count = Field(0, ge=0, description="steps of linear warm-up from zero")
    schedule: Literal["constant", "step", "cosine"] = Field("cosine", description="of the learning rate")
    drop_after: tuple[Annotated[StrictInt, Field(ge=1)], ...] = Field(
        (7,), max_length=1000, description="step schedule: lr is multiplied by drop_factor after these epochs"
    )
    drop_factor: StrictFloat = Field(0.1, gt=0, le=1, description="see drop_after")
    clip: StrictFloat = Field(2.0, ge=0, description="largest gradient norm; 0 is none")
    all_negatives_epochs: Count = Field(
        1, ge=0, description="first epochs whose loss sums over all negatives; the hardest after"
    )
    drop_words: StrictFloat = Field(0.1, ge=0, lt=1, description="share of words hidden at random in a training batch")
    drop_regions: StrictFloat = Field(
        0.1, ge=0, lt=1, description="share of regions hidden at random in a training batch"
    )
    encoder_lr: StrictFloat = Field(
        0.1,
        ge=0,
        le=LARGEST_RATE,
        description="share of lr for a dataset's pretrained text encoder; 0 leaves it as it is",
    )
    patience: Count = Field(0, ge=0, description="stop after so many epochs without a better val rsum; 0 is never")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto is fp32; bf16 is autocast")
    score_precision: Literal["fp32", "tf32", "bf16"] = Field(
        "fp32", description="of val and test scores; tf32 needs a GPU"
    )


class Resources(Section):
    """The device, CPUs and GPUs of one trial."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:0")
    cpus_per_trial: OpenAmount = Field(
        -1.0, description="also its torch threads; -1: what the method's card asks for, else 1"
    )
    gpus_per_trial: OpenAmount = Field(
        -1.0, description="a share is allowed; -1: what the card asks for, else one where there is a GPU"
    )
    max_concurrent: Count = Field(0, ge=0, description="trials at a time; 0: as many as fit")
    custom: dict[str, Amount] = Field({}, description="of Ray's custom resources, such as {a100 = 1}")

    @field_validator("cpus_per_trial")
    @classmethod
    def _some_or_the_cards(cls, value: float) -> float:
        if value == 0:
            raise ValueError("give more than 0, or -1 for what the method's card asks for")
        return value

    @field_validator("custom")
    @classmethod
    def _not_of_rays_own(cls, custom: dict[str, float]) -> dict[str, float]:
        for name in custom:
            if not name.strip() or name in OWN_RESOURCES or "bundle" in name:
                raise ValueError(f"{name!r} cannot be a custom resource: Ray has its own of that name")
        return custom


class Failures(Section):
    """How failed trials are handled."""

    attempts: Hundreds = Field(3, ge=1, description="of a trial that lost its process, node or the host's memory")
    wait_seconds: Seconds = Field(5.0, ge=0, description="before the second attempt; doubled before every further one")
    trial_seconds: Seconds = Field(0.0, ge=0, description="the longest that an attempt may take; 0 is no limit")
    random_epochs: Count = Field(
        3,
        ge=0,
        description="after which val rsum of random orders ends a trial as collapsed; 0: never",
    )
    max_failures: Count = Field(0, ge=0, description="failed trials after which the campaign stops; 0 goes on")


class Tunable(Section):
    """The range that a setting may be searched in."""

    type: Literal["float", "int", "categorical"] = Field(description="a number, a whole number, or one of `choices`")
    low: StrictFloat | None = Field(None, description="lowest value; of a number or whole number")
    high: StrictFloat | None = Field(None, description="highest value; of a number or whole number")
    log: StrictBool = Field(False, description="sample the logarithm uniformly; low must be above 0")
    choices: tuple[Scalar, ...] = Field((), description="the values of a categorical range")
    when: dict[str, Scalar] = Field({}, description="only where these other settings have these values")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.type == "categorical":
            if not self.choices or self.low is not None or self.high is not None or self.log:
                raise ValueError("a categorical range has choices, at least one, and neither low, high nor log")
            return self
        if self.low is None or self.high is None or self.choices:
            raise ValueError(f"a range of type {self.type} has low and high, and no choices")
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0, not {self.low:g}")
        if self.type == "int" and (self.low % 1 or self.high % 1):
            raise ValueError("a range of type int has whole numbers")
        return self


class Search(Section):
    """What `harness search` does when no flag says otherwise; every method gets the same budget on a dataset."""

    trials: Thousands = Field(40, ge=1, description="per method and dataset, in total: repeating the command adds none")
    epochs: Count = Field(
        0, ge=0, description="of all trials of a method and dataset, after which none starts; 0 is no bound"
    )
    seconds: Seconds = Field(0.0, ge=0, description="the same in seconds of training and validation; 0 is no bound")
    sampler: Literal["tpe", "random", "grid", "gp", "cmaes"] = Field("tpe", description="proposes settings")
    pruner: Literal["median", "halving", "hyperband", "none"] = Field("median", description="stops poor trials early")
    objective: tuple[str, ...] = Field(
        ("rsum",), description="a measure on val or a cost; -name is minimised; several are never pruned"
    )
    seed: StrictInt = Field(
        100, ge=0, lt=SEEDS.stop, description="of the sampler and of every trial; confirm takes others"
    )
    startup: Thousands = Field(10, ge=1, description="trials before the sampler learns and the median pruner prunes")
    min_epochs: Thousands = Field(1, ge=1, description="epochs before a trial may be pruned")
    defaults_first: StrictBool = Field(True, description="the first trial has the settings of this file")
    fixed: tuple[str, ...] = Field(("dim", "width"), description="not searched though cards have ranges: equal sizes")
    points: dict[str, tuple[dict[str, Scalar], ...]] = Field({}, description="settings to try first, a list per method")
    space: dict[str, dict[str, Tunable]] = Field(
        {}, description="over the cards' ranges: a table per method or glob, keys are settings or training.KEY"
    )

    @field_validator("objective")
    @classmethod
    def _different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        measures = [name.removeprefix("-") for name in value]
        if not measures or len(set(measures)) < len(measures):
            raise ValueError("give at least one measure or cost, each of them once")
        return value

    @field_validator("space", "points", mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        """`training.lr` written as a nested table is the same key."""
        return {name: _flattened(table) for name, table in value.items()} if isinstance(value, dict) else value


class Cluster(Section):
    """Where Ray runs."""

    address: str = Field("", description="an existing cluster; empty: RAY_ADDRESS, else a local Ray")
    shared: StrictBool = Field(
        True, description="every node sees the results folder; false: trials' files travel by Ray"
    )


class Tracking(Section):
    """Where MLflow keeps results."""

    uri: str = Field("", description="any MLflow server; empty: sqlite in the results folder")


class PerDataset(Section):
    """Keys of [training] and tables of [settings] that differ on one dataset."""

    training: dict[str, Any] = Field(default_factory=dict, description="keys of [training], over those above")
    settings: SettingTables = Field(
        default_factory=dict, description="a table for each method or glob, over those of [settings]"
    )


class SettingSource(BaseModel):
    """The settings that one source has: what is built in, a file, or the command line."""

    model_config = ConfigDict(frozen=True)

    settings: SettingTables = {}
    per_dataset: dict[str, PerDataset] = {}
    place: str = "settings"  # where its settings are written

    def for_dataset(self, name: str) -> SettingSource:
        """What it has for one dataset alone."""
        own = self.per_dataset.get(name, PerDataset())
        return SettingSource(settings=own.settings, place=f"per_dataset.{name}.settings")


def _flattened(table: Any) -> Any:
    """A table whose inner table `training` has become keys `training.KEY`; of a list, each of its tables."""
    if isinstance(table, list | tuple):
        return tuple(_flattened(item) for item in table)
    if not isinstance(table, dict) or not isinstance(table.get("training"), dict):
        return table
    inner = {f"training.{key}": value for key, value in table["training"].items()}
    return {**{key: value for key, value in table.items() if key != "training"}, **inner}
