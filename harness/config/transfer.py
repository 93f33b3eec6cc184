"""Transfer: a method is trained and selected on one dataset and tested under a protocol of another.

Such a protocol is named OTHER:PROTOCOL, so that its rows share a board neither with those trained on the other dataset
nor with those tested on their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.config.cards import DatasetCard, TextSettings
from harness.errors import UsageError

ACROSS = ":"  # between a dataset and its protocol; no name of a dataset can have it


def protocol_across(dataset: str, protocol: str) -> str:
    return f"{dataset}{ACROSS}{protocol}"


def without_words(card: DatasetCard) -> DatasetCard:
    """A dataset's card without [text]: its captions are read by the words of the dataset that was trained on."""
    return card.model_copy(update={"text": TextSettings()})


def tests_of(dataset: DatasetCard, tests: Sequence[DatasetCard]) -> Iterator[DatasetCard]:
    """The datasets that methods trained on one are tested on: all but this one.

    UsageError where none is left, and where the card has a protocol of the name that a test would get.
    """
    others = [test for test in tests if test.name != dataset.name]
    if not others:
        raise UsageError(f"--test-on {dataset.name}: that is what is trained on; leave --test-on out to test there")
    for test in others:
        names = {protocol_across(test.name, protocol.name) for protocol in test.protocols}
        for name in sorted(names.intersection(protocol.name for protocol in dataset.protocols)):
            raise UsageError(f"{dataset.path}: the protocol {name!r} has the name of a test on {test.name}; rename it")
        yield without_words(test)
