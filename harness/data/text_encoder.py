"""A pretrained text encoder of Hugging Face in a local folder: its files, its tokenizer, its weights.

It is a model of words alone, such as BERT, or the text tower of a dual encoder, such as CLIP.

Nothing is downloaded, no code of the folder is run, and weights are read from safetensors alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.data.regions import Bools
from harness.data.tokens import Part, SpecialIds, plain
from harness.data.torchvision import import_torchvision
from harness.errors import ConfigError, DataError, Location, first_line
from harness.files import check_regular, listing, read_json, unreadable

VERSION = 2  # of what is made of the files and captions; part of the fingerprint
CONFIG = "config.json"
WEIGHTS = ".safetensors"
DECIDING = {".json", ".txt", ".model", WEIGHTS}  # suffixes of the files that decide tokens and states
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")  # one of them makes a tokenizer
FLOATS = ("F64", "F32", "F16", "BF16")  # as heads of safetensors files call the types of plain weights
AT_ONCE = 10_000  # captions
NO_LIMIT = 10**6  # tokens; a tokenizer that names more names none
LOCAL = {"local_files_only": True, "trust_remote_code": False}
PLAIN = "{}"  # the prompt that adds nothing to a caption
SIDES = ("text_config", "vision_config")  # what a dual encoder's config has
OF_PICTURES = ("vision", "visual")  # how the parts of a dual encoder begin that words do not pass through
FILLED = ("siglip", "siglip2")  # kinds whose processor fills every caption up, whatever their tokenizer says


def encoder_files(folder: Path) -> list[str]:
    """Names of the files of a folder that decide what an encoder does; DataError where one is absent."""
    names = sorted(path.name for path in listing(folder) if path.suffix in DECIDING and not path.is_dir())
    if CONFIG not in names:
        raise DataError(f"has no {CONFIG}, so it is no model of Hugging Face; {how_to_get(folder)}", Location(folder))
    if not any(match for pattern in VOCABULARIES for match in folder.glob(pattern)):
        raise DataError(f"has no tokenizer ({', '.join(VOCABULARIES)}); {how_to_get(folder)}", Location(folder))
    if not any(name.endswith(WEIGHTS) for name in names):
        raise DataError(f"has no weights in safetensors; {how_to_convert(folder)}", Location(folder))
    for name in names:
        if name.endswith(WEIGHTS):
            check_weights(folder / name)
    return names


def how_to_get(folder: Path) -> str:
    return f"get it by `hf download NAME --local-dir {folder}`, with the model's name on huggingface.co"


def how_to_convert(folder: Path) -> str:
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if not pickles:
        return how_to_get(folder)
    make = f'from transformers import AutoModel as M; M.from_pretrained("{folder}").save_pretrained("{folder}")'
    return f"{pickles[0]} is a pickle, which is never loaded: where you trust it, convert it by python -c '{make}'"


def check_weights(path: Path) -> None:
    """DataError where a file is not all of a safetensors file, cut or a pointer of Git LFS, or has weights in integers.

    Such are quantised: read as floats without their scale they would be other weights, and nobody would see it.
    """
    for name, kind in _kinds(path).items():
        if name.endswith((".weight", ".bias")) and kind not in FLOATS:
            message = f"{name} is of {kind}, as quantised weights are; take the model in {', '.join(FLOATS)}"
            raise DataError(message, Location(path))


def _kinds(path: Path) -> dict[str, str]:
    """What the head of a safetensors file calls the type of each tensor; DataError where the file is not all of one."""
    check_regular(path)
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            head = int.from_bytes(file.read(8), "little")
            text = file.read(head) if head < size else b""
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        parts = {name: part for name, part in json.loads(text).items() if name != "__metadata__"}
        expected = 8 + head + max((part["data_offsets"][1] for part in parts.values()), default=0)
        kinds = {name: part["dtype"] for name, part in parts.items()}
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise DataError(f"no safetensors file ({size} bytes); {how_to_get(path.parent)}", Location(path)) from error
    if size != expected:
        raise DataError(f"has {size} bytes, its head says {expected}; {how_to_get(path.parent)}", Location(path))
    return kinds


class PretrainedTokenizer:
    """A `tokens.Tokenizer` of a folder; cuts captions to the tokenizer's limit or the encoder's positions.

    `prompt`: what is read for each caption, which stands in the place of {}.
    """

    def __init__(self, folder: Path, prompt: str = PLAIN) -> None:
        self._before, _, self._behind = prompt.partition(PLAIN)
        config, self._tokenizer = _config_and_tokenizer(folder)
        self.special_ids = special_ids_of(self._tokenizer, folder)
        positions = _positions(config)
        self._limit = int(min(self._tokenizer.model_max_length, positions if positions > 0 else NO_LIMIT))
        if self._tokenizer.model_max_length > NO_LIMIT:  # RoBERTa and its like count positions from behind the pad id
            self._limit -= self.special_ids.pad + 1

    def __len__(self) -> int:
        return len(self._tokenizer)

    def encode_all(self, captions: Sequence[str]) -> tuple[list[list[int]], Bools]:
        parts = [captions[start : start + AT_ONCE] for start in range(0, len(captions), AT_ONCE)]
        encoded = [ids for part in parts for ids in self._ids(part)]
        cut = np.array([len(ids) > self._limit for ids in encoded], dtype=np.bool_)
        for place in np.flatnonzero(cut).tolist():
            encoded[place] = self._ids([captions[place]], truncation=True, max_length=self._limit)[0]
        return encoded, cut

    def parts(self, caption: str) -> list[Part]:
        ids = (one for one in self.encode_all([caption])[0][0] if one not in self.special_ids.specials)
        return [Part(self._tokenizer.decode([one]).strip(), one != self.special_ids.unknown) for one in ids]

    def _ids(self, captions: Sequence[str], **how: Any) -> list[list[int]]:
        wanted = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        texts = [f"{self._before}{plain(caption)}{self._behind}" for caption in captions]
        ids: list[list[int]] = self._tokenizer(texts, **wanted, **how)["input_ids"]
        return ids


def _config_and_tokenizer(folder: Path) -> tuple[Any, Any]:
    library = transformers()
    with _reading(folder):
        config = library.AutoConfig.from_pretrained(folder, **LOCAL)
        return config, library.AutoTokenizer.from_pretrained(folder, config=config, **LOCAL)


def _positions(config: Any) -> int:
    """The most tokens of a caption, by a model's own config; 0 where it does not say."""
    return getattr(getattr(config, SIDES[0], config), "max_position_embeddings", None) or 0


def special_ids_of(tokenizer: Any, folder: Path) -> SpecialIds:
    """The ids of a tokenizer that are no words; DataError where it lacks one that a batch needs.

    CLIP has no token for a hidden word: its unknown one is the end of a caption.
    """
    pad, unknown, mask = tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id
    hidden = unknown if mask is None else mask
    if hidden is not None and hidden in (pad, tokenizer.eos_token_id):
        hidden = -1
    if pad is None or hidden is None:
        lacks = "token to pad with" if pad is None else "token for a hidden word (mask or unk)"
        message = f"its tokenizer has no {lacks}; take another encoder, or add it to its config"
        raise DataError(message, Location(folder))
    specials = sorted(set(tokenizer.all_special_ids) - {unknown} | {pad})
    return SpecialIds(pad, -1 if unknown is None else unknown, hidden, tuple(specials))


def load_model(folder: Path, ids: int) -> Any:
    """The encoder of a folder with its weights, in float32; DataError where it takes fewer ids than a tokenizer has."""
    model, missing = _read_model(folder)
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    if model.main_input_name != "input_ids" or not hasattr(model.config, "hidden_size"):
        raise DataError(f"{type(model).__name__} is no text encoder; take one like BERT", Location(folder))
    _check_whole(folder, missing, ("pooler.",))
    _check_ids(folder, model, ids)
    if hasattr(model, "pooler"):  # which sees one token alone, and no state passes through it
        model.pooler = None
    return model


class LoadedTower(NamedTuple):
    """The text tower of a dual encoder, and how captions stand before it."""

    model: Any  # without its other tower; get_text_features gives states and embeddings
    pad: int  # id
    length: int  # tokens that captions are filled up to; 0: no more than the longest of a batch
    has_mask: bool  # whether it is told which tokens are padding
    pads_left: bool


def load_tower(folder: Path, ids: int) -> LoadedTower:
    """The text tower of a folder with its weights, in float32; DataError as of `load_model`."""
    model, missing = _read_model(folder)
    if not hasattr(model, "get_text_features"):
        raise DataError(f"{type(model).__name__} embeds no captions; take one like CLIP or SigLIP", Location(folder))
    _check_whole(folder, missing, OF_PICTURES)
    for name in [name for name, _ in model.named_children() if name.startswith(OF_PICTURES)]:
        delattr(model, name)
    _check_ids(folder, model.text_model, ids)
    config, tokenizer = _config_and_tokenizer(folder)
    has_mask = "attention_mask" in tokenizer.model_input_names
    # without a mask, padding is a part of the caption, which was filled up when the model was trained
    length = _positions(config) if config.model_type in FILLED or not has_mask else 0
    return LoadedTower(model, tokenizer.pad_token_id, length, has_mask, tokenizer.padding_side == "left")


def is_dual(folder: Path) -> bool:
    """Whether a folder's model has a side of words and one of pictures, by its config alone."""
    config = read_json(folder / CONFIG)
    return isinstance(config, dict) and all(side in config for side in SIDES)


def embedding_width(folder: Path) -> int:
    """The numbers of an embedding of a dual encoder, by its config; 0 where that does not say."""
    with _reading(folder):
        config = transformers().AutoConfig.from_pretrained(folder, **LOCAL)
    widths = getattr(config, "projection_dim", 0), getattr(getattr(config, SIDES[0], config), "projection_size", 0)
    return next((width for width in widths if isinstance(width, int) and width), 0)


def check_importable(folder: Path) -> None:
    """ConfigError where this Python lacks what the classes of a folder's model need, whatever its files are."""
    library = transformers()
    with _reading(folder):
        config, _ = _config_and_tokenizer(folder)
        if type(config) in library.MODEL_MAPPING:
            _ = library.MODEL_MAPPING[type(config)]


def _read_model(folder: Path) -> tuple[Any, set[str]]:
    """A folder's model, in float32, and the names of weights that it lacks."""
    library = transformers()
    library.logging.disable_progress_bar()
    with _reading(folder), silent(library):
        model, report = library.AutoModel.from_pretrained(
            folder, use_safetensors=True, dtype="float32", output_loading_info=True, **LOCAL
        )
    return model, set(report["missing_keys"])


def _check_whole(folder: Path, missing: set[str], spared: tuple[str, ...]) -> None:
    """DataError for missing weights, but for those of parts that are not used."""
    absent = sorted(name for name in missing if not name.startswith(spared))
    if absent:
        message = f"its weights lack {len(absent)}, {absent[0]!r} first; {how_to_get(folder)}"
        raise DataError(message, Location(folder))


def _check_ids(folder: Path, model: Any, ids: int) -> None:
    known = model.get_input_embeddings().num_embeddings
    if ids > known:
        raise DataError(f"its tokenizer has {ids} ids, its model {known}; take both from one model", Location(folder))


def transformers() -> Any:
    """The library, imported late; ConfigError where it is not installed."""
    import_torchvision()  # which it uses where it is installed
    try:
        import transformers as library
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    return library


def tokenizers_version() -> str:
    try:
        return version("tokenizers")
    except PackageNotFoundError as error:
        raise _not_installed(error) from error


def _not_installed(error: ModuleNotFoundError) -> ConfigError:
    return ConfigError(
        f"[text] encoder needs a library that is not here ({error.name}): pip install 'itm-harness[text]'"
    )


@contextmanager
def silent(library: Any) -> Iterator[None]:
    """Silence the library's own report of what `load_model` checks."""
    before = library.logging.get_verbosity()
    library.logging.set_verbosity_error()
    try:
        yield
    finally:
        library.logging.set_verbosity(before)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Raise a DataError for what the libraries raise of a folder's files, a ConfigError for what this Python lacks."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"{folder} cannot be loaded in this Python: {_why_not_imported(error)}") from error
    except Exception as error:
        # the readers of tokenizers and of safetensors, which are not written in Python, raise plain exceptions
        foreign = type(error) is Exception or type(error).__module__.startswith("safetensors")
        if not (foreign or isinstance(error, OSError | ValueError | LookupError | TypeError | RuntimeError)):
            raise
        message = f"cannot be read ({first_line(error)}); {how_to_get(folder)}"
        raise DataError(message, Location(folder)) from error


def _why_not_imported(error: BaseException) -> str:
    """What an import has failed of at last, and what to do."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{first_line(error)}; pip install what is missing, 'itm-harness[text]' first"
