"""The installed packages: against what the harness asks for and what was tested, and what optional ones enable."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from harness.config.sources import PACKAGE
from harness.doctor.diagnosis import Remark, fault, sound, warning

DISTRIBUTION = "itm-harness"
NAMESAKE = "harness"  # of PyPI: another project, which installs a package of our name into the same place
EXTRAS = {
    "vision": "pictures to regions, `harness data extract`",
    "text": "pretrained text and dual encoders, [text] encoder",
    "cmaes": 'the sampler "cmaes" of searches',
}
CONSTRAINTS = PACKAGE.parent / "constraints.txt"  # of a checkout


def packages() -> Iterator[Remark]:
    """Every package that the harness needs."""
    needed = [one for one in requirements() if one.marker is None]
    wrong = [problem for one in needed if (problem := problem_of(one))]
    for problem in wrong:
        yield fault(problem, f"pip install -U {DISTRIBUTION}, in the environment of the `harness` command")
    if has_namesake():
        reason = f"the distribution {NAMESAKE!r} is another project, whose files lie where ours do"
        yield fault(reason, f"pip uninstall {NAMESAKE}; then install {DISTRIBUTION} again")
    elif not wrong:
        yield sound(f"{len(needed)} that the harness needs are here{tested(needed)}")


def has_namesake() -> bool:
    """Whether the other project of our package's name is installed, too."""
    return not problem_of(Requirement(NAMESAKE))


def extras() -> Iterator[Remark]:
    """What optional packages enable; one of which a part is missing or too old is a warning."""
    for name, enabled in EXTRAS.items():
        own = [one for one in requirements() if one.marker and one.marker.evaluate({"extra": name})]
        wrong = [problem for one in own if (problem := problem_of(one))]
        install = f"pip install '{DISTRIBUTION}[{name}]'"
        if not wrong:
            yield sound(f"[{name}] is here: {enabled}")
        elif len(wrong) == len(own):
            yield sound(f"[{name}] is not installed; it enables {enabled}: {install}")
        else:
            yield warning(f"[{name}] is incomplete ({'; '.join(wrong)}); it enables {enabled}", install)


def requirements() -> list[Requirement]:
    """What the installed harness asks for; nothing where it runs from a folder without being installed."""
    try:
        return [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        return []


def problem_of(one: Requirement) -> str:
    """Why a package does not do; empty where it does."""
    try:
        installed = version(one.name)
    except PackageNotFoundError:
        return f"{one.name} is not installed"
    if not one.specifier.contains(installed, prereleases=True):
        return f"{one.name} is {installed}, needed is {one.specifier}"
    return ""


def tested(needed: list[Requirement], file: Path = CONSTRAINTS) -> str:
    """Which of the packages have another version than was tested, in words; empty outside a checkout."""
    if not file.is_file():
        return ""
    lines = (line.partition("==") for line in file.read_text(encoding="utf-8").splitlines() if "==" in line)
    pinned = {name.strip().lower(): pin.strip() for name, _, pin in lines}
    others = []
    for one in needed:
        pin, installed = pinned.get(one.name.lower(), ""), version(one.name).partition("+")[0]
        if pin and pin != installed:
            others.append(f"{one.name} {installed} (tested: {pin})")
    return f"; of another version than {file.name}: {', '.join(others)}" if others else f", as in {file.name}"
