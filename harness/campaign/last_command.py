"""The last command of every campaign, stored in the results folder: `harness resume` repeats it.

Passwords and tokens are left out: whoever resumes gives the keys that held one again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.addresses import words_without_secrets
from harness.errors import UsageError, unknown
from harness.files import PRIVATE, read_own, write_own

COMMANDS = "commands.json"
KEY = re.compile(r"(?:--set=|-\w*?s)?([\w.-]+)=")  # of an override


class LastCommand(BaseModel):
    words: list[str]
    folder: str  # in which it was given, as seen from the results folder
    secret: list[str] = []  # keys of overrides that are not stored


ENTRIES = TypeAdapter(dict[str, Any])  # one that is damaged leaves the others
COMMAND_FILE = TypeAdapter(dict[str, LastCommand])


def write_command(results: Path, campaign: str, words: Sequence[str]) -> None:
    """Store the words of a campaign's command, and the folder in which it was given."""
    commands = _read(results)
    commands.pop(campaign, None)  # to the end: the last one is what `harness resume` means
    commands[campaign] = LastCommand(words=list(words), folder=os.path.relpath(Path.cwd(), results))
    safe = {name: _without_secrets(command) for name, command in commands.items()}
    write_own(results / COMMANDS, COMMAND_FILE.dump_json(safe, indent=2), PRIVATE)


def command_words(results: Path, campaign: str = "", overrides: Sequence[str] = ()) -> list[str]:
    """The words of a campaign's last command, of the last of all where none is named; UsageError where there is none.

    Only in the folder where they were given do they mean the same, because paths among them may be relative.
    `overrides` gives the values that were left out as they are secret.
    """
    commands = _read(results)
    name = campaign or next(reversed(commands), "")
    if name not in commands:
        raise UsageError(unknown("campaign", name, commands) if commands else f"no campaign was begun in {results} yet")
    command = commands[name]
    folder = (results / command.folder).resolve()
    if folder != Path.cwd().resolve():
        raise UsageError(f"the campaign {name!r} was begun in {folder}; resume it there")
    given = {override.partition("=")[0].strip(): override for override in overrides}
    if missing := [key for key in command.secret if key not in given]:
        flags = " ".join(f"-s {key}=…" for key in missing)
        raise UsageError(
            f"the command of {name!r} held a password or a token, which is not stored; give it again: "
            f"harness resume {flags}, or in harness.toml and then the command itself"
        )
    return [*command.words, *(word for key in command.secret for word in ("-s", given[key]))]


def _without_secrets(command: LastCommand) -> LastCommand:
    """A command without its secrets; `secret` has the keys of those."""
    safe = words_without_secrets(command.words)
    changed = [word for word, other in zip(command.words, safe, strict=True) if word != other]
    keys = [match[1] if (match := KEY.match(word)) else word.partition("=")[0] for word in changed]
    return command.model_copy(update={"words": safe, "secret": [*dict.fromkeys([*command.secret, *keys])]})


def _read(results: Path) -> dict[str, LastCommand]:
    """The commands by campaign; none where the file is absent or damaged: the command itself still works."""
    entries = read_own(results / COMMANDS, ENTRIES.validate_json) or {}
    commands = {}
    for name, entry in entries.items():
        with suppress(ValidationError):
            commands[name] = LastCommand.model_validate(entry)
    return commands
