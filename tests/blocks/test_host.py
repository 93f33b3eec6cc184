"""What the host knows of a batch: the lengths of a mask, without asking a device; and that a read would be seen."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.blocks.host import in_order, lengths_of, to_device, with_lengths
from harness.contract.device_reads import DeviceReads

MASK = torch.tensor([[True, True, False], [True, False, False]])


def test_lengths_are_those_said_of_a_mask_and_are_read_from_any_other() -> None:
    mask = with_lengths(MASK.clone(), np.array([2, 1]))
    with DeviceReads() as reads:
        assert lengths_of(mask).tolist() == [2, 1]
    assert not reads.places
    with DeviceReads() as reads:
        assert lengths_of(mask[:1]).tolist() == lengths_of(MASK[:1]).tolist() == [2]
    assert reads.places and all("host.py" in place for place in reads.places)


def test_what_was_said_of_a_mask_goes_with_it() -> None:
    lengths = np.array([2, 1])
    mask = with_lengths(MASK.clone(), lengths)
    there = weakref.ref(lengths)
    del mask, lengths
    gc.collect()
    assert there() is None


def test_rows_come_in_an_order_and_are_not_copied_where_they_lie_in_it() -> None:
    values = torch.arange(6).view(3, 2)
    assert in_order(values, np.array([2, 0, 1])).tolist() == [[4, 5], [0, 1], [2, 3]]
    assert in_order(values, np.arange(3)) is values
    assert to_device(np.array([1, 2]), torch.device("cpu")).tolist() == [1, 2]


READS: list[Callable[[Tensor], object]] = [
    lambda x: x.sum().item(),
    lambda x: x.tolist(),
    lambda x: bool((x > 0).all()),
    lambda x: int(x[0]),
    lambda x: float(x[0]),
    lambda x: range(x.long()[0]),
    lambda x: 1.0 in x,
    lambda x: x.cpu(),
    lambda x: x.to("cpu"),
    lambda x: x.numpy(),
    lambda x: np.asarray(x),
    lambda x: x.nonzero(),
    lambda x: x[x > 0],
    lambda x: x.masked_select(x > 0),
    lambda x: x.clone().index_put_((x > 0,), torch.zeros(2)),
    lambda x: x.unique(),
    lambda x: torch.equal(x, x),
    lambda x: torch.where(x > 0),
    lambda x: x.repeat_interleave(x.long()),
]


@pytest.mark.parametrize("read", READS)
def test_a_read_is_seen(read: Callable[[Tensor], object]) -> None:
    with DeviceReads() as reads:
        read(torch.tensor([1.0, 2.0]))
    assert reads.places and all("test_host.py" in place for place in reads.places)


def test_work_that_reads_nothing_is_not_taken_for_a_read() -> None:
    values = torch.ones(2, 3, requires_grad=True)
    with DeviceReads() as reads:
        (
            values[:, :2].masked_fill(values[:, :2] > 2, 0.0)[torch.tensor([1, 0])].to(torch.float64)
            @ MASK[:, :2].double()
        ).sum().backward()
    assert not reads.places
