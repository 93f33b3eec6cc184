"""The project's folders and its tracking store: can they be written, who holds them, what lies about in them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from harness.campaign import healing
from harness.campaign.driver import driver_of
from harness.campaign.plan import check_places, check_room
from harness.campaign.removal import half_written_files
from harness.campaign.status import is_busy
from harness.config.project import Config
from harness.doctor.diagnosis import Remark, fault, sound, warning
from harness.doctor.machine import room
from harness.doctor.probe import Probe
from harness.errors import count
from harness.tracking.store import default_uri, is_absent, without_password

LOCKS = ("studies.journal.lock",)  # of Optuna's, which are files that are there or not
OLD_SECONDS = 60.0  # after which such a file is of a process that was killed


def results_folder(config: Config) -> Iterator[Remark]:
    """Whether results and reports can be written, and whether another command holds them."""
    check_places(config)
    check_room(config.results)
    if is_busy(config.results):
        driver = driver_of(config.results)
        state = f"held by {driver}" if driver else "held by another command"
        yield fault(f"{config.results} is {state}", "wait until it ends, or set [paths] results to another folder")
    yield from room("results", config.results)


def tracking_store(config: Config, probe: Probe) -> Iterator[Remark]:
    """Whether the tracking store answers, is of this MLflow, and has all that it was given."""
    uri = default_uri(config)
    if is_absent(uri):
        yield sound(f"{without_password(uri)} is not there yet; the first run makes it")
        return
    answer = probe.answer()
    if text := healing.warning(config.results, uri):
        message, _, cure = text.partition("; ")
        yield warning(message, cure)
    yield sound(f"{without_password(uri)}: {count(answer['runs'], 'trial')}, its schema is of this MLflow")


def leftovers(config: Config) -> Iterator[Remark]:
    """What killed commands left among results and reports."""
    parts = half_written_files(config)
    if parts:
        half = f"{count(len(parts), 'half-written file')}, such as {parts[0]}"
        yield warning(half, "`harness gc --yes` removes what killed commands left half-written")
    locks = [file for name in LOCKS if is_dead(file := config.results / name, config)]
    for lock in locks:
        yield warning(f"{lock} is left of a command that was killed", "the next `harness search` takes it away")
    if not parts and not locks:
        yield sound("nothing half-written, no dead lock")


def is_dead(lock: Path, config: Config) -> bool:
    """Whether a lock is old and nobody is at work."""
    try:
        return time.time() - lock.lstat().st_mtime > OLD_SECONDS and not is_busy(config.results)
    except OSError:
        return False
