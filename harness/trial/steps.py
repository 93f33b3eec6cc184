"""One trial from start to end: train, select on val, score test once. Imports no Ray, MLflow or Optuna."""

from __future__ import annotations

import errno
import math
import time
import traceback
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.config.cards import SELECTION, ProtocolCard
from harness.costs.retrieval import retrieval_costs
from harness.costs.sharing import Load, load_costs, load_now
from harness.diagnostics.looks import ScoreLooks, save_looks
from harness.errors import CollapsedError, DataError, MemberError, TrialError, first_line, is_host_memory
from harness.evaluation import positives
from harness.evaluation.measures import measures
from harness.evaluation.outcome import outcome
from harness.evaluation.protocols import split_folds
from harness.evaluation.ranks import rank
from harness.evaluation.scoring import rank_split, score_split
from harness.files import DAMAGE, write_atomic
from harness.method import Method
from harness.trial import folder as record
from harness.trial.checkpoint import fits, load_checkpoint, save_checkpoint
from harness.trial.collapse import CURE, CollapseWatch, LastEpoch
from harness.trial.combining import average, member_result, rerank
from harness.trial.device import peak_mb, prepare_device
from harness.trial.ensembles import is_ensemble, is_reranking
from harness.trial.environment import environment
from harness.trial.models import build_method, check_source, load_best, open_data, unknown_words
from harness.trial.results import (
    WEIGHTS_OF,
    Assignment,
    EpochReport,
    Failure,
    Phase,
    State,
    StepReport,
    TrialResult,
)
from harness.trial.training import Trainer

Steps = Generator[EpochReport, bool | None, TrialResult]
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # no room, or no more allowed


def steps(assignment: Assignment, pace: float = math.inf) -> Steps:
    """Run a trial: yields a report per epoch, is sent go on (True) or stop (False), returns the result.

    pace: seconds after which a `StepReport` says how far an epoch is, again and again; no answer matters.
    Raises on an interruption only: any other error becomes a FAILED result, its traceback in the folder.
    """
    try:
        result = yield from run_of(assignment, pace)
    except Exception as error:  # noqa: BLE001  the one boundary where a trial becomes a result
        result = failed(assignment, error)
    record.write_result(assignment.folder, result)
    return result


def run_of(assignment: Assignment, pace: float) -> Steps:
    if is_reranking(assignment.spec):
        return rerank(assignment)
    return average(assignment) if is_ensemble(assignment.spec) else Trial(assignment, pace).run()


class Trial:
    def __init__(self, assignment: Assignment, pace: float = math.inf) -> None:
        self.assignment, self.pace = assignment, pace
        self.spec = assignment.spec
        self.folder = assignment.folder
        record.write_spec(self.folder, self.spec)
        self.device = prepare_device(assignment.device, assignment.threads, assignment.gpus)
        self.environment = environment(self.device)  # now: the checkout may change while the trial runs
        self.data = open_data(assignment)
        self.dataset = self.data.own.for_settings(self.spec.settings)
        self.tests = self.data.tests(self.dataset)
        check_source(assignment.method_card, self.spec.source)
        self.protocol = None if self.spec.protocol == SELECTION else assignment.test_protocol
        self.method = self._new_method()
        self.reports: list[EpochReport] = []
        self.loads: list[Load | None] = []  # of the machine, after each epoch and after the queries that are timed
        val, margin = partial(self.dataset.split, "val"), self.spec.settings.get("margin")
        self.collapse = CollapseWatch(val, self.spec.training, margin, assignment.random_epochs)
        self.best: dict[str, Any] = {"epoch": 0, "rsum": -math.inf, "method": None}
        card, protocol = assignment.tested_card, self.spec.test_protocol
        self.positives, self.note = positives.present(card, protocol, assignment.data, self.spec.limit)

    def run(self) -> Steps:
        trainer = self._trainer()
        go = yield self._phase("start", self._last_val, self.note)
        while go is not False and trainer is not None and not (self.collapse.reason or self._finished(trainer)):
            go = yield (yield from self._epoch(trainer))
        if self.collapse.reason and self.protocol is None:
            return self._result(State.PRUNED, message=self.collapse.reason)  # which tells a search of its settings
        if self.collapse.reason:
            raise CollapsedError(f"training has collapsed: {self.collapse.reason}; {CURE}")
        if go is False:
            return self._result(State.PRUNED)
        if self.protocol is None:
            return self._selected()
        yield self._phase("test")
        self.data.check_unchanged()
        return self._test(self.protocol)

    def _trainer(self) -> Trainer | None:
        """The trainer, continued from the checkpoint where there is one; None where nothing is to be trained."""
        if self.assignment.members:
            self._take_over(self.assignment.weights)
            return None
        if not self.spec.training.epochs:
            return None
        trainer = self._new_trainer()
        if (self.folder / record.CHECKPOINT).is_file() and (damaged := self._continue(trainer)):
            restart = f"{self.assignment.name}: {damaged} is damaged; the trial begins again"
            self.note = f"{restart}. {self.note}" if self.note else restart
            self.method = self._new_method()  # a part of the old one may have been loaded
            trainer = self._new_trainer()
        return trainer

    def _take_over(self, source: Assignment) -> None:
        """Take the weights and the epochs of another trial; MemberError where it was not trained as this one would."""
        result, reports = member_result(source), record.read_epochs(source.folder)
        if source.spec.trained_key != self.spec.trained_key or len(reports) < result.best_epoch:
            raise MemberError(f"the epochs of {source.name} are not those of its result; run it again with --force")
        load_best(self.method, source.folder, source.name, source.spec.key)
        self.reports = [report.model_copy(update={"key": self.spec.key}) for report in reports]
        record.write_epochs(self.folder, self.reports)
        self.best = {"epoch": result.best_epoch, "rsum": result.val.get("rsum", -math.inf), "method": None}
        self.environment[WEIGHTS_OF] = source.spec.key

    def _new_method(self) -> Method:
        card = self.assignment.method_card
        return build_method(card, self.spec.settings, self.dataset, self.spec.seed).to(self.device)

    def _new_trainer(self) -> Trainer:
        split = self.dataset.training
        if self.spec.noise:
            record.write_noise(self.folder, self.spec.noise, self.dataset.split("train"), split)
        return Trainer(self.method, split, self.spec.training, self.spec.seed, self.device)

    def _continue(self, trainer: Trainer) -> str:
        """Take up what the checkpoint holds; the file that is damaged, or of another trial, empty where none is.

        A training that has collapsed begins again: it is tried again by whoever has it judged otherwise.
        """
        state, reports = load_checkpoint(self.folder / record.CHECKPOINT, self.device), record.read_epochs(self.folder)
        try:
            if state is None or state.get("key", self.spec.key) != self.spec.key:
                return record.CHECKPOINT
            if state.get("collapse"):
                return ""
            best, epoch = state["best"], state["trainer"]["epoch"]
            if best["method"] is not None and not fits(best["method"], self.method):
                return record.CHECKPOINT
            begun = [(report.key, report.epoch) for report in reports[:epoch]]
            if begun != [(self.spec.key, number) for number in range(1, epoch + 1)]:
                return record.EPOCHS
            if best["epoch"] and reports[best["epoch"] - 1].val["rsum"] != best["rsum"]:
                return record.EPOCHS
            trainer.load(state["trainer"])
            self.collapse.load(state)
        except DAMAGE:
            return record.CHECKPOINT
        self.best, self.reports = best, reports[:epoch]
        return ""

    def _finished(self, trainer: Trainer) -> bool:
        patience = self.spec.training.patience
        waited = trainer.epoch - self.best["epoch"]
        return trainer.epoch >= self.spec.training.epochs or bool(patience and waited >= patience)

    def _epoch(self, trainer: Trainer) -> Generator[StepReport, bool | None, EpochReport]:
        """Train, validate, keep the best, checkpoint: in this order, so that a checkpoint never lacks its report."""
        start = time.perf_counter()
        yield from self._parts(trainer)
        cost = trainer.cost
        scores = self._scores()
        val = self._measures(scores)
        if val["rsum"] > self.best["rsum"]:
            weights = {name: value.clone() for name, value in self.method.state_dict().items()}
            self.best = {"epoch": trainer.epoch, "rsum": val["rsum"], "method": weights}
        report = EpochReport(
            key=self.spec.key,
            epoch=trainer.epoch,
            epochs=self.spec.training.epochs,
            loss=cost.loss,
            lr=cost.lr,
            val=val,
            seconds=time.perf_counter() - start,
            pairs_per_second=cost.pairs / cost.seconds,
            data_wait=cost.waited / cost.seconds,
        )
        self.reports.append(report)
        self.loads.append(load_now(self.device))
        record.write_epochs(self.folder, self.reports)
        losses, rsums = (cost.lowest, cost.highest), (val["rsum"], self.best["rsum"])
        self.collapse.look(LastEpoch(scores, losses, *rsums, trainer.epoch, len(trainer.batches), trainer.steps))
        state = {"key": self.spec.key, "trainer": trainer.state(), "best": self.best, **self.collapse.state}
        save_checkpoint(self.folder / record.CHECKPOINT, state)
        return report

    def _parts(self, trainer: Trainer) -> Iterator[StepReport]:
        """Train an epoch, with reports of its parts."""
        epoch, epochs, val = trainer.epoch, self.spec.training.epochs, self._last_val
        for part in trainer.epoch_parts(self.pace):
            pace = {"share": part.share, "seconds": part.seconds, "pairs_per_second": part.pairs / part.seconds}
            yield StepReport(key=self.spec.key, epoch=epoch, epochs=epochs, val=val, **pace)

    @property
    def _last_val(self) -> dict[str, float]:
        """Measures on val of the last epoch; none before the first one."""
        return self.reports[-1].val if self.reports else {}

    def _scores(self) -> NDArray[np.float32]:
        """On val, (N, M)."""
        split = self.dataset.split("val")
        return score_split(self.method, split, self.device, self.spec.training.score_precision).scores

    def _measures(self, scores: NDArray[np.float32]) -> dict[str, float]:
        return measures(rank(scores, self.dataset.split("val").pairs))

    def _selected(self) -> TrialResult:
        val = self.reports[self.best["epoch"] - 1].val if self.best["epoch"] else self._measures(self._scores())
        return self._result(State.DONE, val)

    def _test(self, protocol: ProtocolCard) -> TrialResult:
        if self.best["method"] is not None:
            self.method.load_state_dict(self.best["method"])
        split = self.tests.split(protocol.split)
        if self.spec.tested_on:
            self.environment |= unknown_words(split)
        folds = split_folds(protocol, split, limited=self.spec.limit is not None)
        sets = positives.read_sets(self.positives, self.assignment.data, split)
        looks, precision = ScoreLooks(split, folds), self.spec.training.score_precision
        look = looks.take if looks.are_wanted else None
        ranks, cost, encoded = rank_split(self.method, split, self.device, folds, sets, precision=precision, look=look)
        test = outcome(protocol, split, folds, ranks)
        self.environment |= test.releases
        test.records.save(self.folder)
        save_looks(self.folder, looks.stored)
        cost["peak_memory_mb"] = peak_mb(self.device)  # before queries are timed, which a trial could do without
        cost |= retrieval_costs(self.method, encoded, split, folds[0], self.device, precision)
        self.loads.append(load_now(self.device))
        return self._result(State.DONE, test.measures, test.gallery, cost)

    def _result(
        self,
        state: State,
        measures: dict[str, float] | None = None,
        gallery: dict[str, int] | None = None,
        testing: dict[str, float] | None = None,
        message: str = "",
    ) -> TrialResult:
        self.data.check_unchanged()
        best = self.best["epoch"]
        return TrialResult(
            spec=self.spec,
            state=state,
            message=message,
            measures=measures or {},
            val=self.reports[best - 1].val if best else {},
            best_epoch=best,
            epochs=len(self.reports),
            attempts=1 + record.attempts(self.folder),
            search=self.assignment.search,
            gallery=gallery or {},
            cost=self._cost(testing or {}),
            environment=self.environment,
        )

    def _cost(self, testing: dict[str, float]) -> dict[str, float]:
        """Throughput as medians over epochs, memory, parameters, seconds of training and validation, load."""
        seconds = sum(report.seconds for report in self.reports)
        rates = [report.pairs_per_second for report in self.reports]
        waits = [report.data_wait for report in self.reports]
        return {
            "train_pairs_per_second": float(np.median(rates)) if rates else 0.0,
            "data_wait": float(np.median(waits)) if waits else 0.0,
            "peak_memory_mb": peak_mb(self.device),
            **testing,
            "parameters": float(sum(part.numel() for part in self.method.parameters())),
            "seconds": seconds,
            "device_seconds": seconds * self.assignment.devices(is_gpu=self.device.type == "cuda"),
            **load_costs(self.loads),
        }

    def _phase(self, phase: Phase, val: dict[str, float] | None = None, note: str = "") -> EpochReport:
        """The report that a phase other than training begins."""
        epoch, epochs = len(self.reports), self.spec.training.epochs
        return EpochReport(key=self.spec.key, epoch=epoch, epochs=epochs, phase=phase, val=val or {}, note=note)


def failed(assignment: Assignment, error: Exception) -> TrialResult:
    """The result of a trial that raised an error; writes the traceback into its folder."""
    write_atomic(assignment.folder / record.TRACEBACK, "".join(traceback.format_exception(error)))
    return TrialResult(
        spec=assignment.spec,
        state=State.FAILED,
        failure=classify(error),
        message=explain(error),
        epochs=len(record.read_epochs(assignment.folder)),
        attempts=1 + record.attempts(assignment.folder),
        search=assignment.search,
        environment=environment(torch.device("cpu")),
    )


def classify(error: Exception) -> Failure:
    if isinstance(error, TrialError):
        return Failure(error.failure)
    if is_host_memory(error):
        return Failure.OOM_HOST
    kinds = {DataError: Failure.DATA, torch.OutOfMemoryError: Failure.OOM}
    return next((failure for kind, failure in kinds.items() if isinstance(error, kind)), Failure.BUG)


def explain(error: Exception) -> str:
    if classify(error) is Failure.OOM:
        return (
            "out of GPU memory in training; the batch is never shrunk, so lower training.batch_size or the method's "
            "dim, or give the trial a larger share of a GPU"
        )
    line, name = first_line(error), type(error).__name__
    if classify(error) is Failure.OOM_HOST:
        return f"the machine's memory is full; run fewer trials at a time (--max-concurrent): {line}"
    if isinstance(error, OSError) and error.errno in FULL:
        return f"the trial's folder cannot be written: {line}; make room and run with --retry bug: it goes on"
    return line if line == name or isinstance(error, TrialError | DataError) else f"{name}: {line}"
