"""What may hang, or end its process, is tried in a process of its own: torch, a Ray, the tracking store.

`python -m harness.doctor.probe` reads a request as JSON on stdin; the last line on stdout is the answer as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from harness.errors import HarnessError, ResourceError, first_line
from harness.executors.placement import Node
from harness.executors.ray_session import RaySession, import_path, library
from harness.trial.private_folders import remove_left_behind

TASK_SECONDS = 60.0  # for a worker of Ray's to start
LONGEST = 300  # characters of what a process says before it ends


class Probe:
    """A process that tries one thing; leaving the context ends it."""

    def __init__(self, name: str, seconds: float, **request: str) -> None:
        self.name, self.seconds = name, seconds
        self._request = json.dumps({"probe": name, **request})

    def __enter__(self) -> Self:
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self._began = time.monotonic()
        command = [sys.executable, "-P", "-m", __name__]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._out,
            stderr=self._err,
            env={**os.environ, "PYTHONPATH": import_path()},
            start_new_session=True,  # so that all that it starts can be ended with it
        )
        assert self._process.stdin
        with suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(self._request.encode())
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._out.close()
        self._err.close()
        if self.name == "ray":
            remove_left_behind()

    def answer(self) -> dict[str, Any]:
        """What the process has answered; ResourceError where it gave no answer in time, ended, or says so itself."""
        left = self._began + self.seconds - time.monotonic()
        try:
            self._process.wait(max(left, 0.0))
        except subprocess.TimeoutExpired:
            raise ResourceError(f"no answer within {self.seconds:.0f} s; look at what else this machine does") from None
        lines = self._text(self._out).splitlines()
        if self._process.returncode or not lines:
            raise ResourceError(self._end())
        answer: dict[str, Any] = json.loads(lines[-1])
        if error := answer.get("error"):
            raise ResourceError(str(error))
        return answer

    def _end(self) -> str:
        """How a process without an answer ended."""
        said = self._text(self._err).strip().splitlines()[-1:] or ["it said nothing"]
        code = self._process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"the process that tried it ended with {how}: {said[0][:LONGEST]}; reinstall what it names"

    @staticmethod
    def _text(file: Any) -> str:
        file.seek(0)
        return str(file.read().decode(errors="replace"))


def torch_facts() -> dict[str, Any]:
    """Versions of torch, and the GPUs that it sees."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import torch

        is_available = torch.cuda.is_available()
        devices = [device_facts(torch, index) for index in range(torch.cuda.device_count() if is_available else 0)]
    said = next((first_line(one.message) for one in caught if isinstance(one.message, UserWarning)), "")
    kinds = torch.cuda.get_arch_list() if is_available else []
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda or "",
        "devices": devices,
        "kinds": kinds,
        "said": said,
    }


def device_facts(torch: Any, index: int) -> dict[str, Any]:
    free, total = torch.cuda.mem_get_info(index)
    major, minor = torch.cuda.get_device_capability(index)
    return {"name": torch.cuda.get_device_name(index), "free": free, "total": total, "kind": f"sm_{major}{minor}"}


def ray_facts(address: str, named_by: str) -> dict[str, Any]:
    """Start or join a Ray, let a worker answer, and leave it."""
    began = time.monotonic()
    session = RaySession(address, named_by, Node("this machine", 1.0, 0.0))
    session.start()
    try:
        nodes, ray = len(session.nodes), library()
        ray.get(ray.remote(nothing).remote(), timeout=TASK_SECONDS)
    finally:
        session.stop()
    return {"seconds": time.monotonic() - began, "nodes": nodes}


def nothing() -> None:
    """The task of a worker that is to show that workers start."""


def store_facts(uri: str) -> dict[str, Any]:
    """Open a tracking store."""
    from harness.tracking.connection import Connection

    began = time.monotonic()
    runs = sum(1 for _ in Connection(uri).runs("tags.`harness.kind` = 'trial'"))
    return {"seconds": time.monotonic() - began, "runs": runs}


PROBES: dict[str, Callable[..., dict[str, Any]]] = {"torch": torch_facts, "ray": ray_facts, "store": store_facts}


def answered(text: str) -> dict[str, Any]:
    """The answer to a request, which is an error where the harness knows what is wrong."""
    request = json.loads(text)
    try:
        return PROBES[request.pop("probe")](**request)
    except HarnessError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(answered(sys.stdin.read()))}\n")
