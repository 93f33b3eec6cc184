"""Text that others wrote, through every command and into every form: nothing in it acts where it is shown."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unicodedata import category
from xml.etree import ElementTree

import click
import numpy as np
import pytest
from boards import Page
from markdown_it import MarkdownIt
from tiny_project import METHOD, Call

from harness.acquisition import download
from harness.board.forms import FORMS
from harness.board.markup import is_web
from harness.cli.boards import EXAMPLES
from harness.cli.exchange import FORMATS
from harness.cli.looks import PICTURES
from harness.cli.main import cli
from harness.config.toml import literal
from harness.foreign_text import UNSEEN

Captured = pytest.CaptureFixture[str]
UNPRINTED = "\x1b]0;title\x07\x1b[31m\x9b1m\x7f\u202eright\u2066to\u200b\ufeff\xad\u2028\U000e0041left"
LINE = "=1+1;@cmd <script>alert(1)</script><img src=x> [a](javascript:alert(2)) ![b](http://x.org/c.png) `d` *e* | f"
LINE += r" \input{/etc/passwd} $g$ {{ 7 * 7 }} www.x.org "
FOREIGN = f"{LINE}{UNPRINTED}"
ADDRESS = "http://127.0.0.1:9/\x1b[31m\u202e/thing.bin"
FOLDER = "=folder \x1b[31m\u202e"
DATASET = f"""
name = "foreign-data"
title = {literal(FOREIGN)}
summary = {literal(FOREIGN)}
layout = "precomp"
folder = "foreign"
licence = {literal(FOREIGN)}
origin = {literal(FOREIGN)}
feature_width = 4
max_regions = 3
options = {{ captions_each = 1 }}
files = [{{ path = "other.bin", origin = {literal(FOREIGN)} }}]
[splits]
train = {{ images = 12, captions = 12 }}
val = {{ images = 12, captions = 12 }}
test = {{ images = 12, captions = 12 }}
[text]
min_count = 1
[[protocols]]
name = {literal(FOREIGN)}
images = 12
captions = 12
[[downloads]]
url = {literal(ADDRESS)}
path = "thing.bin"
bytes = 10
sha256 = "{"0" * 64}"
"""
CARD = """
name = "{name}"
title = {text}
class = "faulty:Faulty"
summary = {text}
scoring = "embedding"
fidelity = "paper"
choices = [{text}]
[paper]
title = {text}
authors = {text}
venue = {text}
year = 2020
url = {text}
[defaults]
dim = 8
fault = {fault}
after = 0
[tunable]
dim = {{ type = "int", low = 4, high = 8 }}
[[reported]]
dataset = "foreign-data"
protocol = {text}
i2t = [1.0, 2.0, 3.0]
t2i = [1.0, 2.0, 3.0]
rsum = 12.0
source = {text}
note = {text}
"""
FAULT = '        if self.settings.fault == "bug":'
RAISED = '        if self.settings.fault.startswith("raise"):\n            raise RuntimeError(self.settings.fault)\n'
ALL = "--methods foreign,raising,scan_t2i --datasets foreign-data"
ONE = "--methods foreign --datasets foreign-data --trials 2 --here"
PAIR = "--method scan_t2i --dataset foreign-data --image"
NAMES = {"FOREIGN": FOREIGN, "LINE": LINE, "MODEL": f"=1;{LINE}"[:80].strip(), "FOLDER": f"data/{FOLDER}"}
NAMES["SCORES"] = "=1+1\x1b.npy"
COMMANDS: dict[str, list[str]] = {
    "list": ["list", "list --json", "list methods", "list FOREIGN"],
    "describe": ["describe foreign", "describe foreign-data", "describe FOREIGN", "describe --schema method"],
    "run": [f"run {ALL} -n", f"run {ALL} --here", f"run {ALL} --json", "run -c FOREIGN"],
    "status": [f"status {ALL}", f"status {ALL} --json", "status FOREIGN", "list trials", "list trials --json"],
    "search": [f"search {ONE} -n", f"search {ONE}"],
    "confirm": ["confirm FOREIGN -n", "confirm nothing"],
    "resume": ["resume FOREIGN", "resume nothing"],
    "score": ["score SCORES --dataset foreign-data --name MODEL --note LINE", "score FOREIGN --dataset x --name x"],
    "import": ["import . --json", "import FOREIGN"],
    "board": ["board", "board --json", "board FOREIGN"],
    "report": [f"report --format {','.join([*FORMS, EXAMPLES])}", "report --check", "report --format FOREIGN"],
    "compare": ["compare foreign scan_t2i", "compare FOREIGN foreign"],
    "reproduce": ["reproduce foreign -n", "reproduce FOREIGN"],
    "export": [*(f"export --format {form} -o export-{form}" for form in FORMATS), "export FOREIGN --format csv"],
    "explain": [*(f"explain {PAIR} 'test image 2' -o e{suffix}" for suffix in PICTURES), f"explain {PAIR} FOREIGN"],
    "init dataset": ["init dataset another --folder FOLDER", "init dataset FOREIGN"],
    "validate": ["validate --dataset foreign-data", "validate --dataset FOREIGN"],
    "data fetch": ["data fetch foreign-data --yes", "data fetch FOREIGN"],
    "data convert": ["data convert FOREIGN --to store"],
    "data extract": ["data extract FOREIGN --to store --model FOREIGN"],
    "init": ["init", "init --force"],
    "init method": ["init method another", "init method FOREIGN"],
    "plan": ["plan --methods foreign,scan_t2i --datasets foreign-data", "plan --methods FOREIGN"],
    "looks": ["looks foreign", "looks FOREIGN"],
    "retrieve": ["retrieve --trial foreign --text LINE", "retrieve --trial FOREIGN --text LINE"],
    "doctor": ["doctor --datasets foreign-data", "doctor --datasets FOREIGN"],
    "gc": ["gc", "gc --json"],
    "completion": ["completion bash"],
    "forget": ["forget foreign -n", "forget FOREIGN --yes", "forget foreign --yes --json"],
}
WELL = (
    "list",
    "describe",
    "search",
    "score",
    "report",
    "compare",
    "export",
    "explain",
    "validate",
)  # the first line of


@pytest.fixture(scope="module")
def foreign(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of cards, files and folders that others wrote."""
    root = tmp_path_factory.mktemp("foreign") / FOLDER
    shutil.copytree(template, root)
    cards, data = root / "cards", root / "data" / "foreign"
    (cards / "faulty.py").write_text(METHOD.replace(FAULT, RAISED + FAULT))
    for name, fault in (("foreign", FOREIGN), ("raising", f"raise {FOREIGN}")):
        (cards / f"{name}.toml").write_text(CARD.format(name=name, text=literal(FOREIGN), fault=literal(fault)))
    (cards / "foreign-data").mkdir()
    (cards / "foreign-data" / "card.toml").write_text(DATASET)
    with (root / "harness.toml").open("a") as config:
        config.write("\n[search]\nstartup = 1\n")
    text = (root / "harness.toml").read_text()
    (root / "harness.toml").write_text(text.replace("[campaign]\n", f"[campaign]\nname = {literal(FOREIGN)}\n"))
    data.mkdir(parents=True)
    random = np.random.default_rng(0)
    for stem in ("train", "val", "test"):
        np.save(data / f"{stem}_ims.npy", random.random((12, 3, 4), dtype=np.float32))
        seen = "".join(mark for mark in FOREIGN if mark not in "\u2028")
        names = [f"{seen} {stem} {number}" if number % 2 else f"{stem} image {number}" for number in range(12)]
        (data / f"{stem}_ids.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        lines = [f"{seen} a word {number} {stem}\n" for number in range(12)]
        (data / f"{stem}_caps.txt").write_text("".join(lines), encoding="utf-8")
    np.save(root / "=1+1\x1b.npy", random.random((12, 12), dtype=np.float32))
    return root


def leaves(group: click.Group, before: str = "") -> Iterator[str]:
    """The names of all commands."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{before}{name} ")
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield f"{before}{name}"


def unseen(text: str) -> list[str]:
    """The characters of a text that act on a terminal or that no reader sees."""
    kinds = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return [ascii(mark) for mark in text if (category(mark) in kinds and mark not in "\n\t") or UNSEEN.match(mark)]


def check_csv(text: str) -> None:
    for divider in ",;":
        for row in csv.reader(io.StringIO(text), delimiter=divider):
            for cell in row:
                number = re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", cell)
                assert number or not re.match(r"[=+\-@\t\r]", cell.strip(" ")), cell


def check_markdown(text: str) -> None:
    """Nothing but our own tables, lists, pictures and links below the page."""
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(text):
        assert token.type != "html_block", token.content
        for child in token.children or []:
            assert child.type not in ("html_inline", "strong_open" * (child.markup != "**")), child
            link = str(child.attrs.get("href") or child.attrs.get("src") or "")
            link = link.removeprefix("https://arxiv.org/")  # of a paper, whose address is shown
            assert not re.match(r"\w+:", link) and not link.startswith(("//", "/")), link
    outside = re.sub(r"^(`{3,})\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)  # of code
    assert "www.x.org" not in outside and "http://x.org" not in outside, "it would become a link"


def check_tex(text: str) -> None:
    assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= {
        *("begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule", "cmidrule"),
        *("multicolumn", "pm"),
        *("textbackslash", "textasciitilde", "textasciicircum", "usepackage"),
        *("textless", "textgreater", "textbar", "symbol"),
    }
    assert text.replace(r"\$", "").replace(r"$\pm$", "").count("$") == 0


PAGE_BESIDE = r"[\w.-]+\.html"  # nothing that leads out of the folder, or is no page


def check_html(text: str) -> None:
    for tag, attributes, _ in Page(text).elements:
        assert tag not in ("iframe", "object", "embed", "base", "form", "link"), tag
        assert not [name for name in attributes if name.startswith("on")], attributes
        for name in ("href", "src", "xlink:href"):
            aim = str(attributes.get(name) or "#")
            is_link = tag == "a" and (is_web(aim) or re.fullmatch(PAGE_BESIDE, aim))
            assert is_link or aim.startswith(("#", "data:image/")), attributes
    assert text.count("<script") <= 1


def check_svg(text: str) -> None:
    tags = {node.tag.rpartition("}")[2] for node in ElementTree.fromstring(text).iter()}
    assert not tags & {"script", "foreignObject", "a", "iframe"}


def check_columns(text: str) -> None:
    for line in text.splitlines():
        assert line.isascii() and len(line.split(" ")) in (4, 6), line


def check_json(text: str) -> None:
    json.loads(text, parse_constant=lambda name: pytest.fail(name))


CHECKS: dict[str, Callable[[str], None]] = {
    **{".csv": check_csv, ".md": check_markdown, ".tex": check_tex, ".html": check_html, ".svg": check_svg},
    **{".run": check_columns, ".qrels": check_columns, ".json": check_json},
}
BINARY = {".parquet", ".png"}


def test_every_command_has_its_lines() -> None:
    assert set(leaves(cli)) == set(COMMANDS), "give a new command its lines here"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_foreign_acts_in_a_terminal_or_in_a_file(
    foreign: Path, call: Call, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(foreign)
    monkeypatch.setattr(download, "RETRIES", 0)
    for name, lines in COMMANDS.items():
        for line in lines:
            code = call(*(NAMES.get(word, word) for word in shlex.split(line)))
            said = capfd.readouterr()
            assert not unseen(said.out + said.err), line
            assert "Traceback" not in said.err, said.err
            assert code == 0 if line == lines[0] and name in WELL else code in (0, 2, 3, 4, 5, 6), (line, said)
            if "--json" in line:
                check_json(said.out)
    folders = (Path("reports"), *(Path(f"export-{form}") for form in FORMATS))
    found = [*Path().glob("e.*"), *(file for folder in folders for file in folder.rglob("*") if file.is_file())]
    found = [file for file in found if file.name != ".gitignore"]
    assert {file.suffix for file in found} == CHECKS.keys() | BINARY
    for file in found:
        if file.suffix not in BINARY:
            text = file.read_text(encoding="utf-8")
            assert not unseen(text), file
            CHECKS[file.suffix](text)
