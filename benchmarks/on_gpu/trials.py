"""Four trials on `scenes`, on the device and on the CPU: the trial's own code, without MLflow and Ray."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from harness.campaign.plan import PlanInputs, assignments
from harness.config.project import DEFAULTS, Config
from harness.config.registry import discover
from harness.config.selection import Selection
from harness.config.toml import read_toml
from harness.executors.executor import InProcess
from harness.trial.results import Assignment, EpochReport, State, TrialResult
from on_gpu.results import Results

METHODS = ("vsepp", "caan", "scan_t2i", "bssan")
LOSS, RSUM = 0.02, 15.0  # how far the first epoch's loss, relatively, and rsum on val may be from the CPU's


def run(results: Results, device: str, rehearse: bool) -> None:
    """In float32 on both devices; the first also under bfloat16 autocast on the device."""
    with tempfile.TemporaryDirectory() as folder:
        names = METHODS[:1] if rehearse else METHODS
        for name in names:
            here = trial(Path(folder) / "device", name, device, "fp32", rehearse)
            cpu = trial(Path(folder) / "cpu", name, "cpu", "fp32", rehearse)
            results.add("trials", row(name, "fp32", here, cpu))
            if not rehearse and name == names[0]:
                half = trial(Path(folder) / "half", name, device, "bf16", rehearse)
                results.add("trials", row(name, "bf16", half, cpu))


def trial(folder: Path, name: str, device: str, precision: str, rehearse: bool) -> dict[str, Any]:
    reports: list[EpochReport] = []
    start = time.perf_counter()
    (result,) = InProcess().run([assignment(folder, name, device, precision, rehearse)], remembered(reports))
    epochs = [report for report in reports if report.phase == "train"]
    return {"result": result, "epochs": epochs, "seconds": time.perf_counter() - start}


def remembered(reports: list[EpochReport]) -> Any:
    def answer(report: EpochReport) -> bool:
        reports.append(report)
        return True

    return answer


def assignment(folder: Path, name: str, device: str, precision: str, rehearse: bool) -> Assignment:
    raw: dict[str, Any] = read_toml(DEFAULTS)
    raw["per_dataset"]["scenes"]["training"] |= {"epochs": 1, "precision": precision}
    raw["resources"] = {"device": device, "cpus_per_trial": 1 if rehearse else 8}
    config = Config.model_validate({**raw, "root": folder})
    limit = 20 if rehearse else 400
    selection = Selection((name,), ("scenes",), seeds=(0,), limit=limit).completed(config.campaign)
    registry = discover(config)
    (made,) = assignments(config, registry, selection, PlanInputs(config, registry, limit))
    return made.model_copy(update={"cache": folder.parent / "cache"})  # the pictures are drawn once


def row(name: str, precision: str, here: dict[str, Any], cpu: dict[str, Any]) -> dict[str, Any]:
    result: TrialResult = here["result"]
    about: dict[str, Any] = {"method": name, "precision": precision, "outcome": outcome(here, cpu)}
    for prefix, of in (("", here), ("cpu_", cpu)):
        about[f"{prefix}seconds"] = of["seconds"]
        about[f"{prefix}loss"] = of["epochs"][0].loss if of["epochs"] else None
        about[f"{prefix}val_rsum"] = of["epochs"][0].val.get("rsum") if of["epochs"] else None
        about[f"{prefix}test_rsum"] = of["result"].measures.get("rsum")
    return {**about, "cost": result.cost, "environment": result.environment}


def outcome(here: dict[str, Any], cpu: dict[str, Any]) -> str:
    for who, of in (("device", here), ("cpu", cpu)):
        if of["result"].state is not State.DONE:
            return f"{who}: {of['result'].state} {of['result'].failure}: {of['result'].message}"
    first, other = here["epochs"][0], cpu["epochs"][0]
    loss = abs(first.loss - other.loss) / other.loss
    rsum = abs(first.val["rsum"] - other.val["rsum"])
    return "equal" if loss < LOSS and rsum < RSUM else f"differs: loss by {loss:.1%}, val rsum by {rsum:.1f}"
