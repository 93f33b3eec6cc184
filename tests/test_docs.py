"""The documentation: every link leads somewhere, every file it names exists, generated pages are fresh."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest

from harness.config.cards import DatasetCard, MethodCard
from harness.config.project import Config
from harness.config.sections import Tunable
from harness.layouts.scenes import FAMILY, example, image_id

ROOT = Path(__file__).parents[1]
GENERATOR = ROOT / "docs" / "generate.py"
FOLDERS = ("docs", "reports/reference", "reports/measurements", "methods", "datasets", "benchmarks")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
SOURCES = sorted(
    file
    for folder in ("harness", "methods", "datasets", "benchmarks", "docs", "tests")
    for kind in ("*.py", "*.toml", "*.j2")
    for file in (ROOT / folder).rglob(kind)
)
LINK = re.compile(r"\]\(<?([^()\s>]+(?:\([^()\s]*\)[^()\s>]*)*)>?(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


def generator() -> ModuleType:
    """The script that writes the generated pages, imported: docs/ is no package."""
    spec = importlib.util.spec_from_file_location("generate", GENERATOR)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = generator()


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub names them."""
    counts: dict[str, int] = {}
    for title in re.findall(r"^#{1,6} +(.*?)#*\s*$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).strip().lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        counts[anchor] = counts.get(anchor, -1) + 1
        if counts[anchor]:
            counts[f"{anchor}-{counts[anchor]}"] = 0
    return set(counts)


def broken_links(page: Path, text: str) -> Iterator[str]:
    """Relative links of a page that lead to no file, or to no heading of one."""
    for link in LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_of_a_page_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    broken = list(broken_links(page, prose(page)))
    assert not broken, f"{name_of(page)}: {broken}"


def test_a_link_to_no_file_and_one_to_no_heading_are_seen() -> None:
    page, text = ROOT / "docs" / "architecture.md", "[a](nowhere.md) [b](#packages) [c](#nothing) [d](https://x.org/y)"
    assert list(broken_links(page, text)) == ["nowhere.md", "#nothing"]


@pytest.mark.parametrize("page", [page for page in PAGES if not {"decisions", "reports"} & {*page.parts}], ids=name_of)
def test_every_source_file_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"\b(?:harness|methods|benchmarks|tests|docs|datasets)/[\w./-]+\.(?:py|toml|md)\b", prose(page))
    missing = {name for name in named if not (ROOT / name).exists()}
    assert not missing, f"{name_of(page)} names {missing}"


def examples_with_words() -> Iterator[tuple[str, str]]:
    """Image of `scenes` and words of every `harness explain` on a page or in a help that names both and no caption."""
    for file in [*PAGES, *(ROOT / "harness" / "cli").glob("*.py")]:
        for line in re.findall(r"^ *harness explain .*", file.read_text(encoding="utf-8"), re.MULTILINE):
            flags = dict(zip(shlex.split(line), shlex.split(line)[1:], strict=False))
            if "--words" in flags and "--caption" not in flags and "test-" in flags.get("--image", ""):
                yield flags["--image"], flags["--words"]


def test_words_that_an_example_asks_about_are_in_the_first_caption_of_its_image() -> None:
    asked = {*examples_with_words()}
    assert asked
    for image, words in asked:
        index = FAMILY * int(image[5:9]) + "abcd".index(image[9])
        caption = example(0, "test", index).captions[0].text
        assert image_id("test", index) == image
        assert not [phrase for phrase in words.split(",") if f" {phrase} " not in f" {caption} "], (image, caption)


def test_every_guarantee_names_the_tests_that_check_it() -> None:
    page = (ROOT / "docs" / "reference" / "what-is-promised.md").read_text(encoding="utf-8")
    tables = re.findall(r"\| guarantee \| tested by \|\n\|---\|---\|\n((?:\|.*\n)+)", page)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(tables) == page.count("| guarantee |") and len(rows) > 30
    for row in rows:
        guarantee, tests = row.strip("| ").split(" | ")
        names = re.findall(r"`([^`]+)`", tests)
        assert names and all(re.fullmatch(r"tests/(\w+/)?test_\w+\.py", name) for name in names), guarantee
        assert not [name for name in names if not (ROOT / name).is_file()], guarantee


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_every_page_that_the_code_names_exists(file: Path) -> None:
    named = re.findall(r"\bdocs/[\w./-]+\.md\b", file.read_text(encoding="utf-8"))
    missing = {name for name in named if not (ROOT / name).exists()}
    assert not missing, f"{name_of(file)} names {missing}"


@pytest.mark.parametrize("name", reference.pages())
def test_a_generated_page_is_what_the_code_says_now(name: str) -> None:
    file = ROOT / "docs" / "reference" / name
    assert file.read_text(encoding="utf-8") == reference.pages()[name], f"{name_of(file)} is out of date: make docs"


def test_the_generated_pages_are_written_into_a_folder(tmp_path: Path) -> None:
    """By the command of `make docs`."""
    command = "-P docs/generate.py"
    assert f"python {command} docs/reference" in (ROOT / "Makefile").read_text(encoding="utf-8")
    subprocess.run([sys.executable, *command.split(), tmp_path], cwd=ROOT, check=True)
    assert {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()} == reference.pages()


def keys(model: Any) -> Iterator[tuple[str, str]]:
    """Every key of a model and of the tables in it, with its description."""
    for name, field in model.model_fields.items():
        if inner := reference.model_in(field.annotation):
            yield from keys(inner)
        elif not field.exclude:
            yield f"{model.__name__}.{name}", field.description or ""


@pytest.mark.parametrize("model", [Config, MethodCard, DatasetCard, Tunable])
def test_every_key_of_the_configuration_and_of_the_cards_says_what_it_means(model: Any) -> None:
    assert not [name for name, description in keys(model) if not description]


def test_a_row_of_a_generated_table_escapes_what_would_end_the_cell_or_begin_a_tag() -> None:
    assert reference.row("a|b", "<unk>") == r"| a\|b | &lt;unk> |"


def test_the_page_of_commands_has_every_command_with_its_options() -> None:
    page = reference.pages()["commands.md"]
    for command in ("harness run", "harness data convert", "harness init", "harness explain"):
        assert f"\n## {command}" in page
    assert "| `-n, --dry-run` |" in page and "## harness data\n" not in page


def test_the_torch_that_the_readme_installs_first_is_the_one_that_is_tested() -> None:
    pinned = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"pip install torch==(\S+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert pinned and named == [pinned[1]], "another one would be replaced, or refused"
