"""Versions, machine and commit of a result: recorded with every trial, never part of its identity."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import harness

DECIDING = ("harness", "methods", "datasets")  # changes elsewhere in a checkout decide no result
RECORDED = ("torch", "numpy", "ray", "mlflow", "optuna", "pillow", "transformers", "tokenizers")


def environment(device: torch.device) -> dict[str, str]:
    commit, dirty = commit_of(Path(harness.__file__).parent)
    return {
        "harness": harness.__version__,
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        **{name: installed(name) for name in RECORDED},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cuda": torch.version.cuda or "" if device.type == "cuda" else "",
        "gpu_memory_mb": str(torch.cuda.mem_get_info(device)[1] >> 20) if device.type == "cuda" else "",
        "cpu": cpu_model(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "threads": str(torch.get_num_threads()),
    }


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def commit_of(package: Path) -> tuple[str, str]:
    """Commit of the checkout that tracks a package, and "yes" or "no" for uncommitted changes; both empty outside one.

    An installed package may lie inside somebody's repository without being part of it.
    """
    try:
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        commit = _git(package, "rev-parse", "HEAD")
        changed = _git(package.parent, "status", "--porcelain", "--untracked-files=no", "--", *DECIDING)
    except (OSError, subprocess.SubprocessError):
        return "", ""
    return commit, "yes" if changed else "no"


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
