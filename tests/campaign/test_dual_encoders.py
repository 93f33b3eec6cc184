"""Dual encoders as rows: image embeddings in a store, captions through the model's own tower; who may run where."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_project import Call
from tiny_towers import WIDTH, WORDS, save_clip

import harness
from harness.config.project import load
from harness.config.registry import discover
from harness.config.selection import Selection
from harness.data.region_writer import RegionWriter
from harness.errors import DataError
from harness.evaluation.measures import measures
from harness.evaluation.ranks import rank
from harness.trial.folder import CHECKPOINT, read_result

transformers = pytest.importorskip("transformers")
IMAGES = {"train": 12, "val": 6, "test": 8}
CARD = """
name = "pooled"
title = "Image embeddings"
summary = "For tests."
layout = "folder"
folder = "pooled"
licence = "generated"
origin = "generated"
feature_width = {width}
max_regions = 1
[splits]
train = {{ images = 12, captions = 24 }}
val = {{ images = 6, captions = 12 }}
test = {{ images = 8, captions = 16 }}
[text]
encoder = "{encoder}"
[[protocols]]
name = "all"
images = 8
captions = 16
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "clip"
    save_clip(folder)
    return folder


def sha(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def ids_of(split: str) -> list[str]:
    return [f"{split}-{number}" for number in range(IMAGES[split])]


def captions_of(split: str) -> list[list[str]]:
    rng = np.random.default_rng(len(split))
    return [[" ".join(rng.choice(WORDS, 2 + k % 4)) for _ in range(2)] for k in range(IMAGES[split])]


def write_dataset(
    project: Path, encoder: Path, width: int = WIDTH, weights: str = "", name: str = ""
) -> dict[str, Any]:
    """A folder of one embedding per image, of pictures of noise; the embeddings by image id."""
    folder, card = project / "data" / "pooled", project / "cards" / "pooled" / "card.toml"
    shutil.rmtree(folder / "regions", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    card.parent.mkdir(exist_ok=True)
    card.write_text(CARD.format(width=width, encoder=name or encoder.name))
    if not (project / "data" / encoder.name).exists():
        shutil.copytree(encoder, project / "data" / encoder.name)
    (folder / "split.json").write_text(json.dumps({split: ids_of(split) for split in IMAGES}))
    lines = [
        json.dumps({"id": f"{image}#{number}", "image": image, "text": text})
        for split in IMAGES
        for image, texts in zip(ids_of(split), captions_of(split), strict=True)
        for number, text in enumerate(texts)
    ]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    embeddings = embedded(encoder, width)
    origin = {"kind": "pooled", "model": encoder.name, "weights_sha256": weights or sha(encoder)}
    with RegionWriter(folder / "regions", "float32", origin) as writer:
        for image, vector in embeddings.items():
            writer.add(image, vector[None])
        writer.finish()
    return embeddings


@torch.no_grad()
def embedded(encoder: Path, width: int) -> dict[str, Any]:
    model = transformers.AutoModel.from_pretrained(encoder, local_files_only=True).eval()
    names = [image for split in IMAGES for image in ids_of(split)]
    pixels = torch.rand(len(names), 3, 16, 16, generator=torch.Generator().manual_seed(0))
    vectors = model.get_image_features(pixel_values=pixels).pooler_output.numpy()
    return dict(zip(names, np.resize(vectors, (len(names), width)).astype(np.float32), strict=True))


@torch.no_grad()
def rsum_of_the_model(encoder: Path, embeddings: dict[str, Any], prompt: str) -> float:
    """That of transformers' own model on test."""
    model = transformers.AutoModel.from_pretrained(encoder, local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder, local_files_only=True)
    texts = [prompt.replace("{}", text) for texts in captions_of("test") for text in texts]
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    words = torch.nn.functional.normalize(model.get_text_features(**batch).pooler_output, dim=-1)
    images = torch.nn.functional.normalize(torch.tensor(np.stack([embeddings[one] for one in ids_of("test")])), dim=-1)
    pairs = np.array([(number // 2, number) for number in range(len(texts))])
    return measures(rank((images @ words.T).numpy(), pairs))["rsum"]


def trial(project: Path, method: str, **settings: Any) -> Path:
    """The folder of the trial of a method with these settings."""
    found = []
    for spec in project.glob("runs/trials/*/spec.json"):
        content = json.loads(spec.read_text())
        if content["method"] == method and settings.items() <= content["settings"].items():
            found.append(spec.parent)
    (folder,) = found
    return folder


RUN = ("run", "--here", "-q", "--datasets", "pooled", "--seeds", "0")


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["{}", "a photo of {}."])
def test_a_zero_shot_row_has_the_recalls_of_the_model_itself(
    project: Path, call: Call, clip: Path, prompt: str
) -> None:
    embeddings = write_dataset(project, clip)
    words = () if prompt == "{}" else ("-s", f"settings.zero_shot.prompt={prompt}")
    assert call(*RUN, "--methods", "zero_shot", *words) == 0
    folder = trial(project, "zero_shot", prompt=prompt)
    result = read_result(folder)
    assert result and result.measures["rsum"] == pytest.approx(rsum_of_the_model(clip, embeddings, prompt), abs=1e-6)
    assert result.cost["parameters"] == 0 and not (folder / CHECKPOINT).exists()
    board = (project / "reports" / "pooled-all.md").read_text()
    assert (
        "zero_shot, zero-shot" in board
        and "not the paper's" not in board.split("zero_shot, zero-shot")[1].split("\n")[0]
    )


@pytest.mark.slow
def test_from_pictures_to_the_zero_shot_row_of_the_models_own_processor(project: Path, call: Call, clip: Path) -> None:
    write_dataset(project, clip)
    encoder, folder = project / "data" / clip.name, project / "data" / "pooled"
    processor = save_processor(encoder)
    pictures = write_pictures(folder / "images")
    shutil.rmtree(folder / "regions")
    told = ("--to", str(folder / "regions"), "--model", str(encoder), "--pooled", "-q")
    assert call("data", "extract", str(folder / "images"), *told) == 0
    embeddings = {image: seen_by(clip, processor, picture) for image, picture in pictures.items()}
    assert call(*RUN, "--methods", "zero_shot") == 0
    result = read_result(trial(project, "zero_shot"))
    assert result and result.measures["rsum"] == pytest.approx(rsum_of_the_model(clip, embeddings, "{}"), abs=1e-6)


def save_processor(folder: Path) -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor.save_pretrained(folder)
    return processor


def write_pictures(folder: Path) -> dict[str, Image.Image]:
    """Pictures of noise, larger than the model takes them and not square, by image id."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    pictures = {}
    for image in (image for split in IMAGES for image in ids_of(split)):
        pictures[image] = Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8))
        pictures[image].save(folder / f"{image}.png")
    return pictures


@torch.no_grad()
def seen_by(encoder: Path, processor: Any, picture: Image.Image) -> Any:
    model = transformers.AutoModel.from_pretrained(encoder, local_files_only=True).eval()
    return model.get_image_features(**processor(images=picture, return_tensors="pt")).pooler_output[0].numpy()


@pytest.mark.slow
def test_heads_are_trained_on_a_frozen_tower_whose_numbers_are_in_no_checkpoint(
    project: Path, call: Call, clip: Path
) -> None:
    write_dataset(project, clip)
    assert (
        call(*RUN, "--methods", "clip_heads,siglip_heads,zero_shot+clip_heads", "-s", "failures.random_epochs=0") == 0
    )
    for method in ("clip_heads", "siglip_heads"):
        folder = trial(project, method)
        result = read_result(folder)
        assert result and result.measures["rsum"] > 0 and result.spec.training.drop_words == 0
        weights = torch.load(folder / CHECKPOINT, weights_only=True)["best"]["method"]
        assert weights and not any("tower" in name for name in weights)
    ensemble = read_result(trial(project, "clip_heads+zero_shot"))
    assert ensemble and ensemble.measures["rsum"] > 0


@pytest.mark.slow
def test_members_of_an_ensemble_have_each_its_own_prompt(project: Path, call: Call, clip: Path) -> None:
    write_dataset(project, clip)
    prompts = ("-s", "settings.zero_shot.prompt=the {}", "-s", "failures.random_epochs=0")
    assert call(*RUN, "--methods", "zero_shot+clip_heads", *prompts) == 0


@pytest.mark.slow
def test_a_word_encoder_reads_the_states_of_the_tower(project: Path, call: Call, clip: Path) -> None:
    write_dataset(project, clip)
    assert call(*RUN, "--methods", "vsepp", "-s", "failures.random_epochs=0") == 0
    weights = torch.load(trial(project, "vsepp") / CHECKPOINT, weights_only=True)["best"]["method"]
    assert any("text_model" in name for name in weights) and not any("vision" in name for name in weights)


@pytest.mark.slow
def test_exported_weights_take_their_encoder_by_its_name_and_hashes(project: Path, call: Call, clip: Path) -> None:
    write_dataset(project, clip)
    assert call(*RUN, "--methods", "clip_heads") == 0
    ranks = np.load(trial(project, "clip_heads") / "ranks.npz", allow_pickle=False)["i2t_rank"]
    assert call("export", "clip_heads/pooled/s0", "--weights", "w") == 0
    names = {path.name for path in (project / "w").iterdir()}
    assert "vocabulary.json" not in names and clip.name in (project / "w" / "README.md").read_text()
    assert call("score", "--weights", "w", "--dataset", "pooled", "--name", "mine") == 0
    assert np.array_equal(np.load(trial(project, "external:mine") / "ranks.npz", allow_pickle=False)["i2t_rank"], ranks)
    encoder = project / "data" / clip.name
    encoder.rename(project / "w" / clip.name)
    assert harness.load(project / "w").encode_captions(["a dog"]).ids == ("a dog",)
    shutil.rmtree(project / "w" / clip.name)
    with pytest.raises(DataError, match="its text encoder 'clip' is neither"):
        harness.load(project / "w")
    save_clip(project / "w" / clip.name, width=WIDTH * 2)
    with pytest.raises(DataError, match="not the file that the weights were trained with"):
        harness.load(project / "w")


def test_a_named_method_without_a_dual_encoder_is_refused_before_anything_starts(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "--here", "--datasets", "tiny", "--methods", "vsepp,zero_shot") == 2
    text = " ".join(capsys.readouterr().err.split())
    for part in ("zero_shot needs a dual encoder", "tiny has no encoder", "[text] encoder =", "leave the method out"):
        assert part in text
    assert not list(project.glob("runs/trials/*"))
    assert call("run", "--here", "--datasets", "tiny", "--methods", "vsepp+clip_heads") == 2
    assert call("run", "--here", "--datasets", "tiny", "--methods", "clip_h*") == 2
    assert call("search", "--here", "--datasets", "tiny", "--methods", "clip_heads") == 2


def test_a_glob_leaves_out_what_a_dataset_has_no_encoder_for_and_says_so(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "-n", "--json", "--datasets", "tiny", "--methods", "*p*") == 0
    out, err = capsys.readouterr()
    planned = {one["method"] for one in json.loads(out)["trials"]}
    assert "vsepp" in planned and "clip_heads" not in planned
    note = "tiny: left out, as its [text] encoder is no dual encoder such as CLIP: clip_heads, siglip_heads"
    assert note in " ".join(err.split())


def test_a_text_encoder_without_pictures_is_no_dual_encoder(
    project: Path, call: Call, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(project, clip)
    config = project / "data" / "clip" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text())["text_config"]))
    assert call(*RUN, "--methods", "zero_shot") == 2
    assert "pooled has 'clip', which is none" in " ".join(capsys.readouterr().err.split())


def test_embeddings_of_another_width_are_refused_before_anything_starts(
    project: Path, call: Call, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(project, clip, width=WIDTH + 4)
    assert call(*RUN, "--methods", "zero_shot") == 3
    text = " ".join(capsys.readouterr().err.split())
    assert "pooled: regions have 16 numbers, embeddings of its [text] encoder clip 12; extract image embeddings" in text
    assert not list(project.glob("runs/trials/*"))
    assert call(*RUN, "-n", "--methods", "clip_heads") == 0


def test_embeddings_by_other_weights_are_doubted_in_a_note(
    project: Path, call: Call, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(project, clip)
    assert call("run", "-n", "--datasets", "pooled", "--methods", "zero_shot") == 0
    assert "other weights" not in " ".join(capsys.readouterr().out.split())
    write_dataset(project, clip, weights="0" * 64)
    assert call("run", "-n", "--datasets", "pooled", "--methods", "zero_shot") == 0
    assert "made with other weights than its [text] encoder has" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("prompt", ["a photo", "{} or {}", ""])
def test_a_prompt_without_one_place_for_the_caption_is_refused(
    project: Path, call: Call, clip: Path, capsys: pytest.CaptureFixture[str], prompt: str
) -> None:
    write_dataset(project, clip)
    assert call(*RUN, "--methods", "zero_shot", "-s", f"settings.zero_shot.prompt='{prompt}'") == 2
    assert "the caption stands in the place of {}, once" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_broken_torchvision_is_the_environments_fault_and_its_trials_run_once_it_is_gone(
    project: Path, clip: Path
) -> None:
    write_dataset(project, clip)
    broken = project / "broken"
    (broken / "torchvision").mkdir(parents=True)
    (broken / "torchvision" / "__init__.py").write_text(
        "def ends():\n    raise RuntimeError('operator torchvision::nms does not exist')\nends()\n"
    )
    words = [sys.executable, "-m", "harness", *RUN, "--methods", "vsepp", "-s", "failures.random_epochs=0"]

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **more}
        return subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, check=False)

    done = run(PYTHONPATH=str(broken))
    text = " ".join(done.stderr.split())
    assert done.returncode == 2, text
    for part in (
        "cannot be imported beside torch",
        "operator torchvision::nms does not exist",
        "pip uninstall torchvision",
    ):
        assert part in text
    assert not list(project.glob("runs/trials/*/result.json"))
    assert run().returncode == 0


def test_validate_loads_the_encoder_and_names_what_its_weights_lack(
    project: Path, call: Call, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    write_dataset(project, clip)
    assert call("validate", "--dataset", "pooled") == 0
    file = project / "data" / clip.name / "model.safetensors"
    weights = load_file(file)
    del weights["text_projection.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    capsys.readouterr()
    assert call("validate", "--dataset", "pooled") == 3
    text = " ".join(capsys.readouterr().out.split())
    assert "encoder-unreadable" in text and "text_projection.weight" in text


def test_the_selection_of_a_library_is_that_of_the_command(project: Path, clip: Path) -> None:
    from harness.campaign.plan import plan

    write_dataset(project, clip)
    config = load(project / "harness.toml", [])
    made = plan(config, discover(config), Selection(methods=("zero_*", "chance"), datasets=("pooled", "tiny")))
    assert [one.spec.label for one in made.trials] == ["zero_shot/pooled/s0", "chance/pooled/s0", "chance/tiny/s0"]
    assert len(made.notes) == 1 and made.notes[0].startswith("tiny: left out")
