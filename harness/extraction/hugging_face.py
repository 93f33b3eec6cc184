"""Vision models of Hugging Face, from a local folder or the local cache; downloaded only where that is asked for.

No code of a model's folder is run, and weights are read from safetensors alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from harness.data.text_encoder import LOCAL, check_weights, how_to_convert, silent
from harness.data.torchvision import import_torchvision
from harness.errors import ConfigError, DataError, Location, first_line
from harness.extraction.extractors import TRIED, Detector
from harness.extraction.patch_encoder import PatchEncoder, Vectors
from harness.files import has_file, lfs_hint, sha256

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
WEIGHTS, SHARDS = "model.safetensors", "model-*.safetensors"
FILES = [CONFIG, *PROCESSORS, WEIGHTS, f"{WEIGHTS}.index.json", SHARDS]
UNUSED = {"pooler", "mask_token"}  # parts that no hidden state passes through; a checkpoint may lack them
DECIDING = {"image_processor_type", "do_resize", "size", "crop_size", "resample", "do_pad", "pad_size"}
DECIDING |= {"do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"}


class Files(NamedTuple):
    """What a folder's files make: the model in float32, its image processor, and weights that it lacks."""

    model: Any
    processor: Any
    missing: set[str]
    finds: bool  # objects, with their boxes


def load_detector(files: Files, facts: dict[str, Any], device: torch.device, most: int, threshold: float) -> Detector:
    return Detector(files.model.to(device), files.processor, facts, most, threshold)


def load_encoder(files: Files, facts: dict[str, Any], device: torch.device, pooled: bool) -> PatchEncoder:
    """An encoder of patches; `pooled` asks for its vector of a whole picture as well."""
    vector = vector_of(files) if pooled else None
    more = {"vector": vector[0]} if vector else {}
    return PatchEncoder(files.model.to(device), files.processor, {**facts, **more}, vector and vector[1])


def vector_of(files: Files) -> tuple[str, Vectors]:
    """What a model calls its vector of a whole picture, and how it comes of inputs; DataError where it has none."""
    model = files.model
    if hasattr(model, "get_image_features"):
        return "image features", lambda inputs: one_each(model.get_image_features(pixel_values=inputs))
    if pools(files):
        return "pooler output", lambda inputs: one_each(model(pixel_values=inputs))
    if any(name.rpartition(".")[2] == "cls_token" for name, _ in model.named_parameters()):
        return "class token", lambda inputs: model(pixel_values=inputs).last_hidden_state[:, 0]
    name = type(model).__name__
    raise DataError(f"{name} has no vector of a whole picture: leave --pooled out, or take another model")


def pools(files: Files) -> bool:
    """Whether a model has a pooled output, and the weights for it, as it does with a black picture."""
    if any("pooler" in name.split(".") for name in files.missing):
        return False
    black = files.processor(images=Image.new("RGB", TRIED), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        return getattr(files.model.eval()(pixel_values=black), "pooler_output", None) is not None


def one_each(outputs: Any) -> Tensor:
    """The vectors (B, D) among what a model of transformers gives; DataError where there is not one per picture."""
    vectors = getattr(outputs, "pooler_output", outputs)
    if not isinstance(vectors, Tensor) or vectors.ndim != 2:
        raise DataError("the model gives no vector per picture: leave --pooled out, or take another model")
    return vectors


def facts_of(model: str, folder: Path, files: Files) -> dict[str, Any]:
    """All that decides the numbers of a model but its settings."""
    return {
        "model": folder.resolve().name if Path(model).is_dir() else model,
        "class": type(files.model).__name__,
        "weights_sha256": sha256_of(weight_files(folder)),
        "processor": {name: value for name, value in files.processor.to_dict().items() if name in DECIDING},
        "transformers": transformers().__version__,
    }


def read_files(model: str, folder: Path, whole_model: bool) -> Files:
    """A model and its image processor; of one of pictures and words the tower of pictures alone, unless whole.

    The processor is always the one for Pillow, so that its numbers do not depend on what else is installed.
    """
    weight_files(folder)
    with reading(model):
        library = transformers()
        library.logging.disable_progress_bar()
        with silent(library):
            files = _read_files(library, folder, whole_model)
    check_whole(model, files.missing)
    return files


def _read_files(library: Any, folder: Path, whole_model: bool) -> Files:
    config = library.AutoConfig.from_pretrained(folder, **LOCAL)
    finds = type(config) in library.MODEL_FOR_OBJECT_DETECTION_MAPPING
    processor = library.AutoImageProcessor.from_pretrained(folder, backend="pil", **LOCAL)
    auto = library.AutoModelForObjectDetection if finds else library.AutoModel
    tower = config if whole_model else getattr(config, "vision_config", config)
    model, report = auto.from_pretrained(
        folder,
        config=tower,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are told below, with their shapes
        **LOCAL,
    )
    check_shapes(folder, report["mismatched_keys"])
    return Files(model, processor, set(report["missing_keys"]), finds)


def check_shapes(folder: Path, mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """DataError for the first of some weights, each with its shape and the model's, that differ."""
    for name, own, wanted in sorted(mismatched):
        shapes = f"{tuple(own)}, that of its {CONFIG} {tuple(wanted)}"
        raise DataError(f"the shape of {name} is {shapes}; take both of one model", Location(folder))


def transformers() -> Any:
    """The library, imported late."""
    import_torchvision()  # which it uses where it is installed
    import transformers as library

    return library


def local_folder(model: str, download: bool) -> Path:
    """The folder of a model: itself, or where the cache of the hub has it; DataError where it is not here."""
    if Path(model).is_dir():
        return Path(model)
    with reading(model):
        import huggingface_hub as hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        failed: tuple[type[Exception], ...] = HfHubHTTPError.__bases__  # with what the hub's HTTP library raises
        try:
            return Path(hub.snapshot_download(model, local_files_only=not download, allow_patterns=FILES))
        except HFValidationError as error:
            raise DataError(f"{model} is neither a folder nor a name such as owner/model; see to --model") from error
        except failed as error:
            if download:
                raise DataError(f"{model} cannot be downloaded ({first_line(error)}); try again, it goes on") from error
            part = getattr(error, "snapshot_path", "")  # in the cache, but for files that a model may do without
            if part:
                return Path(part)
            raise DataError(
                f"{model} is no folder here, nor a model in the local cache; --download gets it from huggingface.co"
            ) from error


def weight_files(folder: Path) -> list[Path]:
    """The files of a model's weights; DataError where it lacks them or one that says how they are used."""
    weights = [folder / WEIGHTS] if has_file(folder / WEIGHTS) else sorted(folder.glob(SHARDS))
    if not has_file(folder / CONFIG):
        raise DataError(f"has no {CONFIG}, so it is no model of Hugging Face; get all files of it", Location(folder))
    if not any(has_file(folder / name) for name in PROCESSORS):
        message = f"has no {' or '.join(PROCESSORS)}, which say how it takes pictures; get it, too"
        raise DataError(message, Location(folder))
    if not weights:
        raise DataError(f"has no {WEIGHTS}; {how_to_convert(folder)}", Location(folder))
    for path in weights:
        if hint := lfs_hint(path):
            raise DataError(hint, Location(path))
        check_weights(path)
    return weights


def sha256_of(weights: Sequence[Path]) -> str:
    """The sha256 of a model's only file of weights, or over those of all its files."""
    digests = [sha256(path) for path in weights]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def check_whole(model: str, missing: Iterable[str]) -> None:
    """DataError where weights lack what the hidden states pass through: it would be random, and nobody would see it."""
    absent = sorted(name for name in missing if not UNUSED & set(name.split(".")))
    if absent:
        raise DataError(f"{model}: its weights lack {len(absent)} of its parts, {absent[0]} first; take a whole model")


@contextmanager
def reading(model: str) -> Iterator[None]:
    """Raise a DataError for what the libraries raise of a model's files, ConfigError for an absent library."""
    try:
        from safetensors import SafetensorError  # it comes with transformers

        try:
            yield
        except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            raise DataError(f"{model} cannot be read as a vision model ({first_line(error)}); take another") from error
    except ImportError as error:
        what = f"{model} needs a library that is not here ({first_line(error)})"
        raise ConfigError(f"{what}: pip install 'itm-harness[vision]'") from error
