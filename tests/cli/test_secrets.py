"""The password of a tracking store: in nothing that a command prints, and in no file that it writes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tiny_project import Call

Captured = pytest.CaptureFixture[str]
SECRET = "s3cr3t"
FORMS = (
    *(
        "http://me:s3cr3t@127.0.0.1:9",
        "http://:s3cr3t@127.0.0.1:9",
        "http://s3cr3t@127.0.0.1:9",
        "mysql://u:s3cr3t@h/d",
    ),
    *(
        "http://127.0.0.1:9?token=s3cr3t",
        "http://127.0.0.1:9/?a=1&password=s3cr3t",
        "postgresql+psycopg2://u:s3cr3t@h/d",
    ),
    *("http://me:a/s3cr3t@127.0.0.1:9", "odd://u:s3cr3t@h", "sqlite:////nowhere/x.db?key=s3cr3t"),
)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def holders(folder: Path) -> list[Path]:
    """The files that hold the secret."""
    return [file for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, migrated_store: Path) -> Iterator[str]:
    """The address of an MLflow server that takes any password."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    shutil.copy(migrated_store, folder / "server.db")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        f"{folder}/artifacts",
    ]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **quiet)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_password_reaches_the_server_and_no_file_page_or_store(
    project: Path, server: str, call: Call, capfd: pytest.CaptureFixture[str]
) -> None:
    uri = f"tracking.uri=http://me:{SECRET}@{server}"
    assert call("run", "--here", "-s", uri) == 0
    assert call("status", "-s", uri, "--json") == 0
    assert call("report", "-s", uri, "--format", "md,csv,json,html,latex") == 0
    assert call("run", "--here", "--seeds", "1", f"--set={uri}") == 0
    assert call("resume", "-s", uri) == 0
    said = capfd.readouterr()
    assert server in said.out and SECRET not in said.out + said.err
    assert not holders(project)
    with urllib.request.urlopen(f"http://{server}/ajax-api/2.0/mlflow/experiments/search?max_results=9") as answer:
        assert SECRET not in answer.read().decode()
    (mark,) = {json.loads(file.read_text())["uri"] for file in (project / "runs" / "trials").glob("*/logged.json")}
    assert mark == f"http://{server}"


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("address", FORMS)
def test_a_store_that_is_away_is_named_without_its_secret(
    project: Path, call: Call, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for words in (("run", "--here", "-v"), ("run", "-n", "--json"), ("status",), ("report",), ("list", "-s", address)):
        assert call(*words, "-s", f"tracking.uri={address}") in (0, 2, 6), words
    assert call("list", "-s", f"tracking={address}") == 2
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err
    assert not holders(project)


def test_resume_asks_for_a_password_again_and_goes_on_with_it(
    project: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"tracking.uri={FORMS[0]}"
    assert call("run", "--here", f"-s{uri}") == 6
    commands = project / "runs" / "commands.json"
    assert stat.S_IMODE(commands.stat().st_mode) == 0o600
    capsys.readouterr()
    assert call("resume") == 2
    assert "give it again: harness resume -s tracking.uri=…" in capsys.readouterr().err
    assert call("resume", "-s", uri) == 6
    assert "the tracking store http://127.0.0.1:9 cannot be used" in capsys.readouterr().err
    assert call("resume") == 2, "it is asked for again, as it was not stored"
    assert not holders(project)


@pytest.mark.parametrize("text", ["null", "[]", "7", '{"main": null}', '{"main": {"words": 3}}', "{", ""])
def test_a_damaged_list_of_commands_is_as_good_as_none(project: Path, call: Call, capsys: Captured, text: str) -> None:
    (project / "runs" / "commands.json").write_text(text)
    assert call("resume") == 2
    assert "no campaign was begun" in capsys.readouterr().err


@pytest.mark.slow
def test_an_older_list_loses_its_passwords_with_the_next_command(project: Path, call: Call) -> None:
    old = {"words": ["run", "-s", f"tracking.uri={FORMS[0]}"], "folder": str(project)}
    (project / "runs" / "commands.json").write_text(json.dumps({"old": old}))
    assert call("run", "--here", "--methods", "chance") == 0
    assert not holders(project) and "old" in json.loads((project / "runs" / "commands.json").read_text())
