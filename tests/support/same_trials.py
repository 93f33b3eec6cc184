"""Whether two trials, or all trials of two projects, ended alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from harness.trial.checkpoint import load_checkpoint
from harness.trial.folder import CHECKPOINT, read_epochs, read_result
from harness.trial.results import State


def leaves(value: Any) -> Iterator[Any]:
    """Everything in nested dicts and lists."""
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
    else:
        yield value


def assert_same(actual: Path, expected: Path) -> None:
    """Two trials ended alike, to the bit: weights, optimizer, best epoch, every loss, every measure."""
    states = [list(leaves(load_checkpoint(folder / CHECKPOINT, torch.device("cpu")))) for folder in (actual, expected)]
    assert sum(isinstance(value, torch.Tensor) for value in states[0]) > 10
    for one, other in zip(*states, strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    results = [read_result(folder) for folder in (actual, expected)]
    assert results[0] and results[1] and results[0].state is State.DONE
    assert (results[0].measures, results[0].val) == (results[1].measures, results[1].val)
    losses = [[(report.loss, report.val) for report in read_epochs(folder)] for folder in (actual, expected)]
    assert losses[0] == losses[1]


def assert_same_campaign(actual: Path, expected: Path) -> None:
    """Two projects have the same trials, and each ended alike."""
    names = [
        sorted(folder.name for folder in (project / "runs" / "trials").iterdir()) for project in (actual, expected)
    ]
    assert names[0] == names[1]
    for name in names[0]:
        assert_same(actual / "runs" / "trials" / name, expected / "runs" / "trials" / name)
