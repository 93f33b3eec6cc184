"""torchvision of any build: imported beside a torch of another, or said to be broken; a model is never blamed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

# What the Python part of PyPI's torchvision does where its compiled part does not load.
FOR_CUDA = """
import torch
for name in ("nms", "qnms"):
    @torch.library.register_fake("torchvision::" + name)
    def meta(dets, scores, iou_threshold):
        return dets
"""
IMPORTING = """
from harness.data.torchvision import import_torchvision
from harness.errors import ConfigError
try:
    import_torchvision()
    import torchvision
    print("imported", torchvision.__name__)
except ConfigError as error:
    print(error.exit_code, error)
"""


def said(folder: Path, content: str, *command: str) -> str:
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(content)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    words = [sys.executable, "-c", *command]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_a_build_for_cuda_is_imported_beside_a_torch_for_cpus(tmp_path: Path) -> None:
    assert said(tmp_path, FOR_CUDA, IMPORTING) == "imported torchvision\n"


@pytest.mark.parametrize(
    "content", ["raise RuntimeError('built with CUDA 99')", "import absent_library", "raise OSError('libc10.so')"]
)
def test_one_that_cannot_be_imported_is_the_environments_fault(tmp_path: Path, content: str) -> None:
    told = said(tmp_path, content, IMPORTING)
    assert told.startswith("2 torchvision") and "cannot be imported beside torch" in told
    assert "install the release that belongs to this torch, or remove it by pip uninstall torchvision" in told


LOADING = """
import sys
from pathlib import Path
import torch
from harness.data.text_encoder import PretrainedTokenizer
from harness.errors import HarnessError
from harness.extraction.vision_models import ModelChoice, load
model, device = sys.argv[1], torch.device("cpu")
for read in (lambda: PretrainedTokenizer(Path(model)), lambda: load(ModelChoice(model), device)):
    try:
        read()
    except HarnessError as error:
        print(error.exit_code, error)
"""


@pytest.mark.slow
def test_a_broken_one_is_never_a_fault_of_a_model(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "preprocessor_config.json", "vocab.txt"):
        (model / name).write_text("{}")
    save_file({}, model / "model.safetensors")
    lines = said(tmp_path, "raise RuntimeError('built with CUDA 99')", LOADING, str(model)).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("2 torchvision") and "built with CUDA 99" in line for line in lines)
