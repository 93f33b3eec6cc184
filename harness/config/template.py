"""The commented harness.toml that `harness init` writes: every key of `Config` with its default and its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from harness.config.project import DEFAULTS, FILE, Config, built_in
from harness.config.sections import Section
from harness.config.toml import literal
from harness.errors import UsageError
from harness.files import write_atomic

HEAD = """\
# The default campaign of this project: what `harness run` does when no flag says otherwise.
# Every key is here with its default; a key that is left out keeps it. `-s section.key=value` overrides any for one run.
# The folder of this file is the project's root, and every path is relative to it.
"""
COMMENT_AT = 40  # column
WIDTH = 120


def write_template(folder: Path, force: bool = False) -> Path:
    file = folder / FILE
    if file.exists() and not force:
        raise UsageError(f"{file} is there already; --force replaces it")
    write_atomic(file, template())
    return file


def template() -> str:
    """A harness.toml with every key; it loads back into the defaults."""
    config = built_in()
    names = [name for name, field in Config.model_fields.items() if is_section(field)]
    sections = [_section(name, getattr(config, name)) for name in names]
    _, _, tables = DEFAULTS.read_text(encoding="utf-8").partition("\n\n")  # its [campaign] is among the sections
    return "\n".join([HEAD, *sections, tables])


def is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, Section)


def _section(name: str, section: Section) -> str:
    lines = [f"# {(type(section).__doc__ or '').strip()}", f"[{name}]"]
    for key, field in type(section).model_fields.items():
        lines += _key(key, field, getattr(section, key))
    return "\n".join([*lines, ""])


def _key(key: str, field: FieldInfo, default: object) -> list[str]:
    """A key with its default and a comment, beside it where there is room, else above."""
    setting, comment = f"{key} = {literal(default)}", meaning(field)
    setting = f"# {setting}" if isinstance(default, dict) else setting  # or no table of this name could follow
    line = f"{setting:<{COMMENT_AT - 1}} # {comment}" if comment else setting
    return [line] if len(line) <= WIDTH else [f"# {comment}", setting]


def meaning(field: FieldInfo) -> str:
    choices = map(str, get_args(field.annotation)) if get_origin(field.annotation) is Literal else ()
    return "; ".join(filter(None, (field.description, " or ".join(choices))))
