"""The documentation site: it builds without a warning, and what its pages tell readers to type is accepted."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from harness.cli.main import cli

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(
        page
        for page in (ROOT / "docs").rglob("*.md")
        if "decisions" not in page.parts and page.name != "commands.md"  # made from the commands themselves
    ),
]
FENCE = re.compile(r"^```([\w{}-]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
CALL = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S* )*(?:\S*/)?harness (.*)")


class Block(NamedTuple):
    page: Path
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        yield Block(page, language, text)


def commands(block: Block) -> Iterator[list[str]]:
    """The words after `harness` of every line of a block that calls it."""
    if block.language not in ("", "bash", "sh", "console"):
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        for part in re.split(r" && | \| |; ", re.sub(r"\s#\s.*", "", line)):  # output begins with blanks
            if call := CALL.match(part):
                yield shlex.split(call[1].rstrip("'") if call[1].count("'") % 2 else call[1])  # of sh -c '…'


def check_command(words: list[str]) -> None:
    """Let click read the words of a command line without running it; ClickException for what it does not know."""
    words = [word for word in words if word != "$WEIGHTS"]  # the page sets it to words of its own
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        if words[0] in ("-h", "--help", "--version"):
            return
        name, known = words[0], command.get_command(click.Context(command), words[0])
        if known is None:
            raise click.UsageError(f"no such command: {name}")
        command, words = known, words[1:]
    if {"-h", "--help"} & {*words}:
        return
    try:
        command.make_context(command.name, [*words]).close()
    except click.BadParameter as error:
        if "does not exist" not in error.message:  # a file of the reader's own
            raise


LINES = [(page, words) for page in PAGES for block in blocks(page) for words in commands(block)]


def test_pages_have_command_lines_of_most_commands() -> None:
    assert len(LINES) > 60
    assert {words[0] for _, words in LINES if words} > {"run", "search", "report", "compare", "score", "data", "init"}


@pytest.mark.parametrize(("page", "words"), LINES, ids=[f"{page.stem}-{' '.join(words)[:60]}" for page, words in LINES])
def test_every_command_line_of_a_page_is_one_that_the_command_takes(page: Path, words: list[str]) -> None:
    check_command(words)


@pytest.mark.parametrize("line", ["rnu", "run --no-such-flag", "data fecth x", "compare --json=3 a b"])
def test_a_command_line_that_nothing_takes_is_seen(line: str) -> None:
    with pytest.raises(click.ClickException):
        check_command(shlex.split(line))


TABLES = [block for page in PAGES for block in blocks(page) if block.language == "toml"]


@pytest.mark.parametrize("block", TABLES, ids=lambda block: block.page.stem)
def test_every_toml_block_of_a_page_is_toml(block: Block) -> None:
    assert tomllib.loads(block.text)


def test_every_message_of_troubleshooting_is_one_that_the_code_says() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "harness").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", code)  # literals over several lines
    messages = re.findall(r"\*\*`([^`]+)`\*\*", page)
    assert len(messages) > 8 and not [message for message in messages if message not in joined]


def test_no_word_of_pages_or_code_is_a_known_misspelling() -> None:
    folders = "README.md CHANGELOG.md CONTRIBUTING.md docs harness methods datasets benchmarks"
    assert f"codespell {folders}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    command = [sys.executable, "-m", "codespell_lib", *folders.split()]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built by the command of `make docs`."""
    place = tmp_path_factory.mktemp("site")
    options = ["-q", "-W", "--keep-going", "-b", "html", "-c", "docs"]
    assert f"-m sphinx {' '.join(options)} . build/site" in (ROOT / "Makefile").read_text(encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-P", "-m", "sphinx", *options, ".", place], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return place


def test_the_site_has_every_page_and_a_front(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="docs/index.html"' in front
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT)).with_suffix(".html").is_file(), page
    assert (site / "reports" / "reference" / "scenes-full.html").is_file()


def test_every_guide_and_reference_is_in_the_contents_of_the_site(site: Path) -> None:
    contents = (site / "docs" / "index.html").read_text(encoding="utf-8")
    for folder in ("guide", "reference"):
        for page in (ROOT / "docs" / folder).glob("*.md"):
            assert f'href="{folder}/{page.stem}.html"' in contents, page


def test_the_site_is_searched_and_looks_the_same_without_a_network(site: Path) -> None:
    assert "retriev" in (site / "searchindex.js").read_text(encoding="utf-8")
    page = (site / "docs" / "index.html").read_text(encoding="utf-8")
    loaded = re.findall(r'<(?:script[^>]*src|link[^>]*rel="stylesheet"[^>]*href)="([^"]+)"', page)
    assert loaded and not [address for address in loaded if "//" in address]


def test_the_python_calls_are_documented_from_the_code(site: Path) -> None:
    page = (site / "docs" / "reference" / "python-api.html").read_text(encoding="utf-8")
    for name in ("harness.open", "harness.evaluate", "harness.api.project.Project.run"):
        assert f'id="{name}"' in page
