"""The last command of every campaign, kept in the results folder: `harness resume` gives it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.errors import UsageError, unknown
from harness.files import write_atomic

COMMANDS = "commands.json"


def remember(results: Path, campaign: str, words: Sequence[str]) -> None:
    """Keep the words of a command that works on a campaign, and the folder that they were said in."""
    known = _read(results)
    known.pop(campaign, None)  # to the end: the last one is what `harness resume` means
    known[campaign] = {"words": list(words), "folder": str(Path.cwd())}
    write_atomic(results / COMMANDS, json.dumps(known, indent=2))


def remembered(results: Path, campaign: str = "") -> list[str]:
    """The words of a campaign's last command, of the last of all where none is named; UsageError where there is none.

    They mean the same in the folder that they were said in alone, because paths among them may be relative.
    """
    known = _read(results)
    name = campaign or next(reversed(known), "")
    if name not in known:
        raise UsageError(unknown("campaign", name, known) if known else f"no campaign was begun in {results} yet")
    if known[name]["folder"] != str(Path.cwd()):
        raise UsageError(f"the campaign {name!r} was begun in {known[name]['folder']}; resume it there")
    return [str(word) for word in known[name]["words"]]


def _read(results: Path) -> dict[str, dict[str, str | list[str]]]:
    try:
        found: dict[str, dict[str, str | list[str]]] = json.loads((results / COMMANDS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # a torn file is as good as none: the command itself still works
        return {}
    return found
