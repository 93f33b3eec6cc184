"""A rule of the contract, and what its parts raise: it is broken, or has nothing to say about a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.config.cards import MethodCard

PAGE = "docs/reference/contract.md"
SCORES = ("builds", "shapes", "finite")  # without these no other score says anything


class BrokenRule(Exception):
    """A method breaks a rule of the contract; the message says which numbers or names show it."""


class DoesNotApply(Exception):
    """A rule has nothing to check in a method; the message says why."""


@dataclass(frozen=True)
class Rule:
    name: str  # also the heading of its section on the page of the contract
    title: str
    parts: tuple[Callable[[MethodCard], None], ...]
    needs: tuple[str, ...] = SCORES  # rules without which it says nothing

    @property
    def page(self) -> str:
        """Where to read about it."""
        return f"{PAGE}#{self.name}"


def hold(holds: bool, message: str) -> None:
    """BrokenRule with the message, unless it holds."""
    if not holds:
        raise BrokenRule(message)
