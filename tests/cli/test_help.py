"""Help: each command once, in sections; every option a whole sentence; every example is a command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest
from tiny_project import Call

from harness.cli.main import LONGEST, SECTIONS, cli

Captured = pytest.CaptureFixture[str]
SENTENCE = re.compile(r"[A-Z][a-z]+,? \S.* \S.*\.")
FRAGMENTS = ("Of", "A", "An", "The", "Only", "One", "Default", "Where", "Per", "Also", "Names", "What", "Whose", "With")


def commands(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below one, with the words that call it."""
    yield path, command
    for name, inner in command.commands.items() if isinstance(command, click.Group) else ():
        yield from commands(inner, *path, name)


ALL = list(commands(cli))
each_command = pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) or "harness" for path, _ in ALL])


def test_the_help_lists_every_command_once_with_a_whole_sentence(call: Call, capsys: Captured) -> None:
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(cli.commands)
    assert call("-h") == 0
    text = capsys.readouterr().out
    for name, command in cli.commands.items():
        assert len(re.findall(rf"^ +(?:harness )?{name}  ", text, re.MULTILINE)) == 1 + (name in ("init", "run"))
        sentence = command.get_short_help_str(LONGEST)
        assert SENTENCE.fullmatch(sentence) and sentence in " ".join(text.split()), name
    assert "…" not in text and "..." not in text.partition("\n")[2], "no sentence is cut"


@each_command
def test_every_option_is_explained_by_a_whole_sentence(path: tuple[str, ...], command: click.Command) -> None:
    for option in command.params:
        if isinstance(option, click.Option):
            text = option.help or ""
            assert SENTENCE.fullmatch(text), f"{path} {option.opts}: {text!r}"
            assert re.split(r"\W", text)[0] not in FRAGMENTS, f"{path} {option.opts}: {text!r}"


RUNNING = {"run", "search", "confirm", "resume"}


@each_command
def test_only_commands_that_run_trials_have_options_that_say_so(path: tuple[str, ...], command: click.Command) -> None:
    said = [option.help for option in command.params if isinstance(option, click.Option)]
    assert {*path} & RUNNING or not [text for text in said if re.match(r"Run .*\btrials?\b", text or "")]


def test_an_option_that_another_command_has_too_says_what_it_does_in_this_one() -> None:
    options = [(path, one) for path, command in ALL for one in command.params if isinstance(one, click.Option)]
    helps = {(" ".join(path), one.name): one.help or "" for path, one in options}
    assert "ensemble of a and b" not in helps["search", "methods"], "a search refuses ensembles"
    assert helps["export", "protocol"] != helps["run", "protocol"], "all protocols are exported without the flag"
    assert helps["confirm", "limit"] != helps["search", "limit"], "it is the search's own"


def test_the_commands_that_take_names_or_many_options_show_examples() -> None:
    shown = {path for path, command in ALL if "xample" in (command.help or "")}
    assert shown >= {
        (name,) for name in ("run", "search", "confirm", "compare", "reproduce", "export", "score", "explain")
    }


@each_command
def test_every_example_of_a_help_is_a_command_line(path: tuple[str, ...], command: click.Command) -> None:
    examples = re.findall(r"^(?: +|Example: )harness (.+?)(?:  +#.*)?$", command.help or "", re.MULTILINE)
    for example in examples:
        name, *words = shlex.split(example)
        inner = cli.commands[name]
        while isinstance(inner, click.Group) and words and words[0] in inner.commands:
            inner = inner.commands[words.pop(0)]
        inner.make_context(name, words)


def test_the_command_alone_says_what_there_is_and_that_it_was_given_nothing_to_do(call: Call, capsys: Captured) -> None:
    """As click's commands do: help on stderr, exit code 2."""
    assert call() == 2
    out = capsys.readouterr()
    assert not out.out and all(f"  {name} " in out.err for name in cli.commands)
