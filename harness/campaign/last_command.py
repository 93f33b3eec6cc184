"""The last command of every campaign, stored in the results folder: `harness resume` repeats it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.errors import UsageError, unknown
from harness.files import write_atomic

COMMANDS = "commands.json"


def remember(results: Path, campaign: str, words: Sequence[str]) -> None:
    """Store the words of a campaign's command, and the folder in which it was given."""
    commands = _read(results)
    commands.pop(campaign, None)  # to the end: the last one is what `harness resume` means
    commands[campaign] = {"words": list(words), "folder": str(Path.cwd())}
    write_atomic(results / COMMANDS, json.dumps(commands, indent=2))


def remembered(results: Path, campaign: str = "") -> list[str]:
    """The words of a campaign's last command, of the last of all where none is named; UsageError where there is none.

    Only in the folder where they were given do they mean the same, because paths among them may be relative.
    """
    commands = _read(results)
    name = campaign or next(reversed(commands), "")
    if name not in commands:
        raise UsageError(unknown("campaign", name, commands) if commands else f"no campaign was begun in {results} yet")
    if commands[name]["folder"] != str(Path.cwd()):
        raise UsageError(f"the campaign {name!r} was begun in {commands[name]['folder']}; resume it there")
    return [str(word) for word in commands[name]["words"]]


def _read(results: Path) -> dict[str, dict[str, str | list[str]]]:
    try:
        commands: dict[str, dict[str, str | list[str]]] = json.loads((results / COMMANDS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # a torn file is as good as none: the command itself still works
        return {}
    return commands
