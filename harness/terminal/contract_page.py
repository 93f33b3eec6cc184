"""The checklist of a method's contract, as a page and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from harness.config.cards import MethodCard
from harness.contract.checklist import Outcome
from harness.terminal.output import Text, near, table

STYLES = {"passed": "green", "broken": "bold red", "skipped": "dim"}


def contract_page(card: MethodCard, outcomes: Sequence[Outcome], following: str) -> Iterator[RenderableType]:
    """The list with its times, what is broken and where to read about it, and the next command."""
    yield Text.assemble((card.name, "bold"), f"  {near(card.path)}, at small sizes")
    yield checklist(outcomes)
    for outcome in outcomes:
        if outcome.state == "broken":
            head = Text.assemble((f"\n{outcome.rule.name}", STYLES["broken"]), f"  {outcome.message}")
            yield Text.assemble(head, f"\n  read {outcome.rule.page}")
    yield Text(f"\n{last_line(outcomes)}; {following}")


def checklist(outcomes: Sequence[Outcome]) -> Table:
    rows = table("rule", "", "s", "", right=("s",))
    for outcome in outcomes:
        note = f" ({outcome.message})" if outcome.state == "skipped" else ""
        seconds = "" if outcome.state == "skipped" else f"{outcome.seconds:.2f}"
        state = Text(outcome.state, style=STYLES[outcome.state])
        rows.add_row(outcome.rule.name, state, seconds, Text(f"{outcome.rule.title}{note}"))
    return rows


def last_line(outcomes: Sequence[Outcome]) -> str:
    """How many rules passed, are broken and were skipped, and in what time."""
    counts = Counter(outcome.state for outcome in outcomes)
    numbers = ", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state])  # type: ignore[index]
    return f"{numbers} in {sum(outcome.seconds for outcome in outcomes):.1f} s"


def contract_json(lists: Mapping[str, Sequence[Outcome]], cards: Mapping[str, MethodCard]) -> list[dict[str, Any]]:
    """Every rule of every method."""
    return [
        {
            **{"method": name, "card": str(cards[name].path)},
            "rules": [outcome_json(outcome) for outcome in outcomes],
            "broken": [outcome.rule.name for outcome in outcomes if outcome.state == "broken"],
        }
        for name, outcomes in lists.items()
    ]


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    return {
        **{"rule": outcome.rule.name, "title": outcome.rule.title, "state": outcome.state},
        **{"seconds": round(outcome.seconds, 3), "message": outcome.message, "page": outcome.rule.page},
    }
