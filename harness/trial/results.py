"""The records of a trial: TrialSpec, Assignment, EpochReport, TrialResult. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.config.cards import DatasetCard, MethodCard, ProtocolCard
from harness.config.sections import Scalar, Training
from harness.config.transfer import protocol_across
from harness.errors import UsageError, unknown

Phase = Literal["start", "train", "test"]
EQUAL, UNEQUAL = ("trials", "epochs"), 0.1  # of a search's budget: what is to be alike, and the share it may differ by
RECALLS = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")
HEADLINE = (*RECALLS, "rsum")

# Raised by hand when training or evaluation gives other numbers for a trial: tests/trial/test_versions.py reminds.
TRAINING_VERSION, EVALUATION_VERSION = 1, 1
ADDED = ("score_precision",)  # fields of Training that earlier keys do not have
VERSIONS = ("training_version", "evaluation_version")
LATER = ("trained_as", "tested_on", "test_fingerprint")  # fields of TrialSpec that earlier keys do not have

WEIGHTS_OF = "weights_of"  # of a transfer's environment: the key of the trial that was trained
UNKNOWN_WORDS = "unknown_words"  # likewise: "12 of 345" words of the captions are outside the trained vocabulary


class State(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    PRUNED = "pruned"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Failure(StrEnum):
    """Why a trial failed; what came from the machine and not from the trial is worth another attempt."""

    OOM = "oom"
    OOM_HOST = "oom_host"
    NONFINITE = "nonfinite"
    COLLAPSED = "collapsed"
    MEMBER = "member"
    DATA = "data"
    TIMEOUT = "timeout"
    KILLED = "killed"
    NODE_LOST = "node_lost"
    BUG = "bug"

    @property
    def is_lost(self) -> bool:
        """Whether the trial lost its process, its node or the host's memory, through no fault of its own."""
        return self in (Failure.OOM_HOST, Failure.KILLED, Failure.NODE_LOST)


def failure_classes(names: Collection[str]) -> frozenset[Failure]:
    """Failure classes by name, `failed` for all of them; UsageError for an unknown one."""
    known = {failure.value for failure in Failure} | {State.FAILED.value}
    for name in names:
        if name not in known:
            raise UsageError(unknown("failure class", name, known))
    return frozenset(Failure) if State.FAILED in names else frozenset(map(Failure, names))


class TrialRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrialSpec(TrialRecord):
    """All that decides a result and nothing else."""

    method: str
    dataset: str
    protocol: str
    seed: int
    settings: dict[str, Scalar]
    training: Training
    limit: int | None = Field(None, description="only the first images of each split; never ranked")
    data_fingerprint: str
    protocol_version: int
    source: str = Field(description="sha256 of the method's source")
    training_version: int = Field(0, description="of the trainer; 0 where nothing is trained, or before it was kept")
    evaluation_version: int = Field(0, description="of ranks and measures; 0 before it was kept")
    trained_as: Literal["", "paper"] = Field("", description="paper: by the recipe of its paper")
    noise: str = Field("", description="the wrong pairs that were trained on, in words; data_fingerprint covers them")
    tested_on: str = Field("", description="the dataset whose protocol it is; empty: the one that was trained on")
    test_fingerprint: str = Field("", description="of that dataset, without its own words")

    @property
    def key(self) -> str:
        """The trial's name everywhere: 16 hex digits of the sha256 over every field.

        What was added later changes no key while it is 0 or its default.
        """
        unversioned = {name for name in (*VERSIONS, *LATER) if not getattr(self, name)}
        as_before = {name for name in ADDED if getattr(self.training, name) == Training.model_fields[name].default}
        text = json.dumps(
            self.model_dump(
                mode="json", exclude={**dict.fromkeys(unversioned | {"noise"}, True), "training": as_before}
            ),
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def recipe(self) -> str:
        """The key without the seed, which repetitions over seeds share."""
        return self.model_copy(update={"seed": 0}).key

    @property
    def trained_key(self) -> str:
        """The key without what decides the test alone: trials that share it share their weights."""
        anywhere = {"protocol": "", "protocol_version": 0, "evaluation_version": 0}
        return self.model_copy(update={**anywhere, "tested_on": "", "test_fingerprint": ""}).key

    @property
    def test_dataset(self) -> str:
        """The dataset whose images and captions are ranked."""
        return self.tested_on or self.dataset

    @property
    def test_protocol(self) -> str:
        """The name of the protocol on the card of the dataset that is tested on."""
        return self.protocol.removeprefix(protocol_across(self.tested_on, "")) if self.tested_on else self.protocol

    @property
    def label(self) -> str:
        data = protocol_across(self.dataset, self.tested_on) if self.tested_on else self.dataset
        return f"{self.method}/{data}/s{self.seed}"


@dataclass(frozen=True)
class Current:
    """What the project's files are now, which a trial run now would be of; empty or 0 where that is not known."""

    data: Callable[[str], str] = lambda _: ""  # the fingerprint of a dataset
    test_data: Callable[[str], str] = lambda _: ""  # the fingerprint of a dataset that only tests are of
    protocol: Callable[[str, str], int] = lambda *_: 0  # the version of a dataset's protocol
    source: Callable[[str], str] = lambda _: ""  # the hash of a method's source
    val_images: Callable[[str], int] = lambda _: 0  # of a dataset's split val
    resized: Callable[[str], tuple[str, ...]] = lambda _: ()  # what of a dataset has not the size of the built-in one
    configured: Callable[[str, str], Mapping[str, str]] = lambda *_: {}  # what a method has on a dataset


class Budget(TrialRecord):
    campaign: str
    trials: int
    epochs: int
    seconds: float = Field(description="of training and validation, added over trials")
    device_seconds: float = Field(description="the same, each times its share of GPUs, of CPUs where it had none")


def shortfalls(mine: Mapping[str, float], budgets: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, float, float]]:
    """The parts of a search's budget that are over a tenth below the largest: name, amount, and the largest."""
    for name in EQUAL:
        most = max(budget[name] for budget in budgets)
        if mine[name] < (1 - UNEQUAL) * most:
            yield name, mine[name], most


class Assignment(TrialRecord):
    """What a worker is handed: a spec, the cards that it was planned from, and where to work; only the spec decides."""

    spec: TrialSpec
    method_card: MethodCard
    dataset_card: DatasetCard
    data: Path = Field(description="root below which datasets lie")
    folder: Path = Field(description="the trial's own folder, runs/trials/<key>")
    cache: Path = Field(description="where generated data and fingerprints may be kept")
    device: str = "auto"
    threads: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    custom: dict[str, float] = Field(default_factory=dict, description="of Ray's custom resources")
    seconds: float = Field(0.0, description="the longest that an attempt may take; 0 is no limit")
    random_epochs: int = Field(0, description="after which val rsum of random orders ends it; 0: never")
    attempts: int = Field(1, description="that it has where its process, its node or the host's memory is lost")
    search: Budget | None = Field(None, description="the search that found its settings, if any")
    label: str = Field("", description="its name for people, where not the spec's label")
    members: tuple[Assignment, ...] = Field(
        (), description="the trials that it is made of: whose scores an ensemble averages, whose weights a transfer has"
    )
    test_card: DatasetCard | None = Field(None, description="of the dataset that is tested on, where another")

    @property
    def name(self) -> str:
        return self.label or self.spec.label

    def devices(self, is_gpu: bool) -> float:
        """The share of GPUs that it holds where it computes on one, one where its share is left open; else of CPUs."""
        if is_gpu:
            return self.gpus if self.gpus > 0 else 1.0
        return self.cpus

    @property
    def weights(self) -> Assignment:
        """The trial whose folder has the weights: of a transfer that trains nothing another."""
        return self.members[0] if self.spec.tested_on and len(self.members) == 1 else self

    @property
    def tested_card(self) -> DatasetCard:
        """The card of the dataset that is tested on."""
        return self.test_card or self.dataset_card

    @property
    def test_protocol(self) -> ProtocolCard:
        return self.tested_card.protocol(self.spec.test_protocol)


class EpochReport(TrialRecord):
    key: str
    epoch: int = Field(description="epochs finished so far")
    epochs: int = Field(description="epochs planned")
    loss: float | None = None
    lr: float | None = None
    val: dict[str, float] = Field(default_factory=dict, description="measures on val")
    seconds: float = 0.0
    pairs_per_second: float = 0.0
    data_wait: float = Field(0.0, description="share of training in which a step waited for its batch")
    phase: Phase = "train"
    note: str = Field("", description="shown to people, once")


class StepReport(EpochReport):
    """What is trained of an epoch under way; shown to people, kept nowhere."""

    share: float = Field(description="of the epoch's steps that are done; 1 while val is scored")


def best_rsum(reports: Iterable[EpochReport]) -> float | None:
    """The highest rsum on val; None where no epoch has one."""
    return max((report.val["rsum"] for report in reports if "rsum" in report.val), default=None)


class TrialResult(TrialRecord):
    model_config = ConfigDict(ser_json_inf_nan="strings")  # else they become null, which is no number to read back

    spec: TrialSpec
    state: State
    failure: Failure | None = None
    message: str = Field("", description="one line for people; the traceback lies in the trial's folder")
    measures: dict[str, float] = Field(
        default_factory=dict,
        description="i2t_r1 … t2i_r10, rsum, ranks, ties, mAP@R, R-precision, nDCG; of sets of positives set.measure",
    )
    val: dict[str, float] = Field(default_factory=dict, description="val measures of the best epoch")
    best_epoch: int = 0
    epochs: int = 0
    attempts: int = Field(1, description="this one, and those that failed before it")
    search: Budget | None = Field(None, description="the search that found its settings, if any")
    gallery: dict[str, int] = Field(default_factory=dict, description="images, captions, folds")
    cost: dict[str, float] = Field(
        default_factory=dict,
        description="train_pairs_per_second, encode_images_per_second, encode_captions_per_second, "
        "score_pairs_per_second, data_wait, peak_memory_mb, parameters, seconds, device_seconds; bytes_per_image, "
        "bytes_per_caption, i2t_query_ms, t2i_query_ms; load per CPU, shared",
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="versions, device, cpu, commit, dirty, releases of sets of positives"
    )

    @property
    def key(self) -> str:
        return self.spec.key

    @property
    def numbers(self) -> str:
        """A hash of the key and the measures: what was made again is compared with these."""
        text = json.dumps([self.key, dict(sorted(self.measures.items()))])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Verification(TrialRecord):
    """What came of making a result again; it is of these very numbers, and of no later ones."""

    numbers: str = Field(description="of the result that was made again")
    is_verified: bool = Field(description="it came back: to the last digit, or within noise or rounding")
    verdict: str
    by: str = Field("", description="who made it again, of scores of a file")
    commit: str = Field("", description="of the harness that compared them")
