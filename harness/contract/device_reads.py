"""Where code looks at the numbers of a tensor: on a GPU each such read waits for all work before it.

On a CPU nothing waits, so reads are seen as the calls that they are: in Python, and in the operators below it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

TORCH = Path(torch.__file__).parent
OPTIMIZERS = TORCH / "optim"  # their counters of steps lie on the host
CALLS = {
    *(Tensor.item, Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.is_nonzero, Tensor.__array__),
    *(Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__, Tensor.__contains__),
}
OPERATORS = (
    *("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"),
    *("equal", "bincount", "repeat_interleave"),
)


class DeviceReads:
    """Within this context, `places` lists the reads: what was called, and the file and line of the caller."""

    def __init__(self) -> None:
        self.places: list[str] = []
        self._modes = ExitStack()

    def __enter__(self) -> DeviceReads:
        self._modes.enter_context(_Calls(self._note))
        self._modes.enter_context(_Operators(self._note))
        return self

    def __exit__(self, *of: object) -> None:
        self._modes.close()

    def _note(self, what: str) -> None:
        stack = traceback.extract_stack()
        if any(Path(frame.filename).is_relative_to(OPTIMIZERS) for frame in stack):
            return
        own = [
            frame for frame in stack if frame.filename != __file__ and not Path(frame.filename).is_relative_to(TORCH)
        ]
        self.places.append(f"{what} at {Path(own[-1].filename).name}:{own[-1].lineno}")


class _Calls(TorchFunctionMode):
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self.note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        to_host = func is Tensor.to and "cpu" in (*args[1:], *kwargs.values())  # a torch.device may be where it lies
        if func in CALLS or to_host:
            self.note(func.__name__)
        return func(*args, **kwargs)


class _Operators(TorchDispatchMode):
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.note = note

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in OPERATORS or (name.startswith(("index", "_index_put")) and _has_bools(args)):
            self.note(name)
        return func(*args, **kwargs or {})


def _has_bools(args: Any) -> bool:
    indices = (one for of in args if isinstance(of, list | tuple) for one in of)
    return any(isinstance(one, Tensor) and one.dtype in (torch.bool, torch.uint8) for one in indices)
