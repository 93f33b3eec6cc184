"""The configuration: harness.toml, environment and -s overrides as one frozen, validated Config."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, PrivateAttr, field_validator
from pydantic.json_schema import SkipJsonSchema

from harness.config.noise import Noise, base_name
from harness.config.sections import (
    Campaign,
    Cluster,
    Failures,
    Paths,
    PerDataset,
    Resources,
    Search,
    Section,
    SettingSource,
    SettingTables,
    Tracking,
    Training,
)
from harness.config.toml import PARTS, cut, parse_override, read_toml, validate, without_minus
from harness.errors import ConfigError, DataError
from harness.files import has_file, resolved

FILE = "harness.toml"
DEFAULTS = Path(__file__).with_name("defaults.toml")
TRIALS = "trials"
CACHE = "cache"


class Config(Section):
    """A whole harness.toml."""

    campaign: Campaign = Campaign()
    paths: Paths = Paths()
    training: Training = Training()
    noise: Noise = Noise()
    settings: SettingTables = Field(
        default_factory=dict,
        description='a table per method, or per glob such as "*" for every method that has the setting. A table of the '
        "method's own name wins over every glob. Of globs, the built-in ones of a dataset are the weakest, then come "
        "[settings], [per_dataset.NAME.settings] and `-s`; within one table the last that matches wins",
    )
    per_dataset: dict[str, PerDataset] = Field(default_factory=dict, description="a table per dataset")
    resources: Resources = Resources()
    failures: Failures = Failures()
    search: Search = Search()
    cluster: Cluster = Cluster()
    tracking: Tracking = Tracking()
    root: SkipJsonSchema[Path] = Field(
        Path(), description="folder of harness.toml; every path is relative to it", exclude=True
    )
    _sources: tuple[SettingSource, ...] = PrivateAttr(())  # the weakest first; none: `settings` and `per_dataset`

    @field_validator("root")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.resolve()

    def for_dataset(self, name: str) -> Config:
        """The configuration with [training] and [settings] of [per_dataset] for this dataset, with noise or without."""
        name = base_name(name)
        own = self.per_dataset.get(name, PerDataset())
        training = validate(Training, {**self.training.model_dump(), **own.training}, f"[per_dataset.{name}.training]")
        config = self.model_copy(update={"training": training, "settings": merged(self.settings, own.settings)})
        return config.of_sources(one for source in self.sources for one in (source, source.for_dataset(name)))

    def of_sources(self, sources: Iterable[SettingSource]) -> Config:
        """This configuration with the sources that its settings are from, the weakest first."""
        config = self.model_copy()
        config._sources = tuple(sources)
        return config

    @property
    def sources(self) -> tuple[SettingSource, ...]:
        """Where settings are from, the weakest first."""
        return self._sources or (SettingSource(settings=self.settings, per_dataset=self.per_dataset),)

    def path(self, place: Path) -> Path:
        """A path of the configuration as an absolute one; ConfigError for one that leads nowhere."""
        try:
            return resolved(self.root / place.expanduser())
        except (OSError, RuntimeError, ValueError) as error:  # too long, a circle of links, no such user, a NUL
            raise ConfigError(f"[paths] {cut(str(place))} leads nowhere: {error}; name another folder") from error

    @property
    def data(self) -> Path:
        return self.path(self.paths.data)

    @property
    def results(self) -> Path:
        return self.path(self.paths.results)

    @property
    def trials(self) -> Path:
        return self.results / TRIALS

    @property
    def cache(self) -> Path:
        return self.results / CACHE

    @property
    def studies(self) -> Path:
        return self.results / "studies.journal"

    @property
    def reports(self) -> Path:
        return self.path(self.paths.reports)


def load(
    file: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] = MappingProxyType({}),
    folder: Path | None = None,
) -> Config:
    """The configuration of a folder: the file (or the nearest harness.toml upwards), environment, overrides.

    overrides: `key=value`, the value as TOML or as text; flags: values by dotted key, taken as they are.
    folder: the working folder where not given. ConfigError names the file and the field. Without any file the defaults
    hold and the folder is the root.
    """
    folder = folder or Path.cwd()
    path = file or find(folder)
    where, own = str(path or "the configuration"), read_toml(path) if path else {}
    table = {**deepcopy(merged(defaults_beside(own), own)), "root": path.parent if path else folder}
    validate(Config, table, where)  # first: whatever is wrong from here on was given beside the file
    if data := os.environ.get("HARNESS_DATA", "").strip():  # files of settings leave line feeds and blanks behind
        put(table, "paths.data", data)
    values, given = [*map(override_of, overrides), *without_minus(dict(flags)).items()], dict[str, Any]()
    for key, value in values:
        put_everywhere(table, key, value)
        put(given, key, value)
    config = validate(Config, table, source_of([key for key, _ in values], len(overrides), where))
    check_store(config)
    return config.of_sources(validate(SettingSource, source, where) for source in (read_toml(DEFAULTS), own, given))


def source_of(keys: Sequence[str], overrides: int, where: str) -> Callable[[str], str]:
    """Where the value of a key is from: the last of the given keys that it is of, the first ones by -s, or the file."""

    def source(place: str) -> str:
        for number, key in reversed([*enumerate(keys)]):
            if re.match(rf"{re.escape(key)}(?![^.\[])", place) or key.startswith(f"{place}."):
                return f"-s {key}" if number < overrides else key
        return where

    return source


def defaults_beside(own: Mapping[str, Any]) -> dict[str, Any]:
    """The built-in table, without what it has for one dataset and a file sets for all: the file decides."""
    table = read_toml(DEFAULTS)
    return {**table, "per_dataset": {name: without(one, own) for name, one in table["per_dataset"].items()}}


def without(table: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A table without the values that another one has, too."""
    both = {key for key in table if isinstance(table[key], Mapping) and isinstance(other.get(key), Mapping)}
    return {
        key: without(value, other[key]) if key in both else value
        for key, value in table.items()
        if key in both or key not in other
    }


def check_store(config: Config) -> None:
    """ConfigError for a results folder that the address of the tracking store in it would not lead to."""
    wrong = [mark for mark in "?%" if mark in str(config.results)]
    if wrong and not config.tracking.uri:
        raise ConfigError(
            f"[paths] results: {config.results}: {' and '.join(wrong)} cannot stand in the address of the tracking "
            "store that lies there; name another folder, or set [tracking] uri"
        )


def override_of(text: str) -> tuple[str, Any]:
    """Key and value of `key=value`; where text is expected, as for a name, `7` and `true` are text as well."""
    key, value = parse_override(text)
    section, _, name = key.partition(".")
    table = Config.model_fields[section].annotation if section in Config.model_fields else None
    field = getattr(table, "model_fields", {}).get(name)
    if field is not None and field.annotation in (str, Path) and not isinstance(value, str):
        value = text.partition("=")[2]
    return key, value


def built_in() -> Config:
    """The configuration where there is no file, no environment and no override."""
    table = read_toml(DEFAULTS)
    return validate(Config, table, str(DEFAULTS)).of_sources([validate(SettingSource, table, str(DEFAULTS))])


def find(folder: Path) -> Path | None:
    try:
        return next((place / FILE for place in (folder, *folder.parents) if has_file(place / FILE)), None)
    except DataError as error:
        raise ConfigError(str(error)) from error


def put(table: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    if len(parents) >= PARTS:
        raise ConfigError(f"{cut(dotted)}: a key of more than {PARTS} parts; see docs/reference/configuration.md")
    for name in parents:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{dotted}: {name} is a value, not a table")
    table[last] = value


def put_everywhere(table: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key, and take it out of the tables of [per_dataset]: a value from the command line always wins."""
    put(table, dotted, value)
    if dotted.split(".")[0] in PerDataset.model_fields:
        tables = table.get("per_dataset", {})
        for own in tables.values() if isinstance(tables, dict) else ():  # anything else is refused with the whole
            take_out(own, dotted)


def take_out(table: Any, dotted: str) -> None:
    """Remove a dotted key where it is there."""
    name, _, rest = dotted.partition(".")
    if not isinstance(table, dict):
        return
    if rest:
        take_out(table.get(name), rest)
    else:
        table.pop(name, None)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: merged(under[key], over[key])
        for key in over
        if isinstance(under.get(key), Mapping) and isinstance(over[key], Mapping)
    }
    return {**under, **over, **both}
