"""Trials that were never trained, with real records and folders, for tests of the store and of the boards."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.folders import RANKS, TRACEBACK, write_atomic, write_epochs, write_result, write_spec
from harness.results import RECALLS, EpochReport, State, TrialResult, TrialSpec
from harness.sections import Training


def spec_of(method: str = "caan", seed: int = 0, **changes: object) -> TrialSpec:
    values: dict[str, object] = {
        "method": method,
        "dataset": "scenes",
        "protocol": "full",
        "seed": seed,
        "settings": {"dim": 256, "margin": 0.2, "unit": True},
        "training": Training(epochs=3),
        "data_fingerprint": "ab" * 32,
        "protocol_version": 1,
        "source": "cd" * 32,
    }
    return TrialSpec.model_validate({**values, **changes})


def reports_of(spec: TrialSpec, epochs: int = 3) -> list[EpochReport]:
    return [
        EpochReport(key=spec.key, epoch=n, epochs=3, loss=1 / n, lr=1e-3, val={"rsum": 100.0 + n, "i2t_r1": 10.0 + n})
        for n in range(1, epochs + 1)
    ]


def result_of(spec: TrialSpec, rsum: float = 270.0, **changes: object) -> TrialResult:
    measures = dict.fromkeys(RECALLS, rsum / 6) | {"rsum": rsum, "i2t_median_rank": 3.0, "i2t_tied": 0.0}
    values: dict[str, object] = {
        "spec": spec,
        "state": State.DONE,
        "measures": measures,
        "val": {"rsum": 103.0},
        "best_epoch": 3,
        "epochs": 3,
        "gallery": {"images": 500, "captions": 2000, "folds": 1},
        "cost": {"train_pairs_per_second": 800.0, "score_pairs_per_second": 1e6, "parameters": 1.2e6, "seconds": 40.0},
        "environment": {"torch": "2.13.0", "device": "cpu", "cpu": "A CPU", "cores": "2", "commit": "f" * 40},
    }
    return TrialResult.model_validate({**values, **changes})


def folder_of(root: Path, result: TrialResult) -> Path:
    """A trial's folder as a finished trial leaves it."""
    folder = root / "trials" / result.key
    write_spec(folder, result.spec)
    write_epochs(folder, reports_of(result.spec))
    write_result(folder, result)
    np.savez(folder / RANKS, i2t=np.arange(1, 5, dtype=np.int32))
    if result.state is State.FAILED:
        write_atomic(folder / TRACEBACK, "Traceback: somewhere\n")
    return folder
