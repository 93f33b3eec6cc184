"""A trained method to call: images and captions encoded, scored and retrieved with the weights of a trial."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.api.running import Report, encoding_steps, silent
from harness.config.project import Config
from harness.config.registry import Registry
from harness.data.regions import Ragged
from harness.data.split import Split
from harness.errors import UsageError
from harness.explain.encoding import EncodedItems, Encoder, Watch, open_encoder
from harness.explain.gallery import Gallery
from harness.explain.retrieval import GalleryChoice, Retriever, gallery_choice
from harness.explain.weights import check_is_no_composite, trial_with_weights
from harness.trial.results import TrialSpec

if TYPE_CHECKING:
    import pandas

    from harness.method import Method


class TrainedMethod:
    """The method of a trial with the weights of its best epoch, and the gallery of its protocol."""

    def __init__(self, encoder: Encoder, gallery: Gallery | None = None, choice: GalleryChoice | None = None) -> None:
        """gallery: what is retrieved from, kept in the cache of the results folder; None: weights of a folder."""
        self._encoder = encoder
        self._choice = choice
        self._stored = gallery

    @property
    def spec(self) -> TrialSpec:
        """What decides the trial's result: method, settings, recipe, data, protocol and seed."""
        return self._encoder.spec

    @property
    def method(self) -> Method:
        """The torch module of the method, with its trained weights."""
        return self._encoder.method

    @cached_property
    def gallery(self) -> Split:
        """The split that the trial's protocol scores, with its ids and captions; UsageError for weights of a folder."""
        return self._encoded.encoder.dataset.split(self._encoded.split)

    def encode_images(
        self, images: Sequence[NDArray[Any]] | None = None, *, progress: Report | None = None
    ) -> EncodedItems:
        """Images, each its regions (R, F) as the dataset has them; those of the gallery where none are given."""
        watch = self._watched(progress)
        if images is None:
            return self._encoded.images
        wrong = [np.shape(image) for image in images if np.ndim(image) != 2 or np.shape(image)[1] != self.width]
        if wrong or not len(images) or not all(map(len, images)):
            raise UsageError(
                f"images {wrong or 'none'}: give at least one image of one region (R, {self.width}) or more"
            )
        return self._encoder.images([*map(str, range(len(images)))], Ragged.stack([*map(np.asarray, images)]), watch)

    def encode_captions(self, captions: Sequence[str] | None = None, *, progress: Report | None = None) -> EncodedItems:
        """Captions by the dataset's vocabulary; those of the gallery where none are given."""
        watch = self._watched(progress)
        if captions is None:
            return self._encoded.captions
        if isinstance(captions, str) or not captions or not all(caption.strip() for caption in captions):
            raise UsageError("captions: give a list of texts, none of them empty")
        return self._encoder.captions(captions, watch=watch)

    def score(self, images: EncodedItems, captions: EncodedItems) -> NDArray[np.float32]:
        """The scores (n, m) of every image with every caption, higher is better."""
        return self._encoder.score(images, captions)

    def retrieve(
        self,
        text: str | None = None,
        image: str | None = None,
        k: int | None = None,
        *,
        progress: Report | None = None,
    ) -> pandas.DataFrame:
        """The first k images of the gallery for a text, or captions for the image with an id: rank, item, score.

        Without k the first ten. The first call encodes the gallery, which `progress` follows.
        A warning names the words of a text that the vocabulary lacks.
        """
        import pandas

        if (text is None) == (image is None):
            raise UsageError("give a text to retrieve images for, or the id of an image to retrieve captions for")
        self._watched(progress)
        one = self._retriever.of_texts([text], k)[0] if text is not None else self._retriever.of_image(str(image), k)
        if one.unknown:
            warnings.warn(f"not in the vocabulary, all one word to the method: {', '.join(one.unknown)}", stacklevel=2)
        columns = {
            "rank": [hit.rank for hit in one.hits],
            "item": [hit.item for hit in one.hits],
            "score": np.array([hit.score for hit in one.hits], dtype=np.float32),
        }
        return pandas.DataFrame(columns).astype({"item": "string"})

    def _watched(self, progress: Report | None) -> Watch:
        """What reports the encoding, of the gallery too."""
        watch = partial(encoding_steps, progress or silent, self.spec.label)
        if self._stored is not None:
            self._stored.watch = watch
        return watch

    @property
    def width(self) -> int:
        """Width F of a region's feature vector."""
        return self._encoder.width

    @property
    def _encoded(self) -> Gallery:
        if self._stored is None:
            raise UsageError("weights of a folder come without a gallery; give images or captions of your own")
        return self._stored

    @cached_property
    def _retriever(self) -> Retriever:
        return Retriever(self._encoded, self._choice.protocol if self._choice else "")

    def __repr__(self) -> str:
        """The trial on one line."""
        return f"<trained {self.spec.label} {self.spec.key}>"


def load_trained(config: Config, registry: Registry, spec: TrialSpec, device: str = "cpu") -> TrainedMethod:
    """The method of a finished trial; UsageError where its weights, source or data are not here."""
    check_is_no_composite(spec.method, spec.label)
    encoder = open_encoder(config, registry, trial_with_weights(config.trials, spec.key), device)
    choice = gallery_choice(encoder.spec, encoder.dataset.card)
    return TrainedMethod(encoder, Gallery(encoder, choice.split, config.cache), choice)
