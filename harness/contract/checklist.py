"""The contract as a checklist: every rule by name, in the order in which it makes sense to mend them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from harness.config.cards import MethodCard
from harness.config.registry import Registry, load_class
from harness.contract.rule import BrokenRule, DoesNotApply, Rule
from harness.errors import raised


@dataclass(frozen=True)
class Outcome:
    rule: Rule
    state: Literal["passed", "broken", "skipped"]
    seconds: float
    message: str = ""  # what is broken, or why it was skipped


def outcomes(card: MethodCard, registry: Registry) -> Iterator[Outcome]:
    """Check a method, rule after rule; ConfigError where its class cannot be imported."""
    from harness.contract.rules import rules_of
    from harness.contract.samples import one_thread

    load_class(card)
    with one_thread(), TemporaryDirectory() as folder:
        yield from in_turn(card, rules_of(registry, Path(folder)))


def in_turn(card: MethodCard, rules: tuple[Rule, ...]) -> Iterator[Outcome]:
    """Every rule's outcome; one that needs another that is broken is skipped."""
    bad: set[str] = set()
    for rule in rules:
        missing = [name for name in rule.needs if name in bad]
        outcome = Outcome(rule, "skipped", 0.0, f"mend {missing[0]} first") if missing else checked(card, rule)
        bad |= {rule.name} if missing or outcome.state == "broken" else set()
        yield outcome


def count(registry: Registry) -> int:
    """The number of rules."""
    from harness.contract.rules import rules_of

    return len(rules_of(registry, Path()))


def checked(card: MethodCard, rule: Rule) -> Outcome:
    """The outcome of one rule. A method may raise anything, which breaks the rule that called it."""
    began = time.perf_counter()
    state, message = "passed", ""
    try:
        for part in rule.parts:
            part(card)
    except DoesNotApply as reason:
        state, message = "skipped", str(reason)
    except BrokenRule as fault:
        state, message = "broken", str(fault)
    except (Exception, SystemExit) as error:  # noqa: BLE001  the boundary where what a method raises becomes a line of the list
        state, message = "broken", raised(error, card.path.parent)
    return Outcome(rule, state, time.perf_counter() - began, message)  # type: ignore[arg-type]
