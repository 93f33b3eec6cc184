"""The house keeps its shape: imports run one way, each heavy library has one door, nothing unpickles a file."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from harness.config.project import Config
from harness.config.registry import discover

ROOT = Path(__file__).parents[1]

# A package imports itself, these, and GROUND; of another package only the modules in FRONT. The order is part of the
# rule: what stands further down may not be imported by what stands above it.
PACKAGES = {
    "config": "method",
    "blocks": "method",
    "data": "config",
    "layouts": "config data",
    "evaluation": "method config blocks data",
    "reranking": "method blocks data evaluation",
    "diagnostics": "config data evaluation",
    "costs": "method config blocks data evaluation",
    "trial": "method config blocks data layouts evaluation reranking diagnostics costs",
    "contract": "method config data layouts evaluation trial",
    "executors": "config trial",
    "tracking": "config evaluation diagnostics trial",
    "acquisition": "config",
    "conversion": "data",
    "preparation": "config data layouts evaluation",
    "extraction": "data",
    "board": "config evaluation diagnostics trial tracking",
    "campaign": "config data layouts evaluation diagnostics trial executors tracking preparation board",
    "search": "config trial tracking board campaign",
    "planning": "config evaluation tracking board campaign",
    "explain": "method config blocks data layouts evaluation diagnostics trial tracking extraction board campaign",
    "retention": "config trial tracking board campaign",
    "doctor": "config data trial executors tracking preparation campaign",
    "portable": "method config data layouts evaluation diagnostics trial tracking campaign explain",
    # What scripts call, the calls that `cli` makes: it may import what `cli` may, by the same doors.
    "api": "method config data layouts evaluation diagnostics trial tracking board campaign planning explain portable",
    "terminal": "config data evaluation trial contract tracking acquisition preparation extraction board campaign"
    " search planning explain retention doctor portable",
    "cli": "config data diagnostics trial contract tracking acquisition conversion preparation extraction board"
    " campaign search planning explain retention doctor portable terminal",
}
FRONT = {
    "config": "cards choice method_template names noise papers project registry sections selection sources template"
    " toml transfer",
    "blocks": "attention encoders families host losses pooling pooling_operator residual_mlp tiles",
    "data": "arrays cache content dataset pictures region_store region_writer regions split text_encoder tokens"
    " torchvision word_vectors",
    "layouts": "detection opening previews",
    "evaluation": "measures outcome positives protocols queries rankings ranks records score_files scoring shortlists"
    " statistics streaming",
    "reranking": "order pairs",
    "diagnostics": "choices hubness looks table",
    "costs": "retrieval sharing",
    "trial": "device ensembles environment external folder models private_folders results steps text_tower training",
    "contract": "checklist",
    "executors": "executor placement ray_cluster ray_session",
    "tracking": "artifacts columns commands connection discarded log logged naming result_store runs store tracker",
    "acquisition": "download pace",
    "conversion": "convert opening",
    "preparation": "card findings validation",
    "extraction": "extract placed_boxes vision_models",
    "board": "cells comparison drawing evidence export forms markup plots publishing standings",
    "campaign": "composites course current driver estimate external_scores guardian healing inputs plan"
    " removal reproduction status",
    "search": "campaign confirmation method_search plan publishing space status studies",
    "planning": "plans power",
    "explain": "attention_page encoding examples_page explanation gallery picture private_pages query_picture"
    " rescoring retrieval retrieval_page weights",
    "doctor": "diagnosis examination",
    "retention": "inventory sweep",
    "portable": "export loading results scored_weights weights_folder",
    "api": "",  # `import harness` reaches it
    "terminal": "board_page campaign_page contract_page dataset_page output planning_page retrieval_page search_page"
    " upkeep_page view",
    "cli": "",
}
GROUND = {"addresses", "errors", "files", "foreign_text", "interruption", "processors"}
TOP = {*GROUND, "method", "__main__"}  # the modules of harness/ itself
MOST = 15  # modules of a package
LIBRARIES = {
    "ray": "executors.ray_session",
    "mlflow": "tracking.connection",
    "optuna": "search.optuna_study",
    "matplotlib": "board.drawing",
    "jinja2": "board.markup",
    "click": "cli.* terminal.output",
    "rich": "cli.* terminal.*",
    "pooch": "acquisition.download",
    "requests": "acquisition.download",
    "triton": "blocks.fused blocks.kernels",
    "transformers": "data.text_encoder extraction.hugging_face",
    "timm": "extraction.timm_models",
    "torch": "method blocks.* trial.steps trial.models trial.training trial.batches trial.checkpoint trial.device"
    " trial.environment trial.text_tower evaluation.device_ranks evaluation.scoring data.torchvision"
    " extraction.extract extraction.extractors extraction.folding extraction.given_boxes extraction.hugging_face"
    " extraction.backbones extraction.patch_encoder extraction.timm_models extraction.vision_models"
    " extraction.weights explain.explanation costs.retrieval costs.sharing portable.loading"
    " trial.combining reranking.pairs explain.encoding explain.tile_files doctor.probe contract.samples"
    " contract.scores contract.gradients contract.learning contract.oracle contract.device_reads contract.rules",
}
HEAVY = (
    "transformers",
    "timm",
    "torchvision",
    "torch",
    "ray",
    "mlflow",
    "optuna",
    "matplotlib",
    "pandas",
    "pooch",
    "requests",
)
FEW = 0.04  # the share of functions that may be longer than 30 lines


def files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def module_of(file: Path) -> str:
    """`board.cells` of harness/board/cells.py."""
    return ".".join(file.relative_to(ROOT / "harness").with_suffix("").parts)


HARNESS, METHODS = files("harness"), files("methods")
MODULES = {module_of(file): file for file in HARNESS if file.stem != "__init__"}
each_module = pytest.mark.parametrize("module", MODULES)
each_file = pytest.mark.parametrize("file", [*HARNESS, *METHODS], ids=name_of)


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def imports(file: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, at its top or later; of `from harness.a import b` it is harness.a.b."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: line {node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def libraries(file: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(file)}


def modules(file: Path) -> set[str]:
    """The modules of harness that a file imports."""
    parts = [name.split(".")[1:] for name in imports(file) if name.startswith("harness.")]
    return {".".join(part[:length]) for part in parts for length in (1, 2)} & set(MODULES)


def package_of(module: str) -> str:
    return module.rpartition(".")[0]


def misplaced(module: str, imported: str) -> str:
    """Why a module may not import another; empty where it may."""
    own, other = package_of(module), package_of(imported)
    if own == other or imported in GROUND or (module, imported) == ("__main__", "cli.main"):
        return ""
    if (other or imported) not in PACKAGES.get(own, "").split():
        return f"{own or module} may not import {other or imported}"
    if other and imported.partition(".")[2] not in FRONT[other].split():
        return f"{imported} is not a door of {other}"
    return ""


@each_module
def test_imports_run_one_way_and_through_doors(module: str) -> None:
    faults = [fault for imported in sorted(modules(MODULES[module])) if (fault := misplaced(module, imported))]
    assert not faults, f"{module}: {'; '.join(faults)}"
    assert "methods" not in libraries(MODULES[module]), f"{module} imports a method"


def test_a_planted_import_past_a_door_or_upward_is_seen() -> None:
    assert misplaced("config.cards", "board.cells") == "config may not import board"
    assert misplaced("trial.steps", "layouts.coco") == "layouts.coco is not a door of layouts"
    assert misplaced("files", "config.cards") == "files may not import config"
    assert misplaced("trial.steps", "layouts.opening") == misplaced("cli.main", "errors") == ""


def test_the_table_of_packages_has_no_circle_and_no_door_to_nowhere() -> None:
    for number, (package, allowed) in enumerate(PACKAGES.items()):
        above = [*PACKAGES][:number]
        assert set(allowed.split()) <= {*above, "method"}, f"{package} imports what stands below it"
    doors = {f"{package}.{name}" for package, names in FRONT.items() for name in names.split()}
    assert doors <= set(MODULES), f"doors to nowhere: {doors - set(MODULES)}"


def test_what_the_tables_allow_is_used() -> None:
    used = {(package_of(module), imported) for module, file in MODULES.items() for imported in modules(file)}
    arrows = {(own, package_of(other) or other) for own, other in used}
    unused = {
        f"{own} -> {other}" for own, names in PACKAGES.items() for other in names.split() if (own, other) not in arrows
    }
    assert not unused, "allowed and not used"
    opened = {other for own, other in used if own != package_of(other)}
    doors = {f"{package}.{name}" for package, names in FRONT.items() for name in names.split()}
    closed = {door for door in doors - opened if package_of(door) != "blocks"}  # those are for anybody's method
    assert not closed, "doors that nobody uses"


def circle(imports_of: Mapping[str, set[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(imports_of).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_modules_make_no_circle_and_a_planted_one_is_seen() -> None:
    graph = {module: modules(file) for module, file in MODULES.items()}
    assert not circle(graph)
    planted = {**graph, "config.toml": {*graph["config.toml"], "config.project"}}
    assert {"config.toml", "config.project"} <= set(circle(planted))


def test_no_two_public_classes_share_a_name() -> None:
    homes: dict[str, list[str]] = {}
    for module, file in MODULES.items():
        for node in tree(file).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    assert not {name: modules for name, modules in homes.items() if len(modules) > 1}


def test_every_package_is_flat_small_and_begins_with_a_docstring_alone() -> None:
    assert {module for module in MODULES if not package_of(module)} == TOP
    assert {package_of(module) for module in MODULES} - {""} == set(PACKAGES)
    for package in PACKAGES:
        assert sum(package_of(module) == package for module in MODULES) <= MOST, package
        body = tree(ROOT / "harness" / package / "__init__.py").body
        assert len(body) == 1 and isinstance(body[0], ast.Expr), f"{package}/__init__.py is a docstring"


def test_the_page_of_the_architecture_names_every_package_with_what_it_imports() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = {
        cells[0].strip("` "): cells[-1] for line in page.splitlines() if len(cells := line.strip("|").split("|")) == 3
    }
    for package, allowed in PACKAGES.items():
        assert set(re.findall(r"\w+", rows[package])) == set(allowed.split()), f"docs/architecture.md: {package}"


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_heavy_library_has_its_door(library: str) -> None:
    users = {module for module, file in MODULES.items() if library in libraries(file)}
    doors = LIBRARIES[library].split()
    spread = library in ("torch", "transformers", "click", "rich")  # `cli` and `terminal` are one front
    assert spread or len({package_of(door) for door in doors}) == 1, "one folder a library"
    assert not {user for user in users if user not in doors and f"{package_of(user)}.*" not in doors}


@pytest.mark.parametrize("file", METHODS, ids=name_of)
def test_a_method_imports_only_its_interface_the_shared_blocks_torch_and_the_standard_library(file: Path) -> None:
    for name in imports(file):
        top = name.partition(".")[0]
        ours = name.startswith(("harness.method.", "harness.blocks."))
        assert ours or top == "torch" or top in sys.stdlib_module_names, f"{file.name} imports {name}"


def test_every_dependency_is_imported_by_the_harness_or_a_method() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}  # type: ignore[index]
    imported = set().union(*(libraries(file) for file in (*HARNESS, *METHODS)))
    assert not {{"pillow": "PIL"}.get(name, name) for name in names} - imported


def test_no_test_imports_another() -> None:
    for file in files("tests"):
        assert not [name for name in libraries(file) if name.startswith(("test_", "tests"))], name_of(file)


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


@cache
def own_methods() -> set[str]:
    return set(discover(Config(root=ROOT)).methods)


@pytest.mark.parametrize("file", HARNESS, ids=name_of)
def test_the_harness_names_no_method(file: Path) -> None:
    named = own_methods() & set(code_words(file))
    assert not named, f"{file.name} names {named}"


def test_dataset_folders_hold_no_python() -> None:
    assert not list((ROOT / "datasets").rglob("*.py"))


def test_everything_but_training_is_imported_without_a_heavy_library() -> None:
    heavy = {*LIBRARIES["torch"].split()}
    light = sorted(name for name in MODULES if not {name, f"{package_of(name)}.*"} & heavy)
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
