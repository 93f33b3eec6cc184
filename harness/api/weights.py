"""A method loaded from a folder of exported weights, without a project."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.api.frames import retrieved_frame
from harness.api.running import Report, whole
from harness.api.trained import TrainedMethod, warn_of_unknown
from harness.config.project import Config
from harness.config.registry import discover
from harness.config.sections import Paths
from harness.errors import UsageError
from harness.explain.encoding import EncodedItems, Encoder
from harness.explain.retrieval import first_of, spoken
from harness.portable.loading import StoredInputs, data_root, load_method
from harness.portable.weights_folder import WeightsFacts, WeightsFolder, read_weights_folder

if TYPE_CHECKING:
    import pandas

    from harness.method import Method


class LoadedMethod(TrainedMethod):
    """The method of a folder of weights: encodes, scores and retrieves what it is given."""

    def __init__(self, weights: WeightsFolder, method: Method, inputs: StoredInputs, device: str = "cpu") -> None:
        super().__init__(Encoder(weights.spec, method, inputs, device))
        self.facts: WeightsFacts = weights.facts  # what weights.json says

    def retrieve(
        self,
        text: str | None = None,
        image: NDArray[Any] | str | None = None,
        k: int | None = None,
        among: EncodedItems | None = None,
        *,
        progress: Report | None = None,
    ) -> pandas.DataFrame:
        """The first k, else ten, of some encoded images for a text, or of captions for an image's regions (R, F).

        A warning names the words of a text that the vocabulary lacks; UsageError where it lacks all of them.
        """
        is_query = (text is None) != (image is None) and isinstance(text, str | None) and not isinstance(image, str)
        if not isinstance(among, EncodedItems) or not is_query:
            raise UsageError("pass among, and a text to retrieve images for, or an image's regions for captions")
        k = min(10, len(among.ids)) if k is None else whole(k, "k")
        if not 1 <= k <= len(among.ids):
            raise UsageError(f"k {k}: give a number from 1 to {len(among.ids)}, the items that are given")
        if text is not None:
            text = spoken(text)
            warn_of_unknown(self._encoder.unknown_words(text))
            scores = self.score(among, self.encode_captions([text], progress=progress))[:, 0]
        else:
            scores = self.score(self.encode_images([image], progress=progress), among)[0]  # type: ignore[list-item]
        first = first_of(scores, np.arange(len(scores)), k)
        return retrieved_frame((rank, among.ids[place], scores[place]) for rank, place in enumerate(first, start=1))


def load_weights(
    folder: str | PathLike[str],
    device: str = "cpu",
    plugins: Iterable[str | PathLike[str]] = (),
    data: str | PathLike[str] | None = None,
) -> LoadedMethod:
    """The method of a folder that `harness export NAME --weights DIR` has written; no project is needed.

    plugins: cards of methods that are not installed; that of the folder itself may be named, and its source then runs.
    data: where a pretrained text encoder lies, unless in the folder; HARNESS_DATA or ./data where it is not given.
    UsageError for an unknown method, DataError where a file, the method's source or a tensor is another.
    """
    weights = read_weights_folder(Path(folder).expanduser())
    registry = discover(Config(paths=Paths(datasets=())), [Path(one).expanduser().resolve() for one in plugins])
    method, inputs = load_method(weights, registry, data_root() if data is None else Path(data).expanduser())
    return LoadedMethod(weights, method, inputs, device)
