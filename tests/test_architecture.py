"""The house keeps its shape: imports run one way, each heavy library has one door, nothing unpickles a file."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from harness.config import Config
from harness.registry import discover

ROOT = Path(__file__).parents[1]

# A module imports from its own floor or from a lower one. A new module gets its place here.
FLOORS = (
    {"errors"},
    {"sections", "config", "cards", "results", "folders", "method", "attention", "tiles", "blocks"}
    | {"ranking", "machine", "memory", "placement", "external"},
    {"regions", "arrays", "region_store", "region_writer", "captions", "splits", "files", "word_vectors"}
    | {"pretrained_text", "pictures", "galleries"},
    {"grammar", "drawing", "scenes", "coco", "precomp", "entity_files", "entities", "by_id", "karpathy", "own_folder"}
    | {"region_source", "butd_tsv", "array_folder", "convert", "fetch"},
    {"data", "findings", "region_scan", "caption_checks", "image_checks", "picture_checks", "protocol_checks"}
    | {"validate", "folder_kinds"}
    | {"protocols", "shortlists", "streaming", "positives", "ids", "registry", "sources", "matrix", "answers"}
    | {"looks"},
    {"environment", "evaluate", "batches", "extractors", "vision_models", "extract"},
    {"train"},
    {"checkpoint", "trial"},
    {"executors", "courier", "cluster", "columns", "store", "artifacts", "tracking", "stats", "board", "evidence"}
    | {"queries", "kept", "axes", "charts", "lines", "markup", "board_plots", "grid", "more_measures"}
    | {"board_page", "method_page", "published", "report", "webpage", "forms", "trec", "tables", "examples"}
    | {"space", "studies", "ledger", "search", "archive"},
    {"interruption", "attempts", "shares", "recording", "scribe", "resume", "planning", "campaign", "status"}
    | {"subject", "searching", "figures", "plots", "search_report"}
    | {"examples_page", "weights", "explain", "attention_map", "attention_picture"},
    {"init", "init_dataset", "view", "output", "compare", "reproduction", "catalogue"}
    | {"summary", "search_summary", "search_status", "publish", "flags", "cli", "cli_reports"}
    | {"scoring", "export", "cli_exchange", "cli_examples", "cli_data", "cli_init", "cli_validate", "validate_page"},
)
DOORS = {
    "ray": {"cluster"},
    "optuna": {"search", "archive", "ledger"},
    "mlflow": {"tracking"},
    "matplotlib": {"plots"},
    "transformers": {"pretrained_text", "vision_models", "extractors"},
    "torch": {"method", "attention", "tiles", "blocks", "evaluate", "batches", "train", "trial", "environment"}
    | {"memory", "checkpoint", "extractors", "vision_models"},
}
BEHIND = {"ledger"}  # a class of Optuna's with more to it: search imports it when it opens a file
HEAVY = ("transformers", "torch", "ray", "mlflow", "optuna", "matplotlib", "pandas")
FEW = 0.04  # the share of functions that may be longer than 30 lines


def files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).glob("*.py"))


def name_of(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


HARNESS, METHODS = files("harness"), files("methods")
MODULES = [file.stem for file in HARNESS if file.stem != "__init__"]
each_file = pytest.mark.parametrize("file", [*HARNESS, *METHODS], ids=name_of)


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def imports(file: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, at its top or later; of `from harness import x` it is harness.x."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: line {node.lineno}: a relative import"
            if node.module in ("harness", "methods"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def rooms(file: Path) -> set[str]:
    """The modules of harness that a file imports."""
    return {name.split(".")[1] for name in imports(file) if name.startswith("harness.")} & set(MODULES)


def test_every_module_has_its_floor() -> None:
    placed = [name for floor in FLOORS for name in floor]
    assert len(placed) == len(set(placed))
    assert set(MODULES) <= set(placed), "place the new module in FLOORS"


@pytest.mark.parametrize("file", HARNESS, ids=name_of)
def test_imports_run_one_way(file: Path) -> None:
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    upward = {name for name in rooms(file) if floor.get(name, 0) > floor.get(file.stem, len(FLOORS))}
    assert not upward, f"{file.name} imports {upward} from a higher floor"
    assert not any(name.split(".")[0] == "methods" for name in imports(file)), f"{file.name} imports a method"


def test_imports_make_no_circle() -> None:
    graphlib.TopologicalSorter({file.stem: rooms(file) for file in HARNESS}).prepare()


@pytest.mark.parametrize("library", DOORS)
def test_each_heavy_library_has_its_door(library: str) -> None:
    users = {file.stem for file in HARNESS if any(name.split(".")[0] == library for name in imports(file))}
    assert users <= DOORS[library]


@pytest.mark.parametrize("file", METHODS, ids=name_of)
def test_a_method_imports_only_its_interface_the_shared_blocks_torch_and_the_standard_library(file: Path) -> None:
    allowed = {"harness.method", "harness.blocks", "harness.attention"}
    for name in imports(file):
        top = name.split(".")[0]
        assert name in allowed or top == "torch" or top in sys.stdlib_module_names, f"{file.name} imports {name}"


def code_words(file: Path) -> Iterator[str]:
    """Identifiers, and the words of strings; docstrings and comments may speak of papers."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from re.findall(r"\w+", node.value)
        yield from (
            value for field in ("id", "attr", "arg", "name") if isinstance(value := getattr(node, field, None), str)
        )


@pytest.mark.parametrize("file", HARNESS, ids=name_of)
def test_the_harness_names_no_method(file: Path) -> None:
    named = set(discover(Config(root=ROOT)).methods) & set(code_words(file))
    assert not named, f"{file.name} names {named}"


def test_dataset_folders_hold_no_python() -> None:
    assert not list((ROOT / "datasets").rglob("*.py"))


def test_everything_but_training_is_imported_without_a_heavy_library() -> None:
    light = sorted(set(MODULES) - DOORS["torch"] - BEHIND)
    check = f"import sys; heavy = set({HEAVY}) & set(sys.modules); assert not heavy, heavy"
    script = "\n".join([*(f"import harness.{name}" for name in light), check])
    subprocess.run([sys.executable, "-c", script], check=True)


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the last part of the called name, and what it is called on."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> object:
    return next((getattr(k.value, "value", None) for k in call.keywords if k.arg == name), None)


@pytest.mark.parametrize("file", [*HARNESS, *METHODS, *files("benchmarks")], ids=name_of)
def test_nothing_unpickles_a_file_or_runs_text_as_code(file: Path) -> None:
    unpicklers = {"pickle", "cloudpickle", "dill", "shelve", "joblib", "marshal"}
    assert not {name.split(".")[0] for name in imports(file)} & unpicklers
    for called, call in calls(file):
        where = f"{file.name}, line {call.lineno}: {called}"
        assert keyword(call, "allow_pickle") is not True, where
        assert called not in ("exec", "eval", "pandas.read_pickle", "pd.read_pickle"), where
        assert not called.endswith(".cuda"), f"{where}: a method or a tensor goes to its device by .to(device)"
        if called in ("np.load", "numpy.load"):
            assert keyword(call, "allow_pickle") is False, f"{where} without allow_pickle=False"
        if called == "torch.load":
            assert keyword(call, "weights_only") is True, f"{where} without weights_only=True"


@each_file
def test_a_file_has_no_star_import_and_no_global_that_changes(file: Path) -> None:
    for node in ast.walk(tree(file)):
        assert not isinstance(node, ast.Global), f"{file.name}, line {getattr(node, 'lineno', 0)}: global"
        if isinstance(node, ast.ImportFrom):
            assert node.names[0].name != "*", f"{file.name}, line {node.lineno}: star import"


@each_file
def test_a_file_is_named_by_a_noun_and_not_too_long(file: Path) -> None:
    assert file.stem not in {"utils", "util", "helpers", "common", "base", "misc"}
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 350


def test_functions_are_short() -> None:
    lengths = {
        f"{name_of(file)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for file in (*HARNESS, *METHODS)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = {name: length for name, length in lengths.items() if length > 30}
    assert not {name: length for name, length in long.items() if length > 50}
    assert len(long) <= FEW * len(lengths), long
