"""The pages and JSON of `harness doctor` and `harness gc`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table

from harness.doctor.diagnosis import Diagnosis, Health
from harness.terminal.output import Text, count

SIGNS = {Health.FAULT: ("✗", "bold red"), Health.WARNING: ("!", "yellow"), Health.SOUND: ("✓", "green")}


def doctor_page(diagnoses: Sequence[Diagnosis]) -> Iterator[RenderableType]:
    """A line for every finding, with its cure below."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for one in diagnoses:
        sign, style = SIGNS[one.health]
        grid.add_row(Text(sign, style), Text(one.check, "bold"), Text(one.message))
        if one.cure:
            grid.add_row("", "", Padding(Text.assemble("→ ", one.cure), (0, 0, 0, 2)))
    yield grid
    yield summary(diagnoses)


def summary(diagnoses: Sequence[Diagnosis]) -> str:
    """What it comes to."""
    counts = Counter(one.health for one in diagnoses)
    faults, warnings = counts[Health.FAULT], counts[Health.WARNING]
    also = f"{count(warnings, 'warning')}, " if warnings else ""
    if faults:
        return f"{count(faults, 'fault')} would stop a run, {also}{counts[Health.SOUND]} checks are well"
    return f"nothing would stop a run: {also}{counts[Health.SOUND]} checks are well"


def doctor_json(diagnoses: Sequence[Diagnosis]) -> dict[str, Any]:
    """Every finding, and how many there are of each kind."""
    counts = Counter(one.health for one in diagnoses)
    return {
        "counts": {health.value: counts[health] for health in Health},
        "checks": [one._asdict() for one in diagnoses],
    }
