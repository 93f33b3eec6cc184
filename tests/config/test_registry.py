"""Names -> cards -> classes: built-in, by path, by file and by entry point."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.config.cards import MethodCard, read_card
from harness.config.project import Config
from harness.config.registry import Registry, discover, load_class, settings_for
from harness.config.sources import source_file, source_files, source_hash
from harness.errors import ConfigError, UsageError

ROOT = Path(__file__).parents[2]
CODE = """
from dataclasses import dataclass

from harness.method import Method


class {name}(Method):
    @dataclass(frozen=True)
    class Settings:
        dim: int


NotAMethod = dict
"""

CARD = """
name = "{name}"
title = "{name}"
class = "{module}:{class_}"
summary = "a method of a test"
scoring = "embedding"
fidelity = "baseline"
choices = ["none"]
[defaults]
dim = 8
scale = 0.5
word = "gru"
deep = false
"""


def write_card(folder: Path, name: str, module: str = "", class_: str = "Mine", code: str = "") -> Path:
    """A card and, where code is given, its module beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if code:
        (folder / f"{(module or name).rpartition('.')[2]}.py").write_text(code)
    path = folder / f"{name}.toml"
    path.write_text(CARD.format(name=name, module=module or name, class_=class_))
    return path


def config(root: Path, **tables: object) -> Config:
    return Config.model_validate({"root": root, **tables})


def test_built_in_methods_and_datasets_are_found_from_any_folder(tmp_path: Path) -> None:
    registry = discover(config(tmp_path))
    assert {"chance", "vsepp", "scan_t2i", "scan_i2t", "caan", "bssan"} <= set(registry.methods)
    assert "scenes" in registry.datasets


@pytest.mark.slow
def test_listing_everything_imports_neither_torch_nor_a_method(tmp_path: Path) -> None:
    folder = tmp_path / "extra"
    write_card(folder, "third_party", code="raise RuntimeError('imported')")
    script = f"""
import sys
from pathlib import Path
from harness.config.cards import MethodCard, read_card
from harness.config.project import Config
from harness.config.registry import discover
from harness.config.sources import source_hash
registry = discover(Config(root=Path({str(tmp_path)!r}), paths={{"methods": [{str(folder)!r}]}}))
assert "third_party" in registry.methods
for card in registry.methods.values():
    source_hash(card)
loaded = {{"torch", "ray", "mlflow", "pandas", "optuna", "methods", "third_party"}} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


@pytest.mark.parametrize("place", ["folder", "file", "plugin"])
def test_a_third_party_card_is_found_by_path_and_its_class_loaded_from_beside_it(tmp_path: Path, place: str) -> None:
    card = write_card(tmp_path / "more", "mine", code=CODE.format(name="Mine"))
    paths = {"folder": ["more"], "file": ["more/mine.toml"], "plugin": []}[place]
    registry = discover(config(tmp_path, paths={"methods": paths}), [card] if place == "plugin" else [])
    method = load_class(registry.methods["mine"])
    assert method.__name__ == "Mine" and method.Settings(dim=3).dim == 3
    assert load_class(registry.methods["mine"]) is method
    assert source_file(registry.methods["mine"]) == card.with_suffix(".py")


def test_a_card_met_by_two_ways_is_one_method(tmp_path: Path) -> None:
    card = write_card(tmp_path, "mine", code=CODE.format(name="Mine"))
    assert "mine" in discover(config(tmp_path, paths={"methods": ["."]}), [card, card]).methods


def test_an_entry_point_names_the_card_inside_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "a_paper"
    write_card(package / "inner", "mine", module="a_paper.inner.mine", code=CODE.format(name="Mine"))
    (package / "__init__.py").write_text("raise RuntimeError('imported while listing')")
    (package / "inner" / "__init__.py").write_text("")
    dist = tmp_path / "a_paper-1.0.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: a-paper\nVersion: 1.0\n")
    (dist / "entry_points.txt").write_text("[harness.methods]\nmine = a_paper.inner\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    card = discover(config(tmp_path)).methods["mine"]
    assert card.path == package / "inner" / "mine.toml"
    assert "a_paper" not in sys.modules
    (package / "__init__.py").write_text("")
    assert load_class(card).__module__ == "a_paper.inner.mine"
    (package / "inner" / "mine.toml").unlink()
    with pytest.raises(ConfigError, match=r"entry point harness\.methods: mine = 'a_paper\.inner': no mine\.toml"):
        discover(config(tmp_path))


def test_two_cards_of_one_name_are_refused_with_both_files(tmp_path: Path) -> None:
    first, second = write_card(tmp_path / "a", "mine"), write_card(tmp_path / "b", "mine")
    with pytest.raises(ConfigError) as caught:
        discover(config(tmp_path, paths={"methods": ["a"]}), [second])
    assert str(first) in str(caught.value) and str(second) in str(caught.value)


def test_the_configuration_is_no_card_where_the_root_is_a_place_of_cards(tmp_path: Path) -> None:
    (tmp_path / "harness.toml").write_text('[paths]\nmethods = ["."]\n')
    write_card(tmp_path, "mine")
    assert "mine" in discover(config(tmp_path, paths={"methods": ["."]})).methods


def test_of_two_dataset_cards_of_one_name_the_first_place_wins(tmp_path: Path) -> None:
    built_in = discover(config(tmp_path)).datasets["scenes"].path
    own = tmp_path / "mine" / "scenes"
    own.mkdir(parents=True)
    (own / "card.toml").write_text(built_in.read_text())
    assert discover(config(tmp_path, paths={"datasets": ["mine"]})).datasets["scenes"].path == own / "card.toml"


@pytest.mark.parametrize(
    ("module", "class_", "message"),
    [
        ("absent", "Mine", r"no absent\.py beside the card, no module absent"),
        ("os.path.absent", "Mine", r"no absent\.py beside the card"),
        ("mine", "Absent", r"mine\.py has no Absent"),
        ("mine", "NotAMethod", r"is not a subclass of harness\.method\.Method"),
        ("broken", "Mine", r"broken\.py does not import: .*no_such_module"),
        ("wrong", "Mine", r"wrong\.py does not import: invalid syntax \(wrong\.py, line 1\)"),
        ("zero", "Mine", r"zero\.py does not import: .*null bytes"),
        ("unnamed", "Mine", r"unnamed\.py does not import: NameError: name 'size' is not defined \(line 2\)"),
    ],
)
def test_a_card_whose_class_cannot_be_loaded_names_card_and_class(
    tmp_path: Path, module: str, class_: str, message: str
) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module")
    (tmp_path / "wrong.py").write_text("def (:")
    (tmp_path / "zero.py").write_text("\0")
    (tmp_path / "unnamed.py").write_text("import sys\nSIZE = size + 1")
    (tmp_path / "mine.py").write_text(CODE.format(name="Mine"))
    path = write_card(tmp_path, "mine", module=module, class_=class_)
    card = discover(config(tmp_path), [path]).methods["mine"]
    with pytest.raises(ConfigError, match=message) as caught:
        load_class(card)
    assert str(path) in str(caught.value) and f"{module}:{class_}" in str(caught.value)


def test_code_that_python_imported_before_it_was_edited_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would run the old code, and its result would stand under the key of the new one."""
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "edited_methods"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "shared.py").write_text("SIZE = 1")
    code = "from edited_methods.shared import SIZE\n" + CODE.format(name="Mine")
    card = read_card(MethodCard, write_card(folder, "mine", module="edited_methods.mine", code=code))
    assert load_class(card) is load_class(card)
    (folder / "shared.py").write_text("SIZE = 2")
    with pytest.raises(ConfigError, match=r"shared\.py has changed since this Python imported it; start Python"):
        load_class(card)
    (folder / "shared.py").write_text("SIZE = 1")
    load_class(card)


def test_a_method_beside_its_card_is_loaded_again_where_it_was_edited(tmp_path: Path) -> None:
    path = write_card(tmp_path, "mine", code=CODE.format(name="Mine"))
    load_class(read_card(MethodCard, path))
    (tmp_path / "mine.py").write_text(CODE.format(name="Mine") + "\nSIZE = 7\n")
    assert sys.modules[load_class(read_card(MethodCard, path)).__module__].SIZE == 7  # type: ignore[attr-defined]


def test_a_place_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[paths\] methods: .*absent does not exist"):
        discover(config(tmp_path, paths={"methods": ["absent"]}))
    with pytest.raises(ConfigError, match=r"--plugin .*absent\.toml: no such file"):
        discover(config(tmp_path), [tmp_path / "absent.toml"])


def test_a_card_is_found_by_its_name_or_refused_with_the_nearest_names(tmp_path: Path) -> None:
    registry = discover(config(tmp_path))
    assert registry.method("vsepp") is registry.methods["vsepp"]
    assert registry.dataset("scenes") is registry.datasets["scenes"]
    with pytest.raises(UsageError, match="unknown method 'vsep'; did you mean vsepp"):
        registry.method("vsep")
    with pytest.raises(UsageError, match="unknown dataset 'scene'; did you mean scenes"):
        registry.dataset("scene")


def test_a_protocol_is_found_by_its_name_the_first_without_one_or_refused(tmp_path: Path) -> None:
    card = discover(config(tmp_path)).dataset("coco")
    assert card.protocol() is card.protocols[0] and card.protocol(card.protocols[1].name) is card.protocols[1]
    assert card.protocol_identity("val") == ("val", 0)
    assert card.protocol_identity("5k") == ("5k", card.protocol("5k").version)
    with pytest.raises(UsageError, match=r"dataset coco: unknown protocol '5kk'; did you mean 5k"):
        card.protocol("5kk")


def test_the_source_hash_follows_the_code_and_nothing_else(tmp_path: Path) -> None:
    first = write_card(tmp_path / "a", "mine", code=CODE.format(name="Mine"))
    second = write_card(tmp_path / "b", "mine", code=CODE.format(name="Mine").replace("\n", "\r\n"))
    cards = [discover(config(tmp_path), [path]).methods["mine"] for path in (first, second)]
    before = source_hash(cards[0])
    assert source_hash(cards[1]) == before
    first.with_suffix(".py").write_text(CODE.format(name="Mine") + "# changed\n")
    assert source_hash(cards[0]) != before


HASHES = """
import json
from harness.config.cards import MethodCard, read_card
from harness.config.project import Config
from harness.config.registry import discover
from harness.config.sources import source_hash
print(json.dumps({name: source_hash(card) for name, card in discover(Config()).methods.items()}))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code, to be changed."""
    for name in ("harness", "methods", "datasets"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def changed_methods(checkout: Path, file: str) -> set[str]:
    """Methods whose hash is another after a line is added to a file of a checkout."""

    def hashes() -> dict[str, str]:
        done = subprocess.run([sys.executable, "-c", HASHES], check=True, cwd=checkout, capture_output=True)
        return json.loads(done.stdout)

    before = hashes()
    with (checkout / file).open("a", encoding="utf-8") as text:
        text.write("\nADDED = True\n")
    after = hashes()
    return {name for name in before if before[name] != after[name]}


@pytest.mark.slow
def test_a_change_in_what_a_method_reaches_changes_its_hash_and_no_other(checkout: Path) -> None:
    cards = discover(Config(root=ROOT)).methods
    every = set(cards)
    attending = {name for name, card in cards.items() if "harness.blocks.attention" in source_file(card).read_text()}
    assert attending and attending != every
    assert changed_methods(checkout, "harness/method.py") == every
    assert changed_methods(checkout, "harness/blocks/tiles.py") == every, "reached through the base classes"
    assert changed_methods(checkout, "harness/blocks/attention.py") == attending


@pytest.mark.slow
def test_what_no_method_reaches_changes_no_hash(checkout: Path) -> None:
    assert not changed_methods(checkout, "harness/blocks/a_new_loss.py")
    assert not changed_methods(checkout, "harness/blocks/__init__.py")
    assert not changed_methods(checkout, "harness/config/cards.py")


def test_the_source_hash_follows_every_file_of_the_methods_own_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "itm_many"
    card = write_card(package, "many", code="from itm_many import layers\nfrom .deep.pool import Pool\nimport json\n")
    card.write_text(card.read_text().replace('class = "many:', 'class = "itm_many.many:'))
    files = {"__init__.py": "", "layers.py": "import torch\n", "deep/__init__.py": "", "unused.py": ""}
    files["deep/pool.py"] = "from ..layers import Linear\nfrom .norm import unit\n"
    files["deep/norm.py"] = "unit = 1\n"
    (package / "deep").mkdir()
    for name, text in files.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    method = discover(config(tmp_path), [card]).methods["many"]
    names = [str(path.relative_to(package)) for path in source_files(method)]
    assert names == ["many.py", "__init__.py", "deep/norm.py", "deep/pool.py", "layers.py"]
    before = source_hash(method)
    (package / "unused.py").write_text("changed = True\n")
    assert source_hash(method) == before
    (package / "deep" / "norm.py").write_text("unit = 2\n")
    assert source_hash(method) != before


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    for name in ("mine", "mine_too", "other"):
        write_card(tmp_path, name)
    return discover(config(tmp_path, paths={"methods": ["."]}))


def test_names_and_globs_keep_the_order_asked_for_without_repeats(registry: Registry) -> None:
    assert registry.select_methods(["other", "min*", "mine"]) == ("other", "mine", "mine_too")
    assert set(registry.select_methods(["*"])) == set(registry.methods)


def test_an_unknown_name_lists_its_nearest_neighbours(registry: Registry) -> None:
    with pytest.raises(UsageError, match=r"unknown method 'mined'; did you mean mine or mine_too\?"):
        registry.select_methods(["mined"])
    with pytest.raises(UsageError, match=r"unknown dataset 'scene'; did you mean scenes\?"):
        registry.select_datasets(["scene"])
    with pytest.raises(UsageError, match=r"unknown method 'zzz\*'"):
        registry.select_methods(["zzz*"])


def test_settings_are_defaults_then_globs_then_the_method_itself(tmp_path: Path, registry: Registry) -> None:
    tables = {"mine": {"dim": 2}, "*": {"dim": 64, "scale": 1}, "min*": {"word": "lstm"}}
    settings = settings_for(registry.methods["mine"], config(tmp_path, settings=tables))
    assert settings == {"dim": 2, "scale": 1.0, "word": "lstm", "deep": False}
    assert type(settings["scale"]) is float
    assert settings_for(registry.methods["other"], config(tmp_path, settings=tables))["dim"] == 64


def test_a_glob_leaves_alone_what_a_method_does_not_have(tmp_path: Path, registry: Registry) -> None:
    settings = settings_for(registry.methods["mine"], config(tmp_path, settings={"*": {"margin": 0.3}}))
    assert settings == registry.methods["mine"].defaults


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"mine": {"dimm": 2}}, r"\[settings\.mine\]: unknown setting 'dimm'; did you mean dim\?"),
        ({"mine": {"dim": 2.5}}, r"settings\.mine\.dim: expected int as in mine\.toml, got 2\.5"),
        ({"mine": {"dim": True}}, r"settings\.mine\.dim: expected int"),
        ({"*": {"scale": "wide"}}, r"settings\.\*\.scale: expected float"),
        ({"mine": {"deep": 1}}, r"settings\.mine\.deep: expected bool"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(
    tmp_path: Path, registry: Registry, table: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_for(registry.methods["mine"], config(tmp_path, settings=table))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"mien": {"dim": 2}}, r"\[settings\.mien\]: unknown method 'mien'; did you mean mine"),
        ({"min*": {"scael": 2.0}}, r"\[settings\.min\*\]: unknown setting 'scael'; did you mean scale"),
    ],
)
def test_settings_that_reach_no_method_are_refused(
    tmp_path: Path, registry: Registry, table: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        discover(config(tmp_path, paths={"methods": ["."]}, settings=table))
