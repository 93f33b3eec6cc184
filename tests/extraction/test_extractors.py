"""What vision models make of a picture: a region's numbers belong to its box, and are those that the library gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_vision import images, models

from harness.data.pictures import read_picture
from harness.errors import ResourceError, UsageError
from harness.extraction.extractors import CellGrid, Detector, Extractor, object_scores
from harness.extraction.patch_encoder import PatchEncoder
from harness.extraction.vision_models import ModelChoice, load

transformers = pytest.importorskip("transformers")

__all__ = ["images", "models"]
PROCESSORS = {
    **{"vit": "ViTImageProcessorPil", "clip": "CLIPImageProcessorPil", "yolos": "YolosImageProcessorPil"},
    **{"detr": "DetrImageProcessorPil", "deformable_detr": "DeformableDetrImageProcessorPil"},
}


def processor_of(kind: str) -> Any:
    """A class of the library, imported when a test wants it: whoever collects tests would wait seconds for all."""
    return getattr(import_module(f"transformers.models.{kind}.image_processing_pil_{kind}"), PROCESSORS[kind])


def model(folder: Path, **wanted: Any) -> Extractor:
    return load(ModelChoice(str(folder), **wanted), torch.device("cpu"))


class Means(torch.nn.Module):
    """An encoder whose state of a patch is the patch's mean colour; other tokens stand before the patches."""

    def __init__(self, patch: int, others: int) -> None:
        super().__init__()
        self.register_parameter("unused", torch.nn.Parameter(torch.zeros(1)))
        self.config = SimpleNamespace(patch_size=patch, model_type="means")
        self.others = others

    def forward(self, pixel_values: torch.Tensor) -> Any:
        cells = torch.nn.functional.avg_pool2d(pixel_values, self.config.patch_size).flatten(2).transpose(1, 2)
        others = torch.full((len(cells), self.others, 3), 9.0)
        return SimpleNamespace(last_hidden_state=torch.cat([others, cells], dim=1))


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(0, 5),
    st.data(),
)
def test_a_patch_and_its_box_are_of_one_place(
    grid: tuple[int, int], cell: tuple[int, int], others: int, data: st.DataObject
) -> None:
    (rows, columns), (height, width) = grid, cell
    pool = data.draw(st.none() | st.integers(1, min(grid)))
    colours = np.random.default_rng(0).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    picture = np.kron(colours, np.ones((height, width, 1), np.uint8))
    size = {"height": 2 * rows, "width": 2 * columns}
    processor = processor_of("vit")(size=size, resample=0, do_normalize=False)
    encoder = CellGrid(PatchEncoder(Means(patch=2, others=others), processor, {}), pool)
    (seen,) = encoder.see([encoder.prepare(Image.fromarray(picture))])
    assert seen.regions.shape == ((pool or rows) * (pool or columns), 3)
    for region, box in zip(seen.regions, seen.boxes, strict=True):
        x, y, w, h = np.round(box).astype(int)
        np.testing.assert_allclose(box, (x, y, w, h), atol=1e-4)
        np.testing.assert_allclose(region, picture[y : y + h, x : x + w].mean((0, 1)) / 255, atol=1e-5)


class Boxes(torch.nn.Module):
    """A detector that finds the same in every picture."""

    def __init__(self, logits: list[list[float]], boxes: list[list[float]]) -> None:
        super().__init__()
        self.register_parameter("unused", torch.nn.Parameter(torch.zeros(1)))
        self.config = SimpleNamespace(num_labels=2)
        self.found = torch.tensor(logits), torch.tensor(boxes)

    def forward(self, pixel_values: torch.Tensor) -> Any:
        logits, boxes = (one.expand(len(pixel_values), *one.shape) for one in self.found)
        states = torch.arange(2.0 + logits.shape[1])[None, :, None].expand(len(pixel_values), -1, 3)
        return SimpleNamespace(logits=logits, pred_boxes=boxes, last_hidden_state=states)


@pytest.mark.parametrize(
    ("most", "threshold", "kept"),
    [(9, 0.0, [2, 0, 3, 1]), (2, 0.0, [2, 0]), (9, 0.5, [2, 0]), (9, 0.999, [2])],
)
def test_the_best_boxes_are_kept_and_one_always(most: int, threshold: float, kept: list[int]) -> None:
    nothing_is_likely = [0.0, 0.0, 9.0]
    logits = [[2.0, 0.0, 0.0], nothing_is_likely, [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]]
    boxes = [[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1], [0.9, 0.2, 0.4, 0.2], [0.5, 0.5, 1.5, 1.5]]
    in_pixels = [[80, 30, 40, 40], [10, 5, 20, 10], [140, 10, 60, 20], [0, 0, 200, 100]]
    detector = Detector(Boxes(logits, boxes), processor_of("vit")(), {}, most, threshold)
    for seen in detector.see([detector.prepare(Image.new("RGB", (200, 100)))] * 2):
        np.testing.assert_array_equal(seen.regions[:, 0], np.array(kept) + 2)  # states of two patches stand before
        np.testing.assert_allclose(seen.boxes, [in_pixels[box] for box in kept], atol=1e-4)


@pytest.mark.parametrize(("more", "processor"), [(1, "detr"), (0, "deformable_detr")], ids=["DETR", "focal"])
def test_scores_are_those_of_the_library(more: int, processor: str) -> None:
    logits = torch.randn(3, 7, 4 + more)
    outputs = SimpleNamespace(logits=logits, pred_boxes=torch.rand(3, 7, 4))
    library = processor_of(processor)().post_process_object_detection(outputs, threshold=-1.0)
    highest = torch.stack([one["scores"].max() for one in library])
    torch.testing.assert_close(object_scores(logits, 4).amax(1), highest)


def test_states_of_patches_are_those_that_the_library_gives(models: Path, images: Path) -> None:
    processor, encoder = (
        processor_of("vit").from_pretrained(models / "vit"),
        transformers.ViTModel.from_pretrained(models / "vit"),
    )
    picture = read_picture(images / "0.png")
    with torch.inference_mode():
        states = encoder(**processor(images=picture, return_tensors="pt")).last_hidden_state
    vit = model(models / "vit")
    (seen,) = vit.see([vit.prepare(picture)])
    np.testing.assert_allclose(seen.regions, states[0, 1:].numpy(), atol=1e-5)
    np.testing.assert_allclose(seen.boxes[5], [16, 12, 16, 12])


def test_of_a_model_of_pictures_and_words_its_vision_tower_is_taken(models: Path, images: Path) -> None:
    square = read_picture(images / "0.png").resize((32, 32))  # which CLIP's processor does not crop
    processor = processor_of("clip").from_pretrained(models / "clip")
    with torch.inference_mode():
        tower = transformers.CLIPModel.from_pretrained(models / "clip").vision_model
        states = tower(**processor(images=square, return_tensors="pt")).last_hidden_state
    clip = model(models / "clip")
    np.testing.assert_allclose(clip.see([clip.prepare(square)])[0].regions, states[0, 1:].numpy(), atol=1e-5)
    wide = clip.prepare(Image.new("RGB", (90, 30)))
    assert wide.inputs["picture"].shape == (3, 32, 32)
    np.testing.assert_allclose(clip.see([wide])[0].boxes[-1], [67.5, 22.5, 22.5, 7.5])  # nothing is cut off


def pooled(folder: Path, picture: Image.Image) -> tuple[Extractor, Any]:
    extractor = model(folder, pooled=True)
    (seen,) = extractor.see([extractor.prepare(picture)])
    return extractor, seen


def test_the_vector_of_a_model_of_pictures_and_words_is_its_image_embedding(models: Path, images: Path) -> None:
    picture = read_picture(images / "2.png")  # wider than high: CLIP's processor crops it
    processor = processor_of("clip").from_pretrained(models / "clip")
    with torch.inference_mode():
        clip = transformers.CLIPModel.from_pretrained(models / "clip")
        features = clip.get_image_features(**processor(images=picture, return_tensors="pt"))
    extractor, seen = pooled(models / "clip", picture)
    np.testing.assert_allclose(seen.regions, features.pooler_output.numpy(), atol=1e-6)
    np.testing.assert_allclose(seen.boxes, [[20, 0, 50, 50]])  # what the crop leaves of 90 x 50
    assert (extractor.origin["kind"], extractor.origin["vector"]) == ("embedding", "image features")
    assert extractor.origin["crop"] is True


def test_the_vector_of_a_vit_is_its_pooled_output_or_its_class_token(
    models: Path, images: Path, tmp_path: Path
) -> None:
    picture = read_picture(images / "0.png")
    processor = processor_of("vit").from_pretrained(models / "vit")
    vit = transformers.ViTModel.from_pretrained(models / "vit")
    with torch.inference_mode():
        outputs = vit(**processor(images=picture, return_tensors="pt"))
    extractor, seen = pooled(models / "vit", picture)
    np.testing.assert_allclose(seen.regions, outputs.pooler_output.numpy(), atol=1e-6)
    np.testing.assert_allclose(seen.boxes, [[0, 0, 64, 48]])
    assert (extractor.origin["vector"], extractor.origin["crop"]) == ("pooler output", False)
    vit.pooler = None  # as checkpoints of classifiers are: the library would make a random one
    vit.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    extractor, seen = pooled(tmp_path, picture)
    np.testing.assert_allclose(seen.regions, outputs.last_hidden_state[:, 0].numpy(), atol=1e-6)
    assert extractor.origin["vector"] == "class token"


def test_a_detector_gives_no_vector_of_a_picture(models: Path) -> None:
    with pytest.raises(UsageError, match=r"--pooled: .*yolos is an object detector, whose regions are boxes"):
        model(models / "yolos", pooled=True)


def test_boxes_are_those_that_the_library_gives(models: Path, images: Path) -> None:
    processor = processor_of("yolos").from_pretrained(models / "yolos")
    picture = read_picture(images / "2.png")
    with torch.inference_mode():
        outputs = transformers.YolosForObjectDetection.from_pretrained(models / "yolos")(
            processor(images=picture, return_tensors="pt")["pixel_values"]
        )
    (found,) = processor.post_process_object_detection(outputs, -1.0, target_sizes=[picture.size[::-1]])
    order = found["scores"].argsort(descending=True)[:4].numpy()
    yolos = model(models / "yolos", boxes=4)
    (seen,) = yolos.see([yolos.prepare(picture)])
    x, y, right, bottom = found["boxes"][order].numpy().T
    np.testing.assert_allclose(seen.boxes, np.stack([x, y, right - x, bottom - y], axis=1), atol=1e-3)
    np.testing.assert_allclose(seen.regions, outputs.last_hidden_state[0, -10:].numpy()[order], atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "yolos"])
def test_what_a_picture_gets_does_not_depend_on_those_beside_it(models: Path, images: Path, name: str) -> None:
    seer = model(models / name)
    pictures = [seer.prepare(read_picture(file)) for file in sorted(images.iterdir())]
    for picture, beside_others in zip(pictures, seer.see(pictures), strict=True):
        (alone,) = seer.see([picture])
        np.testing.assert_allclose(alone.regions, beside_others.regions, atol=1e-5)
        np.testing.assert_allclose(alone.boxes, beside_others.boxes, atol=1e-3)


def test_a_device_without_room_is_told_with_what_to_do() -> None:
    class Full(Means):
        def forward(self, pixel_values: torch.Tensor) -> Any:
            if len(pixel_values) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(pixel_values)

    encoder = CellGrid(PatchEncoder(Full(16, 0), processor_of("vit")(), {}))
    with pytest.raises(ResourceError, match=r"no room for 3 pictures at a time; .* smaller --batch-size"):
        encoder.see([encoder.prepare(Image.new("RGB", (9, 9)))] * 3)


class Overlapping(Extractor):
    """Whoever is called first also ends first, but not before the second has begun."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"), {})
        self.first_has_begun, self.second_has_begun, self.first_has_ended = (Event() for _ in range(3))

    def prepare(self, picture: Image.Image, image: str = "") -> Any:
        raise NotImplementedError

    def regions_of(self, pictures: Any) -> Any:
        if not self.first_has_begun.is_set():
            self.first_has_begun.set()
            assert self.second_has_begun.wait(60)
        else:
            self.second_has_begun.set()
            assert self.first_has_ended.wait(60)
        return []


def test_batches_seen_side_by_side_on_cores_leave_switches_of_the_process_alone() -> None:
    extractor, before = Overlapping(), torch.backends.cudnn.allow_tf32
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(extractor.see, [])
        assert extractor.first_has_begun.wait(60)
        second = pool.submit(extractor.see, [])
        first.result(60)
        extractor.first_has_ended.set()
        second.result(60)
    assert torch.backends.cudnn.allow_tf32 == before
