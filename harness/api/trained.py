"""A trained method to call: images and captions encoded, scored and retrieved with the weights of a trial."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.api.frames import retrieved_frame
from harness.api.running import Report, encoding_steps, silent, whole
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.toml import cut
from harness.data.regions import Ragged
from harness.data.split import Split
from harness.errors import UsageError, first_line
from harness.explain.encoding import EncodedItems, Encoder, Watch, open_encoder
from harness.explain.gallery import Gallery
from harness.explain.retrieval import GalleryChoice, Retriever, finite, gallery_choice
from harness.explain.weights import check_is_no_composite, trial_with_weights
from harness.trial.results import TrialSpec

if TYPE_CHECKING:
    import pandas

    from harness.method import Method

T = TypeVar("T")


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
        self, images: Iterable[NDArray[Any]] | None = None, *, progress: Report | None = None
    ) -> EncodedItems:
        """Images, each its regions (R, F) as the dataset has them; those of the gallery where none are given."""
        watch = self._watched(progress)
        if images is None:
            return self._encoded.images
        regions = regions_of(images, self.width)
        return self._encoder.images([*map(str, range(len(regions)))], Ragged.stack(regions), watch)

    def encode_captions(self, captions: Iterable[str] | None = None, *, progress: Report | None = None) -> EncodedItems:
        """Captions by the dataset's vocabulary; those of the gallery where none are given."""
        watch = self._watched(progress)
        if captions is None:
            return self._encoded.captions
        return self._encoder.captions(texts_of(captions), watch=watch)

    def score(self, images: EncodedItems, captions: EncodedItems) -> NDArray[np.float32]:
        """The scores (n, m) of every image with every caption, higher is better; NonFiniteError where one is not."""
        return finite(self._encoder.score(images, captions), self.spec)

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
        if (text is None) == (image is None) or not isinstance(text, str | None):
            raise UsageError("give a text to retrieve images for, or the id of an image to retrieve captions for")
        self._watched(progress)
        k = None if k is None else whole(k, "k")
        one = self._retriever.of_texts([text], k)[0] if text is not None else self._retriever.of_image(str(image), k)
        warn_of_unknown(one.unknown)
        return retrieved_frame((hit.rank, hit.item, hit.score) for hit in one.hits)

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


def texts_of(captions: Iterable[str]) -> list[str]:
    """Captions as a list; UsageError for none, and for the first that is no text or empty, by its place."""
    texts = [] if isinstance(captions, str) else listed(captions)
    if not texts:
        raise UsageError("captions: give a list of texts, none of them empty")
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"captions: number {place} is {cut(repr(text))}; give a list of texts, none of them empty")
    return [str(text) for text in texts]


def regions_of(images: Iterable[Any], width: int) -> list[NDArray[Any]]:
    """The regions of images, (R, F) each; UsageError for none, and for the first that are no finite numbers (R, F)."""
    each, needed = listed(images), f"one region (R, {width}) or more"
    if not each:
        raise UsageError(f"images: give at least one image of {needed}")
    return [array_of(image, f"image {place}", width, needed) for place, image in enumerate(each)]


def listed(items: Iterable[T]) -> list[T]:
    """Items as a list, empty for what holds none."""
    try:
        return [*items]
    except TypeError:
        return []


def array_of(image: Any, name: str, width: int, needed: str) -> NDArray[Any]:
    try:
        array = np.asarray(image)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of several lengths; a tensor of a GPU or a graph
        advice = "give a NumPy array, of a tensor its .detach().cpu()"
        raise UsageError(f"{name}: {first_line(error)}; {advice}") from error
    if array.ndim != 2 or array.shape[1] != width or not len(array) or array.dtype.kind not in "fiu":
        raise UsageError(f"{name} is {array.shape} of {array.dtype}; give at least one image of {needed}")
    if np.ma.is_masked(image) or not np.isfinite(array).all():
        raise UsageError(f"{name} has masked or infinite numbers or NaN; give regions as the dataset has them")
    return array


def warn_of_unknown(words: Iterable[str]) -> None:
    """Warn whoever has called the caller of words that the vocabulary lacks."""
    if text := ", ".join(words):
        warnings.warn(f"not in the vocabulary, all one word to the method: {text}", stacklevel=3)


def load_trained(config: Config, registry: Registry, spec: TrialSpec, device: str = "cpu") -> TrainedMethod:
    """The method of a finished trial; UsageError where its weights, source or data are not here."""
    check_is_no_composite(spec.method, spec.label)
    encoder = open_encoder(config, registry, trial_with_weights(config.trials, spec.key), device)
    choice = gallery_choice(encoder.spec, encoder.dataset.card)
    return TrainedMethod(encoder, Gallery(encoder, choice.split, config.cache), choice)
