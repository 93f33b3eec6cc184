"""Whatever ends a command: one line for people, an exit code of the table, and a report where nobody foresaw it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_project import Call

from harness.cli import catalogue, main
from harness.errors import EXIT_CODES, FAULT

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
PASSWORD = "hunter2"


def raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `harness list` end with an error."""

    def listing(*_: object) -> None:
        raise error

    monkeypatch.setattr(catalogue, "listing", listing)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ZeroDivisionError("division\x1b[31m by zero"), FAULT, r"unexpected ZeroDivisionError: division\x1b[31m by"),
        (EOFError("No data left in file"), FAULT, "unexpected EOFError: No data left in file"),
        (RecursionError("maximum recursion depth exceeded"), FAULT, "unexpected RecursionError"),
        (UnicodeEncodeError("ascii", "✓", 0, 1, "ordinal not in range"), FAULT, "unexpected UnicodeEncodeError"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), FAULT, "unexpected BrokenPipeError"),
        (SystemExit(15), FAULT, "unexpected SystemExit: 15"),
        (MemoryError(), 2, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "out of memory"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b\n"), 2, r"'/a/b\n'; see to its rights"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "make room on the disk"),
        (OSError(errno.EMFILE, "Too many open files"), 2, "ulimit -n"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), 2, "give a shorter name"),
        (KeyboardInterrupt(), 130, "interrupted: state saved"),
    ],
)
def test_whatever_ends_a_command_is_one_line_and_an_exit_code_of_the_table(
    project: Path,
    call: Call,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    said: str,
) -> None:
    raises(monkeypatch, error)
    assert call("list", "methods") == code
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and said in err and "Traceback" not in err, err
    assert str(code) in ", ".join(EXIT_CODES).split(", ")
    assert bool([*(project / "runs").glob("harness-error-*.txt")]) == (code == FAULT)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_with_its_own_code(
    project: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(catalogue, "listing", lambda *_: signal.raise_signal(number))
    assert call("list", "methods") == 128 + number
    assert capsys.readouterr() == ("", "harness: interrupted: state saved; the same command continues\n")


def test_a_file_of_the_results_folder_that_the_machine_refuses_ends_with_6(
    project: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    raises(monkeypatch, PermissionError(errno.EACCES, "Permission denied", str(project / "runs" / "trials")))
    assert call("list", "methods") == 6


def test_a_fault_leaves_a_report_for_its_owner_alone_with_versions_command_and_traceback_and_no_secret(
    project: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    raises(monkeypatch, ZeroDivisionError(f"postgresql://me:{PASSWORD}@host/db?token={PASSWORD}"))
    assert call("list", "methods", "-s", f"tracking.uri=http://me:{PASSWORD}@host?password={PASSWORD}") == FAULT
    err = capsys.readouterr().err
    (file,) = (project / "runs").glob("harness-error-*.txt")
    text = file.read_text()
    assert str(file) in err and "issue" in err
    assert file.stat().st_mode & 0o777 == 0o600
    for part in ("harness 0.", "Python 3.", "torch ", "command: harness list methods", "Traceback", "test_boundary.py"):
        assert part in text
    assert PASSWORD not in text + err


def test_a_report_goes_to_the_temporary_folder_where_there_are_no_results_and_nowhere_where_that_is_absent(
    project: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    raises(monkeypatch, ZeroDivisionError())
    (project / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(project / "temporary"))
    assert call("list", "methods", "-s", "paths.results=elsewhere") == FAULT
    assert not (project / "elsewhere").exists()
    (file,) = (project / "temporary").iterdir()
    assert str(file) in capsys.readouterr().err
    monkeypatch.setattr("tempfile.tempdir", str(project / "absent"))
    assert call("list", "methods", "-s", "paths.results=elsewhere") == FAULT
    assert "the same command with -v says where" in capsys.readouterr().err
    assert call("list", "methods", "-s", "paths.results=elsewhere", "-v") == FAULT
    assert "Traceback" in capsys.readouterr().err


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which `harness` is this program, with the exit codes of all parts of a pipe on stderr."""
    line = f'harness() {{ "{sys.executable}" -m harness "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        pytest.param({"PYTHONIOENCODING": "latin-1"}, marks=pytest.mark.soak),
        pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, marks=pytest.mark.soak),
        {"PYTHONWARNINGS": "error"},
    ],
)
def test_no_encoding_and_no_filter_of_warnings_breaks_a_command(project: Path, environment: dict[str, str]) -> None:
    card = project / "cards" / "nan.toml"
    card.write_text(card.read_text().replace("A method", "Méthode ✓ 𝄞"), encoding="utf-8")
    page = shell("harness run --here -q --methods chance && harness list && harness list methods --json", **environment)
    assert (page.returncode, page.stderr) == (0, "")
    titles = [card["title"] for card in json.loads(page.stdout[page.stdout.index("[\n") :])]
    assert "Méthode ✓ 𝄞 with a fault" in titles, "nothing is lost in JSON"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("harness list > /dev/full", 2, "No space left on device"),
        ("harness list >&-", 0, ""),
        ("harness list >&- 2>&- <&-", 0, ""),
        ("harness forget --cache <&-", 2, "There is no terminal to answer at"),
        ("COLUMNS=0 harness list protocols | grep -q 'tiny .* all '; exit ${PIPESTATUS[1]}", 0, ""),
        ("harness nothing 2>&-", 2, ""),
        ("harness list | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("harness list 2>&1 | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("mkdir gone && cd gone && rmdir ../gone && harness list", 2, "the working folder is not there any more"),
        ("TMPDIR=/nowhere harness list > /dev/null", 0, ""),
        (r"harness describe $'caf\xff'", 2, r"'caf\udcff'"),
        (r"harness list -c $'caf\xff'", 2, r"caf\udcff: no such file"),
    ],
)
def test_streams_and_folders_that_are_gone_full_or_not_text_break_nothing(
    project: Path, command: str, code: int, said: str
) -> None:
    done = shell(command)
    assert done.returncode == code, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert said or not done.stderr


@pytest.mark.slow
def test_what_a_method_prints_is_no_part_of_the_json_on_stdout(project: Path) -> None:
    method = project / "cards" / "faulty.py"
    method.write_text(f"print('hello')\n{method.read_text()}")
    for words, code in (("validate signalled --json", 3), ("run --here --json --methods signalled", 0)):
        done = shell(f"harness {words}")
        assert done.returncode == code and "hello" in done.stderr, done.stderr
        assert json.loads(done.stdout)
    assert "hello" in shell("harness validate signalled").stdout


READ_ONLY = "chmod -R a-w . && setpriv --bounding-set -dac_override,-dac_read_search "  # root, too, has no more rights


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv of util-linux")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("status", 0, ""),
        ("list", 0, ""),
        ("run -n --methods chance", 6, "cannot be written"),
        ("run --here --methods chance", 6, "cannot be written"),
        ("search --here --methods caan", 6, "cannot be written"),
        ("report", 6, "cannot be used"),
    ],
)
def test_a_folder_that_cannot_be_written_is_read_or_refused(project: Path, words: str, code: int, said: str) -> None:
    (project / "runs").mkdir(exist_ok=True)
    done = shell(f'{READ_ONLY} "{sys.executable}" -m harness {words}; code=$?; chmod -R u+w .; exit $code')
    assert done.returncode == code and said in done.stderr and done.stderr.count("\n") <= 1, done.stderr


def test_a_database_whose_driver_is_not_installed_is_named(project: Path, call: Call, capsys: Captured) -> None:
    assert call("report", "-s", f"tracking.uri=postgresql://me:{PASSWORD}@localhost/db") == 6
    err = capsys.readouterr().err
    assert "psycopg" in err and PASSWORD not in err and err.count("\n") == 1


def test_guide_and_help_have_the_table_of_exit_codes(call: Call, capsys: Captured) -> None:
    guide = (ROOT / "docs" / "guide" / "using.md").read_text(encoding="utf-8")
    table = guide[guide.index("| exit code |") :].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| ([\d, ]+) \| (.*) \|$", table, re.MULTILINE))
    assert rows == {code: text.replace("|", r"\|") for code, text in EXIT_CODES.items()}
    assert call("--help") == 0
    page = capsys.readouterr().out
    for code, text in EXIT_CODES.items():
        assert re.search(rf"^ +{code} +{re.escape(text)}$", page, re.MULTILINE), page


def test_a_shell_can_complete_commands() -> None:
    words = {"_HARNESS_COMPLETE": "bash_complete", "COMP_WORDS": "harness des", "COMP_CWORD": "1"}
    assert "describe" in shell("harness", **words).stdout


def test_one_process_entry_point_is_the_command() -> None:
    assert shell("harness --version").stdout == f"harness {main.__version__}\n"
