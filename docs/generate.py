"""Reference pages generated from the code: `make docs` writes them into docs/reference.

    python -P docs/generate.py docs/reference

-P keeps docs/ off the import path, where its folder methods/ would hide the package of that name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.cli.main import LONGEST, SECTIONS, cli
from harness.config.cards import DatasetCard, MethodCard
from harness.config.papers import Reported
from harness.config.project import DEFAULTS, Config, built_in
from harness.config.registry import Registry, discover
from harness.config.sections import Tunable
from harness.config.template import is_section, meaning
from harness.config.toml import literal
from harness.errors import EXIT_CODES
from harness.files import write_atomic

ROOT = Path(__file__).parents[1]
WAITING = (
    ("APR (Zhang, Yang; ICDMW 2023)", "its title alone is known: neither abstract nor text nor code was at hand"),
    (
        "M3A-Net (Ji, Lin, Wang, He; IEEE Access 2020)",
        "no formula of it was at hand; a rebuilding would be invented",
    ),
    ("LAPS (Fu, Zhang, Xia, Mao; CVPR 2024)", "compares patches of a vision transformer, which no dataset here has"),
)
WORDS = {str: "text", Path: "path", bool: "true or false", int: "whole number", float: "number"}
Lines = Iterator[str]


def pages() -> dict[str, str]:
    lines = {
        **{"configuration.md": configuration(), "cards.md": cards(), "commands.md": commands()},
        "methods.md": methods(discover(Config(root=ROOT))),
    }
    return {name: "\n".join(page) + "\n" for name, page in lines.items()}


def write(folder: Path) -> None:
    for name, text in pages().items():
        write_atomic(folder / name, text)


def configuration() -> Lines:
    yield from head("harness.toml", "harness/config/sections.py")
    yield "The nearest `harness.toml` is read, from the working folder upwards; `-c FILE` names another one."
    yield "`harness init` writes one with every key. A key that is left out keeps its default."
    yield "`-s section.key=value` overrides a key for one run."
    for name, field in Config.model_fields.items():
        if is_section(field):
            yield from table(f"[{name}]", field.annotation, values=getattr(built_in(), name))
        elif inner := model_in(field.annotation):
            yield from table(f"[{name}.NAME]", inner)
        elif not field.exclude:
            yield from [*heading(f"[{name}.NAME]"), f"{name.capitalize()}: {field.description}."]
    yield from table("A range in [search.space.NAME]", Tunable)
    yield from [*heading("Settings and overrides by default"), "```toml", DEFAULTS.read_text("utf-8").strip(), "```"]


def cards() -> Lines:
    yield from head("Cards", "harness/config/cards.py")
    yield "A card, a TOML file, registers a method or a dataset. [Adding a method](../guide/adding-a-method.md) and"
    yield "[Data](../guide/data.md) explain them; `harness describe NAME` prints one."
    for title, card in (("Method", MethodCard), ("Dataset", DatasetCard)):
        yield from table(f"{title} card", card)
        for name, field in card.model_fields.items():
            if inner := model_in(field.annotation):
                yield from table(place(field.alias or name, field.annotation), inner, level=3)


def methods(registry: Registry) -> Lines:
    yield from head("Methods", "methods/*.toml")
    yield "The score of a pair in the letters of `harness/method.py`: regions v_i, words u_j, s_ij their cosine, unit"
    yield "vectors but where a method says otherwise. `harness describe METHOD` lists what was chosen in it."
    yield from ["", *columns("method", "paper", "score of a pair", "fidelity")]
    for name, card in registry.methods.items():
        paper = f"{card.paper.venue} {card.paper.year}" if card.paper else "–"
        yield row(f"[{name}](../../methods/{name}.toml)", paper, f"`{card.formula}`", card.fidelity)
    yield from costs(registry)
    yield from batch_dependent(registry)
    yield from numbers(registry)
    yield from [*heading("Not here"), *columns("method", "why")]
    yield from (row(*line) for line in WAITING)


def costs(registry: Registry) -> Lines:
    yield from heading("What they cost")
    yield "At the settings of the card, the papers' sizes, of 36 regions of 2,048 numbers, captions of 12 words"
    yield "and 10,000 known words, as `python benchmarks/costs.py` measures it: parameters, operations of the matrix"
    yield "products that score one pair, bytes of an encoded image in an index in float32. What stands on a frozen dual"
    yield "encoder is measured on embeddings of 512 numbers, without the encoder."
    yield from ["", *columns("method", "scoring", "parameters", "MFLOP per pair", "bytes per image")]
    for name, card in registry.methods.items():
        if cost := card.cost:
            sizes = (f"{cost.parameters / 1e6:.1f} M", f"{cost.mflops_per_pair:.3g}", f"{cost.bytes_per_image:,}")
            yield row(name, card.scoring, *sizes)


def batch_dependent(registry: Registry) -> Lines:
    yield from heading("Whose training depends on the batch")
    yield "In evaluation a pair's score depends on that pair alone, for every method."
    yield from ["", *columns("method", "in training")]
    yield from (row(name, card.batch_dependent) for name, card in registry.methods.items() if card.batch_dependent)


def numbers(registry: Registry) -> Lines:
    yield from heading("Which papers' numbers compare")
    yield "Numbers of one table compare with each other, one model each, on the released region features, and with our"
    yield "rows by `--recipe paper`. Those of the last table compare with none of ours, for the reason beside them."
    reported = [(card, one) for card in registry.methods.values() for one in card.reported]
    for place in sorted({(one.dataset, one.protocol) for _, one in reported}):
        yield from heading(", ".join(place), 3)
        yield from columns("method", "i2t R@1/5/10", "t2i R@1/5/10", "rsum", "source")
        alike = [(card, one) for card, one in reported if (one.dataset, one.protocol) == place and not one.apart]
        for card, one in sorted(alike, key=lambda pair: -pair[1].rsum):
            yield row(card.name, *recalls(one), "; ".join(filter(None, (one.source, one.note))))
    yield from heading("Apart", 3)
    yield from columns("method", "dataset", "protocol", "rsum", "why", "source")
    for card, one in reported:
        if one.apart:
            yield row(card.name, one.dataset, one.protocol, f"{one.rsum:.1f}", one.apart, one.source)


def recalls(one: Reported) -> tuple[str, str, str]:
    return (*(" ".join(f"{value:.1f}" for value in values) for values in (one.i2t, one.t2i)), f"{one.rsum:.1f}")


def commands() -> Lines:
    yield from head("Commands", "harness/cli")
    yield from ["```", *help_of(cli), "```", ""]
    for title, names in SECTIONS.items():
        yield from [f"**{title}**", "", *columns("command", "what it does")]
        yield from (row(f"`harness {name}`", cli.commands[name].get_short_help_str(LONGEST)) for name in names)
        yield ""
    yield from columns("exit code", "meaning")
    yield from (row(code, text) for code, text in EXIT_CODES.items())
    for name, command in sorted(cli.commands.items()):
        yield from command_page(f"harness {name}", command)


def command_page(path: str, command: click.Command) -> Lines:
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from command_page(f"{path} {name}", inner)
        return
    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    yield from [*heading(path), "```", usage, "```", "", *help_of(command), "", *columns("option", "meaning")]
    records = [param.get_help_record(context) for param in command.params if isinstance(param, click.Option)]
    yield from (row(f"`{record[0]}`", record[1]) for record in records if record)


def help_of(command: click.Command) -> list[str]:
    return [line for line in cleandoc(command.help or "").splitlines() if line != "\b"]


def head(title: str, source: str) -> list[str]:
    return [f"# {title}", "", f"Generated by `make docs` from `{source}`. Do not edit.", ""]


def heading(title: str, level: int = 2) -> list[str]:
    return ["", f"{'#' * level} {title}", ""]


def table(title: str, model: Any, level: int = 2, values: BaseModel | None = None) -> Lines:
    yield from [*heading(title, level), (model.__doc__ or "").strip(), ""]
    yield from columns("key", "value", "default", "meaning")
    for name, field in model.model_fields.items():
        if not field.exclude:
            value = f"`{literal(getattr(values, name))}`" if values else default(field)
            yield row(f"`{field.alias or name}`", kind(field.annotation), value, meaning(field))


def columns(*titles: str) -> list[str]:
    return [row(*titles), f"|{'---|' * len(titles)}"]


def row(*cells: str) -> str:
    """A row of a table; a bar in a cell does not end it, and `<` begins no tag."""
    escaped = (cell.replace("|", r"\|").replace("<", "&lt;") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def default(field: FieldInfo) -> str:
    """The default of a key as TOML writes it, `required` where there is none."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "" if value is None or isinstance(value, BaseModel) else f"`{literal(value)}`"


def kind(annotation: Any) -> str:
    """What a value is, in words: `list of text`."""
    if get_origin(annotation) is Annotated:
        return kind(get_args(annotation)[0])
    inner = [part for part in get_args(annotation) if part not in (type(None), Ellipsis)]
    if get_origin(annotation) is tuple:
        return f"{len(inner)} numbers" if len(inner) > 1 else f"list of {kind(inner[0])}s".replace("texts", "text")
    if get_origin(annotation) is dict or model_in(annotation):
        return "table"
    if get_origin(annotation) is Literal:
        return "text"
    return WORDS.get(annotation) or (kind(inner[0]) if len(inner) == 1 else "value")


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model of a table, also of one in a list or of many by name."""
    parts = [part for arg in get_args(annotation) if (part := model_in(arg))]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else next(iter(parts), None)


def place(name: str, annotation: Any) -> str:
    """How the table of a key begins in a file: [paper], [[reported]], [tunable.NAME]."""
    if get_origin(annotation) is tuple:
        return f"[[{name}]]"
    return f"[{name}.NAME]" if get_origin(annotation) is dict else f"[{name}]"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
