"""The pages and JSON of `harness doctor` and `harness gc`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table

from harness.doctor.diagnosis import Diagnosis, Health
from harness.errors import count
from harness.retention.inventory import Heap
from harness.terminal.output import Text, near, table

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
    passed = f"{count(counts[Health.SOUND], 'check')} passed"
    if faults:
        return f"{count(faults, 'fault')} would stop a run, {also}{passed}"
    return f"nothing would stop a run: {also}{passed}"


def doctor_json(diagnoses: Sequence[Diagnosis]) -> dict[str, Any]:
    """Every finding, and how many there are of each kind."""
    counts = Counter(one.health for one in diagnoses)
    return {
        "counts": {health.value: counts[health] for health in Health},
        "checks": [one._asdict() for one in diagnoses],
    }


def gc_page(piles: Sequence[Heap], staying: Sequence[Heap], chosen: Sequence[Heap]) -> Iterator[RenderableType]:
    """What can go and why, what stays, and what was chosen to go."""
    grid = table("what", "items", "size", "", "why", right=("items", "size"))
    for pile in piles:
        mark = "goes" if pile in chosen else pile.flag
        grid.add_row(pile.name, f"{len(pile.items):,}", in_bytes(pile.bytes), mark, pile.reason)
    for pile in staying:
        grid.add_row(pile.name, "", in_bytes(pile.bytes), "stays", pile.reason)
    yield grid if piles or staying else "there is nothing yet"


def gc_end(chosen: Sequence[Heap], is_removed: bool, command: str) -> str:
    """What was removed, or the command that removes it."""
    size = in_bytes(sum(pile.bytes for pile in chosen))
    if is_removed:
        return f"{size} freed"
    if not chosen:
        return "nothing to remove"
    return f"nothing was removed; {command} frees {size}, and --json lists every file"


def gc_json(piles: Sequence[Heap], staying: Sequence[Heap], chosen: Sequence[Heap], is_removed: bool) -> dict[str, Any]:
    """Every item with its size, and what was or would be freed."""

    def heap(pile: Heap) -> dict[str, Any]:
        items = [{"path": near(item.path), "bytes": item.bytes} for item in pile.items]
        return {"name": pile.name, "reason": pile.reason, "flag": pile.flag, "bytes": pile.bytes, "items": items}

    return {
        "removed": is_removed,
        "bytes": sum(pile.bytes for pile in chosen),
        "goes": [heap(pile) for pile in chosen],
        "could_go": [heap(pile) for pile in piles if pile not in chosen],
        "stays": [{"name": pile.name, "reason": pile.reason, "bytes": pile.bytes} for pile in staying],
    }


def in_bytes(size: float) -> str:
    """A size as people read it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
