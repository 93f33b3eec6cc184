"""What scripts rely on: commands, their flags, the keys of harness.toml, exit codes. A change here is one for users."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from harness.cli.main import cli
from harness.config.project import Config
from harness.config.template import is_section
from harness.errors import EXIT_CODES

SURFACE = Path(__file__).with_name("surface.txt")


def flags(words: str, command: click.Command) -> Iterator[str]:
    """A command and its subcommands, a line for each with its arguments and flags."""
    names = [
        "/".join(sorted((*param.opts, *param.secondary_opts), key=len, reverse=True))
        if isinstance(param, click.Option)
        else param.make_metavar(click.Context(command))
        for param in command.params
    ]
    yield f"{words}: {' '.join(sorted(names))}".rstrip()
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from flags(f"{words} {name}", command.commands[name])


def keys(model: Any, prefix: str = "") -> Iterator[str]:
    """Every key of harness.toml, by its section."""
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        if is_section(field):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def surface() -> str:
    codes = (f"exit {code}: {text}" for code, text in EXIT_CODES.items())
    return "\n".join([*flags("harness", cli), "", *sorted(keys(Config)), "", *codes]) + "\n"


def test_the_surface_is_the_one_that_was_agreed() -> None:
    """HARNESS_NEW_SURFACE=1 writes the file again: say in CHANGELOG.md what changed for users."""
    if os.environ.get("HARNESS_NEW_SURFACE"):
        SURFACE.write_text(surface(), encoding="utf-8")
    assert surface() == SURFACE.read_text(encoding="utf-8")


def test_the_surface_holds_what_it_should() -> None:
    lines = surface().splitlines()
    assert any(line.startswith("harness data fetch:") and "--yes" in line for line in lines)
    assert {"training.epochs", "campaign.methods", "paths.results"} <= {*lines}
