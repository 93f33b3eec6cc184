"""What the host knows of a batch on a device: a step that asks the device instead waits for all work before it.

Whoever makes a mask on the host says how long its sets are (`with_lengths`). The lengths follow the mask, so methods
take and return masks as plain tensors; of a mask that nobody spoke of, `lengths_of` reads the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

Ints = NDArray[np.int64]
_LENGTHS = WeakTensorKeyDictionary()  # of masks that still exist


def to_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """An array of the host as a tensor on a device, copied there while the host goes on."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def with_lengths(mask: Tensor, lengths: Ints) -> Tensor:
    """The mask (B, L) itself, with the number of real vectors of its sets (B,) to be known on the host."""
    _LENGTHS[mask] = lengths
    return mask


def lengths_of(mask: Tensor) -> Ints:
    """The number of real vectors of every set of a mask (B, L), (B,)."""
    lengths: Ints | None = _LENGTHS.get(mask)
    return mask.sum(1).cpu().numpy() if lengths is None else lengths


def in_order(values: Tensor, order: Ints) -> Tensor:
    """The rows of a tensor in an order, (n, ...); the tensor itself where they lie so already."""
    if np.array_equal(order, np.arange(len(values))):
        return values
    return values.index_select(0, to_device(order, values.device))  # values[order] has a gradient that sorts
