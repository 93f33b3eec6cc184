"""The results of a run on a device: one JSON file that every part adds to, and the page drawn from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.files import write_atomic

JSON, PAGE = "speed-gpu.json", "speed-gpu.md"
HEAD = """# Speed on a GPU

Written by `make gpu` (`benchmarks/gpu.py`), which says how it measures, on {device}; torch {torch}, CUDA {cuda}.
`score` is n images against m captions from encoded sets; `to ranks` adds the ranks of all pairs and the heads of all
rankings, which `ranks` is alone, on the device and, as its textbook, copied to the host and by NumPy;
`step` is scores, hinge and gradients from encoded sets; `whole step` is one training step: encoders, loss, gradients,
clipping and Adam. **Floor**: the matrix products alone. **Textbook**: the papers' formulas, one caption at a time
against all images (`benchmarks/textbook/`). A time marked * is scaled up from fewer captions. Memory is the peak beyond
what the sets and the method take.

"""
PATHS = ("torch", "kernel", "textbook", "floor")


class Results:
    """The rows of every part, on disk after every row."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / JSON
        self.page = folder / PAGE
        self.parts: dict[str, Any] = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def add(self, part: str, row: dict[str, Any]) -> None:
        self.parts.setdefault(part, []).append(row)
        self._write()

    def put(self, part: str, value: Any) -> None:
        self.parts[part] = value
        self._write()

    def _write(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.file, json.dumps(self.parts, indent=1) + "\n")
        write_atomic(self.page, page(self.parts))


def page(parts: dict[str, Any]) -> str:
    about = {"device": "?", "torch": "?", "cuda": "?", **parts.get("machine", {})}
    text = HEAD.format(**about) + "".join(f"{note}\n\n" for note in parts.get("notes", []))
    text += speed_table(parts.get("speed", []))
    kernels = [row for row in parts.get("speed", []) if row.get("difference") is not None]
    if kernels:
        text += "\n## Largest difference between the kernel's scores and the torch path's\n\n"
        columns = ("method", "shape", "precision", "difference")
        text += table(columns, ([row.get(key, "") for key in columns] for row in kernels))
    sections = (
        ("Tests on the device", "tests", ("outcome", "seconds", "summary")),
        ("Four trials on `scenes`, GPU against CPU", "trials", TRIAL_COLUMNS),
        (
            "Reads from the device in a training step",
            "reads",
            ("method", "precision", "reads_per_step", "places"),
        ),
        ("The kernel in several shapes, 1,000 x 5,000", "tuning", ("method", "precision", "cut", "seconds", "problem")),
        ("Problems", "problems", ("part", "problem")),
    )
    for title, name, columns in sections:
        if parts.get(name):
            text += f"\n## {title}\n\n" + table(columns, ([row.get(key, "") for key in columns] for row in parts[name]))
    for row in parts.get("profile", []):
        text += f"\n## Profile: {row['title']}\n\nBusy {row['busy']:.0%} of the time. {row['note']}\n\n"
        text += table(("kernel", "calls", "ms", "share"), row["kernels"])
    return text


TRIAL_COLUMNS = ("method", "precision", "loss", "cpu_loss", "val_rsum", "cpu_val_rsum", "test_rsum", "cpu_test_rsum")
TRIAL_COLUMNS += ("seconds", "cpu_seconds", "outcome")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *([shown(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def shown(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return str(cell).replace("|", "/").replace("\n", " ")


def speed_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per method, task, shape and precision; a column of seconds per path."""
    cases: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        identity = tuple(str(row[key]) for key in ("method", "task", "shape", "precision"))
        cases.setdefault(identity, {})[row["path"]] = row
    head = ["method", "task", "shape", "precision", *(f"{path}, ms" for path in PATHS)]
    head += ["against the textbook", "of the floor", "memory, MiB", "textbook's memory, MiB"]
    return table(head, (speed_line(identity, paths) for identity, paths in cases.items()))


def speed_line(identity: tuple[str, ...], paths: dict[str, dict[str, Any]]) -> list[str]:
    ours = min((paths[name]["seconds"] for name in ("torch", "kernel") if seconds(paths, name)), default=None)
    textbook, floor = seconds(paths, "textbook"), seconds(paths, "floor")
    faster = f"{textbook / ours:.1f} x faster" if ours and textbook else ""
    above = f"{ours / floor:.2f} x" if ours and floor else ""
    memory = [megabytes(paths.get(name, {})) for name in ("torch", "textbook")]
    return [*identity, *(milliseconds(paths.get(name)) for name in PATHS), faster, above, *memory]


def seconds(paths: dict[str, dict[str, Any]], name: str) -> float | None:
    return paths.get(name, {}).get("seconds")


def milliseconds(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if row.get("seconds") is None:
        return row.get("problem", "failed")
    return f"{row['seconds'] * 1e3:.4g}{'*' if row.get('scaled') else ''}"


def megabytes(row: dict[str, Any]) -> str:
    peak = row.get("peak_bytes")
    return f"{peak / 2**20:,.0f}" if peak is not None else ""
