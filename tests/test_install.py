"""What is installed: the wheel's files, exact versions, and (soak) a stranger's first minutes with both."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("harness", "methods", "datasets", "pyproject.toml", "README.md")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HARNESS_DATA")}


def build(folder: Path, isolated: bool = False) -> Path:
    """A wheel of a copy of the sources: building leaves files beside them."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder / "dist")]
    words += [] if isolated else ["--no-build-isolation", "--no-index"]
    subprocess.run([*words, str(folder)], check=True, env=ENVIRONMENT, capture_output=True)
    return next((folder / "dist").glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_every_module_card_and_template(tmp_path: Path) -> None:
    names = set(zipfile.ZipFile(build(tmp_path)).namelist())
    wanted = {str(file.relative_to(ROOT)) for file in (ROOT / "harness").rglob("*.py")}
    wanted |= {f"harness/templates/{file.name}" for file in (ROOT / "harness" / "templates").iterdir()}
    wanted |= {"harness/config/defaults.toml", "harness/py.typed"}
    wanted |= {f"methods/{file.name}" for file in (ROOT / "methods").iterdir() if file.suffix in (".py", ".toml")}
    wanted |= {
        f"harness/dataset_cards/{file.parent.name}/card.toml" for file in (ROOT / "datasets").glob("*/card.toml")
    }
    assert wanted <= names
    assert {name for name in names if ".dist-info/" not in name} == wanted


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_constraints_pin_all_that_the_project_asks_for_exactly() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[^\w-]", name)[0].lower() for name in requirements} - {"itm-harness"}
    assert names <= pins().keys()
    assert all(re.fullmatch(r"[\d.]+(b\d+|\.post\d+)?", version) for version in pins().values())


def test_constraints_pin_what_the_installed_versions_ask_for_in_turn() -> None:
    todo, seen = {"torch", "mlflow", "ray", "optuna", "pandas"}, set()
    while todo:
        name = todo.pop()
        seen.add(name)
        lines = [line for line in requires(name) or [] if ";" not in line]  # not for another platform or an extra
        todo |= {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in lines} - seen
    assert seen <= pins().keys()


def test_make_says_which_python_is_needed(tmp_path: Path) -> None:
    words = ["make", "-C", str(ROOT), f"VENV={tmp_path}/venv", "PYTHON=false", "test"]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-2:] == ["make test", "make test-slow"]
    assert "make test" in (ROOT / "README.md").read_text() and "make run" in (ROOT / "README.md").read_text()


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_an_installed_wheel_lists_inits_and_runs_the_embedded_job_from_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    wheel, work = build(tmp_path / "sources", isolated=True), tmp_path / "work"
    work.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    words = [str(tmp_path / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
    subprocess.run([*words, "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True, env=ENVIRONMENT)

    def harness(*words: str) -> str:
        program = str(tmp_path / "venv" / "bin" / "harness")
        done = subprocess.run([program, *words], cwd=work, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "vsepp" in harness("list", "methods") and "scenes" in harness("list", "datasets")
    harness("init")
    out = harness("run", "--methods", "vsepp,chance", "--seeds", "0", "-s", "training.epochs=1")
    assert "2 done" in out and (work / "reports" / "scenes-full.md").is_file()
    assert "nothing to do" in harness("run", "--methods", "vsepp,chance", "--seeds", "0", "-s", "training.epochs=1")
