"""The boundary of the command line: whatever ends a command becomes words for people, and an exit code of the table.

Standard streams take any text, whatever the terminal's encoding, and may be closed or broken.
"""

from __future__ import annotations

import errno
import io
import os
import platform
import select
import shlex
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from typing import TextIO

import click

from harness import __version__
from harness.addresses import without_secrets, words_without_secrets
from harness.errors import (
    FAULT,
    READER_GONE,
    HarnessError,
    ResourceError,
    StoreError,
    UsageError,
    first_line,
    is_host_memory,
)
from harness.foreign_text import line, lines

DISTRIBUTION = "itm-harness"
LONGEST = 1000  # characters of what others say
LIBRARIES = ("click", "numpy", "torch", "ray", "mlflow", "optuna", "pandas", "pydantic", "rich")
CONTINUES = "interrupted: state saved; the same command continues"
REMEDIES = {  # of errors that the machine gives, whatever the program does
    errno.ENOENT: "see that it is there",
    errno.EACCES: "see to its rights",
    errno.EPERM: "see to its rights",
    errno.EROFS: "name a place that can be written",
    errno.ENOSPC: "make room on the disk, then give the same command again",
    errno.EDQUOT: "make room in your quota, then give the same command again",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs: the machine has too many files open",
    errno.ENOMEM: "close other programs, or take a machine with more memory",
    errno.EAGAIN: "allow more processes (ulimit -u), or close other programs",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOTDIR: "name a folder",
    errno.EISDIR: "name a file",
    errno.ELOOP: "correct the link, which leads back to itself",
    errno.EIO: "see to the disk or the terminal, which does not answer",
    errno.ESTALE: "see to the network folder, which is gone",
    errno.ENOTCONN: "see to the network folder, which is gone",
    **dict.fromkeys(
        (errno.ECONNREFUSED, errno.ECONNRESET, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT),
        "see to the network, and that the other side is running",
    ),
}
NO_FILE = (OSError, ValueError)  # of a stream without a descriptor, or with a closed one
REPLACEMENT = {"stdin": "replace", "stdout": "replace", "stderr": "backslashreplace"}


@dataclass
class Invocation:
    """One command line on its way through the program."""

    words: Sequence[str] = ()
    results: Path | None = None  # the results folder, as soon as it is known
    verbose: bool = False
    stdout: TextIO | None = None  # of an answer that is alone there, while sys.stdout is another stream


def invoke(command: click.Command, invocation: Invocation, more: Sequence[str] = ()) -> int:
    """Run the command that an invocation names, with `more` words behind its own; its exit code.

    Not by calling the group: click takes an EOFError, which a damaged file may raise, for an interruption.
    """
    try:
        with command.make_context("harness", [*invocation.words, *more], obj=invocation) as context:
            code: int = command.invoke(context)
            return code
    except click.exceptions.Exit as end:
        return end.exit_code


def invocation() -> Invocation:
    """The invocation that is running."""
    return click.get_current_context().ensure_object(Invocation)


@contextmanager
def answer_alone(is_wanted: bool) -> Iterator[None]:
    """Keep stdout for the answer of a command, if wanted: what methods and libraries print goes to stderr."""
    own = invocation()
    if not is_wanted or own.stdout:
        yield
        return
    own.stdout = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        own.stdout = None


def ended(error: BaseException, invocation: Invocation, interrupted: int) -> int:
    """Print why a command has ended, on stderr; its exit code, which after a signal is `interrupted`."""
    if invocation.verbose and isinstance(error, Exception) and not isinstance(error, click.ClickException):
        warn("".join(traceback.format_exception(error)))
    match error:
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return error.exit_code
        case click.ClickException():
            return complain(f"error: {error.format_message()}", error.exit_code)
        case HarnessError():
            return complain(f"error: {error}", error.exit_code)
        case KeyboardInterrupt() | click.Abort():
            return complain(CONTINUES, interrupted)
        case SystemExit(__context__=BrokenPipeError()):  # rich has seen it first
            return READER_GONE
        case BrokenPipeError() if reader_is_gone():
            return READER_GONE
        case _ if is_host_memory(error):
            return complain(f"error: out of memory; {REMEDIES[errno.ENOMEM]}", ResourceError.exit_code)
        case OSError(errno=number) if number in REMEDIES:
            return complain(f"error: {brief(str(error))}; {REMEDIES[number]}", code_of(error, invocation.results))
    return complain(f"error: {fault(error, invocation)}", FAULT)


def complain(message: str, code: int) -> int:
    """Print on stderr why the command ends; the exit code."""
    warn(f"harness: {message}")
    return code


def warn(message: str) -> None:
    """Print on stderr, without what may be secret or act on a terminal."""
    with suppress(OSError):  # stderr may be closed, full or without a reader
        click.echo(lines(without_secrets(message)), err=True)


def agree(question: str, refused: str) -> None:
    """Go on after a yes; UsageError `refused` after a no, and where there is no terminal to ask at."""
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to answer at; say yes with --yes")
    if not click.confirm(line(question), err=True):
        raise UsageError(refused)


def code_of(error: OSError, results: Path | None) -> int:
    """The exit code of what the machine refuses: that of the store where it is about a file of the results folder."""
    file = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    return (StoreError if file and results and file.is_relative_to(results) else ResourceError).exit_code


def fault(error: BaseException, invocation: Invocation) -> str:
    """What is said of an error that no part of the program expects; a report of it is written to a file."""
    what = f"{brief(type(error).__name__)}: {brief(first_line(error))}"
    file = write_report("\n".join(report(error, invocation)), invocation.results)
    where = f"{file} says where: please send it to {tracker()}" if file else "the same command with -v says where"
    return f"unexpected {what}; this is a fault of harness itself. {where}"


def report(error: BaseException, invocation: Invocation) -> Iterator[str]:
    """A report of an error for those who can mend it: versions, the command, and where it arose."""
    yield f"harness {__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield ", ".join(f"{name} {found}" for name in LIBRARIES if (found := version_of(name)))
    yield f"command: {shlex.join(words_without_secrets(['harness', *invocation.words]))}"
    yield ""
    yield without_secrets("".join(traceback.format_exception(error)))


def write_report(text: str, results: Path | None) -> Path | None:
    """A file for its owner alone, in the results folder or else the temporary one; None where neither takes it."""
    for folder in (results, None):
        with suppress(OSError):
            if folder is None or folder.is_dir():
                number, name = tempfile.mkstemp(prefix="harness-error-", suffix=".txt", dir=folder)
                with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
                    file.write(text)
                return Path(name)
    return None


def tracker() -> str:
    """Where to report a fault, as the package's metadata say."""
    with suppress(PackageNotFoundError):
        urls = dict(line.split(", ", 1) for line in metadata(DISTRIBUTION).get_all("Project-URL") or ())
        named = (urls.get(name) for name in ("Issues", "Bug Tracker", "Repository", "Homepage"))
        return next(filter(None, named), "the project's issue tracker")
    return "the project's issue tracker"


def version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def brief(text: str) -> str:
    """Text on one line, cut where it is very long."""
    return line(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


def prepare_streams() -> None:
    """Open what is closed, replace characters that a stream's encoding lacks, and let no warning end a command.

    Where stdin, stdout or stderr is closed, the next file that any library opens would take its place.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    for name, errors in REPLACEMENT.items():
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  for the whole process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    # of odd tags and large pictures, which harness reads or refuses in words of its own; set once, as no thread could
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if any(option.startswith("error") for option in sys.warnoptions):
        os.environ.pop("PYTHONWARNINGS", None)  # workers would end at their first warning
        warnings.simplefilter("ignore")


def output_streams() -> Iterator[TextIO]:
    yield from (stream for stream in (sys.stdout, sys.stderr) if stream is not None)


def reader_is_gone() -> bool:
    """Whether stdout or stderr is a pipe that nobody reads any more."""
    poller = select.poll()
    for stream in output_streams():
        with suppress(*NO_FILE):
            poller.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poller.poll(0))


def abandon_streams() -> None:
    """Give up what stdout and stderr still hold and cannot write: Python's own flush at its end must not fail."""
    for stream in output_streams():
        try:
            stream.flush()
        except NO_FILE:
            with suppress(*NO_FILE):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
