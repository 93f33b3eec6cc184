"""The trained method of a trial with its dataset: images and captions encoded, and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.sources import source_hash
from harness.data.dataset import Dataset
from harness.data.regions import Ragged, Regions
from harness.data.tokens import Tokens
from harness.errors import UsageError
from harness.explain.weights import Trained, best_weights, method_errors, why_not
from harness.layouts.opening import open_dataset
from harness.trial.results import TrialSpec

if TYPE_CHECKING:
    import torch

    from harness.method import Method, ScorePrecision
    from harness.trial.models import InputSource


Tell = Callable[[int], object]  # how many were encoded since
Watch = Callable[[str, int], AbstractContextManager[Tell]]  # what is encoded, and how many


def on_one_line(text: str) -> str:
    """A text as readers of files take captions: its words with blanks between, and ? for what is no character."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def unwatched(what: str, total: int) -> AbstractContextManager[Tell]:
    """Tell nobody."""
    return nullcontext(lambda _: None)


class EncodedItems(NamedTuple):
    """Images or captions as a method encodes them."""

    ids: tuple[str, ...]  # of images, or the captions themselves
    tiles: Sequence[Any]  # of `blocks.tiles`: vectors (B, L, D) and masks, with their places among the ids

    def __repr__(self) -> str:
        """Their number."""
        return f"<{len(self.ids)} encoded items>"


class Encoder:
    """A method with trained weights on a device, for the words and the regions that it was trained on."""

    def __init__(self, spec: TrialSpec, method: Method, inputs: InputSource, device: str = "cpu") -> None:
        from harness.trial.device import choose_device

        self.spec = spec
        self.inputs = inputs
        self.device: torch.device = choose_device(device)
        self.method = method.to(self.device)

    @property
    def precision(self) -> ScorePrecision:
        """What the trial scores in."""
        return self.spec.training.score_precision

    @property
    def width(self) -> int:
        """Numbers of a region."""
        return self.inputs.feature_width

    def images(self, ids: Sequence[str], regions: Regions, watch: Watch = unwatched) -> EncodedItems:
        from harness.evaluation.scoring import encode, scoring

        with self.method_errors(), scoring(self.method), watch("images", len(ids)) as tell:
            tiles = encode(self.method.encode_images, regions, regions.counts, self.device, tell)
        return EncodedItems(tuple(ids), tiles)

    def image(self, name: str, regions: NDArray[Any]) -> EncodedItems:
        """One image of regions (R, F)."""
        return self.images([name], Ragged.stack([np.asarray(regions)]))

    def captions(self, captions: Sequence[str], tokens: Tokens | None = None, watch: Watch = unwatched) -> EncodedItems:
        """Captions by the vocabulary of the training, unless their tokens are given."""
        from harness.evaluation.scoring import encode, scoring

        tokens = Tokens.encode(captions, self.inputs.vocabulary) if tokens is None else tokens
        with self.method_errors(), scoring(self.method), watch("captions", len(captions)) as tell:
            tiles = encode(self.method.encode_captions, tokens, tokens.lengths, self.device, tell)
        return EncodedItems(tuple(captions), tiles)

    def score(self, images: EncodedItems, captions: EncodedItems) -> NDArray[np.float32]:
        """The scores (n, m) of every image with every caption, higher is better."""
        from harness.evaluation.scoring import score_encoded, scoring

        with self.method_errors(), scoring(self.method):
            scores = score_encoded(self.method, images.tiles, captions.tiles, self.device, precision=self.precision)
        array: NDArray[np.float32] = scores.cpu().numpy()
        return array

    def unknown_words(self, caption: str) -> tuple[str, ...]:
        """The words of a caption that are not in the vocabulary, all one word to the method.

        UsageError where no word is known: whatever were found would say nothing of the caption.
        """
        parts = self.inputs.vocabulary.parts(caption)
        unknown = dict.fromkeys(part.text for part in parts if not part.is_known and any(map(str.isalnum, part.text)))
        if not any(part.is_known and any(map(str.isalnum, part.text)) for part in parts):
            words = ", ".join(unknown) or "no word at all"
            raise UsageError(
                f"{caption!r}: no word of it is in the vocabulary of {self.spec.dataset} ({words}); use words of its "
                "training captions"
            )
        return tuple(unknown)

    def method_errors(self) -> AbstractContextManager[None]:
        """TrialError for whatever the code of the method raises."""
        return method_errors(type(self.method), self.spec.method)


class TrialEncoder(Encoder):
    """The encoder of a finished trial, with the dataset that it was trained on."""

    def __init__(self, trial: Trained, method: Method, dataset: Dataset, device: str = "cpu") -> None:
        super().__init__(trial.spec, method, dataset, device)
        self.trial = trial
        self.dataset = dataset


def open_encoder(config: Config, registry: Registry, one: Trained, device: str = "cpu") -> TrialEncoder:
    """The encoder of a finished trial; UsageError where its weights cannot be used now, DataError where damaged."""
    spec = one.spec
    source = source_hash(registry.method(spec.method))
    dataset = open_dataset(registry.dataset(spec.dataset), config.data, config.cache, spec.limit)
    if reason := why_not(one, source, dataset.fingerprint):
        raise UsageError(f"trial {spec.key}, {spec.label}: {reason}")
    dataset = dataset.for_settings(spec.settings)
    return TrialEncoder(one, best_weights(one, registry, dataset, config.cache), dataset, device)
