"""`harness doctor`: each fault is rigged for real where a container lets one, and named with its cure."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tiny_project import Call

from harness.config.project import load
from harness.config.registry import discover
from harness.doctor import accelerators, datasets, installation, machine
from harness.doctor import project as folders
from harness.doctor.accelerators import NvidiaDriver
from harness.doctor.diagnosis import Check, Health, Remark, examined, message_and_cure, sound, warning
from harness.doctor.probe import Probe
from harness.errors import ResourceError
from harness.executors import placement, ray_session
from harness.tracking.store import default_uri
from harness.trial import private_folders

Captured = pytest.CaptureFixture[str]
GIB = 2**30
CPU = {"version": "2.13.0+cpu", "cuda": "", "devices": [], "kinds": [], "said": ""}
CUDA = CPU | {"version": "2.13.0+cu130", "cuda": "13.0"}
H100 = {"name": "NVIDIA H100", "free": 70 * GIB, "total": 80 * GIB, "kind": "sm_90"}


def faults(remarks: Iterator[Remark]) -> list[Remark]:
    return [one for one in remarks if one.health is not Health.SOUND]


def only(remarks: Iterator[Remark], health: Health) -> Remark:
    (one,) = faults(remarks)
    assert one.health is health and one.cure and "\n" not in one.message + one.cure
    return one


def test_a_check_that_breaks_is_a_fault_and_hides_none_and_faults_come_first() -> None:
    def broken() -> Iterator[Remark]:
        yield sound("until here")
        raise RuntimeError("no such thing")

    heard: list[str] = []
    checks = [Check("a", lambda: [sound("well")]), Check("b", lambda: [warning("so so", "do")]), Check("c", broken)]
    found = examined(checks, heard.append)
    assert [(one.check, one.health.value) for one in found] == [
        *[("c", "fault"), ("b", "warning")],
        *[("a", "ok"), ("c", "ok")],
    ]
    assert "RuntimeError: no such thing" in found[0].message and "doctor -v" in found[0].cure
    assert heard == ["a", "b", "c"]


def test_what_an_error_says_to_do_is_its_cure() -> None:
    assert message_and_cure("a is b; set c") == ("a is b", "set c")
    assert message_and_cure("a is b. If it is older, do c; if newer, d") == (
        "a is b",
        "if it is older, do c; if newer, d",
    )
    assert message_and_cure("a") == ("a", "")


@contextmanager
def limited(files: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_low_limit_on_open_files() -> None:
    with limited(900):
        one = only(machine.open_files(), Health.WARNING)
    assert "the limit is 900" in one.message and "ulimit -n 4096" in one.cure
    with limited(4096):
        assert not faults(machine.open_files())


def test_a_temporary_folder_whose_path_is_too_long_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 10)))
    monkeypatch.setattr(ray_session, "PLACES", (str(tmp_path / "absent"),))
    (one,) = examined([Check("room", machine.temporary_folder)], lambda _: None)
    assert one.health is Health.FAULT and "too long" in one.message and "set TMPDIR" in one.cure


def test_little_shared_memory_and_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "OBJECT_STORE_BYTES", 2**60)
    assert "--shm-size" in only(machine.shared_memory(), Health.WARNING).cure
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path / "absent")
    assert "there is no" in only(machine.shared_memory(), Health.WARNING).message


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SCANT_BYTES", 2**60)
    assert "harness gc" in only(machine.room("results", tmp_path / "not" / "there"), Health.WARNING).cure


def test_folders_of_killed_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_folders, "PLACES", (str(tmp_path),))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    living = private_folders.private_folder("ray")
    assert not faults(machine.leftovers())
    dead = tmp_path / "itm-ray-dead"
    shutil.copytree(living, dead)
    dead.chmod(0o700)
    assert str(dead) in only(machine.leftovers(), Health.WARNING).message
    assert dead.exists(), "a check removes nothing"
    private_folders.remove_left_behind()
    assert living.exists() and not dead.exists()
    private_folders.remove_private(living)


def test_a_results_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in its place")
    config = load(folder=tmp_path, overrides=["paths.results=file"])
    one, *_ = examined([Check("results", lambda: folders.results_folder(config))], lambda _: None)
    assert one.health is Health.FAULT and "cannot be written" in one.message and one.cure == "set [paths] results"


def test_a_results_folder_that_another_command_holds(project: Path, call: Call) -> None:
    from harness.campaign.driver import only_driver

    config = load(folder=project)
    assert not faults(folders.results_folder(config))
    with only_driver(config.results):
        one = only(folders.results_folder(config), Health.FAULT)
    assert f"process {os.getpid()}" in one.message and "wait until it ends" in one.cure


def test_half_written_files_and_the_lock_of_a_killed_search(tmp_path: Path) -> None:
    config = load(folder=tmp_path)
    config.results.mkdir()
    assert not faults(folders.leftovers(config))
    part, young = (config.results / f".result.json.{number}-0123abcd.part" for number in (2**22 + 1, 2**22 + 2))
    lock = config.results / "studies.journal.lock"
    for file in (part, young, lock):
        file.write_text("half")
    for file in (part, lock):
        os.utime(file, (time.time() - 7200,) * 2)
    half, dead = faults(folders.leftovers(config))
    assert "1 half-written" in half.message and str(part) in half.message and "gc" in half.cure
    assert str(lock) in dead.message and "search" in dead.cure


@pytest.mark.parametrize(
    ("torch", "driver", "device", "health", "text", "cure"),
    [
        (CPU, NvidiaDriver(1, (12, 4), True, True), "auto", Health.WARNING, "built for CPUs alone, but", "CUDA 12.4"),
        (CPU, NvidiaDriver(1, (12, 4), True, True), "cuda", Health.FAULT, "built for CPUs alone, but", "CUDA 12.4"),
        (
            CUDA,
            NvidiaDriver(1, (12, 4), True, True),
            "auto",
            Health.WARNING,
            "driver is too old: it runs CUDA 12.4",
            "newer",
        ),
        (
            CUDA,
            NvidiaDriver(2, (13, 1), True, True),
            "auto",
            Health.WARNING,
            "there are 2 NVIDIA GPUs that it does not see",
            "nvidia-smi",
        ),
        (CUDA, NvidiaDriver(0, None, False, True), "auto", Health.WARNING, "nvidia-smi is absent", "--gpus all"),
        (CPU, NvidiaDriver(0, None, False, False), "cuda:0", Health.FAULT, "there is no GPU", "auto or cpu"),
        (
            CUDA | {"devices": [H100]},
            NvidiaDriver(0, None, False, True),
            "auto",
            Health.WARNING,
            "given none",
            "--gpus all",
        ),
        (
            CUDA | {"devices": [H100 | {"free": 8 * GIB}]},
            *(NvidiaDriver(1, (13, 0), True, True), "auto", Health.WARNING, "8.0 of 80.0 GiB", "CUDA_VISIBLE_DEVICES"),
        ),
        (
            CUDA | {"devices": [H100], "kinds": ["sm_100", "compute_120"]},
            *(NvidiaDriver(1, (13, 0), True, True), "auto", Health.FAULT, "is of kind sm_90", "this kind"),
        ),
    ],
)
def test_torch_and_the_driver_disagree(
    torch: dict[str, object], driver: NvidiaDriver, device: str, health: Health, text: str, cure: str
) -> None:
    one = only(accelerators.gpus(torch, driver, device), health)
    assert text in one.message and cure in one.cure


def test_torch_and_the_driver_agree() -> None:
    torch = CUDA | {"devices": [H100], "kinds": ["sm_80", "sm_90"]}
    assert not faults(accelerators.gpus(torch, NvidiaDriver(1, (13, 0), True, True), "auto"))
    assert not faults(
        accelerators.gpus(torch | {"kinds": ["sm_75", "compute_80"]}, NvidiaDriver(1, (13, 0), True, True), "cuda")
    )
    assert not faults(accelerators.gpus(CPU, NvidiaDriver(0, None, False, False), "auto"))


def test_the_driver_is_asked_for_the_cuda_that_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    said = "| NVIDIA-SMI 550.54   Driver Version: 550.54   CUDA Version: 12.4 |"
    program.write_text(f'#!/bin/sh\n[ "$1" = -L ] && echo "GPU 0: H100 (UUID: GPU-1)" || echo "{said}"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    accelerators.gpus_here.cache_clear()
    assert accelerators.driver()[:3] == (1, (12, 4), True)
    accelerators.gpus_here.cache_clear()


def test_a_driver_that_does_not_answer_is_a_fault_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(placement, "SMI_SECONDS", 0.2)
    (one,) = examined([Check("GPU", lambda: accelerators.gpus(CPU, accelerators.driver(), "auto"))], lambda _: None)
    assert one.health is Health.FAULT and f"{program} does not answer" in one.message
    assert one.cure == "restart the machine or its driver"


def test_packages_that_are_absent_or_too_old_and_what_extras_enable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not faults(installation.packages()) and not faults(installation.extras())
    wanted = ["numpy>=1000", "no-such-package", "timm>=0.1; extra == 'vision'", "absent; extra == 'vision'"]
    monkeypatch.setattr(installation, "requires", lambda _: wanted)
    old, absent = faults(installation.packages())
    assert "needed is >=1000" in old.message and "no-such-package is not installed" in absent.message
    assert old.cure == absent.cure and "pip install" in old.cure
    half = only(installation.extras(), Health.WARNING)
    assert "absent is not installed" in half.message and "harness data extract" in half.message
    pins = tmp_path / "constraints.txt"
    pins.write_text("# a comment\nnumpy==0.1\nother==2\n")
    numpy = [one for one in installation.requirements() if one.name == "numpy"]
    assert "(tested: 0.1)" in installation.tested(numpy, pins)


def test_another_project_of_our_packages_name_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "harness-0.1.0.dist-info").mkdir()
    (tmp_path / "harness-0.1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: harness\nVersion: 0.1.0\n"
    )
    assert not installation.has_namesake()
    monkeypatch.syspath_prepend(tmp_path)
    (namesake,) = faults(installation.packages())
    assert "another project" in namesake.message and namesake.cure.startswith("pip uninstall harness;")


def test_files_of_a_dataset_that_are_absent_of_another_size_or_of_another_release(tmp_path: Path) -> None:
    config = load(folder=tmp_path, overrides=[f"paths.data={tmp_path}"])
    card = next(one for one in discover(config).datasets.values() if one.folder and one.layout == "precomp")
    absent = only(datasets.dataset(card, tmp_path, tmp_path / "cache"), Health.FAULT)
    assert "files are not in" in absent.message and absent.cure
    names = datasets.file_names(datasets.place_of(card, tmp_path, tmp_path / "cache"))
    for name in names[1:]:
        (tmp_path / card.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / card.folder / name).write_text("here")
    assert (
        f"1 file is not in {tmp_path / card.folder}: {names[0]}"
        in faults(datasets.dataset(card, tmp_path, tmp_path / "cache"))[0].message
    )


def test_a_file_is_compared_with_its_card_and_hashed_where_that_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.config.cards import DataFile
    from harness.data.cache import checked_sha256
    from harness.data.content import Place

    file = tmp_path / "words.txt"
    file.write_text("four")
    card = next(iter(discover(load(folder=tmp_path)).datasets.values()))
    place = Place(card.model_copy(update={"files": ()}), tmp_path, tmp_path / "cache")
    other = DataFile(path="words.txt", bytes=4, sha256="0" * 64)
    assert not datasets.difference(place, other.model_copy(update={"sha256": datasets.sha256(file)}))
    assert "its card says 5" in datasets.difference(place, DataFile(path="words.txt", bytes=5))
    assert "sha256" in datasets.difference(place, other)
    assert not datasets.difference(place, DataFile(path="absent.txt", bytes=5)), "that it is absent is said elsewhere"
    monkeypatch.setattr(datasets, "QUICK", 1)
    assert not datasets.difference(place, other), "large, and never hashed"
    assert checked_sha256(place, "words.txt")
    assert "sha256" in datasets.difference(place, other), "large, and hashed before"


@pytest.mark.slow
def test_a_store_of_an_older_mlflow_is_a_fault_with_its_cure(project: Path) -> None:
    config = load(folder=project)
    uri = default_uri(config)
    with Probe("store", 120, uri=uri) as probe:
        assert not faults(folders.tracking_store(config, probe))
    with closing(sqlite3.connect(config.results / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '6953534de441'")
    with Probe("store", 120, uri=uri) as probe:
        (one,) = examined([Check("store", lambda: folders.tracking_store(config, probe))], lambda _: None)
    assert one.health is Health.FAULT and "another version of MLflow" in one.message and "mlflow db upgrade" in one.cure


def test_a_store_that_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    config = load(folder=tmp_path)
    (one,) = folders.tracking_store(config, Probe("store", 1, uri=""))
    assert one.health is Health.SOUND and "first run" in one.message


def test_a_probe_that_hangs_or_dies_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "python"
    for line, text in (
        ("sleep 60", "no answer within"),
        ("echo lost >&2; kill -9 $$", "signal 9: lost"),
        ("exit 3", "exit code 3"),
    ):
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(program))
        with Probe("torch", 1.0 if "sleep" in line else 20.0) as probe, pytest.raises(ResourceError, match=text):
            probe.answer()


@pytest.mark.slow
def test_the_command_says_all_of_it_and_ends_with_2_where_a_run_would_stop(
    project: Path, call: Call, capsys: Captured
) -> None:
    """One whole round, with the torch, the Ray and the store that are here."""
    assert call("doctor", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    names = [one["check"] for one in told["checks"]]
    assert {"configuration", "Python", "GPU", "Ray", "tracking store", "dataset tiny", "results"} <= {*names}
    assert (
        not told["counts"]["fault"] and next(one for one in told["checks"] if one["check"] == "Ray")["health"] == "ok"
    )


def test_a_wrong_configuration_is_a_finding_and_the_rest_is_looked_at(
    project: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.doctor import examination

    monkeypatch.setattr(examination, "examination", lambda *_: [])
    (project / "harness.toml").write_text("[campain]\n")
    assert call("doctor") == 2
    out = capsys.readouterr().out
    assert "✗ configuration" in out and "campain" in out and "1 fault would stop a run" in out
    (project / "harness.toml").unlink()
    (project / "datasets" / "mine").mkdir(parents=True)
    (project / "datasets" / "mine" / "card.toml").write_text("name = [")
    assert call("doctor") == 2
    out = capsys.readouterr().out
    assert "✗ configuration" in out and "card.toml" in out and "1 fault would stop a run" in out


def test_a_wrong_configuration_hides_neither_itself_nor_the_folder_that_it_is_in(
    project: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.doctor import examination

    looked_at = []
    monkeypatch.setattr(examination, "examination", lambda config, *_: looked_at.append(config.results) or [])
    (project / "harness.toml").write_text("[campain]\n")
    (project / "inner").mkdir()
    monkeypatch.chdir(project / "inner")
    assert call("doctor", "--datasets", "tiny", "--json") == 2
    checks = {one["check"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
    assert "campain" in checks["configuration"]["message"]
    assert checks["dataset tiny"]["health"] == "fault" and "mend the configuration" in checks["dataset tiny"]["cure"]
    assert looked_at == [project / "runs"]


def test_a_dataset_that_is_unknown_is_a_finding_and_the_others_are_looked_at(
    project: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.doctor import examination

    looked_at: list[str] = []
    monkeypatch.setattr(examination, "examination", lambda _config, _cards, names, _tell: looked_at.extend(names) or [])
    assert call("doctor", "--datasets", "f3k,tiny", "--json") == 2
    (known, unknown) = sorted(json.loads(capsys.readouterr().out)["checks"], key=lambda one: one["check"])
    assert known["health"] == "ok" and unknown["check"] == "dataset f3k" and "did you mean" in unknown["cure"]
    assert looked_at == ["tiny"]
