"""What is known of a campaign without opening or starting anything: the state of its trials, its last command.

The command is stored in the results folder, and `harness resume` repeats it. Passwords and tokens are left out: whoever
resumes gives the keys that held one again.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.addresses import words_without_secrets
from harness.campaign.plan import Planned
from harness.errors import UsageError, unknown
from harness.files import PRIVATE, read_own, write_own
from harness.tracking.logged import is_logged
from harness.trial.folder import SPEC, read_epochs, result_of
from harness.trial.results import State, best_rsum

LOCK = ".lock"  # of the results folder, held by the driver
COMMANDS = "commands.json"
KEY = re.compile(r"(?:--set=|-\w*?s)?([\w.-]+)=")  # of an override


@dataclass(frozen=True)
class Status:
    key: str
    label: str
    state: State
    epoch: int
    epochs: int
    rsum: float | None  # on test; of a trial that has not ended, the best on val
    logged: bool
    message: str


def statuses(
    trials: Iterable[Planned], uri: str, under_way: Collection[str] = (), lacking: frozenset[str] = frozenset()
) -> Iterator[Status]:
    """The status of every trial of a plan.

    under_way: keys of the trials that a driver has under way; others that have begun are interrupted.
    lacking: keys of the results that the store has lost.
    """
    for trial in trials:
        result, epochs = result_of(trial.spec, trial.folder), read_epochs(trial.folder)
        unended = State.INTERRUPTED if (trial.folder / SPEC).is_file() else State.WAITING
        unended = State.RUNNING if trial.spec.key in under_way else unended
        yield Status(
            key=trial.spec.key,
            label=trial.spec.label,
            state=result.state if result else unended,
            epoch=len(epochs),
            epochs=trial.spec.training.epochs,
            rsum=result.measures.get("rsum") if result else best_rsum(epochs),
            logged=trial.spec.key not in lacking and is_logged(trial.folder, uri),
            message=f"{result.failure or ''} {result.message}".strip() if result else "",
        )


def counts(statuses: Iterable[Status]) -> dict[str, int]:
    """Trials by state; states without a trial are there too, but for pruned."""
    states = Counter(status.state for status in statuses)
    return {state.value: states[state] for state in State if states[state] or state is not State.PRUNED}


def is_busy(results: Path) -> bool:
    """Whether a driver holds the results folder; nothing is written, so that whoever may read it may ask."""
    try:
        with (results / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # closing the file gives it back
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


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
    by_key = {override.partition("=")[0].strip(): override for override in overrides}
    if missing := [key for key in command.secret if key not in by_key]:
        flags = " ".join(f"-s {key}=…" for key in missing)
        raise UsageError(
            f"the command of {name!r} held a password or a token, which is not stored; give it again: "
            f"harness resume {flags}, or in harness.toml and then the command itself"
        )
    return [*command.words, *(word for key in command.secret for word in ("-s", by_key[key]))]


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
