"""harness.toml: the file that `harness init` writes, and the one of this repository."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from harness.config.project import Config, built_in, load
from harness.config.registry import discover, settings_for
from harness.config.template import template
from harness.config.toml import literal, validate
from harness.errors import ConfigError

ROOT = Path(__file__).parents[2]
FREE = {"settings", "per_dataset"}  # whose keys are names of methods and datasets


def keys_of(table: dict[str, object]) -> set[str]:
    sections = {name: value for name, value in table.items() if isinstance(value, dict)}
    return {f"{section}.{key}" for section, inner in sections.items() for key in inner}


def test_the_template_loads_back_into_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    (tmp_path / "harness.toml").write_text(template())
    loaded = load(tmp_path / "harness.toml")
    assert loaded.of_sources([]) == built_in().model_copy(update={"root": tmp_path.resolve()}).of_sources([])
    registry = discover(loaded)
    for dataset in registry.datasets:
        ours, theirs = (one.for_dataset(dataset) for one in (loaded, built_in()))
        for card in registry.methods.values():
            assert settings_for(card, ours) == settings_for(card, theirs)


def test_every_key_is_there_in_its_section_and_says_what_it_means() -> None:
    known = keys_of(Config().model_dump(mode="json", exclude=FREE))
    written = {name: table for name, table in tomllib.loads(template()).items() if name not in FREE}
    tables = {"search.points", "search.space", "resources.custom"}  # which stand there as comments
    assert keys_of(written) == known - tables
    assert all(f"# {name.partition('.')[2]} = {{}}" in template() for name in tables)
    lines = [line for line in template().splitlines() if " = " in line and not line.startswith("#")]
    fixed = lines[: next(number for number, line in enumerate(lines) if line.startswith("uri"))]
    bare = [line for line in fixed if "#" not in line]
    assert not bare, "a key of config.py without a description"


def test_the_file_of_this_repository_has_the_keys_of_the_template() -> None:
    text = (ROOT / "harness.toml").read_text()
    if text != template():  # it may differ on purpose, in values and comments
        assert keys_of(tomllib.loads(template())) == keys_of(tomllib.loads(text))
        load(ROOT / "harness.toml")


@pytest.mark.parametrize(
    "value", [True, 3, 0.001, "plain", 'a "quote"', "über\n", "", "\x7f\x85\u2028", (1, 2), ("a", "b"), Path("x/y")]
)
def test_a_literal_is_read_back_by_toml(value: object) -> None:
    read = tomllib.loads(f"key = {literal(value)}")["key"]
    expected = str(value) if isinstance(value, Path) else value
    assert read == (list(expected) if isinstance(expected, tuple) else expected)


OWN = """
[training]
epochs = 9
[per_dataset.scenes.training]
epochs = 2
[per_dataset.scenes.settings.caan]
dim = 16
"""


def test_a_dataset_has_its_own_recipe_and_the_command_line_wins_over_it(tmp_path: Path) -> None:
    file = tmp_path / "harness.toml"
    file.write_text(OWN)
    own = load(file).for_dataset("scenes")
    assert (own.training.epochs, own.settings["caan"]["dim"]) == (2, 16)
    assert load(file).for_dataset("coco-objects").training.epochs == 9
    overridden = load(file, ["training.epochs=5", "settings.caan.dim=32"]).for_dataset("scenes")
    assert (overridden.training.epochs, overridden.settings["caan"]["dim"]) == (5, 32)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("per_dataset.scene.training.epochs=1", "did you mean scenes"),
        ("per_dataset.scenes.training.epoch=1", "did you mean epochs"),
        ("per_dataset.scenes.settings.caan.with=1", "did you mean width"),
    ],
)
def test_a_misspelt_table_or_key_of_a_dataset_names_its_neighbour(key: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        discover(load(ROOT / "harness.toml", [key]))


@pytest.mark.parametrize("key", ["settings.caan.margin", "settings.*.margin", "training.lr", "training.weight_decay"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_number_that_is_not_finite_is_refused_by_its_key(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"{re.escape(key)}: .*finite number \(got {value}\)"):
        load(ROOT / "harness.toml", [f"{key}={value}"])


@pytest.mark.parametrize(
    "words",
    [
        *(
            "custom.a100=0",
            "custom.a100=-1",
            "custom.a100=1e-300",
            "custom.a100=nan",
            "custom.CPU=1",
            "custom.memory=1",
        ),
        *("custom.bundle_1=1", "cpus_per_trial=0", "cpus_per_trial=-0.5", "cpus_per_trial=1e-308"),
        *("gpus_per_trial=-2", "gpus_per_trial=1e-308", "gpus_per_trial=1e9"),
    ],
)
def test_an_amount_that_ray_cannot_count_is_refused_by_its_key(words: str) -> None:
    with pytest.raises(ConfigError, match=rf"resources\.{words.split('.')[0].split('=')[0]}"):
        load(ROOT / "harness.toml", [f"resources.{words}"])


def test_a_list_for_a_setting_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Config, {"settings": {"bssan": {"margin": [1]}}}, "harness.toml")
    assert str(caught.value) == "harness.toml: settings.bssan.margin: give one number, text, true or false (got [1])"


def test_sizes_are_those_of_papers_except_on_datasets_for_a_first_comparison() -> None:
    small = ("scenes", "coco-objects", "flickr8k-boxes", "flickr8k-grid", "flickr8k-minilm")
    registry = discover(built_in())
    for dataset in registry.datasets:
        config = built_in().for_dataset(dataset)
        for card in registry.methods.values():
            is_paper_sized = settings_for(card, config) == card.defaults and config.training.epochs == 30
            assert is_paper_sized == (dataset not in small), (dataset, card.name)


def test_what_a_file_sets_for_every_dataset_wins_over_the_built_in_sizes_of_one(tmp_path: Path) -> None:
    file = tmp_path / "harness.toml"
    file.write_text('[training]\nepochs = 9\n[settings."*"]\ndim = 1024\n')
    config = load(file).for_dataset("scenes")
    assert (config.training.epochs, config.training.drop_words) == (9, 0.0)
    assert config.settings["*"] == {"dim": 1024, "width": 16}


def dims(tmp_path: Path, text: str, *overrides: str, dataset: str = "scenes") -> dict[str, object]:
    """`dim` of some methods on a dataset, whose built-in table has 128 for every method."""
    file = tmp_path / "harness.toml"
    file.write_text(text)
    config = load(file, overrides)
    methods = discover(config).methods
    return {
        name: settings_for(methods[name], config.for_dataset(dataset))["dim"] for name in ("scan_t2i", "caan", "vsepp")
    }


@pytest.mark.slow
def test_a_glob_of_a_file_wins_over_the_built_in_one_of_a_dataset(tmp_path: Path) -> None:
    for glob in ("scan_*", "s*", "*_t2i", "[s]can*"):
        text = f'[settings."{glob}"]\ndim = 64\n'
        assert dims(tmp_path, text) == {"scan_t2i": 64, "caan": 128, "vsepp": 128}
        assert dims(tmp_path, text, dataset="coco-objects") == {"scan_t2i": 64, "caan": 256, "vsepp": 256}
        assert dims(tmp_path, text, dataset="f30k")["scan_t2i"] == 64
    assert dims(tmp_path, '[per_dataset.scenes.settings."scan_*"]\ndim = 32\n')["scan_t2i"] == 32
    assert dims(tmp_path, "", "settings.scan_*.dim=16") == {"scan_t2i": 16, "caan": 128, "vsepp": 128}
    assert dims(tmp_path, '[settings."?*"]\ndim = 64\n')["vsepp"] == 64


def test_globs_of_one_table_count_in_their_order_also_where_a_built_in_table_has_one_of_them(tmp_path: Path) -> None:
    for table in ("settings", "per_dataset.scenes.settings", "per_dataset.f30k.settings"):
        dataset = "f30k" if "f30k" in table else "scenes"
        narrow, wide = f'[{table}."scan_*"]\ndim = 32\n', f'[{table}."*"]\ndim = 64\n'
        assert dims(tmp_path, narrow + wide, dataset=dataset) == {"scan_t2i": 64, "caan": 64, "vsepp": 64}
        assert dims(tmp_path, wide + narrow, dataset=dataset) == {"scan_t2i": 32, "caan": 64, "vsepp": 64}


def test_of_globs_the_command_line_is_the_strongest_and_an_exact_name_wins_over_every_glob(tmp_path: Path) -> None:
    text = '[settings."scan_*"]\ndim = 64\n[per_dataset.scenes.settings."*"]\ndim = 32\n[settings.caan]\ndim = 48\n'
    assert dims(tmp_path, text) == {"scan_t2i": 32, "caan": 48, "vsepp": 32}
    assert dims(tmp_path, text, "settings.s*.dim=8") == {"scan_t2i": 8, "caan": 48, "vsepp": 32}
    assert dims(tmp_path, text, "settings.*.dim=8") == {"scan_t2i": 8, "caan": 48, "vsepp": 8}
    assert dims(tmp_path, text, "per_dataset.scenes.settings.s*.dim=8")["scan_t2i"] == 8
    assert dims(tmp_path, text, "settings.*.dim=8", "settings.caan.dim=4")["caan"] == 4
    of_dataset = text + "[per_dataset.scenes.settings.caan]\ndim = 24\n"
    assert dims(tmp_path, of_dataset) == {"scan_t2i": 32, "caan": 24, "vsepp": 32}
