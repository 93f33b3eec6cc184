"""Whatever cards, harness.toml, flags and files of datasets hold: an exit code of the table, and words for people."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from harness.cli.main import main
from harness.errors import EXIT_CODES, FAULT

pytestmark = pytest.mark.slow

CODES = {int(code) for codes in EXIT_CODES for code in codes.split(", ")} - {FAULT}
QUICK = settings(max_examples=150, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
LONG = settings(max_examples=3000, database=None, suppress_health_check=[*HealthCheck])
HOSTILE = (
    *("", " ", "\0", "\x1b[31m", "\u202e", "\ud800", "é✓𝄞", "7", "true", "1e3", "2026-11-26", "-1", "0", "inf", "nan"),
    *(
        "../..",
        "/",
        "~nobody-of-this-name",
        "a/b",
        "a,b",
        "*",
        "[",
        "[x",
        "{",
        "%s{0}",
        "x" * 300,
        "9" * 30,
        "-x",
        "'\"`$",
    ),
)
VALUES = (
    *(
        "inf",
        "nan",
        "-inf",
        "-1",
        "0",
        "1",
        "1e308",
        "1e-308",
        "1e400",
        "-1e308",
        "9223372036854775807",
        "-9223372036854775808",
    ),
    *("''", "'x'", "'../..'", "'/'", "'*'", "'['", "'\\u202e'", "'" + "x" * 300 + "'", '"\\u0000"', "true", "[]", "{}"),
    *(
        "[[]]",
        "[{}]",
        "{a = 1}",
        "1979-05-27T07:32:00Z",
        "07:32:00",
        "[1, 'a', nan]",
        "'val'",
        "'tiny'",
        "'m:C'",
        "=",
        "'",
    ),
)
FILES = ("harness.toml", "cards/nan.toml", "cards/tiny/card.toml")
COMMANDS = (
    *(
        ("list",),
        ("list", "--json"),
        ("describe", "nan"),
        ("describe", "tiny"),
        ("run", "-n", "--methods", "nan,vsepp"),
    ),
    *(
        ("status",),
        ("validate", "--dataset", "tiny"),
        ("search", "-n", "--methods", "vsepp"),
        ("describe", "--json", "nan"),
    ),
)
FLAGS = (
    *(
        "--methods",
        "--datasets",
        "--seeds",
        "--protocol",
        "--limit",
        "--campaign",
        "--trials",
        "--device",
        "--retry",
        "-s",
    ),
    *(
        "--gpus-per-trial",
        "--cpus-per-trial",
        "--max-concurrent",
        "--max-failures",
        "--trial-seconds",
        "-c",
        "--plugin",
    ),
    *(
        "--name",
        "--dataset",
        "--format",
        "--seed",
        "--note",
        "--image",
        "--method",
        "--run",
        "-o",
        "--folder",
        "--schema",
    ),
)
NAMES = (
    *("list", "describe", "run", "search", "confirm", "resume", "status", "report", "compare", "reproduce", "score"),
    *("export", "explain", "validate", "init", "data", "help"),
)
KEYS = st.sampled_from(
    [
        *(
            "campaign.name",
            "campaign.seeds",
            "paths.data",
            "paths.methods",
            "training.lr",
            "training.drop_after",
            "tracking.uri",
        ),
        *(
            "settings.*.dim",
            "settings.vsepp.margin",
            "search.space.vsepp.dim",
            "search.points",
            "per_dataset.tiny.training",
        ),
        *(
            "resources.custom.x",
            "search.objective",
            "cluster.address",
            "failures.attempts",
            "a.b.c",
            "",
            ".",
            "training",
        ),
    ]
)
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(codec="utf-8"), max_size=8))
DRY = {"run": ("-n",), "search": ("-n",), "confirm": ("-n",), "reproduce": ("-n",)}  # what would train
Edit = Callable[[bytes], bytes]


def line_edit(number: int, key: str, value: str) -> Edit:
    """Give the key in a line another value, or another key the same value."""

    def edit(data: bytes) -> bytes:
        lines = data.decode(errors="surrogateescape").split("\n")
        name, equals, old = lines[number % len(lines)].partition("=")
        lines[number % len(lines)] = f"{key or name}{equals}{value or old}"
        return "\n".join(lines).encode(errors="surrogatepass")

    return edit


def cut_edit(start: int, length: int, middle: bytes) -> Edit:
    return lambda data: data[: start % (len(data) + 1)] + middle + data[start % (len(data) + 1) + length :]


LINES = st.builds(
    line_edit, st.integers(0, 60), st.one_of(st.just(""), TEXTS), st.one_of(st.sampled_from(VALUES), st.just(""))
)
CUTS = st.builds(cut_edit, st.integers(0, 10**6), st.integers(0, 200), st.binary(max_size=6))
EDITS = st.lists(st.one_of(LINES, LINES, CUTS), min_size=1, max_size=3)
NPY = b"\x93NUMPY\x01\x00"
WHOLES = st.sampled_from(
    [
        *(
            b"",
            b"\0",
            b"null",
            b"[]",
            b"{}",
            b"[[[]]]",
            b"[" * 5000,
            b'{"a": ' * 3000,
            b"\xff\xfe",
            b"1e999",
            b'"\\ud800"',
        ),
        *(NPY, NPY + b"v\0{'descr': '<f4', 'fortran_order': False, 'shape': (-40, -4, 16), }" + b" " * 40 + b"\n"),
        NPY + b"v\0{'descr': '|O', 'fortran_order': False, 'shape': (99999999999, 4), }" + b" " * 40 + b"\n",
    ]
)


def check(*words: str) -> None:
    """Run a command line: an exit code of the table, no traceback, no fault."""
    words = tuple(word.replace("\ud800", "\udcff") for word in words)  # what a shell can give: a byte that is no text
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        main(words)
    err.flush()
    said = err.buffer.getvalue().decode()  # type: ignore[attr-defined]
    note(f"{words!r}: {end.value.code}\n{said}")
    assert end.value.code in CODES, said
    assert "Traceback" not in said


@pytest.fixture
def sets(precomp: Path, coco: Path, folder: Path, karpathy: Path, entities: Path) -> list[Path]:
    """A project with a small sound dataset of each layout: their folders."""
    return [precomp, coco, folder, karpathy, entities]


@contextlib.contextmanager
def edited(file: Path, *edits: Edit) -> Iterator[None]:
    """A file with edits, until the end."""
    before = file.read_bytes()
    data = before
    for edit in edits:
        data = edit(data)
    try:
        file.unlink()
        file.write_bytes(data)
        note(f"{file.name}: {data[-1500:]!r}")
        yield
    finally:
        file.write_bytes(before)


def try_cards(amount: settings, project: Path) -> None:
    @amount
    @given(name=st.sampled_from(FILES), edits=EDITS, command=st.sampled_from(COMMANDS))
    def attempt(name: str, edits: list[Edit], command: tuple[str, ...]) -> None:
        with edited(project / name, *edits):
            check(*command)

    attempt()


def try_flags(amount: settings, project: Path) -> None:
    pairs = st.lists(st.tuples(st.sampled_from(FLAGS), TEXTS), max_size=3)

    @amount
    @given(command=st.sampled_from(NAMES), pairs=pairs, key=KEYS | TEXTS, value=st.sampled_from(VALUES) | TEXTS)
    def attempt(command: str, pairs: list[tuple[str, str]], key: str, value: str) -> None:
        words = [word.replace("\0", "") for pair in pairs for word in pair]
        check(command, *DRY.get(command, ()), *words)
        check("run", "-n", "-s", f"{key}={value}".replace("\0", ""))

    attempt()


def try_datasets(amount: settings, sets: list[Path]) -> None:
    files = sorted(file for place in sets for file in place.rglob("*") if file.is_file())

    @amount
    @given(file=st.sampled_from(files), edits=st.lists(CUTS, min_size=1, max_size=3), whole=st.none() | WHOLES)
    def attempt(file: Path, edits: list[Edit], whole: bytes | None) -> None:
        name = next(place.name for place in sets if file.is_relative_to(place)).partition(" ")[0]
        with edited(file, *edits if whole is None else [lambda _: whole]):
            check("validate", "--dataset", name)

    attempt()


def test_no_card_and_no_harness_toml_ends_a_command_in_a_fault(project: Path) -> None:
    try_cards(QUICK, project)


def test_no_flag_ends_a_command_in_a_fault(project: Path) -> None:
    try_flags(QUICK, project)


def test_no_file_of_a_dataset_ends_a_command_in_a_fault(sets: list[Path]) -> None:
    try_datasets(QUICK, sets)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_nothing_that_a_user_writes_ends_a_command_in_a_fault_in_many_trials(project: Path, sets: list[Path]) -> None:
    try_cards(LONG, project)
    try_flags(LONG, project)
    try_datasets(LONG, sets)
