"""The flags that commands share: declared once, handed to a command as one `Flags`."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.shell_completion import CompletionItem

from harness.addresses import words_without_secrets
from harness.cli.boundary import answer_alone, invocation
from harness.config import names
from harness.config.selection import Selection, name_of_result
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.config.project import Config
    from harness.config.registry import Registry
    from harness.terminal.output import Output
    from harness.trial.results import Failure

Command = Callable[..., int]
Option = Callable[[Command], Command]
MOST_SEEDS = 10_000  # as in [campaign]
OVERRIDES = {  # flags that are another way to say a key of harness.toml
    **{f"resources.{name}": name for name in ("device", "gpus_per_trial", "cpus_per_trial", "max_concurrent")},
    "campaign.name": "campaign_name",
    "search.trials": "trials",
    "failures.max_failures": "max_failures",
    "failures.trial_seconds": "trial_seconds",
}


@dataclass(frozen=True)
class Flags:
    """Values of the shared flags; one that a command does not take keeps its default."""

    config_file: Path | None = None
    overrides: tuple[str, ...] = ()
    plugins: tuple[Path, ...] = ()
    methods: tuple[str, ...] | None = None
    datasets: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    protocol: str = ""
    limit: int | None = None
    recipe: Literal["common", "paper"] | None = None
    test_on: tuple[str, ...] | None = None
    device: str | None = None
    gpus_per_trial: float | None = None
    cpus_per_trial: float | None = None
    max_concurrent: int | None = None
    retry: frozenset[Failure] = frozenset()
    campaign_name: str | None = None
    trials: int | None = None
    max_failures: int | None = None
    fail_fast: bool = False
    trial_seconds: float | None = None
    verify_data: bool = False
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False

    @property
    def selection(self) -> Selection:
        names = self.methods or (), self.datasets or ()
        return Selection(*names, self.protocol, self.seeds or (), self.limit, self.recipe or "", self.test_on or ())

    @property
    def selects(self) -> bool:
        """Whether trials are named, or values given that would make others of them."""
        return self.selection != Selection() or bool(self.overrides)

    @property
    def asks_for_resources(self) -> bool:
        flags = (self.device, self.gpus_per_trial, self.cpus_per_trial)
        return any(flag is not None for flag in flags) or any(key.startswith("resources.") for key in self.overrides)

    @property
    def source(self) -> str:
        """Which harness.toml is in force, in words."""
        from harness.config.project import find
        from harness.terminal.output import near

        file = self.config_file or find(Path.cwd())
        return f"configuration: {near(file)}" if file else "configuration: built-in defaults, no harness.toml above"

    def open(self) -> tuple[Config, Registry, Output]:
        from harness.config.project import load
        from harness.config.registry import discover
        from harness.data.cache import forget_facts

        if self.fail_fast and self.max_failures is not None:
            raise UsageError("--fail-fast and --max-failures: give one of them; the first is one failure")
        values = {key: getattr(self, name) for key, name in OVERRIDES.items()}
        given = {key: value for key, value in values.items() if value is not None}
        given |= {"failures.max_failures": 1} if self.fail_fast else {}
        config = load(self.config_file, self.overrides, given)
        invocation().results = config.results
        if self.verify_data:
            forget_facts(config.cache)
        return config, discover(config, self.plugins), self.out()

    def overridden(self, *tables: str) -> set[str]:
        """The keys of these tables that -s gives, without the method that they are given for: `settings.margin`."""
        keys = [override.partition("=")[0].strip().split(".") for override in self.overrides]
        return {f"{key[0]}.{key[-1]}" for key in keys if key[0] in tables}

    def command(self, *words: str) -> str:
        """A command line to be given next, as a shell takes it: with the files and values that this one was given."""
        files = [("-c", self.config_file), *(("--plugin", file) for file in self.plugins)]
        given = [part for flag, file in files if file for part in (flag, str(file))]
        given += [part for override in self.overrides for part in ("-s", override)]
        return shlex.join(words_without_secrets(["harness", *words, *given]))

    def out(self) -> Output:
        from harness.terminal.output import Output

        return Output(self.as_json, self.quiet, invocation().stdout)


def flags_of(values: Mapping[str, Any]) -> Flags:
    """The shared flags among the values of a command."""
    names = {field.name for field in fields(Flags)}
    return Flags(**{name: value for name, value in values.items() if name in names})


def takes(*groups: tuple[Option, ...]) -> Callable[[Command], Command]:
    """Add groups of flags to a command: it is called with one `Flags`, then with its own options."""
    names = {field.name for field in fields(Flags)}

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def call(**values: Any) -> int:
            flags = flags_of(values)
            invocation().verbose |= flags.verbose
            check_given(click.get_current_context())
            with answer_alone(flags.as_json):
                return command(flags, **{name: value for name, value in values.items() if name not in names})

        flagged: Command = call
        for option in reversed([option for group in groups for option in group]):
            flagged = option(flagged)
        return flagged

    return decorate


def check_given(context: click.Context) -> None:
    """BadParameter for a flag with an empty text, as of a shell's variable without a value: it means no default."""
    for param in context.command.params:
        name = param.name or ""
        value, source = context.params.get(name), context.get_parameter_source(name)
        is_empty = value == "" or (isinstance(value, tuple) and "" in value)
        if is_empty and source is click.core.ParameterSource.COMMANDLINE and name not in OVERRIDES.values():
            raise click.BadParameter("it is empty; give a value, or leave it out", context, param)


def parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


class Completed:
    """What a shell offers for the word of a parameter: names of one kind, or those that the parameter's name says."""

    names: names.Names | None = None

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        kind: Any = self.names or getattr(names, param.name or "", names.cards)
        return [*map(CompletionItem, names.fitting(kind, ctx.params.get("config_file"), incomplete))]


class File(click.Path):
    """A path, which an empty text is not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(value, param, ctx) if value != "" else self.fail("it is empty; name a file", param, ctx)


class Name(Completed, click.ParamType[str]):
    """A name of one kind, which whoever uses it looks up."""

    name = "text"

    def __init__(self, kind: names.Names) -> None:
        self.names = kind


class NameList(Completed, click.ParamType[tuple[str, ...]]):
    name = "a,b"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(parts(value)) or self.fail("give at least one name, for example a,b or 'scan_*'", param, ctx)


class ResultName(Completed, click.ParamType[str]):
    name, names = "name", staticmethod(names.results)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return name_of_result(str(value))


class SeedList(click.ParamType[tuple[int, ...]]):
    name = "0,1,2|0-2"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        spans = [re.fullmatch(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", part) for part in parts(value)]
        if not spans or not all(spans):
            self.fail(f"{value!r} is no list of whole numbers such as 0,1,2 or 0-2", param, ctx)
        ranges = [range(int(span[1]), int(span[2] or span[1]) + 1) for span in spans if span]
        if not all(ranges) or sum(map(len, ranges)) > MOST_SEEDS:
            self.fail(f"{value!r} are no seeds or more than {MOST_SEEDS:,}; give some such as 0,1,2 or 0-2", param, ctx)
        return tuple(seed for span in ranges for seed in span)


class DeviceName(click.ParamType[str]):
    name = "auto|cpu|cuda:0"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            self.fail(f"{value!r} is none of auto, cpu, cuda, cuda:0, cuda:1, …", param, ctx)
        return str(value)


class FailureClasses(click.ParamType["frozenset[Failure]"]):
    """Failure classes, separated by commas; `failed` is all of them."""

    name = "failed|oom|…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[Failure]:
        if isinstance(value, frozenset):
            return value
        from harness.trial.results import failure_classes  # not at the top: --help answers without pydantic

        try:
            return failure_classes(parts(value) or [""])
        except UsageError as error:
            self.fail(str(error), param, ctx)


NUMBER, COUNT = click.FloatRange(min=0), click.IntRange(min=0)
FILE, RESULT = File(path_type=Path), ResultName()
METHOD, DATASET, CARD, CAMPAIGN, TRIAL = map(
    Name, (names.methods, names.datasets, names.cards, names.campaigns, names.trials)
)
CONFIG: tuple[Option, ...] = (
    click.option(
        "-c",
        "--config",
        "config_file",
        type=FILE,
        metavar="FILE",
        help="Read this harness.toml instead of the nearest one.",
    ),
    click.option(
        "-s",
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a key of harness.toml; may be repeated.",
    ),
    click.option(
        "--plugin",
        "plugins",
        type=FILE,
        multiple=True,
        metavar="FILE",
        help="Add the method of this card; may be repeated.",
    ),
)
METHODS = click.option(
    "--methods",
    type=NameList(),
    help="Take these methods, by names or globs, instead of [campaign] methods; a+b is the ensemble "
    "of a and b, a@9:b reranks the first 9 results of a by b.",
)
DATASETS = click.option(
    "--datasets", type=NameList(), help="Take these datasets, by names or globs, instead of [campaign] datasets."
)
SEEDS = click.option(
    "--seeds", type=SeedList(), help="Take these seeds, such as 0,1,2 or 0-4, instead of [campaign] seeds."
)
PROTOCOL = click.option(
    "--protocol", default="", metavar="NAME", help="Take this protocol instead of the first one on the dataset's card."
)
LIMIT = click.option(
    "--limit",
    type=int,
    metavar="N",
    help="Use only the first N images of each split; such trials are marked and never ranked.",
)
RECIPE = click.option(
    "--recipe",
    type=click.Choice(["common", "paper"]),
    help="Train all methods by [training], or each as its paper did, as its card says.",
)
TEST_ON = click.option(
    "--test-on",
    type=NameList(),
    help="Train and select on --datasets, test on these other ones, by names or globs; --protocol is then theirs.",
)
SELECTION: tuple[Option, ...] = (METHODS, DATASETS, SEEDS, PROTOCOL, LIMIT, RECIPE, TEST_ON)
MACHINE: tuple[Option, ...] = (
    click.option("--device", type=DeviceName(), help="Run trials on this device."),
    click.option(
        "--gpus-per-trial",
        type=NUMBER,
        metavar="X",
        help="Give each trial this many GPUs; a fraction lets trials share one.",
    ),
    click.option(
        "--cpus-per-trial",
        type=NUMBER,
        metavar="X",
        help="Give each trial this many CPUs, which is also its number of torch threads.",
    ),
    click.option(
        "--max-concurrent", type=COUNT, metavar="N", help="Run at most N trials at a time; 0 means as many as fit."
    ),
)
RETRY = click.option(
    "--retry", type=FailureClasses(), default=frozenset(), help="Run failed trials of these classes again."
)
FAILURES: tuple[Option, ...] = (
    RETRY,
    click.option("--fail-fast", is_flag=True, help="Stop at the first failed trial."),
    click.option("--max-failures", type=COUNT, metavar="N", help="Stop after N failed trials."),
    click.option(
        "--trial-seconds",
        type=NUMBER,
        metavar="S",
        help="Stop an attempt at a trial that takes longer than this many seconds.",
    ),
)
OUTPUT: tuple[Option, ...] = (
    click.option("--json", "as_json", is_flag=True, help="Print JSON alone on stdout, and everything else on stderr."),
    click.option("-q", "--quiet", is_flag=True, help="Print one line per result and no live view."),
    click.option("-v", "--verbose", is_flag=True, help="Print the traceback of an error as well."),
)
