"""A Ray of this command's own on this machine, or a cluster that is joined: started, watched, ended. Imports Ray."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import harness
from harness.errors import ResourceError, first_line
from harness.executors.heartbeat import AGAIN, Door, Heartbeat, deadline, watched_start
from harness.executors.placement import Node
from harness.trial.private_folders import PLACES, private_folder, processes_in, remove_left_behind, remove_private

PING_SECONDS = 5
START_SECONDS, STOP_SECONDS = 80.0, 45.0  # after which a call of Ray's is given up; it takes five, and one
OWN_PATIENCE, CLUSTER_PATIENCE = 2.0, 30.0  # a network may be away for a moment, and a head node be restarted
OBJECT_STORE_BYTES = 80 * 2**20  # reports are small; Ray takes no less than 75 MiB
LONGEST_PLACE = 20  # characters: Ray's socket paths end at 107 bytes, and are 87 longer
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # `uv run` would package the working folder for every worker
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else Ray prints on stdout about lost workers, which their results say better
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a trial is told its device; this default is changing in Ray
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",  # then Ray ends this process with 1; the heartbeat is faster
}
AUTOSCALER = b"/monitor.py"  # in the command line of the process of Ray that would add nodes
LASTING = ("raylet", "gcs_server")  # processes of Ray that live as long as it does
OWN_ENVIRONMENT = {  # of a Ray of one's own
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's way to say: of this machine alone, listen on loopback
    "RAY_worker_niceness": "0",  # trials are as nice as the command; Ray would add 15
}


class RaySession:
    """Ray as this process uses it; nothing is started before `start`."""

    def __init__(self, address: str, named_by: str, machine: Node) -> None:
        """`address`: of the cluster to join, empty for a Ray of one's own; `machine`: what that may use."""
        self.address, self.named_by = address, named_by
        self.is_started = False
        self._machine = machine
        self._is_owned = False
        self._folder: Path | None = None
        self._heartbeat: Heartbeat | None = None

    @property
    def nodes(self) -> list[Node]:
        """The nodes there are; of a Ray of one's own, this machine."""
        if not self.is_started or self._is_local:
            return [self._machine]
        alive = [(node["NodeManagerAddress"], node["Resources"]) for node in library().nodes() if node["Alive"]]
        return [Node(name, total.get("CPU", 0.0), total.get("GPU", 0.0), total) for name, total in alive]

    @property
    def lost(self) -> str:
        """Why the Ray of one's own has ended, empty while it answers; ResourceError where it is a cluster."""
        reason = self._heartbeat.lost if self._heartbeat else ""
        if reason and not self._is_local:
            raise ResourceError(f"the Ray cluster at {self.address} (from {self.named_by}) is gone: {reason}; {AGAIN}")
        return reason

    def start(self) -> None:
        """Start or join Ray once, or use one that this process has joined; ResourceError says why it cannot be."""
        if self.is_started:
            return
        self._prepare()
        if not library().is_initialized():
            self._is_owned = True
            self._folder = private_folder("ray", socket_place())
            try:
                alive = partial(processes_in, self._folder, LASTING)
                with watched_start(START_SECONDS, alive), set_apart(self._folder):
                    library().init(**self._options(), log_to_driver=False, logging_level=logging.ERROR)
                    self._heartbeat = Heartbeat(self._doors(), OWN_PATIENCE if self._is_local else CLUSTER_PATIENCE)
            except Exception as error:  # Ray raises bare Exceptions, too
                self.stop()
                raise ResourceError(self._cannot_start(error)) from error
        self.is_started = True

    def stop(self) -> None:
        """End the Ray that was started here, or leave the cluster that was joined; the workers end with it."""
        if self._heartbeat:
            self._heartbeat.stop()
            self._heartbeat = None
        if self._is_owned:
            if self._folder:
                end_autoscaler(self._folder)
            with deadline(STOP_SECONDS, "Ray has not ended"):
                library().shutdown()
        self.is_started = self._is_owned = False
        if self._folder:
            remove_private(self._folder)
            self._folder = None
        remove_left_behind()  # by workers that were at a trial

    @property
    def _is_local(self) -> bool:
        return self._is_owned and not self.address

    def _prepare(self) -> None:
        """Set what Ray reads when it is imported, and refuse what it would wait minutes for."""
        wanted = ENVIRONMENT if self.address else ENVIRONMENT | OWN_ENVIRONMENT
        os.environ.update({name: value for name, value in wanted.items() if name not in os.environ})
        if self.address:
            self._ping()
        elif not has_loopback():
            raise ResourceError(
                "a local Ray cannot be started: this machine has no loopback network (127.0.0.1); switch it on "
                "(`ip link set lo up`), or run with --here to do without"
            )

    def _ping(self) -> None:
        """ResourceError where nobody listens at the cluster's address."""
        host, colon, port = self.address.removeprefix("ray://").rpartition(":")
        if not colon or not port.isdigit():
            return  # a name that Ray resolves itself, such as `auto`
        try:
            socket.create_connection((host, int(port)), timeout=PING_SECONDS).close()
        except OSError as error:
            raise ResourceError(self._cannot_start(error)) from error

    def _options(self) -> dict[str, Any]:
        if self.address:
            return {"address": self.address}
        assert self._folder
        return {
            "address": "local",
            "num_cpus": int(self._machine.cpus),
            "num_gpus": int(self._machine.gpus),
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
            "_temp_dir": str(self._folder / "ray"),  # below, because Ray opens its folder to everybody
        }

    def _doors(self) -> list[Door]:
        """Where Ray listens: its head, and on this machine the process that starts workers."""
        if self.address.startswith("ray://"):
            return []
        host, _, port = library().get_runtime_context().gcs_address.rpartition(":")
        nodes = [] if self.address else library().nodes()
        return [(host, int(port)), *((node["NodeManagerAddress"], node["NodeManagerPort"]) for node in nodes)]

    def _cannot_start(self, error: Exception) -> str:
        if self.address:
            return (
                f"the Ray cluster at {self.address} (from {self.named_by}) cannot be joined: {first_line(error)}; "
                "check the address, run the same Ray and Python versions there, or unset it for a local Ray"
            )
        return (
            f"a local Ray cannot be started: {first_line(error)}; run the same command again, or with --here to do "
            "without"
        )


def library() -> Any:
    """Ray, imported when it is first used: that takes a second."""
    import ray

    return ray


def end_autoscaler(folder: Path) -> None:
    """Kill the process that would add nodes to a Ray of one's own: `ray.shutdown` waits a second for it to end."""
    for pid in processes_in(folder, ("python",)):
        with suppress(OSError):
            if AUTOSCALER in Path("/proc", str(pid), "cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def has_loopback() -> bool:
    """Whether this machine reaches itself."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=PING_SECONDS).close()
    except OSError:
        return False
    return True


def socket_place() -> Path:
    """A folder for Ray's session whose path leaves room for those of its sockets; ResourceError where there is none."""
    places = [place for place in map(Path, PLACES) if os.access(place, os.W_OK | os.X_OK)]
    places += [place for place in [Path(tempfile.gettempdir())] if len(os.fsencode(place)) <= LONGEST_PLACE]
    if not places:
        raise ResourceError(
            f"a local Ray cannot be started: none of {', '.join(PLACES)} can be written, and the paths of its "
            f"sockets are too long below {tempfile.gettempdir()}; set TMPDIR to a folder of at most {LONGEST_PLACE} "
            "characters, or run with --here to do without"
        )
    return places[0]


@contextmanager
def set_apart(folder: Path) -> Iterator[None]:
    """Begin in a private folder what Ray begins, with this process's import path.

    Ray puts the working folder before all else on the import path of its workers, so that any harness, random.py or
    email.py there would be taken. The working folder of its processes tells them from others, too.
    """
    work = folder / "work"
    work.mkdir()
    before, python_path = os.open(".", os.O_RDONLY), os.environ.get("PYTHONPATH")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        os.environ["PYTHONPATH"] = import_path()
        os.chdir(work)
        yield
    except SystemExit as end:
        if end.code == signal.SIGTERM and callable(handler):
            handler(signal.SIGTERM, None)  # which Ray's own kept from hearing it
        raise
    finally:
        os.fchdir(before)
        os.close(before)
        if python_path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = python_path
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # ray.init replaces it by one that exits with 15


def import_path() -> str:
    """PYTHONPATH as this process understands it, and the harness where its own folder was put first for it."""
    entries = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    own = Path(harness.__file__).parents[1]
    if Path(sys.path[0]).resolve() == own:
        entries = [str(own), *entries]
    return os.pathsep.join(dict.fromkeys(str(Path(entry).absolute()) for entry in entries))
