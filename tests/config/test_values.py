"""Values of harness.toml, -s and cards: what is taken, what is refused, and the place that a message names."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, Strict, TypeAdapter, ValidationError
from tiny_project import Call

from harness.config.cards import DatasetCard, MethodCard, read_card
from harness.config.project import Config, load
from harness.config.registry import discover, settings_for
from harness.config.toml import parse
from harness.errors import ConfigError
from harness.trial.results import TrialSpec

ROOT = Path(__file__).parents[2]
FILE = ROOT / "harness.toml"
VSEPP = ROOT / "methods" / "vsepp.toml"
TEXT = VSEPP.read_text(encoding="utf-8")


def refused(*overrides: str, file: Path = FILE) -> list[str]:
    """The lines that are said of a configuration."""
    with pytest.raises(ConfigError) as error:
        discover(load(file, overrides))
    return str(error.value).splitlines()


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "harness.toml"
    file.write_text(text)
    return file


def refused_card(tmp_path: Path, text: str) -> str:
    (tmp_path / "vsepp.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_card(MethodCard, tmp_path / "vsepp.toml")
    return str(error.value)


# --- unknown keys


@pytest.mark.parametrize(
    ("table", "key", "said"),
    [
        (
            "recipe.training",
            "epoch = 1",
            "unknown key 'recipe[0].training.epoch'; did you mean recipe[0].training.epochs",
        ),
        ("recipe", "sources = 1", "unknown key 'recipe[0].sources'; did you mean recipe[0].source"),
        ("tunable.dim", "lowest = 1", "unknown key 'tunable.dim.lowest'; did you mean tunable.dim.low"),
        ("paper", "years = 1", "unknown key 'paper.years'; did you mean paper.year"),
        ("cost", "parameter = 1", "unknown key 'cost.parameter'; did you mean cost.parameters"),
    ],
)
def test_an_unknown_key_of_a_card_has_its_neighbours_in_its_own_table(
    tmp_path: Path, table: str, key: str, said: str
) -> None:
    own = re.sub(rf"(?ms)^\[+{re.escape(table)}\]+\n.*?(?=^\[|\Z)", "", TEXT)
    if table.startswith("recipe"):
        own = re.sub(r"(?ms)^\[+recipe[\w.]*\]+\n.*?(?=^\[|\Z)", "", TEXT) + "\n[[recipe]]\n"
    text = own + (f"{key}\n" if table == "recipe" else f"\n[{table}]\n{key}\n")
    assert said in refused_card(tmp_path, text)


def test_an_unknown_key_at_the_top_of_a_card_has_neighbours_that_are_keys(tmp_path: Path) -> None:
    said = refused_card(tmp_path, f"foo = 1\n{TEXT}")
    assert "unknown key 'foo'; known: " in said and "batch_dependent" in said
    for nonsense in ("class.", "class_", "recipe.name", "title.", ", path"):
        assert nonsense not in said
    assert "did you mean class" in refused_card(tmp_path, f'clas = "x"\n{TEXT}')


# --- the place that a message names


@pytest.mark.parametrize("key", ["nope", "dim"])
def test_a_fault_of_a_table_of_one_dataset_is_said_of_that_table(tmp_path: Path, key: str) -> None:
    file = written(tmp_path, f"[per_dataset.scenes.settings.vsepp]\n{key} = 'x'\n")
    with pytest.raises(ConfigError, match=r"per_dataset\.scenes\.settings\.vsepp[.\]].*(nope|expected int)"):
        config = load(file)
        registry = discover(config)
        settings_for(registry.method("vsepp"), config.for_dataset("scenes"))


def test_a_table_of_no_method_is_said_of_its_dataset(tmp_path: Path) -> None:
    file = written(tmp_path, "[per_dataset.scenes.settings.nope]\ndim = 8\n")
    assert refused(file=file)[0].startswith("[per_dataset.scenes.settings.nope]: unknown method 'nope'")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("settings.vsepp.margin=nan", "-s settings.vsepp.margin: give a finite number (got nan)"),
        ("training.epochs=x", "-s training.epochs: Input should be a valid integer (got 'x')"),
        ("training=3", "-s training: Input should be a valid dictionary or instance of Training (got 3)"),
        ("training.drop_after=[7, 0]", "-s training.drop_after: training.drop_after[1]: Input should be greater than "),
        ("training.epoch=1", "-s training.epoch: unknown key 'training.epoch'; did you mean training.epochs"),
    ],
)
def test_a_wrong_override_is_said_once_and_by_its_flag(override: str, said: str) -> None:
    lines = refused(override)
    assert len(lines) == 1 and lines[0].startswith(said)


def test_a_wrong_value_of_the_file_names_the_file_whatever_the_flags_say(tmp_path: Path) -> None:
    file = written(tmp_path, "search = 3\n")
    with pytest.raises(ConfigError, match=rf"{re.escape(str(file))}: search: .*\(got 3\)"):
        load(file, flags={"search.trials": 1})
    file = written(tmp_path, "[training]\nepochs = 'x'\n")
    assert refused("training.lr=0.1", file=file)[0].startswith(f"{file}: training.epochs: ")
    with pytest.raises(ConfigError, match=r"^search\.trials: Input should be .*\(got 0\)"):
        load(FILE, flags={"search.trials": 0})


def test_a_value_of_the_command_line_wins_over_each_dataset_and_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    file = written(tmp_path, "[per_dataset.own.settings.vsepp]\nmargin = 0.3\ndim = 8\n")
    config = load(file, ["settings.vsepp.margin=0.1"])
    card = read_card(MethodCard, VSEPP)
    assert {key: settings_for(card, config.for_dataset("own"))[key] for key in ("margin", "dim")} == {
        "margin": 0.1,
        "dim": 8,
    }
    assert settings_for(card, load(file).for_dataset("own"))["margin"] == 0.3


# --- -0.0


def test_minus_zero_is_zero_wherever_a_value_is_read(tmp_path: Path) -> None:
    assert str(parse("a = -0.0\nb = [-0.0, -1.5]\nc = -0e0")) == "{'a': 0.0, 'b': [0.0, -1.5], 'c': 0.0}"
    overrides = [f"{key}=-0.0" for key in ("settings.vsepp.margin", "training.weight_decay", "training.drop_words")]
    given = {"training.clip": -0.0, "search.points": {"vsepp": [{"margin": -0.0}]}}
    config = load(FILE, overrides, given)
    values = [config.settings["vsepp"]["margin"], config.search.points["vsepp"][0]["margin"]]
    values += [config.training.weight_decay, config.training.drop_words, config.training.clip]
    assert list(map(str, values)) == ["0.0"] * 5
    (tmp_path / "vsepp.toml").write_text(re.sub(r"(?m)^margin = .*$", "margin = -0.0", TEXT))
    assert str(read_card(MethodCard, tmp_path / "vsepp.toml").defaults["margin"]) == "0.0"


# --- numbers and truth values


def of_kinds(kind: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[type, tuple[Any, ...]]]:
    """The int, float and bool in a type, each with what is noted on it."""
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        yield from of_kinds(inner, (*metadata, *notes))
    elif get_origin(kind) in (Union, types.UnionType, tuple, list, dict):
        for part in get_args(kind):
            yield from of_kinds(part, metadata if get_origin(kind) in (Union, types.UnionType) else ())
    elif kind in (int, float, bool):
        yield kind, metadata


def models(kind: Any) -> set[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {kind}.union(*(models(field.annotation) for field in kind.model_fields.values()))
    return {model for part in get_args(kind) for model in models(part)}


EVERY = sorted(models(Config) | models(MethodCard) | models(DatasetCard), key=lambda model: model.__name__)


@pytest.mark.parametrize("model", EVERY)
def test_every_number_and_truth_value_of_a_table_is_strict(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        metadata = tuple(field.metadata)
        for kind, notes in of_kinds(field.annotation, metadata):
            is_scalar = any(type(note).__name__ == "PlainValidator" for note in notes)
            assert is_scalar or any(isinstance(note, Strict) for note in notes), f"{model.__name__}.{name}: {kind}"


@pytest.mark.parametrize("text", ["true", "'0.1'", "'1'", "[1]"])
@pytest.mark.parametrize(
    "key", ["training.lr", "training.epochs", "search.trials", "resources.cpus_per_trial", "noise.share"]
)
def test_a_truth_value_and_a_text_are_no_number(key: str, text: str) -> None:
    assert refused(f"{key}={text}")[0].startswith(f"-s {key}: Input should be a valid ")


@pytest.mark.parametrize("text", ["1", "'no'", "'true'", "0.0"])
def test_a_number_and_a_text_are_no_truth_value(tmp_path: Path, text: str) -> None:
    assert refused(f"search.defaults_first={text}")[0].startswith("-s search.defaults_first: Input should be a valid b")
    assert "trainable: Input should be a valid boolean" in refused_card(tmp_path, f"trainable = {text}\n{TEXT}")


def test_a_whole_number_will_do_for_a_float_and_not_the_other_way() -> None:
    assert str(load(FILE, ["training.lr=1"]).training.lr) == "1.0"
    assert refused("training.epochs=1.0") == ["-s training.epochs: Input should be a valid integer (got 1.0)"]


def test_what_was_stored_is_read_as_before() -> None:
    for file in sorted((ROOT / "reports" / "reference" / "results").glob("*/spec.json")):
        assert TrialSpec.model_validate_json(file.read_bytes()).key == file.parent.name


# --- bounds


@pytest.mark.parametrize(
    ("override", "said"),
    [
        *(
            (f"training.{key}={value}", "less than or equal to 1000")
            for key, value in (("lr", "1e308"), ("lr", "1001"))
        ),
        ("training.weight_decay=1e308", "less than or equal to 1000"),
        ("training.encoder_lr=1e308", "less than or equal to 1000"),
        ("training.drop_after=[0]", "greater than or equal to 1"),
        ("training.drop_after=[-1]", "greater than or equal to 1"),
        ("campaign.methods=[]", "give at least one"),
        ("campaign.datasets=[]", "give at least one"),
        ("campaign.seeds=[]", "give at least one"),
        ("search.objective=[]", "give at least one measure or cost"),
        ("search.objective=['rsum', 'rsum']", "each of them once"),
        ("search.objective=['seconds', '-seconds']", "each of them once"),
    ],
)
def test_a_value_beyond_its_bounds_is_refused_with_the_bound(override: str, said: str) -> None:
    (line,) = refused(override)
    assert line.startswith(f"-s {override.partition('=')[0]}: ") and said in line


def test_no_class_of_failures_is_refused_and_not_all_of_them(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "-n", "--retry", "") == 2
    assert "unknown failure class ''" in capsys.readouterr().err
    assert call("run", "-n", "--retry", "failed") == 0


def test_the_strict_types_do_as_they_say() -> None:
    """The ground of the walk over all tables above: pydantic refuses each of these where Strict is noted."""
    for kind, value in ((int, True), (int, "1"), (float, True), (float, "0.1"), (bool, 1), (bool, "no")):
        with pytest.raises(ValidationError):
            TypeAdapter(Annotated[kind, Strict()]).validate_python(value)
