"""Temporary folders: private, removed when their owner has gone, and nobody else's are touched or believed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.trial import private_folders
from harness.trial.private_folders import (
    OWNER,
    private_cache,
    private_folder,
    processes_in,
    remove_left_behind,
    remove_private,
)

MAKER = """
import sys, time
from harness.trial.private_folders import private_folder
print(private_folder("ray"), flush=True)
time.sleep(60)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder, an empty one."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(private_folders, "PLACES", ())
    return folder


@pytest.fixture
def owner(place: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process that has made a private folder."""
    environment = os.environ | {"TMPDIR": str(place)}
    with subprocess.Popen([sys.executable, "-c", MAKER], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_folder_is_its_users_alone_and_is_removed_with_what_is_in_it(place: Path) -> None:
    folder = private_folder("ray")
    assert folder.parent == place and folder.stat().st_mode & 0o777 == 0o700
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file").write_text("")
    remove_private(folder)
    assert not folder.exists()


def test_a_folder_is_left_alone_while_its_owner_lives_and_removed_when_it_was_killed(
    place: Path, owner: tuple[subprocess.Popen[str], Path]
) -> None:
    process, folder = owner
    mine = private_folder("node")
    remove_left_behind()
    assert folder.is_dir() and mine.is_dir()
    process.send_signal(signal.SIGKILL)
    process.wait()
    remove_left_behind()
    assert not folder.exists() and mine.is_dir()
    remove_private(mine)


def test_what_works_in_a_folder_left_behind_is_ended_and_a_shell_is_not(
    place: Path, owner: tuple[subprocess.Popen[str], Path]
) -> None:
    process, folder = owner
    (folder / "work").mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command, cwd=folder / "work") as ray, subprocess.Popen(["sleep", "60"], cwd=folder) as shell:
        assert processes_in(folder) == {ray.pid}
        process.kill()
        process.wait()
        remove_left_behind()
        assert ray.wait(5) == -signal.SIGKILL and shell.poll() is None
        shell.kill()
    assert not folder.exists()


def test_what_looks_like_a_folder_of_ours_and_is_not_private_is_left_alone(place: Path, tmp_path: Path) -> None:
    open_to_all, link, target = place / "itm-ray-open", place / "itm-ray-link", tmp_path / "target"
    for folder in (open_to_all, target):
        folder.mkdir(mode=0o700)
        (folder / OWNER).write_text("")
    open_to_all.chmod(0o777)
    link.symlink_to(target)
    remove_left_behind()
    assert (open_to_all / OWNER).exists() and (target / OWNER).exists()


def test_a_folder_that_is_just_being_made_is_left_alone(place: Path) -> None:
    young, old = place / "itm-ray-young", place / "itm-node-old"
    for folder in (young, old):
        folder.mkdir(mode=0o700)
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    remove_left_behind()
    assert young.exists() and not old.exists()


def test_a_cache_that_somebody_else_could_write_is_not_believed(place: Path, tmp_path: Path) -> None:
    cache = private_cache()
    assert cache and cache.stat().st_mode & 0o777 == 0o700
    assert private_cache() == cache
    cache.chmod(0o770)
    assert private_cache() is None
    cache.rmdir()
    (tmp_path / "theirs").mkdir(mode=0o700)
    cache.symlink_to(tmp_path / "theirs")
    assert private_cache() is None
    cache.unlink()
    cache.write_text("")
    assert private_cache() is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_cache_of_another_user_is_not_believed(place: Path) -> None:
    cache = private_cache()
    assert cache
    os.chown(cache, 65534, 65534)
    assert private_cache() is None
    remove_left_behind()
    assert cache.exists()
