"""Trials of the real shape that train nothing: what an executor does with a trial can be seen in milliseconds.

The setting `pause` is the length of an epoch in seconds; a trial of method `crashing` raises outside of its steps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from functools import cache
from pathlib import Path

from harness.config.cards import DatasetCard, MethodCard, read_card
from harness.config.sections import Training
from harness.files import write_atomic
from harness.trial.folder import write_epochs, write_result
from harness.trial.results import Assignment, EpochReport, State, TrialResult, TrialSpec

ROOT = Path(__file__).parents[2]
ToySteps = Generator[EpochReport, bool | None, TrialResult]


class Neighbour:
    """Whoever else uses the cluster."""

    def arrive(self) -> None:
        """Nothing."""


def counting(assignment: Assignment) -> ToySteps:
    """Count epochs, leaving the process id and every finished epoch in the trial's folder."""
    if assignment.spec.method == "crashing":
        raise ZeroDivisionError("a mistake of the machine, not of the trial")
    write_atomic(assignment.folder / "pid", str(os.getpid()))
    start = time.time()
    reports = [report(assignment, 0, "start")]
    yield reports[0]
    for epoch in range(1, assignment.spec.training.epochs + 1):
        time.sleep(float(assignment.spec.settings.get("pause", 0.0)))
        reports.append(report(assignment, epoch, "train"))
        write_epochs(assignment.folder, reports[1:])
        if (yield reports[-1]) is False:
            return ended(assignment, State.PRUNED, epoch, start)
    return ended(assignment, State.DONE, assignment.spec.training.epochs, start)


def report(assignment: Assignment, epoch: int, phase: str) -> EpochReport:
    spec = assignment.spec
    return EpochReport(key=spec.key, epoch=epoch, epochs=spec.training.epochs, phase=phase)  # type: ignore[arg-type]


def ended(assignment: Assignment, state: State, epochs: int, start: float) -> TrialResult:
    cost = {"pid": float(os.getpid()), "started": start, "ended": time.time(), "gpus": assignment.gpus}
    about = {"epochs": epochs, "cost": cost, "environment": {"device": assignment.device}}
    result = TrialResult.model_validate({"spec": assignment.spec, "state": state, **about})
    write_result(assignment.folder, result)
    return result


def toy_assignment(folder: Path, seed: int = 0, epochs: int = 2, pause: float = 0.0, **places: object) -> Assignment:
    """An assignment for `counting`, in a folder of its own."""
    spec = TrialSpec(
        method="toy",
        dataset="none",
        protocol="none",
        seed=seed,
        settings={"pause": pause},
        training=Training(epochs=epochs),
        data_fingerprint="",
        protocol_version=1,
        source="",
    )
    about = {**any_cards(), "data": folder / "data", "cache": folder / "cache"}
    return Assignment.model_validate({"spec": spec, "folder": folder / "trials" / spec.key, **about, **places})


@cache
def any_cards() -> dict[str, MethodCard | DatasetCard]:
    """Cards for assignments that no real trial reads."""
    method, dataset = ROOT / "methods" / "chance.toml", ROOT / "datasets" / "scenes" / "card.toml"
    return {"method_card": read_card(MethodCard, method), "dataset_card": read_card(DatasetCard, dataset)}
