"""All checks of a machine and a project, in the order in which a run meets what they look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial

from harness.config.project import Config
from harness.config.registry import Registry
from harness.doctor import accelerators, installation, machine, project
from harness.doctor.datasets import dataset_checks
from harness.doctor.diagnosis import Check, Diagnosis, Remark, examined, sound
from harness.doctor.probe import Probe
from harness.errors import count
from harness.executors.ray_cluster import chosen_address
from harness.tracking.store import default_uri, is_absent

TORCH_SECONDS, RAY_SECONDS, STORE_SECONDS = 120.0, 150.0, 120.0  # for answers that take five on an idle machine


def examination(
    config: Config, registry: Registry, datasets: Iterable[str], tell: Callable[[str], None]
) -> list[Diagnosis]:
    """What is wrong, faults first; `tell` hears what is looked at."""
    uri = default_uri(config)
    address, named_by = chosen_address(config.cluster)
    with ExitStack() as running:
        torch = running.enter_context(Probe("torch", TORCH_SECONDS))
        store = Probe("store", STORE_SECONDS, uri=uri)
        if not is_absent(uri):
            running.enter_context(store)
        ray = running.enter_context(Probe("ray", RAY_SECONDS, address=address, named_by=named_by))
        checks = [
            Check("Python", machine.python),
            Check("packages", installation.packages),
            Check("extras", installation.extras),
            Check("open files", machine.open_files),
            Check("shared memory", machine.shared_memory),
            *([] if address else [Check("loopback", machine.loopback), Check("room", machine.temporary_folder)]),
            Check("results", partial(project.results_folder, config)),
            Check("leftovers", machine.leftovers),
            Check("leftovers", partial(project.leftovers, config)),
            *dataset_checks(config, registry, datasets),
            Check("GPU", partial(gpu, torch, config.resources.device)),
            Check("tracking store", partial(project.tracking_store, config, store)),
            Check("Ray", partial(ray_start, ray, address)),
        ]
        return examined(checks, tell)


def gpu(probe: Probe, device: str) -> Iterator[Remark]:
    """Torch and the GPUs."""
    yield from accelerators.gpus(probe.answer(), accelerators.driver(), device)


def ray_start(probe: Probe, address: str) -> Iterator[Remark]:
    """Whether a Ray was really started or joined, and a worker of it answered."""
    answer = probe.answer()
    nodes = count(answer["nodes"], "node")
    which = f"the cluster at {address} was joined, {nodes}" if address else "a local Ray was started"
    yield sound(f"{which}, a worker answered, and it was left again in {answer['seconds']:.0f} s")
