"""Trials that were never trained, with real records and folders, for tests of the store and of the boards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.config.sections import Training
from harness.evaluation.queries import hits_of, recalls
from harness.evaluation.records import RANKS, read_ranks
from harness.files import npz, write_atomic
from harness.tracking.tracker import Tracker
from harness.trial.folder import TRACEBACK, write_epochs, write_result, write_spec
from harness.trial.results import RECALLS, EpochReport, State, TrialResult, TrialSpec


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


def ranks_of(spec: TrialSpec, images: int = 20, worst: int = 30) -> dict[str, Any]:
    """The arrays of ranks.npz: two captions per image, ranks that the seed decides, the smaller `worst` the better."""
    rng = np.random.default_rng(spec.seed)
    pairs = np.stack([np.repeat(np.arange(images), 2), np.arange(2 * images)], axis=1)
    ranks = {f"{way}_rank": rng.integers(1, worst, 2 * images, dtype=np.int32) for way in ("i2t", "t2i")}
    return {"pairs": pairs.astype(np.int32), "fold": np.zeros(2 * images, dtype=np.int32), **ranks}


def folder_of(root: Path, result: TrialResult, ranks: dict[str, Any] | None = None) -> Path:
    """A trial's folder as a finished trial leaves it."""
    folder = root / "trials" / result.key
    write_spec(folder, result.spec)
    write_epochs(folder, reports_of(result.spec))
    write_result(folder, result)
    np.savez(folder / RANKS, **(ranks or ranks_of(result.spec)))
    if result.state is State.FAILED:
        write_atomic(folder / TRACEBACK, "Traceback: somewhere\n")
    return folder


def two_methods(project: Path) -> Tracker:
    """A project's store with two methods of three seeds, far apart."""
    tracker = Tracker(f"sqlite:///{project / 'runs' / 'mlflow.db'}")
    for seed in range(3):
        log_ranked(tracker, project, "good", seed, worst=4)
        log_ranked(tracker, project, "worse", seed, worst=400)
    return tracker


def log_ranked(
    tracker: Tracker, root: Path, method: str, seed: int, worst: int, epochs: int = 3, **changes: object
) -> None:
    """Log a result whose measures are those of its ranks."""
    spec = spec_of(method, seed, **changes)
    arrays = ranks_of(spec.model_copy(update={"seed": seed + 10 * len(method)}), images=60, worst=worst)
    log_ranks(tracker, root, spec, arrays, epochs)


def log_ranks(tracker: Tracker, root: Path, spec: TrialSpec, arrays: dict[str, Any], epochs: int = 3) -> None:
    ranks = read_ranks(npz(**arrays))
    assert ranks
    values = recalls(hits_of(ranks)).ravel()
    measures = dict(zip(RECALLS, map(float, values), strict=True)) | {"rsum": float(values.sum())}
    result = result_of(spec, measures=measures, epochs=epochs)
    tracker.result(result, folder_of(root, result, arrays))
