"""Region stores: written as a stream, taken up after a kill, opened without a copy, refused where they are damaged."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import region_writer
from harness.data.region_store import FeatureFacts, check_alike, open_store, store_files
from harness.data.region_writer import RegionWriter, discard
from harness.data.regions import PaddedArray, Ragged
from harness.errors import DataError, ResourceError, StoreError, UsageError

WIDTH = 5


def image(number: int, regions: int | None = None, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(number).random((regions or 1 + number % 4, width), dtype=np.float32)


def boxes_of(regions: np.ndarray) -> np.ndarray:
    return np.arange(4 * len(regions), dtype=np.float32).reshape(-1, 4)


def write(folder: Path, numbers: Any = range(6), dtype: Any = "float32", **kinds: Any) -> None:
    with RegionWriter(folder, dtype, {"of": "a test"}) as writer:
        for number in numbers:
            if f"image {number}" not in writer.done:
                writer.add(
                    f"image {number}", image(number, **kinds), boxes_of(image(number, **kinds)), (640, 480 + number)
                )
        writer.finish()


def opened(folder: Path) -> Any:
    return open_store(folder, folder.parent / "cache")


def test_what_was_written_is_read_back_by_image(tmp_path: Path) -> None:
    write(tmp_path / "store")
    store = opened(tmp_path / "store")
    assert store.ids == tuple(f"image {number}" for number in range(6))
    for number in range(6):
        np.testing.assert_array_equal(store.images[number], image(number))
        np.testing.assert_array_equal(store.boxes[number], boxes_of(image(number)))
        assert store.sizes[number].tolist() == [640, 480 + number]
    assert isinstance(store.images, Ragged) and isinstance(store.images.rows, np.memmap)
    assert not list((tmp_path / "store").glob("*.part"))


def test_images_of_one_number_of_regions_are_read_as_whole_images(tmp_path: Path) -> None:
    write(tmp_path / "store", regions=3)
    images = opened(tmp_path / "store").images
    assert isinstance(images, PaddedArray)
    np.testing.assert_array_equal(images.gather([4, 1])[0], np.stack([image(4, 3), image(1, 3)]))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
@settings(deadline=None)
def test_chosen_images_are_read_as_from_a_copy(counts: list[int], data: st.DataObject) -> None:
    arrays = [image(number, count) for number, count in enumerate(counts)]
    indices = np.array(data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=5)))
    part = Ragged.stack(arrays).choose(indices)
    copied = Ragged.stack([arrays[index] for index in indices])
    wanted = data.draw(st.lists(st.integers(0, len(indices) - 1), min_size=1, max_size=5))
    for array, expected in zip(part.gather(wanted), copied.gather(wanted), strict=True):
        np.testing.assert_array_equal(array, expected)
    again = np.arange(len(indices))[::-1]
    np.testing.assert_array_equal(part.choose(again)[0], arrays[indices[-1]])


def test_float16_takes_half_the_room_and_a_number_beyond_it_is_refused_with_its_image(tmp_path: Path) -> None:
    write(tmp_path / "half", dtype="float16", regions=4)
    write(tmp_path / "full", regions=4)
    sizes = {name: (tmp_path / name / "regions.npy").stat().st_size - 128 for name in ("half", "full")}
    assert sizes["full"] == 2 * sizes["half"]
    np.testing.assert_array_equal(opened(tmp_path / "half").images[2], image(2, 4).astype(np.float16))
    beyond = pytest.raises(DataError, match=r"image 'a' holds a number beyond float16; take float32")
    with RegionWriter(tmp_path / "beyond", "float16", {}) as writer, beyond:
        writer.add("a", np.full((1, 3), 1e6, np.float32))
    beyond = pytest.raises(DataError, match=r"image 'a' holds a number beyond float32; extract it again")
    with RegionWriter(tmp_path / "beyond", "float32", {}) as writer, beyond:
        writer.add("a", np.full((1, 3), 1e300))


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_writer_that_stopped_is_taken_up_and_ends_byte_equal(tmp_path: Path, stop: int) -> None:
    write(tmp_path / "at once")
    with pytest.raises(KeyboardInterrupt), RegionWriter(tmp_path / "twice", "float32", {"of": "a test"}) as writer:
        for number in range(stop):
            writer.add(f"image {number}", image(number), boxes_of(image(number)), (640, 480 + number), at=number + 1)
        raise KeyboardInterrupt
    with pytest.raises(DataError, match="it was not finished"):
        opened(tmp_path / "twice")
    with RegionWriter(tmp_path / "twice", "float32", {"of": "a test"}) as writer:
        assert writer.at == stop and writer.done == {f"image {number}" for number in range(stop)}
    write(tmp_path / "twice")
    assert contents(tmp_path / "twice") == contents(tmp_path / "at once")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


KILLED = """
import os, signal, sys
from pathlib import Path
from harness.data import region_writer
sys.path.insert(0, sys.argv[1])
from test_region_store import boxes_of, image
region_writer.COMMIT_SECONDS = 0.0
with region_writer.RegionWriter(Path(sys.argv[2]), "float32", {"of": "a test"}) as writer:
    for number in range(4):
        writer.add(f"image {number}", image(number), boxes_of(image(number)), (640, 480 + number))
    region_writer.COMMIT_SECONDS = 1e9
    writer.add("image 4", image(4), boxes_of(image(4)), (640, 484))
    for file in writer._files.values():
        file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_loses_only_what_the_journal_does_not_tell(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    killed = subprocess.run([sys.executable, "-c", KILLED, here, str(tmp_path / "store")], check=False)
    assert killed.returncode == -signal.SIGKILL
    with RegionWriter(tmp_path / "store", "float32", {"of": "a test"}) as writer:
        assert writer.done == {f"image {number}" for number in range(4)}
    write(tmp_path / "store")
    write(tmp_path / "at once")
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")


def test_a_journal_that_tells_more_than_the_files_hold_is_believed_as_far_as_they_go(tmp_path: Path) -> None:
    with RegionWriter(tmp_path / "store", "float32", {"of": "a test"}) as writer:
        for number in range(4):
            writer.add(f"image {number}", image(number), boxes_of(image(number)), (640, 480 + number))
    part = tmp_path / "store" / "regions.npy.part"
    os.truncate(part, part.stat().st_size - 1)
    with (tmp_path / "store" / "journal.part").open("ab") as journal:
        journal.write(b'["torn')
    with RegionWriter(tmp_path / "store", "float32", {"of": "a test"}) as writer:
        assert writer.done == {f"image {number}" for number in range(3)}
    write(tmp_path / "store")
    assert len(opened(tmp_path / "store").ids) == 6


def test_a_disk_that_was_full_for_a_moment_leaves_a_journal_that_is_read(tmp_path: Path) -> None:
    """The journal is cut in the middle of a line, and told again as soon as there is room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(StoreError), RegionWriter(tmp_path / "store", "float32", {}) as writer:
        for number in range(40):
            writer.add(f"{number:0200}", image(number, 1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, hard))  # more than the regions take, less than the journal
        try:
            writer.finish()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with RegionWriter(tmp_path / "store", "float32", {}) as writer:
        assert len(writer.done) == 40
        assert writer.finish().images == 40


def test_a_writer_killed_while_it_named_the_files_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(region_writer, "write_tables", dies)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "store")
    assert (tmp_path / "store" / "regions.npy").is_file()
    write(tmp_path / "store")
    write(tmp_path / "at once")
    assert contents(tmp_path / "store") == contents(tmp_path / "at once")


def test_other_work_a_finished_store_and_a_second_writer_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with RegionWriter(folder, "float32", {"of": "this"}) as writer:
        writer.add("a", image(1))
        with (
            pytest.raises(ResourceError, match="another process writes"),
            RegionWriter(folder, "float32", {"of": "this"}),
        ):
            pass
    with (
        pytest.raises(UsageError, match=r"unfinished work on something else .*this"),
        RegionWriter(folder, "float32", {}),
    ):
        pass
    discard(folder)
    write(folder)
    with pytest.raises(UsageError, match="holds a finished store"):
        write(folder)
    discard(folder)
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write(tmp_path / "file" / "store")
    with pytest.raises(UsageError, match="file is a file; name a folder"):
        write(tmp_path / "file")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (("a", image(1)), "image 'a' stands twice"),
        (("b", image(1, width=4)), "image 'b' has 4 numbers per region, those before it have 5"),
        (("b", np.full((1, 5), np.nan)), "image 'b' holds NaN or inf; get its file again, or take other weights"),
        (("b", np.zeros((0, 5))), r"image 'b' has regions of shape \(0, 5\).*: take it out, or"),
        (("b\nc", image(1)), "not fit on one line of a text file"),
        (("\ufeffb", image(1)), "not fit on one line of a text file"),
        (("", image(1)), "not fit on one line of a text file"),
        (("b", image(1), boxes_of(image(1))), "in having boxes or a size"),
        (("b", image(1), None, (1, 1)), "in having boxes or a size"),
    ],
)
def test_an_image_that_cannot_follow_those_before_is_refused_by_its_id(
    tmp_path: Path, second: tuple[Any, ...], message: str
) -> None:
    with RegionWriter(tmp_path / "store", "float32", {}) as writer:
        writer.add("a", image(0))
        with pytest.raises(DataError, match=message):
            writer.add(*second)
        assert writer.finish().images == 1


def test_a_store_of_nothing_is_refused(tmp_path: Path) -> None:
    with RegionWriter(tmp_path / "store", "float32", {}) as writer, pytest.raises(DataError, match="not one image"):
        writer.finish()


def lines(path: Path, change: Any) -> None:
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))


def fact(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGED = {
    "regions cut short": (lambda s: os.truncate(s / "regions.npy", 200), r"regions\.npy: its header promises"),
    "regions absent": (lambda s: (s / "regions.npy").unlink(), r"regions\.npy: missing"),
    "another number of regions": (lambda s: np.save(s / "regions.npy", image(1)), r"regions\.npy: holds .* promises"),
    "NaN": (lambda s: np.save(s / "regions.npy", np.full((13, 5), np.nan, np.float32)), r"row 0: holds NaN"),
    "an id less": (lambda s: lines(s / "ids.txt", lambda ids: ids[1:]), r"ids\.txt: has 5 lines.* 6 images"),
    "an id twice": (lambda s: lines(s / "ids.txt", lambda ids: [ids[1], *ids[1:]]), r"image 1 stands twice"),
    "ids not UTF-8": (lambda s: (s / "ids.txt").write_bytes(b"\xff\n"), r"ids\.txt, line 1: not UTF-8"),
    "offsets that go back": (
        lambda s: np.save(s / "offsets.npy", np.array([0, 5, 3, 6, 9, 11, 13])),
        r"offsets\.npy: does not cut 13 regions into 6 images",
    ),
    "offsets pickled": (
        lambda s: np.save(s / "offsets.npy", np.array([{}] * 7, dtype=object)),
        r"offsets\.npy: holds object",
    ),
    "sizes cut short": (lambda s: os.truncate(s / "sizes.npy", 150), r"sizes\.npy: damaged"),
    "boxes of another shape": (lambda s: np.save(s / "boxes.npy", image(1)), r"boxes\.npy: holds"),
    "facts cut": (lambda s: (s / "store.json").write_text('{"ver'), r"store\.json: damaged"),
    "a Git LFS pointer": (
        lambda s: (s / "store.json").write_text("version https://git-lfs.github.com/spec/v1\n"),
        r"store\.json: .*git lfs pull",
    ),
    "of a later version": (lambda s: fact(s / "store.json", version=2), r"store\.json, version: damaged \(version"),
    "no facts": (lambda s: (s / "store.json").unlink(), r"no store\.json in it"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_store_is_refused_by_file(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "store")
    damage, message = DAMAGED[kind]
    damage(tmp_path / "store")
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "store")


def test_the_files_that_decide_are_named_and_the_facts_are_not_among_them(tmp_path: Path) -> None:
    write(tmp_path / "store")
    assert store_files(tmp_path / "store") == ["regions.npy", "offsets.npy", "ids.txt", "boxes.npy", "sizes.npy"]
    with RegionWriter(tmp_path / "plain", "float32", {}) as writer:
        writer.add("a", image(1))
        writer.finish()
    assert store_files(tmp_path / "plain") == ["regions.npy", "offsets.npy", "ids.txt"]
    assert opened(tmp_path / "plain").boxes is None and opened(tmp_path / "plain").sizes is None


def test_work_is_made_durable_while_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_writer, "COMMIT_SECONDS", 0.0)
    with RegionWriter(tmp_path / "store", "float32", {}) as writer:
        writer.add("a", image(1))
        assert b'["a", ' in (tmp_path / "store" / "journal.part").read_bytes()


BY_CLIP = {"kind": "grid", "model": "clip", "weights_sha256": "1", "transformers": "5.1", "pictures": 8}


def features(*origins: dict[str, Any], layout: str = "folder", width: int = 4) -> FeatureFacts:
    return FeatureFacts(width=width, max_regions=36, layout=layout, origins=[*origins])


@pytest.mark.parametrize(
    ("tested", "trained"),
    [
        (features(BY_CLIP), features({**BY_CLIP, "model": "elsewhere/clip", "transformers": "5.2", "pictures": 9})),
        (features(BY_CLIP), features(BY_CLIP, BY_CLIP, BY_CLIP)),  # a store per split
        (features({**BY_CLIP, "most": 36}), features({**BY_CLIP, "most": 100})),
        (features(layout="scenes"), features(layout="scenes")),
    ],
)
def test_regions_made_in_one_way_are_of_one_kind(tested: FeatureFacts, trained: FeatureFacts) -> None:
    assert check_alike("new", tested, "old", trained) == ""


@pytest.mark.parametrize(
    ("tested", "why"),
    [
        (features(BY_CLIP, width=5), "new: regions have 5 numbers, those of old 4"),
        (features({**BY_CLIP, "weights_sha256": "2"}), r"another kind than those of old \(weights_sha256 2, there 1\)"),
        (features(BY_CLIP, {**BY_CLIP, "kind": "boxes"}), r"\(kind boxes, there grid\)"),
        (features(layout="coco"), "kind none, there grid; layout coco, there none"),
    ],
)
def test_regions_of_another_kind_are_refused_with_what_differs(tested: FeatureFacts, why: str) -> None:
    with pytest.raises(DataError, match=why):
        check_alike("new", tested, "old", features(BY_CLIP))


def test_where_nothing_says_what_made_regions_a_note_names_the_dataset() -> None:
    unsaid, said = features({"kind": "bottom-up-attention TSV"}), features(BY_CLIP)
    assert "which model made the regions of new; see that new and old" in check_alike("new", unsaid, "old", said)
    assert "which model made the regions of old;" in check_alike("new", said, "old", unsaid)
