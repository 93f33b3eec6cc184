"""The page from an equation to a row: its blocks run one after another, as a reader types them, on few pictures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from tiny_project import write_dataset

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "from-equation-to-row.md"
BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)
PROJECT = """
[paths]
datasets = ["data_cards"]
[training]
epochs = 1
batch_size = 8
[settings."*"]
dim = 8
word_dim = 8
"""
RETURN = "        return best.masked_fill"


class Reader:
    """Somebody who types the blocks into a shell, in a fresh environment: what pip installs is there alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        place = folder / "venv"
        venv.create(place, symlinks=True)
        (site,) = place.glob("lib/python*/site-packages")
        # the packages of this environment are seen from there, as if they had been installed again
        (site / "tested.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        options = 'case "$1" in install) set -- "$@" --no-index --no-compile;; esac'
        for name, before in {"pip": options, "harness": ""}.items():
            program = place / "bin" / name
            program.write_text(f'#!/bin/sh\n{before}\nexec {place}/bin/python -m {name} "$@"\n')
            program.chmod(0o755)
        path = f"{place}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
        away = ("HARNESS_DATA", "RAY_ADDRESS", "PYTHONPATH")
        self.environment = {name: value for name, value in os.environ.items() if name not in away}
        self.environment |= {"PATH": path, "PIP_NO_INDEX": "1", "PIP_QUIET": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def type(self, text: str, answers: str = "") -> str:
        """Type a block, and what it asks for; all that it prints."""
        done = subprocess.run(
            ["bash", "-e", "-c", text],
            cwd=self.folder,
            env=self.environment,
            input=answers,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answers or done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def debug(self, command: str, session: str) -> None:
        """Run a command with a breakpoint in the method; every answer of the session is the one that is printed."""
        file = self.folder / "maxsim.py"
        code = file.read_text(encoding="utf-8")
        assert RETURN in code
        file.write_text(code.replace(RETURN, f"        breakpoint()\n{RETURN}"), encoding="utf-8")
        asked = re.findall(r"^\(Pdb\) (.*)$", session, re.MULTILINE)
        answers = re.findall(r"^(?!\(Pdb\))(.+)$", session, re.MULTILINE)
        printed = self.type(command, "".join(f"{line}\n" for line in asked))
        assert re.findall(r"^\(Pdb\) (.+)$", printed, re.MULTILINE)[: len(answers)] == answers, printed
        file.write_text(code, encoding="utf-8")


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    (tmp_path / "harness.toml").write_text(PROJECT)
    card = tmp_path / "data_cards" / "scenes" / "card.toml"
    card.parent.mkdir(parents=True)
    write_dataset(card, tmp_path / "runs" / "cache")
    card.write_text(card.read_text().replace('"tiny"', '"scenes"').replace('name = "all"', 'name = "full"'))
    return Reader(tmp_path)


@pytest.mark.timeout(900)
@pytest.mark.soak
def test_every_block_of_the_page_runs_and_ends_in_a_row_and_a_wheel(reader: Reader) -> None:
    page = PAGE.read_text(encoding="utf-8")
    printed, waiting = [], ""
    for block in BLOCK.finditer(page):
        if block["kind"] in ("python", "toml"):
            name = re.findall(r"`([\w/]+\.(?:py|toml))`", page[: block.start()])[-1]
            (reader.folder / name).write_text(block["text"], encoding="utf-8")
        elif block["kind"] == "text":
            reader.debug(waiting, block["text"])
        elif "--limit" in block["text"]:
            waiting = block["text"]
        else:
            printed.append(reader.type(block["text"]))
    checks = [text for text in printed if "learning" in text]
    assert len(checks) == 4 and not [text for text in checks if "broken" in text]
    assert re.search(r"oracle +skipped", checks[1]) and re.search(r"oracle +passed", checks[2])
    assert "1 passed" in checks[2]
    assert "maxsim" in (reader.folder / "reports" / "scenes-full.md").read_text(encoding="utf-8")
    assert "site-packages/itm_maxsim/maxsim.toml" in checks[3].replace("\n", "") and "nothing to do" in checks[3]
