"""One trial, start to end: train, select on val, score test once. Knows no Ray, no MLflow, no Optuna."""

from __future__ import annotations

import errno
import math
import time
import traceback
from collections.abc import Generator
from typing import Any

import numpy as np
import torch

from harness.blocks.encoders import TextEncoder
from harness.config.cards import SELECTION, DatasetCard, MethodCard, ProtocolCard, read_card
from harness.config.registry import load_class
from harness.config.sections import Scalar
from harness.config.sources import source_hash
from harness.data.dataset import Dataset
from harness.data.text_encoder import load_model
from harness.errors import DataError, TrialError
from harness.evaluation import positives
from harness.evaluation.measures import measures
from harness.evaluation.outcome import outcome
from harness.evaluation.protocols import split_folds
from harness.evaluation.ranks import rank
from harness.evaluation.scoring import rank_split, score_split
from harness.files import write_atomic
from harness.layouts.opening import open_dataset
from harness.method import Inputs, Method, Words
from harness.trial.checkpoint import load_checkpoint, save_checkpoint
from harness.trial.device import cap_memory, choose_device, forget_peak, peak_mb
from harness.trial.environment import environment
from harness.trial.folder import (
    CHECKPOINT,
    EPOCHS,
    TRACEBACK,
    attempts,
    read_epochs,
    write_epochs,
    write_result,
    write_spec,
)
from harness.trial.results import Assignment, EpochReport, Failure, Phase, State, TrialResult
from harness.trial.training import EpochCost, Trainer

Steps = Generator[EpochReport, bool | None, TrialResult]
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # no room, or no more allowed


def steps(assignment: Assignment) -> Steps:
    """The life of a trial: yields a report an epoch, is sent go on (True) or stop (False), returns the result.

    Never raises but for an interruption: whatever else goes wrong becomes a FAILED result, its traceback in the folder.
    """
    try:
        result = yield from Trial(assignment).run()
    except Exception as error:  # noqa: BLE001  the one boundary where a trial becomes a result
        result = failed(assignment, error)
    write_result(assignment.folder, result)
    return result


class Trial:
    """One assignment under way."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.spec = assignment.spec
        self.folder = assignment.folder
        write_spec(self.folder, self.spec)
        torch.set_num_threads(assignment.threads)
        self.device = choose_device(assignment.device)
        cap_memory(self.device, assignment.gpus)
        forget_peak(self.device)
        self.environment = environment(self.device)  # now: the checkout may change while the trial runs
        card = read_card(DatasetCard, assignment.dataset_card)
        self.dataset = open_dataset(card, assignment.data, assignment.cache, self.spec.limit)
        if self.dataset.fingerprint != self.spec.data_fingerprint:
            raise DataError(f"the files of {card.name} changed since the trial was planned; run the command again")
        self.protocol = None if self.spec.protocol == SELECTION else find_protocol(card, self.spec.protocol)
        method_card = read_card(MethodCard, assignment.method_card)
        if source_hash(method_card) != self.spec.source:
            raise DataError(
                f"the source of {method_card.name} changed since the trial was planned; run the command again"
            )
        self.method = build_method(method_card, self.spec.settings, self.dataset, self.spec.seed).to(self.device)
        self.reports: list[EpochReport] = []
        self.best: dict[str, Any] = {"epoch": 0, "rsum": -math.inf, "method": None}
        self.positives, self.note = positives.present(card, self.spec.protocol, assignment.data, self.spec.limit)

    def run(self) -> Steps:
        """Epochs from where they stood, then the best weights on test."""
        trainer = self._trainer()
        go = yield self._report(phase="start", val=self.reports[-1].val if self.reports else None)
        while go is not False and trainer is not None and not self._finished(trainer):
            go = yield self._epoch(trainer)
        if go is False:
            return self._result(State.PRUNED)
        if self.protocol is None:
            return self._selected()
        yield self._report(phase="test")
        return self._test(self.protocol)

    def _trainer(self) -> Trainer | None:
        """The trainer, continued from the checkpoint where there is one; None where nothing is to be trained."""
        if not self.spec.training.epochs:
            return None
        split = self.dataset.split("train")
        trainer = Trainer(self.method, split, self.spec.training, self.spec.seed, self.device)
        state, reports = load_checkpoint(self.folder / CHECKPOINT, self.device), read_epochs(self.folder)
        if state and len(reports) >= state["trainer"]["epoch"]:
            trainer.load(state["trainer"])
            self.best = state["best"]
            self.reports = reports[: trainer.epoch]
        elif (self.folder / CHECKPOINT).is_file():
            damaged = EPOCHS if state else CHECKPOINT
            note = f"{self.assignment.name}: {damaged} is damaged; the trial starts again"
            self.note = f"{note}. {self.note}" if self.note else note
        return trainer

    def _finished(self, trainer: Trainer) -> bool:
        patience = self.spec.training.patience
        waited = trainer.epoch - self.best["epoch"]
        return trainer.epoch >= self.spec.training.epochs or bool(patience and waited >= patience)

    def _epoch(self, trainer: Trainer) -> EpochReport:
        """Train, validate, keep the best, checkpoint: in this order, so that a checkpoint never lacks its report."""
        start = time.perf_counter()
        cost = trainer.run_epoch()
        val = self._validate()
        if val["rsum"] > self.best["rsum"]:
            weights = {name: value.clone() for name, value in self.method.state_dict().items()}
            self.best = {"epoch": trainer.epoch, "rsum": val["rsum"], "method": weights}
        report = self._report(cost=cost, val=val, epoch=trainer.epoch, seconds=time.perf_counter() - start)
        self.reports.append(report)
        write_epochs(self.folder, self.reports)
        save_checkpoint(self.folder / CHECKPOINT, {"trainer": trainer.state(), "best": self.best})
        return report

    def _validate(self) -> dict[str, float]:
        split = self.dataset.split("val")
        return measures(rank(score_split(self.method, split, self.device).scores, split.pairs))

    def _selected(self) -> TrialResult:
        """The best epoch on val; test stays closed."""
        val = self.reports[self.best["epoch"] - 1].val if self.best["epoch"] else self._validate()
        return self._result(State.DONE, val)

    def _test(self, protocol: ProtocolCard) -> TrialResult:
        """The best weights of val on the protocol's gallery, once."""
        if self.best["method"] is not None:
            self.method.load_state_dict(self.best["method"])
        split = self.dataset.split(protocol.split)
        folds = split_folds(protocol, split, limited=self.spec.limit is not None)
        sets = positives.read_sets(self.positives, self.assignment.data, split)
        ranks, cost = rank_split(self.method, split, self.device, folds, sets)
        test = outcome(protocol, split, folds, ranks)
        self.environment |= test.releases
        test.records.save(self.folder)
        return self._result(State.DONE, test.measures, test.gallery, self._cost(cost))

    def _result(
        self,
        state: State,
        measures: dict[str, float] | None = None,
        gallery: dict[str, int] | None = None,
        cost: dict[str, float] | None = None,
    ) -> TrialResult:
        best = self.best["epoch"]
        return TrialResult(
            spec=self.spec,
            state=state,
            measures=measures or {},
            val=self.reports[best - 1].val if best else {},
            best_epoch=best,
            epochs=len(self.reports),
            attempts=1 + attempts(self.folder),
            search=self.assignment.search,
            gallery=gallery or {},
            cost=cost or self._cost({}),
            environment=self.environment,
        )

    def _cost(self, scoring: dict[str, float]) -> dict[str, float]:
        """Throughput as medians over epochs, memory, parameters, seconds of training and validation."""
        rates = [report.pairs_per_second for report in self.reports]
        waits = [report.data_wait for report in self.reports]
        return {
            "train_pairs_per_second": float(np.median(rates)) if rates else 0.0,
            "data_wait": float(np.median(waits)) if waits else 0.0,
            **scoring,
            "peak_memory_mb": peak_mb(self.device),
            "parameters": float(sum(part.numel() for part in self.method.parameters())),
            "seconds": sum(report.seconds for report in self.reports),
        }

    def _report(
        self,
        cost: EpochCost | None = None,
        val: dict[str, float] | None = None,
        epoch: int | None = None,
        seconds: float = 0.0,
        phase: Phase = "train",
    ) -> EpochReport:
        return EpochReport(
            key=self.spec.key,
            epoch=len(self.reports) if epoch is None else epoch,
            epochs=self.spec.training.epochs,
            loss=cost.loss if cost else None,
            lr=cost.lr if cost else None,
            val=val or {},
            seconds=seconds,
            pairs_per_second=cost.pairs / cost.seconds if cost else 0.0,
            data_wait=cost.waited / cost.seconds if cost else 0.0,
            phase=phase,
            note=self.note if phase == "start" else "",
        )


def build_method(card: MethodCard, settings: dict[str, Scalar], dataset: Dataset, seed: int) -> Method:
    """A method with the weights of its seed."""
    kind, size = load_class(card), len(dataset.vocabulary)
    words = known_words(dataset)
    torch.manual_seed(seed)
    return kind(kind.Settings(**settings), Inputs(dataset.card.feature_width, size, words))


def known_words(dataset: Dataset) -> Words:
    """What the dataset's card says that is known of words before training."""
    vectors, folder, ids = dataset.vectors, dataset.encoder, len(dataset.vocabulary)
    if folder:
        return Words(encoder=lambda: TextEncoder(load_model(folder, ids)))
    return Words(torch.from_numpy(vectors.numbers), torch.from_numpy(vectors.known)) if vectors else Words()


def find_protocol(card: DatasetCard, name: str) -> ProtocolCard:
    """The protocol of a card."""
    protocol = card.protocol(name)
    if protocol is None:
        raise DataError(f"{card.path}: no protocol {name!r}")
    return protocol


def failed(assignment: Assignment, error: Exception) -> TrialResult:
    """The result of a trial that went wrong; its traceback is kept in the folder."""
    write_atomic(assignment.folder / TRACEBACK, "".join(traceback.format_exception(error)))
    return TrialResult(
        spec=assignment.spec,
        state=State.FAILED,
        failure=classify(error),
        message=explain(error),
        epochs=len(read_epochs(assignment.folder)),
        attempts=1 + attempts(assignment.folder),
        search=assignment.search,
        environment=environment(torch.device("cpu")),
    )


def classify(error: Exception) -> Failure:
    """The failure class of an exception."""
    if isinstance(error, TrialError):
        return Failure(error.failure)
    if isinstance(error, DataError):
        return Failure.DATA
    if isinstance(error, torch.OutOfMemoryError):
        return Failure.OOM
    if isinstance(error, MemoryError):
        return Failure.OOM_HOST
    return Failure.BUG


def explain(error: Exception) -> str:
    """One line for people."""
    if classify(error) is Failure.OOM:
        return (
            "out of GPU memory in training; the batch is never shrunk, so lower training.batch_size or the method's "
            "dim, or give the trial a larger share of a GPU"
        )
    text = str(error).strip().splitlines()
    line = text[0] if text else ""
    if isinstance(error, OSError) and error.errno in FULL:
        return f"the trial's folder cannot be written: {line}; make room and run with --retry bug: it goes on"
    return line if isinstance(error, TrialError | DataError) else f"{type(error).__name__}: {line}"
