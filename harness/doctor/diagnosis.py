"""What one check says, and a round of checks: one that breaks is itself a finding, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from harness.errors import HarnessError, first_line

REPORT = "run `harness doctor -v` and report what it prints"


class Health(StrEnum):
    """How grave a finding is, the gravest first."""

    FAULT = "fault"  # a run would stop
    WARNING = "warning"  # a run would be slower or poorer, or something lies about
    SOUND = "ok"


class Diagnosis(NamedTuple):
    """What a check has found; `cure` is what to do about it, one line."""

    check: str
    health: Health
    message: str
    cure: str = ""


class Remark(NamedTuple):
    """A diagnosis before it has the name of its check."""

    health: Health
    message: str
    cure: str = ""


class Check(NamedTuple):
    """One thing to look at."""

    name: str
    look: Callable[[], Iterable[Remark]]


def sound(message: str) -> Remark:
    return Remark(Health.SOUND, message)


def warning(message: str, cure: str) -> Remark:
    return Remark(Health.WARNING, message, cure)


def fault(message: str, cure: str) -> Remark:
    return Remark(Health.FAULT, message, cure)


def examined(checks: Sequence[Check], tell: Callable[[str], None]) -> list[Diagnosis]:
    """What all checks have found, the gravest first; `tell` hears the name of each."""
    diagnoses: list[Diagnosis] = []
    for check in checks:
        tell(check.name)
        diagnoses += looked(check)
    return gravest_first(diagnoses)


def gravest_first(diagnoses: Iterable[Diagnosis]) -> list[Diagnosis]:
    """Faults, then warnings, then what is sound; those of one kind in their order."""
    order = [*Health]
    return sorted(diagnoses, key=lambda one: order.index(one.health))


def has_fault(diagnoses: Iterable[Diagnosis]) -> bool:
    """Whether anything would stop a run."""
    return any(one.health is Health.FAULT for one in diagnoses)


def looked(check: Check) -> Iterator[Diagnosis]:
    """What a check has found; its own failure is a fault."""
    try:
        for remark in check.look():
            yield Diagnosis(check.name, *remark)
    except HarnessError as error:
        yield Diagnosis(check.name, Health.FAULT, *message_and_cure(str(error)))
    except Exception as error:  # noqa: BLE001  a broken check is a finding, and must not hide those of the others
        yield Diagnosis(
            check.name, Health.FAULT, f"the check broke: {type(error).__name__}: {first_line(error)}", REPORT
        )


def message_and_cure(text: str) -> tuple[str, str]:
    """What an error of the harness says is wrong, and what it says to do: behind its last semicolon, or from an if."""
    text = " ".join(text.split())
    message, _, cure = text.partition(". If ")
    if cure:
        return message, f"if {cure}"
    message, _, cure = text.rpartition("; ")
    return (message, cure) if message else (cure, "")
