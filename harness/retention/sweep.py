"""Removal of what nothing needs, under the lock of the results folder; interrupted, the next call goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from harness.campaign.driver import only_driver
from harness.campaign.removal import GRAVEYARD, discard
from harness.config.project import Config
from harness.retention.inventory import TEMPORARY, Heap
from harness.tracking.logged import write_memory
from harness.tracking.store import default_uri
from harness.trial.private_folders import remove_left_behind


@contextmanager
def alone(config: Config) -> Iterator[None]:
    """Hold the results folder, where there is one; ResourceError while another command is at work in it."""
    if not config.results.is_dir():
        yield
        return
    with only_driver(config.results):
        yield


def sweep(config: Config, heaps: Iterable[Heap], tell: Callable[[str], None]) -> None:
    """Remove all of these; `tell` hears of every item before it goes. To be called within `alone`."""
    for heap in heaps:
        if heap.name == TEMPORARY:
            tell(heap.name)
            remove_left_behind()
            continue
        for item in heap.items:
            tell(f"{heap.name}: {item.path.name}")
            discard(item.path, config.results / GRAVEYARD)
    with suppress(OSError):
        (config.results / GRAVEYARD).rmdir()
    if config.results.is_dir():
        write_memory(config.results, default_uri(config))
