"""The peak of a trial is its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.trial.device import RESET, forget_peak, peak_mb

CPU = torch.device("cpu")


@pytest.mark.skipif(not RESET.exists(), reason="only Linux lets a process begin to measure anew")
def test_the_peak_of_an_earlier_trial_is_forgotten_and_a_later_one_is_seen() -> None:
    forget_peak(CPU)
    start = peak_mb(CPU)
    held = np.ones(200 * 2**17)  # 200 MiB
    assert held.all()
    del held
    assert peak_mb(CPU) > start + 190
    forget_peak(CPU)
    assert peak_mb(CPU) < start + 50
