"""`harness data extract`: pictures to a region store through tiny vision models; what is interrupted goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_project import Call
from tiny_vision import SHAPES, SMALL, images, models

pytest.importorskip("transformers")

from harness.cli.datasets import data
from harness.cli.main import cli
from harness.data.pictures import find_pictures
from harness.data.region_store import RegionStore, open_store
from harness.errors import ConfigError, DataError, UsageError
from harness.extraction.extract import extract
from harness.extraction.extractors import Extractor
from harness.extraction.vision_models import ModelChoice, load

__all__ = ["images", "models"]

Captured = pytest.CaptureFixture[str]

cli.add_command(data)


def files(images: Path) -> dict[str, Path]:
    return find_pictures(images).files


def model(folder: Path, **wanted: Any) -> Extractor:
    return load(ModelChoice(str(folder), **wanted), torch.device("cpu"))


def opened(folder: Path) -> RegionStore:
    return open_store(folder, folder.parent / "cache")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("name", "count", "kind"), [("vit", 16, "patches"), ("yolos", 10, "boxes")])
def test_the_command_makes_a_store_that_opens(
    models: Path, images: Path, tmp_path: Path, call: Call, capsys: Captured, name: str, count: int, kind: str
) -> None:
    words = ("data", "extract", str(images), "--to", str(tmp_path / "store"), "--model", str(models / name), "--json")
    assert call(*words, "--batch-size", "2", "--dtype", "float16") == 0
    said = json.loads(capsys.readouterr().out)
    store = opened(tmp_path / "store")
    assert store.ids == tuple("012345678")
    assert (said["images"], said["width"], said["before"]) == (9, 16, 0)
    assert store.images.counts.tolist() == [count] * 9 and store.images.rows.dtype == np.float16
    assert [tuple(size) for size in store.sizes.tolist()] == [SHAPES[number % len(SHAPES)] for number in range(9)]
    for boxes, (width, height) in zip(store.boxes, store.sizes, strict=True):
        assert (boxes >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= (width + 0.01, height + 0.01)).all()
    origin = store.facts.origin
    assert (origin["kind"], origin["model"]) == (kind, name)
    assert len(origin["weights_sha256"]) == 64 and origin["processor"]["image_mean"]
    assert np.std(store.images.rows.astype(np.float32), axis=0).min() > 1e-3  # pictures differ


def unlike(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def of_text(folder: Path) -> None:
    from transformers import BertConfig

    BertConfig(vocab_size=9, **SMALL).save_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "flags", "code", "said"),
    [
        (None, ("--boxes", "3"), 2, "is no object detector: its regions are patches; leave that flag out"),
        (None, ("--pool", "5"), 2, "--pool 5: the model makes 4 x 4 patches of a picture; take fewer"),
        (shutil.rmtree, (), 3, "is neither a folder nor a name such as owner/model"),
        (pickled, (), 3, "pytorch_model.bin is a pickle, which is never loaded"),
        (pointer, (), 3, "model.safetensors: it is a Git LFS pointer"),
        (
            lambda folder: os.truncate(folder / "model.safetensors", 900),
            (),
            3,
            "model.safetensors: no safetensors file",
        ),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), (), 3, "which say how it takes pictures"),
        (lambda folder: (folder / "config.json").unlink(), (), 3, "has no config.json, so it is no model"),
        (lambda folder: unlike(folder, num_hidden_layers=2), (), 3, "lack 16 of its parts, layers.1."),
        (lambda folder: unlike(folder, hidden_size=20), (), 3, "is (1, 1, 16), that of its config.json (1, 1, 20)"),
        (lambda folder: unlike(folder, model_type="of my own"), (), 3, "cannot be read as a vision model"),
        (of_text, (), 3, "vit"),
    ],
)
def test_what_gives_no_regions_is_refused_before_anything_is_written(
    models: Path,
    images: Path,
    tmp_path: Path,
    call: Call,
    capsys: Captured,
    change: Any,
    flags: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    shutil.copytree(models / "vit", tmp_path / "vit")
    if change:
        change(tmp_path / "vit")
    words = ("data", "extract", str(images), "--to", str(tmp_path / "store"), "--model", str(tmp_path / "vit"))
    assert call(*words, *flags) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_an_absent_library_is_told(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"needs a library that is not here .*pip install 'itm-harness\[vision\]'"):
        model(models / "vit")


def test_pictures_of_a_size_that_the_model_does_not_take_are_told(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "vit", tmp_path / "vit")
    settings = json.loads((tmp_path / "vit" / "preprocessor_config.json").read_text())
    larger = json.dumps({**settings, "size": {"height": 48, "width": 48}})
    (tmp_path / "vit" / "preprocessor_config.json").write_text(larger)
    with pytest.raises(DataError, match=r"does not take what its own image processor makes \(Input image size"):
        model(tmp_path / "vit")


# What is interrupted goes on


def test_a_picture_that_cannot_be_read_ends_the_work_which_goes_on_when_it_is_mended(
    models: Path, images: Path, tmp_path: Path, call: Call, capsys: Captured
) -> None:
    shutil.copytree(images, tmp_path / "images")
    broken = tmp_path / "images" / "5.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    words = ("data", "extract", str(tmp_path / "images"), "--to", str(tmp_path / "store"))
    words += ("--model", str(models / "vit"), "--batch-size", "2")
    assert call(*words) == 3
    assert "5.png: no readable picture" in capsys.readouterr().err
    broken.write_bytes(whole)
    assert call(*words) == 0
    assert "4 of the images were there already" in capsys.readouterr().out
    assert call(*words) == 0
    assert "all of it was there already" in capsys.readouterr().out
    extract(files(images), model(models / "vit"), tmp_path / "at once", batch_size=2)
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")


KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from harness.data import region_writer
from harness.extraction.extract import extract
from harness.data.pictures import find_pictures

class Colours:
    on_cores = sys.argv[-1] != "gpu"
    origin = {"model": "a mean colour", "class": "Colours"}
    def prepare(self, picture, image):
        return SimpleNamespace(size=picture.size, colour=np.asarray(picture, dtype=np.float32).mean((0, 1)))
    def see(self, pictures):
        return [SimpleNamespace(regions=one.colour[None], boxes=np.zeros((1, 4), np.float32)) for one in pictures]

@contextmanager
def killing(total, done):
    yield lambda done: os.kill(os.getpid(), signal.SIGKILL) if done == 6 else None

region_writer.COMMIT_SECONDS = 0.0
files, store = find_pictures(Path(sys.argv[1])).files, Path(sys.argv[2])
if "kill" in sys.argv:
    extract(files, Colours(), store / "twice", batch_size=2, watch=killing)
print(extract(files, Colours(), store / "twice", batch_size=2).before)
extract(files, Colours(), store / "at once")
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["cores", "gpu"])
def test_a_killed_process_loses_nothing_that_it_had_written(images: Path, tmp_path: Path, where: str) -> None:
    command = [sys.executable, "-c", KILLED, str(images), str(tmp_path)]
    assert subprocess.run([*command, "kill", where], check=False).returncode == -signal.SIGKILL
    assert subprocess.run([*command, where], check=True, capture_output=True, text=True).stdout == "6\n"
    assert contents(tmp_path / "twice") == contents(tmp_path / "at once")


@contextmanager
def interrupted(total: int, done: int) -> Any:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    yield stop


def test_work_on_other_pictures_or_of_another_model_does_not_go_on(models: Path, images: Path, tmp_path: Path) -> None:
    vit, pictures = model(models / "vit"), files(images)
    with pytest.raises(KeyboardInterrupt):
        extract(pictures, vit, tmp_path / "store", batch_size=2, watch=interrupted)
    with pytest.raises(UsageError, match="unfinished work on 1 pictures that are not here, '0' first"):
        extract(dict(list(pictures.items())[1:]), vit, tmp_path / "store")
    with pytest.raises(UsageError, match="unfinished work on something else"):
        extract(pictures, model(models / "vit", pool=2), tmp_path / "store")
    assert extract(pictures, vit, tmp_path / "store").before == 2
    with pytest.raises(UsageError, match="holds a finished store; --force replaces it"):
        extract(dict(list(pictures.items())[1:]), vit, tmp_path / "store")
    made = extract(pictures, model(models / "vit", pool=2), tmp_path / "store", force=True)
    assert (made.before, made.facts.regions) == (0, 9 * 4)


# Models of the hub


class Hub(BaseHTTPRequestHandler):
    """Serves one model as huggingface.co does, and one whose weights end too early."""

    files = ("config.json", "preprocessor_config.json", "model.safetensors", "pytorch_model.bin", "README.md")

    def do_GET(self) -> None:
        """One of the files, the listing of a commit or that of its tree."""
        name = self.path.rpartition("/")[2]
        body = name.encode() * 99 if name in self.files else json.dumps(self.listing()).encode()
        self.send_response(404 if "owner/absent" in self.path else 200)
        for header, value in (("ETag", name), ("X-Repo-Commit", "a" * 40), ("Content-Length", str(len(body)))):
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:9] if self.path.startswith("/owner/cut") and name == "model.safetensors" else body)

    do_HEAD = do_GET

    def listing(self) -> Any:
        if "/tree/" in self.path:
            return [{"type": "file", "path": name, "size": 99 * len(name), "oid": "0" * 40} for name in self.files]
        return {"id": "owner/any", "sha": "a" * 40, "siblings": [{"rfilename": name} for name in self.files]}

    def log_message(self, *_: object) -> None:
        pass


LOADING = """
import sys
from harness.errors import DataError
from harness.extraction.hugging_face import local_folder
for step in sys.argv[1:]:
    name, _, download = step.partition("+")
    try:
        print(*sorted(path.name for path in local_folder(name, bool(download)).iterdir()))
    except DataError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_model_is_downloaded_only_where_that_is_asked_for(tmp_path: Path) -> None:
    steps = ["owner/tiny", "owner/absent+download", "owner/cut+download", "owner/tiny+download", "owner/tiny"]
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path)}
        command = [sys.executable, "-c", LOADING, *steps]
        done = subprocess.run(command, env={**os.environ, **hub}, check=True, stdout=subprocess.PIPE, text=True)
        server.shutdown()
    not_here, absent, cut, loaded, found = done.stdout.splitlines()
    assert "owner/tiny is no folder here, nor a model in the local cache; --download gets it" in not_here
    assert "owner/absent cannot be downloaded" in absent and "404" in absent
    assert "owner/cut cannot be downloaded" in cut and "try again, it goes on" in cut
    assert loaded == found == "config.json model.safetensors preprocessor_config.json"  # and no pickle
