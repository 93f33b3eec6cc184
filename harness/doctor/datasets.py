"""Files of datasets against their cards: present, of the right size, and where that is cheap of the right content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from harness.config.cards import DataFile, DatasetCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.data.cache import present, remembered_sha256
from harness.data.content import Place
from harness.data.dataset import place_of
from harness.doctor.diagnosis import Check, Remark, fault, sound, warning
from harness.errors import count
from harness.files import sha256
from harness.preparation.validation import file_names

QUICK = 64 * 2**20  # bytes of a file that is hashed at once
SHOWN = 3  # names in a message


def dataset_checks(config: Config, registry: Registry, names: Iterable[str]) -> Iterator[Check]:
    """A check for every dataset that is named."""
    for name in names:
        card = registry.dataset(name)
        yield Check(f"dataset {name}", partial(dataset, card, config.data, config.cache))


def dataset(card: DatasetCard, data: Path, cache: Path) -> Iterator[Remark]:
    """Whether the files of a dataset are those of its card."""
    place = place_of(card, data, cache)
    names = file_names(place)
    absent = [name for name in names if not present(place.folder, name)]
    absent += [name for name in (card.text.vectors, card.text.encoder) if name and not is_near(place, data, name)]
    if absent:
        shown = ", ".join(absent[:SHOWN]) + (" …" if len(absent) > SHOWN else "")
        are = "is" if len(absent) == 1 else "are"
        yield fault(f"{count(len(absent), 'file')} {are} not in {place.folder}: {shown}", how_to_get(card))
    wrong = [text for file in card.files if (text := difference(place, file))]
    for text in wrong:
        yield fault(text, f"{how_to_get(card)}; yours on purpose: `harness init dataset {card.name} --force`")
    for part in sorted(place.folder.glob("*/journal.part")) if card.folder else ():
        yield warning(f"{part.parent} is a region store that is not finished", "give the command that makes it again")
    if not absent and not wrong:
        there = f"{count(len(names), 'file')} in {place.folder} as its card says"
        yield sound(there if names else "generated, needs no files")


def is_near(place: Place, data: Path, name: str) -> bool:
    """Whether a file or folder of [text] lies in the dataset's folder or below the data root."""
    return (place.folder / name).exists() or (data / name).exists()


def how_to_get(card: DatasetCard) -> str:
    """Where the files come from."""
    return f"harness data fetch {card.name}" if card.downloads else f"get them from {card.origin}"


def difference(place: Place, file: DataFile) -> str:
    """How a file that is there differs from its card; empty where it does not, or where that would take long."""
    path = place.folder / file.path
    if not path.is_file():
        return ""
    size = path.stat().st_size
    if file.bytes is not None and size != file.bytes:
        return f"{path} has {size:,} bytes, its card says {file.bytes:,}"
    digest = sha256(path) if file.sha256 and size <= QUICK else remembered_sha256(place.cache, path)
    if file.sha256 and digest and digest != file.sha256:
        return f"{path} has the sha256 {digest[:12]}…, its card says {file.sha256[:12]}…"
    return ""
