"""The last command of every campaign, stored in the results folder: `harness resume` repeats it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from harness.errors import UsageError, unknown
from harness.files import read_own, write_own

COMMANDS = "commands.json"


class GivenCommand(BaseModel):
    """The words of a command line, and the folder in which it was given, as seen from the results folder."""

    words: list[str]
    folder: str


COMMAND_FILE = TypeAdapter(dict[str, GivenCommand])


def remember(results: Path, campaign: str, words: Sequence[str]) -> None:
    """Store the words of a campaign's command, and the folder in which it was given."""
    commands = _read(results)
    commands.pop(campaign, None)  # to the end: the last one is what `harness resume` means
    commands[campaign] = GivenCommand(words=list(words), folder=os.path.relpath(Path.cwd(), results))
    write_own(results / COMMANDS, COMMAND_FILE.dump_json(commands, indent=2))


def remembered(results: Path, campaign: str = "") -> list[str]:
    """The words of a campaign's last command, of the last of all where none is named; UsageError where there is none.

    Only in the folder where they were given do they mean the same, because paths among them may be relative.
    """
    commands = _read(results)
    name = campaign or next(reversed(commands), "")
    if name not in commands:
        raise UsageError(unknown("campaign", name, commands) if commands else f"no campaign was begun in {results} yet")
    folder = (results / commands[name].folder).resolve()
    if folder != Path.cwd().resolve():
        raise UsageError(f"the campaign {name!r} was begun in {folder}; resume it there")
    return commands[name].words


def _read(results: Path) -> dict[str, GivenCommand]:
    return read_own(results / COMMANDS, COMMAND_FILE.validate_json) or {}
