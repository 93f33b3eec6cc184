"""The ensembles of a plan: each a trial behind those of its members."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.config.selection import JOIN
from harness.errors import UsageError
from harness.trial.ensembles import ensemble_spec
from harness.trial.results import Assignment


def ensembles_of(names: Sequence[tuple[str, ...]], trials: Mapping[str, Assignment]) -> Iterator[Assignment]:
    """The ensembles with these members, of the trials of one dataset and seed by their methods."""
    for members in names:
        yield ensemble([trials[name] for name in members])


def ensemble(members: Sequence[Assignment]) -> Assignment:
    """The trial that averages its members' scores, with as much room as the largest of them asks for."""
    first, spec = members[0], ensemble_spec([member.spec for member in members])
    gpus = [member.gpus for member in members]
    return first.model_copy(
        update={
            "spec": spec,
            "folder": first.folder.parent / spec.key,
            "threads": max(member.threads for member in members),
            "cpus": max(member.cpus for member in members),
            "gpus": -1.0 if -1.0 in gpus else max(gpus),
            "members": tuple(sorted(members, key=lambda member: member.spec.method)),
        }
    )


def refuse_ensembles(patterns: Sequence[str]) -> None:
    """UsageError where an ensemble is named: a search has nothing to choose for it."""
    if named := [pattern for pattern in patterns if JOIN in pattern]:
        raise UsageError(
            f"{named[0]}: an ensemble has no settings to search; search its members "
            f"({named[0].replace(JOIN, ',')}), then average them with `harness run`"
        )
