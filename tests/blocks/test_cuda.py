"""What only a CUDA device can show: equal scores and steps, its memory, its limits. `make gpu` runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import methods
from harness.blocks.host import to_device
from harness.blocks.tiles import Tile, in_tiles
from harness.config.cards import MethodCard, read_card
from harness.config.project import DEFAULTS, Config
from harness.config.registry import discover, load_class
from harness.config.selection import Selection
from harness.config.toml import read_toml
from harness.data.regions import Ragged
from harness.evaluation.scoring import score_encoded
from harness.method import Batch, Encoded, Inputs
from harness.trial.batches import DeviceRegions, free_bytes, read
from harness.trial.checkpoint import load_checkpoint, save_checkpoint
from harness.trial.device import cap_memory, choose_device, forget_peak, peak_mb
from harness.trial.results import TrialResult

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
ROOT = Path(__file__).parents[2]
CARDS = Path(methods.__path__[0])
FRAGMENT = ("scan_t2i", "scan_i2t", "bssan", "caan")
TRAINED = (*FRAGMENT, "vsepp")
FEATURES, VOCABULARY = 48, 200


@pytest.fixture(autouse=True)
def _all_memory() -> Iterator[None]:
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def build(name: str) -> Any:
    card = read_card(MethodCard, CARDS / f"{name}.toml")
    small = {key: value for key, value in {"dim": 64, "word_dim": 32, "width": 16}.items() if key in card.defaults}
    torch.manual_seed(1)
    kind = load_class(card)
    return kind(kind.Settings(**{**card.defaults, **small}), Inputs(FEATURES, VOCABULARY))


def batch(size: int = 24, regions: int = 9, words: int = 12) -> Batch:
    torch.manual_seed(2)
    counts, lengths = torch.randint(1, regions + 1, (size,)), torch.randint(1, words + 1, (size,))
    region_mask, token_mask = (torch.arange(int(of.max())) < of[:, None] for of in (counts, lengths))
    values = torch.randn(*region_mask.shape, FEATURES) * region_mask.unsqueeze(2)
    tokens = torch.randint(4, VOCABULARY, token_mask.shape) * token_mask
    return Batch(values, region_mask, tokens, token_mask, torch.eye(size, dtype=torch.bool))


def moved(of: Batch, device: torch.device) -> Batch:
    return Batch._make([*(part.to(device) for part in of[:5]), of.hardest])


def encoded(method: Any, of: Batch) -> tuple[Encoded, Encoded]:
    return method.encode_images(of.regions, of.region_mask), method.encode_captions(of.tokens, of.token_mask)


@torch.no_grad()
@pytest.mark.parametrize("vectors", [None, 16])
@pytest.mark.parametrize("name", TRAINED)
def test_scores_are_the_cpus(name: str, vectors: int | None) -> None:
    method, of = build(name).eval(), batch()
    expected = in_tiles(method, *encoded(method, of), vectors)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        scores = in_tiles(method.to(CUDA), *encoded(method, moved(of, CUDA)), vectors)
    torch.testing.assert_close(scores.cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_step_has_the_cpus_loss_and_gradients(name: str) -> None:
    steps = {}
    for device in (CPU, CUDA):
        method = build(name).to(device)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            loss = method.loss(moved(batch(), device))
            loss.backward()
        steps[device] = loss.detach().cpu(), {key: of.grad.cpu() for key, of in method.named_parameters()}
    torch.testing.assert_close(steps[CUDA][0], steps[CPU][0], rtol=1e-4, atol=1e-5)
    for key, gradient in steps[CPU][1].items():
        difference = (steps[CUDA][1][key] - gradient).norm() / gradient.norm().clamp_min(1e-3)
        assert difference < 1e-2, f"{key}: {difference}"


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_under_autocast_is_finite_and_close(name: str) -> None:
    method, of = build(name).to(CUDA), moved(batch(), CUDA)
    exact = method.loss(of).item()
    with torch.autocast("cuda", torch.bfloat16):
        loss = method.loss(of)
    loss.backward()
    assert loss.dtype is torch.float32
    assert abs(loss.item() - exact) < 0.1 * exact
    assert all(part.grad is not None and part.grad.isfinite().all() for part in method.parameters())


def test_auto_is_the_gpu() -> None:
    assert {choose_device(name) for name in ("auto", "cuda", "cuda:0")} == {CUDA}


def test_the_peak_is_of_what_was_allocated_since_it_was_forgotten() -> None:
    held = torch.empty(2**28, dtype=torch.uint8, device=CUDA)
    del held
    forget_peak(CUDA)
    start = peak_mb(CUDA)
    held = torch.empty(2**26, dtype=torch.uint8, device=CUDA)
    assert peak_mb(CUDA) - start == pytest.approx(64, abs=3)
    del held


def test_a_share_of_a_gpu_is_a_limit_of_its_memory() -> None:
    cap_memory(CUDA, 0.02)
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(int(torch.cuda.mem_get_info()[1] * 0.03), dtype=torch.uint8, device=CUDA)
    cap_memory(CUDA, 1.0)
    torch.empty(int(torch.cuda.mem_get_info()[1] * 0.03), dtype=torch.uint8, device=CUDA)


@torch.no_grad()
def test_scoring_halves_its_tiles_until_they_fit() -> None:
    method = build("scan_t2i").to(CUDA).eval()
    of = moved(batch(size=1024, regions=36, words=30), CUDA)
    images, captions = ([Tile(np.arange(1024), sets)] for sets in encoded(method, of))
    expected = score_encoded(method, images, captions, CUDA)
    torch.cuda.empty_cache()
    room = torch.cuda.memory_allocated() + 2**28  # less than one tensor of the whole product
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.mem_get_info()[1])
    scores = score_encoded(method, images, captions, CUDA, vectors=2**16)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_regions_kept_on_the_device_are_those_of_the_file() -> None:
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((count, 8)).astype(np.float16) for count in (3, 1, 5)]
    regions = Ragged(np.concatenate(images), np.array([0, 3, 4, 9]))
    places = np.array([[0, 1, 2], [3, -1, -1], [8, 4, -1]])
    expected = read(regions, CPU, places)
    assert DeviceRegions(regions, CUDA)(places).cpu().equal(expected)
    assert read(regions, CUDA, places).cpu().equal(expected)
    assert to_device(places, CUDA).cpu().numpy().tolist() == places.tolist()
    assert free_bytes(CUDA) > 2**20
    cap_memory(CUDA, 0.1)
    assert free_bytes(CUDA) < 0.1 * torch.cuda.mem_get_info()[1]


def test_a_checkpoint_of_the_gpu_is_read_on_the_cpu(tmp_path: Path) -> None:
    method = build("vsepp").to(CUDA)
    save_checkpoint(tmp_path / "state.pt", {"method": method.state_dict()})
    state = load_checkpoint(tmp_path / "state.pt", CPU)
    assert state is not None
    assert all(value.device == CPU for value in state["method"].values())


def assignment(folder: Path, gpus: float) -> Any:
    from harness.campaign.inputs import PlanInputs
    from harness.campaign.plan import assignments

    raw = read_toml(DEFAULTS)
    raw["per_dataset"]["scenes"]["training"]["epochs"] = 1
    raw["resources"] = {"device": "cuda", "gpus_per_trial": gpus}
    config = Config.model_validate({**raw, "root": folder})
    selection = Selection(("scan_t2i",), ("scenes",), seeds=(0,), limit=40).completed(config.campaign)
    (made,) = assignments(config, discover(config), selection, PlanInputs(config, discover(config), 40))
    return made


HALF = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_cuda import assignment
from harness.executors.executor import InProcess
(result,) = InProcess().run([assignment(Path(sys.argv[1]), gpus=0.5)], lambda report: True)
print(result.model_dump_json())
"""


def test_two_trials_share_a_gpu_at_the_same_time(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    running = [
        subprocess.Popen([sys.executable, "-c", HALF, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for folder in folders
    ]
    results = [TrialResult.model_validate_json(one.communicate()[0].splitlines()[-1]) for one in running]
    assert [result.state for result in results] == ["done", "done"], [result.message for result in results]
    assert results[0].measures == results[1].measures


def test_a_trial_runs_on_the_gpu_and_one_without_room_fails_as_such(tmp_path: Path) -> None:
    from harness.executors.executor import InProcess

    without_room = assignment(tmp_path / "small", gpus=0.0002)
    (failed,) = InProcess().run([without_room], lambda report: True)
    assert (failed.state, failed.failure) == ("failed", "oom"), failed.message
    (result,) = InProcess().run([assignment(tmp_path / "whole", gpus=1.0)], lambda report: True)
    assert result.state == "done", result.message
    assert result.environment["device"] == torch.cuda.get_device_name()
    assert result.cost["peak_memory_mb"] > 1
