"""A trained method to call: images and captions encoded, scored and retrieved with the weights of a trial."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.config.cards import SELECTION
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.selection import member_names
from harness.data.dataset import Dataset
from harness.data.regions import Ragged, Regions
from harness.data.split import Split
from harness.data.tokens import Tokens
from harness.errors import UsageError, unknown
from harness.explain.weights import TrialChoice, best_weights, check_is_no_transfer, trained
from harness.layouts.opening import open_dataset
from harness.portable.loading import StoredInputs
from harness.trial.results import TrialSpec

if TYPE_CHECKING:
    import pandas

    from harness.method import Method

LEAST = 1  # of k


class EncodedItems(NamedTuple):
    """Images or captions as the method encodes them."""

    ids: tuple[str, ...]  # of images, or the captions themselves
    tiles: Sequence[Any]  # of `blocks.tiles`: vectors (B, L, D) and masks, with their places among the ids

    def __repr__(self) -> str:
        """Their number."""
        return f"<{len(self.ids)} encoded items>"


class TrainedMethod:
    """The method of a trial with the weights of its best epoch, and the gallery of its protocol."""

    def __init__(self, spec: TrialSpec, method: Method, dataset: Dataset | StoredInputs, device: str = "cpu") -> None:
        from harness.trial.device import choose_device

        self.spec = spec
        self.device = choose_device(device)
        self.method = method.to(self.device)
        self._dataset = dataset

    @cached_property
    def gallery(self) -> Split:
        """The split that the trial's protocol scores, with its ids and captions; UsageError for weights of a folder."""
        if not isinstance(self._dataset, Dataset):
            raise UsageError("weights of a folder come without a gallery; give images or captions of your own")
        protocol = self.spec.protocol
        return self._dataset.split(SELECTION if protocol == SELECTION else self._dataset.card.protocol(protocol).split)

    def encode_images(self, images: Sequence[NDArray[Any]] | None = None) -> EncodedItems:
        """Images, each its regions (R, F) as the dataset has them; those of the gallery where none are given."""
        if images is None:
            return self._gallery_images
        wrong = [np.shape(image) for image in images if np.ndim(image) != 2 or np.shape(image)[1] != self.width]
        if wrong or not len(images) or not all(map(len, images)):
            raise UsageError(
                f"images {wrong or 'none'}: give at least one image of one region (R, {self.width}) or more"
            )
        return self._images(tuple(map(str, range(len(images)))), Ragged.stack([*map(np.asarray, images)]))

    def encode_captions(self, captions: Sequence[str] | None = None) -> EncodedItems:
        """Captions by the dataset's vocabulary; those of the gallery where none are given."""
        if captions is None:
            return self._gallery_captions
        if isinstance(captions, str) or not captions or not all(caption.strip() for caption in captions):
            raise UsageError("captions: give a list of texts, none of them empty")
        return self._captions(captions, Tokens.encode(captions, self._dataset.vocabulary))

    def score(self, images: EncodedItems, captions: EncodedItems) -> NDArray[np.float32]:
        """The scores (n, m) of every image with every caption, higher is better."""
        from harness.evaluation.scoring import score_encoded, scoring

        precision = self.spec.training.score_precision
        with scoring(self.method):
            scores = score_encoded(self.method, images.tiles, captions.tiles, self.device, precision=precision)
        array: NDArray[np.float32] = scores.cpu().numpy()
        return array

    def retrieve(self, text: str | None = None, image: str | None = None, k: int = 10) -> pandas.DataFrame:
        """The first k images of the gallery for a text, or captions for the image with an id: rank, item, score."""
        import pandas

        if (text is None) == (image is None):
            raise UsageError("give a text to retrieve images for, or the id of an image to retrieve captions for")
        items = self._gallery_images.ids if text is not None else self._gallery_captions.ids
        if not LEAST <= k <= len(items):
            raise UsageError(f"k {k}: give a number from {LEAST} to {len(items)}, the size of the gallery")
        scores = (
            self.score(self._gallery_images, self.encode_captions([text]))[:, 0]
            if text is not None
            else self.score(self._one_image(str(image)), self._gallery_captions)[0]
        )
        first = np.argsort(-scores, kind="stable")[:k]
        columns = {"rank": np.arange(1, k + 1), "item": [items[place] for place in first], "score": scores[first]}
        return pandas.DataFrame(columns).astype({"item": "string"})

    @property
    def width(self) -> int:
        """Numbers of a region."""
        return self._dataset.feature_width

    @cached_property
    def _gallery_images(self) -> EncodedItems:
        return self._images(tuple(self.gallery.image_ids), self.gallery.images)

    @cached_property
    def _gallery_captions(self) -> EncodedItems:
        return self._captions(self.gallery.captions, self.gallery.tokens)

    def _one_image(self, name: str) -> EncodedItems:
        ids = [*self.gallery.image_ids]
        if name not in ids:
            raise UsageError(unknown("image", name, ids))
        return self._images((name,), self.gallery.images.choose(np.array([ids.index(name)])))

    def _images(self, ids: tuple[str, ...], images: Regions) -> EncodedItems:
        from harness.evaluation.scoring import encode, scoring

        with scoring(self.method):
            return EncodedItems(ids, encode(self.method.encode_images, images, images.counts, self.device))

    def _captions(self, captions: Sequence[str], tokens: Tokens) -> EncodedItems:
        from harness.evaluation.scoring import encode, scoring

        with scoring(self.method):
            return EncodedItems(
                tuple(captions), encode(self.method.encode_captions, tokens, tokens.lengths, self.device)
            )

    def __repr__(self) -> str:
        """The trial on one line."""
        return f"<trained {self.spec.label} {self.spec.key}>"


def load_trained(config: Config, registry: Registry, spec: TrialSpec, device: str = "cpu") -> TrainedMethod:
    """The method of a finished trial; errors of `harness explain` where its weights, source or data are not here."""
    if member_names(spec.method):
        raise UsageError(f"{spec.label} is made of other trials and has no weights of its own; load its members")
    check_is_no_transfer(spec)
    one = trained(config, registry, TrialChoice(spec.method, spec.dataset, spec.protocol, key=spec.key))
    opened = open_dataset(registry.dataset(spec.dataset), config.data, config.cache, spec.limit)
    dataset = opened.for_settings(spec.settings)
    return TrainedMethod(spec, best_weights(one, registry, dataset), dataset, device)
