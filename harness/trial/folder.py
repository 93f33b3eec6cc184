"""A trial's folder, the durable record of one trial: its files, and how they are written and read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from harness.errors import first_line
from harness.files import write_atomic
from harness.trial.results import EpochReport, TrialResult, TrialSpec

T = TypeVar("T")
SPEC = "spec.json"
CHECKPOINT = "checkpoint.pt"
EPOCHS = "epochs.jsonl"
RESULT = "result.json"
TRACEBACK = "traceback.txt"
ATTEMPTS = "attempts.jsonl"


def write_spec(folder: Path, spec: TrialSpec) -> None:
    write_atomic(folder / SPEC, spec.model_dump_json(indent=2))


def write_epochs(folder: Path, reports: Sequence[EpochReport]) -> None:
    write_atomic(folder / EPOCHS, "".join(report.model_dump_json() + "\n" for report in reports))


def write_result(folder: Path, result: TrialResult) -> None:
    """Write the result, after all other files: its presence means that they are there."""
    write_atomic(folder / RESULT, result.model_dump_json(indent=2))


def add_attempt(folder: Path, failed: TrialResult) -> None:
    """Note how an attempt failed, because its result is replaced by that of the next one."""
    attempt = failed.model_dump_json(include={"failure", "message", "epochs"})
    write_atomic(folder / ATTEMPTS, "".join(f"{line}\n" for line in [*_attempt_lines(folder), attempt]))


def attempts(folder: Path) -> int:
    return len(_attempt_lines(folder))


def read_result(folder: Path) -> TrialResult | None:
    return _read(folder / RESULT, TrialResult.model_validate_json)


def read_spec(folder: Path) -> TrialSpec | None:
    return _read(folder / SPEC, TrialSpec.model_validate_json)


def read_epochs(folder: Path) -> list[EpochReport]:
    return _read(folder / EPOCHS, lambda text: [*map(EpochReport.model_validate_json, text.splitlines())]) or []


def _attempt_lines(folder: Path) -> list[str]:
    return _read(folder / ATTEMPTS, str.splitlines) or []


def _read(path: Path, parse: Callable[[str], T]) -> T | None:
    """The parsed file; None where it is absent or damaged: whoever needs it writes it again."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        logging.getLogger(__name__).warning("%s is damaged (%s) and is written again", path, first_line(error))
        return None
