"""A trial's folder, the durable record of one trial: its files, and how they are written and read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.data.split import Split, wrong_pairs
from harness.files import npy, read_own, write_own
from harness.trial.results import EpochReport, TrialResult, TrialSpec, Verification

SPEC = "spec.json"
CHECKPOINT = "checkpoint.pt"
EPOCHS = "epochs.jsonl"
RESULT = "result.json"
VERIFICATION = "verification.json"
TRACEBACK = "traceback.txt"
ATTEMPTS = "attempts.jsonl"
WRONG_PAIRS, NOISE_INDEX = "wrong_pairs.json", "noise_index.npy"  # where wrong pairs were trained on
GALLERIES = "galleries"  # below the cache: what trained methods have encoded, by the key of their trial


def write_spec(folder: Path, spec: TrialSpec) -> None:
    write_own(folder / SPEC, spec.model_dump_json(indent=2))


def write_epochs(folder: Path, reports: Sequence[EpochReport]) -> None:
    write_own(folder / EPOCHS, "".join(report.model_dump_json() + "\n" for report in reports))


def write_noise(folder: Path, noise: str, split: Split, trained: Split) -> None:
    """Write the wrong pairs by ids and, where each caption has one image, as the index that `noise.file` reads."""
    write_own(folder / WRONG_PAIRS, json.dumps({"noise": noise, "pairs": wrong_pairs(split, trained)}))
    if len(trained.pairs) == len(trained.captions):
        write_own(folder / NOISE_INDEX, npy(trained.pairs[trained.pairs[:, 1].argsort(), 0]))


def write_result(folder: Path, result: TrialResult) -> None:
    """Write the result, after all other files: its presence means that they are there."""
    write_own(folder / RESULT, result.model_dump_json(indent=2))


def add_attempt(folder: Path, failed: TrialResult) -> None:
    """Note how an attempt failed, because its result is replaced by that of the next one."""
    attempt = failed.model_dump_json(include={"failure", "message", "epochs"})
    write_own(folder / ATTEMPTS, "".join(f"{line}\n" for line in [*_attempt_lines(folder), attempt]))


def attempts(folder: Path) -> int:
    return len(_attempt_lines(folder))


def read_result(folder: Path) -> TrialResult | None:
    return read_own(folder / RESULT, TrialResult.model_validate_json)


def result_of(spec: TrialSpec, folder: Path) -> TrialResult | None:
    """The result of a trial in a folder; None where there is none, or where it is that of another trial."""
    result = read_result(folder)
    return result if result and result.key == spec.key else None


def write_verification(folder: Path, verification: Verification) -> None:
    write_own(folder / VERIFICATION, verification.model_dump_json(indent=2))


def read_verification(folder: Path, result: TrialResult) -> Verification | None:
    """What came of making this very result again; None where nobody did."""
    known = read_own(folder / VERIFICATION, Verification.model_validate_json)
    return known if known and known.numbers == result.numbers else None


def read_spec(folder: Path) -> TrialSpec | None:
    return read_own(folder / SPEC, TrialSpec.model_validate_json)


def read_epochs(folder: Path) -> list[EpochReport]:
    return read_own(folder / EPOCHS, lambda text: [*map(EpochReport.model_validate_json, text.splitlines())]) or []


def gallery_folder(cache: Path, key: str) -> Path:
    """Where the galleries are kept that the method of a trial has encoded; removed with the trial."""
    return cache / GALLERIES / key


def _attempt_lines(folder: Path) -> list[str]:
    return read_own(folder / ATTEMPTS, lambda text: [*map(bytes.decode, text.splitlines())]) or []
