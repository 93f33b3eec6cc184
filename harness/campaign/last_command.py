"""The last command of every campaign, stored in the results folder: `harness resume` repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.errors import UsageError, unknown
from harness.files import write_atomic

COMMANDS = "commands.json"


class LastCommand(BaseModel):
    words: list[str]
    folder: str  # in which it was given


COMMANDS_BY_CAMPAIGN = TypeAdapter(dict[str, LastCommand])


def remember(results: Path, campaign: str, words: Sequence[str]) -> None:
    """Store the words of a campaign's command, and the folder in which it was given."""
    commands = _read(results)
    commands.pop(campaign, None)  # to the end: the last one is what `harness resume` means
    commands[campaign] = LastCommand(words=list(words), folder=str(Path.cwd()))
    write_atomic(results / COMMANDS, COMMANDS_BY_CAMPAIGN.dump_json(commands, indent=2))


def remembered(results: Path, campaign: str = "") -> list[str]:
    """The words of a campaign's last command, of the last of all where none is named; UsageError where there is none.

    Only in the folder where they were given do they mean the same, because paths among them may be relative.
    """
    commands = _read(results)
    name = campaign or next(reversed(commands), "")
    if name not in commands:
        raise UsageError(unknown("campaign", name, commands) if commands else f"no campaign was begun in {results} yet")
    if commands[name].folder != str(Path.cwd()):
        raise UsageError(f"the campaign {name!r} was begun in {commands[name].folder}; resume it there")
    return commands[name].words


def _read(results: Path) -> dict[str, LastCommand]:
    try:
        return COMMANDS_BY_CAMPAIGN.validate_json((results / COMMANDS).read_bytes())
    except (OSError, ValidationError):  # a damaged file is as good as none: the command itself still works
        return {}
