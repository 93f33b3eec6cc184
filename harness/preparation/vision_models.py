"""Vision models of Hugging Face, from a local folder or the local cache; downloaded only where that is asked for.

No code of a model's folder is run, and weights are read from safetensors alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from harness.data.text_encoder import LOCAL, how_to_convert, silent
from harness.errors import ConfigError, DataError, Location, ResourceError, UsageError, first_line
from harness.files import has_file, lfs_hint, sha256
from harness.preparation.extractors import Detector, Extractor, PatchGrid

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
WEIGHTS, SHARDS = "model.safetensors", "model-*.safetensors"
FILES = [CONFIG, *PROCESSORS, WEIGHTS, f"{WEIGHTS}.index.json", SHARDS]
UNUSED = {"pooler", "mask_token"}  # parts that no hidden state passes through; a checkpoint may lack them
DECIDING = {"image_processor_type", "do_resize", "size", "crop_size", "resample", "do_pad", "pad_size"}
DECIDING |= {"do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"}
BOXES = 36  # of a picture, as the field has them
TRIED = (96, 64)  # width and height of the picture that shows whether a model works


@dataclass(frozen=True)
class ModelChoice:
    """A model and its settings; None leaves one to the kind of the model."""

    model: str  # a folder, or a name on huggingface.co
    download: bool = False
    boxes: int | None = None  # of a detector
    threshold: float | None = None  # of a detector
    pool: int | None = None  # of an encoder


def load(choice: ModelChoice, device: torch.device) -> Extractor:
    """The model, tried on a picture; its own config decides whether it is a detector or an encoder of patches.

    DataError where it is absent, damaged or gives no regions, UsageError for a flag of the other kind, ConfigError
    where a library is absent, ResourceError where the device cannot hold it.
    """
    folder = local_folder(choice.model, choice.download)
    weights = weight_files(folder)
    with reading(choice.model):
        library = transformers()
        finds, model, processor, missing = read_files(library, folder)
    check_whole(choice.model, missing)
    origin = {
        "model": folder.resolve().name if Path(choice.model).is_dir() else choice.model,
        "class": type(model).__name__,
        "weights_sha256": sha256_of(weights),
        "processor": {name: value for name, value in processor.to_dict().items() if name in DECIDING},
        "transformers": library.__version__,
    }
    with fitting(choice.model, device):
        extractor = extractor_for(choice, finds)(model.to(device), processor, origin)
        extractor.see([extractor.prepare(Image.new("RGB", TRIED))])
    return extractor


def read_files(library: Any, folder: Path) -> tuple[bool, Any, Any, set[str]]:
    """Whether a folder's model finds objects, the model in float32, its image processor, and weights that it lacks.

    The processor is always the one for Pillow, so that its numbers do not depend on what else is installed.
    """
    library.logging.disable_progress_bar()
    with silent(library):
        config = library.AutoConfig.from_pretrained(folder, **LOCAL)
        finds = type(config) in library.MODEL_FOR_OBJECT_DETECTION_MAPPING
        processor = library.AutoImageProcessor.from_pretrained(folder, backend="pil", **LOCAL)
        auto = library.AutoModelForObjectDetection if finds else library.AutoModel
        tower = getattr(config, "vision_config", config)
        model, report = auto.from_pretrained(
            folder, config=tower, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **LOCAL
        )
    return finds, model, processor, set(report["missing_keys"])


def transformers() -> Any:
    """The library, imported late."""
    import transformers as library

    return library


def extractor_for(choice: ModelChoice, finds: bool) -> Callable[[Any, Any, dict[str, Any]], Extractor]:
    if finds:
        refuse(choice, "is an object detector, whose regions are boxes", pool=choice.pool)
        most, threshold = choice.boxes or BOXES, choice.threshold or 0.0
        return partial(Detector, most=most, threshold=threshold)
    refuse(choice, "is no object detector: its regions are patches", boxes=choice.boxes, threshold=choice.threshold)
    return partial(PatchGrid, pool=choice.pool)


def refuse(choice: ModelChoice, why: str, **flags: float | None) -> None:
    for name, value in flags.items():
        if value is not None:
            raise UsageError(f"--{name} {value}: {choice.model} {why}; leave that flag out")


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


@contextmanager
def fitting(model: str, device: torch.device) -> Iterator[None]:
    """Raise a ResourceError where a device has no room for a model, DataError where it refuses its first picture."""
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ResourceError(f"--device {device}: this process sees {torch.cuda.device_count()} CUDA devices")
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ResourceError(f"--device {device} has no room for {model}; free it or take another") from error
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(f"{model} does not take what its own image processor makes ({first_line(error)})") from error
