"""The peak of a trial is its own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.config.sections import CONTEXT_MB
from harness.errors import ResourceError
from harness.trial.batches import free_bytes
from harness.trial.device import RESET, cap_memory, choose_device, forget_peak, peak_mb

CPU = torch.device("cpu")


@pytest.mark.skipif(not RESET.exists(), reason="only Linux lets a process begin to measure again")
def test_the_peak_of_an_earlier_trial_is_forgotten_and_a_later_one_is_seen() -> None:
    forget_peak(CPU)
    start = peak_mb(CPU)
    held = np.ones(200 * 2**17)  # 200 MiB
    assert held.all()
    del held
    assert peak_mb(CPU) > start + 190
    forget_peak(CPU)
    assert peak_mb(CPU) < start + 50


def test_a_kernel_that_does_not_count_the_peak_is_asked_for_that_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t1000 kB\n")
    monkeypatch.setattr("harness.trial.device.STATUS", tmp_path / "status")
    assert peak_mb(CPU) > 10


def test_a_trial_fills_its_share_of_a_gpu_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"mem_get_info": (39 * 2**30, 40 * 2**30), "memory_reserved": 2**30, "memory_allocated": 2**29}
    for name, value in counts.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)
    for share, free in ((1.0, 39.5), (0.25, 9.5)):
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _, share=share: share)
        assert free_bytes(torch.device("cuda", 0)) == free * 2**30


def test_a_gpu_comes_with_its_number_and_one_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert {choose_device(name) for name in ("auto", "cuda", "cuda:0")} == {torch.device("cuda", 0)}
    assert choose_device("cuda:1").index == 1
    with pytest.raises(ResourceError, match="cuda:2: this process sees 2"):
        choose_device("cuda:2")


@pytest.mark.parametrize("total_mb", [8_000, 80_000])
def test_the_shares_of_a_gpu_and_what_processes_hold_beside_them_fit_it(
    total_mb: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fractions: list[float] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=total_mb * 2**20))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda fraction, _: fractions.append(fraction))
    for trials in range(2, 17):
        cap_memory(torch.device("cuda", 0), 1 / trials)
        assert 0 <= fractions[-1] < 1 / trials
        assert fractions[-1] == 0 or trials * (fractions[-1] * total_mb + CONTEXT_MB) <= total_mb * (1 + 1e-9)
    for whole in (1.0, 2.0, 0.0, -1.0):
        cap_memory(torch.device("cuda", 0), whole)
        assert fractions[-1] == 1.0
    cap_memory(CPU, 0.5)
    assert len(fractions) == 19
