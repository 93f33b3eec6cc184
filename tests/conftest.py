"""What several test files share: a migrated MLflow store, copied where a test wants one, and the embedded dataset."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

# Read once, by numpy and torch: where several processes test, more threads than cores wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # of whoever tests: tables are as wide as they are in a pipe

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from harness.config.project import Config
from harness.config.registry import discover
from harness.config.sections import Cluster
from harness.data.torchvision import import_torchvision
from harness.executors.placement import Node
from harness.executors.ray_cluster import RayExecutor

# A shell starts what runs in its background without the one, nohup without the other.
for ignored, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, usual)

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on any machine
settings.load_profile("untimed")

# Fixtures of several tests.
pytest_plugins = ("tiny_project", "photo_project", "finished_projects", "fresh_process", "broken_files", "looking")
STARTS_RAY = (
    "test_ray_session.py",
    "test_ray_deaths.py",
    "test_ray_cluster.py",
    "test_driver.py",
    "test_survival.py",
    "test_doctor.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start Ray, the longest, come first: no process is still at one when the others have ended."""
    items.sort(key=lambda item: item.path.name not in STARTS_RAY)


def pytest_collection_finish() -> None:
    """What PyPI alone gives beside a CPU build of torch is made importable before a test imports transformers.

    Not before tests are collected: that imports triton, and tests of kernels say first how it is to run them.
    """
    if find_spec("torchvision") and version("torch").endswith("+cpu") and not version("torchvision").endswith("+cpu"):
        import_torchvision()


@pytest.fixture(autouse=True)
def _imports_are_no_garbage() -> None:
    """A trial collects garbage before it begins: among all that the tests import, that takes longer than the trial."""
    gc.freeze()


@pytest.fixture(scope="session")
def of_all_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes which test side by side share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def migrated_store(of_all_workers: Path) -> Path:
    """An empty sqlite store with MLflow's schema: migrating a fresh one takes seconds, so one does for all workers."""
    file = of_all_workers / "migrated" / "mlflow.db"
    with FileLock(of_all_workers / "migrated.lock"):
        if not file.exists():
            migrate(of_all_workers / "migrated.part" / file.name)
            (of_all_workers / "migrated.part").rename(file.parent)
    return file


@pytest.fixture(scope="session")
def scenes_cache(of_all_workers: Path) -> Path:
    """A cache with the whole embedded dataset: to draw it takes seconds, so one does for all workers."""
    from harness.layouts.opening import open_dataset

    cache, card = of_all_workers / "scenes", discover(Config()).datasets["scenes"]
    with FileLock(of_all_workers / "scenes.lock"):
        for split in card.splits:
            open_dataset(card, of_all_workers, cache).split(split)
    return cache


def migrate(file: Path) -> None:
    from mlflow import MlflowClient

    file.parent.mkdir()
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.fixture
def store(migrated_store: Path, tmp_path: Path) -> str:
    """The uri of a store of one's own, `<tmp_path>/runs/mlflow.db`, empty."""
    file = tmp_path / "runs" / "mlflow.db"
    file.parent.mkdir(exist_ok=True)
    shutil.copy(migrated_store, file)
    return f"sqlite:///{file}"


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray of two CPUs for all tests; every RayExecutor of this process uses it and leaves it running."""
    support = Path(__file__).parent / "support"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(support), os.environ.get("PYTHONPATH")]))
    executor = RayExecutor(Cluster(), machine=Node("test", 2, 0))
    assert not list(executor.run([], lambda _report: True))
    yield
    executor.close()
