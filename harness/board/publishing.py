"""From the tracking store and the studies to the files of reports, and which of them changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

from harness.board import cells, forms
from harness.board.evidence import Assessed, assessed
from harness.config.registry import Registry
from harness.tracking.result_store import ResultStore
from harness.trial.results import Current

PICTURES = (".svg", ".html")  # files whose lines tell people nothing
Boards = Collection[tuple[str, str]]  # (dataset, protocol)


@dataclass(frozen=True)
class Published:
    files: tuple[Path, ...] = ()
    changed: frozenset[Path] = frozenset()
    boards: tuple[Assessed, ...] = ()

    def __add__(self, other: Published) -> Published:
        return Published(self.files + other.files, self.changed | other.changed, self.boards + other.boards)


def publish(
    store: ResultStore,
    registry: Registry,
    current: Current,
    folder: Path,
    only: Boards | None = None,
    chosen: Sequence[str] = ("md",),
) -> Published:
    """Write the store's boards and report their own files, changed where one was or what lies beside it."""
    boards = boards_of_store(store, registry, current, only)
    files = forms.files(boards, registry.methods, chosen)
    changed = written(files, folder).changed
    own = tuple(folder / name for name in files if "/" not in name)
    beside = {file.parent.with_name(f"{file.parent.name}.md") for file in changed if file.parent != folder}
    return Published(own, changed | beside, tuple(boards))


def boards_of_store(
    store: ResultStore, registry: Registry, current: Current, only: Boards | None = None
) -> list[Assessed]:
    runs = [run for run in store.runs() if only is None or (run.spec.dataset, run.spec.protocol) in only]
    return assessed(runs, registry.methods, store.artifact, current)


def written(files: Mapping[str, bytes], folder: Path) -> Published:
    """Write files by name; those that are the same already are left alone."""
    changed = {name: data for name, data in files.items() if not _is(folder / name, data)}
    return Published(tuple(folder / name for name in files), frozenset(cells.write(changed, folder)))


def outdated(files: Mapping[str, bytes], folder: Path) -> Iterator[str]:
    """How the files in a folder differ from what they should be; figures are named alone."""
    for name, data in files.items():
        file = folder / name
        if _is(file, data):
            continue
        if not file.is_file():
            yield f"{file} is missing"
        elif file.suffix in PICTURES:
            yield f"{file} is another page or picture"
        else:
            old, new = (text.decode(errors="replace").splitlines() for text in (file.read_bytes(), data))
            yield from unified_diff(old, new, f"{file}, as it is", f"{file}, from the store", n=1, lineterm="")


def _is(file: Path, data: bytes) -> bool:
    return file.is_file() and file.read_bytes() == data
