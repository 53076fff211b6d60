"""The track store: what is written is read, equal tracks give equal bytes, what is not whole is not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.track_store import TrackStore, joined
from datasets.tracks import Track, TrackPrompt, Tracks, Vote, make_track_id
from util import rle
from util.errors import InputError
from util.types import ABSENT, IGNORE, PRESENT

SIZE, LENGTH = (12, 16), 5


def a_track(number: int) -> Track:
    prompt = TrackPrompt(1, "box", (1.5, 2.0, 7.25, 9.0), noun="dog", phrase="dog", det_score=0.5 + number / 10)
    votes = (Vote(1, "dog", "dog", 0.6, 1.0), Vote(3, "animal", "dog", 0.7, 0.9))
    return Track(
        make_track_id("detector", replace(prompt, frame=number), "x"), "detector", (prompt,), number, (), votes
    )


def some_tracks(count: int = 2, first: int = 0) -> Tracks:
    """Objects that move to the right and are not seen in frame 2."""
    masks, areas = [], np.zeros((count, LENGTH), np.float32)
    boxes = np.full((count, LENGTH, 4), np.nan, np.float32)
    for n in range(count):
        row: list[rle.RLE | None] = []
        for t in range(LENGTH):
            mask = np.zeros(SIZE, bool)
            mask[2 + n : 6, t : t + 5] = t != 2
            areas[n, t] = mask.mean()
            if mask.any():
                boxes[n, t] = np.array([t, 2 + n, t + 5, 6]) / [16, 12, 16, 12]
            row.append(rle.encode(mask) if mask.any() else None)
        masks.append(tuple(row))
    random = np.random.default_rng(first)
    score = np.where(areas > 0, 4.0, -4.0).astype(np.float32)
    stability = np.where(areas > 0, 0.9, np.nan).astype(np.float32)
    return Tracks(
        "set", "train", "clip", tuple(f"{t:05d}" for t in range(LENGTH)), SIZE, 6.0, {"key": "é"},
        tuple(a_track(first + n) for n in range(count)), tuple(masks), score, stability, np.full_like(score, np.nan),
        boxes, areas, np.ones(areas.shape, bool), np.zeros(areas.shape, bool),
        random.normal(size=(count, LENGTH, 8)).astype(np.float16).astype(np.float32), (1, 3),
        {"detector": {"0": [0], "1": []}},
    )  # fmt: skip


def assert_equal(tracks: Tracks, others: Tracks) -> None:
    for name, value in vars(tracks).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(others, name))
        elif name != "fingerprint":
            assert getattr(others, name) == value, name


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_is_written_is_read(tmp_path: Path, count: int) -> None:
    tracks = replace(some_tracks(count), candidates={})
    written = TrackStore(tmp_path).write(tracks)
    read = TrackStore(tmp_path).read("set", "train", "clip")
    assert_equal(read, tracks)
    assert read.fingerprint == written.fingerprint != ""
    assert list(TrackStore(tmp_path).videos()) == [("set", "train", "clip")]


def test_equal_tracks_give_equal_bytes_and_writing_what_was_read_changes_nothing(tmp_path: Path) -> None:
    one, two = TrackStore(tmp_path / "1"), TrackStore(tmp_path / "2")
    one.write(some_tracks())
    two.write(some_tracks())
    two.write(two.read("set", "train", "clip"))
    assert files(one.root) == files(two.root)


def test_append_keeps_rows_and_ids_and_adds_what_is_new(tmp_path: Path) -> None:
    store = TrackStore(tmp_path)
    before = store.append(some_tracks(2)).fingerprint
    store.append(some_tracks(2, first=1))  # its first track is known
    tracks = store.read("set", "train", "clip")
    assert [track.track_id for track in tracks.tracks] == [a_track(number).track_id for number in range(3)]
    assert tracks.fingerprint != before
    assert len({track.cluster for track in tracks.tracks}) == 3
    assert_equal(joined(tracks, some_tracks(2)), tracks)


def test_states(tmp_path: Path) -> None:
    tracks = some_tracks(1)
    tracks.stability_NT[0, 0] = 0.5
    tracks.tracked_NT[0, 1] = False
    tracks.disputed_NT[0, 3] = True
    assert tracks.states_NT()[0].tolist() == [IGNORE, IGNORE, ABSENT, IGNORE, PRESENT]
    tracks.object_score_NT[0, 2] = 0.0  # a mask is empty, but the object may be there
    assert tracks.states_NT()[0, 2] == IGNORE
    assert tracks.support_N().tolist() == [1.0]
    assert tracks.tracks[0].noun_scores == {"dog": 0.6, "animal": 0.7}


def cut(folder: Path) -> None:
    path = folder / "masks.json.gz"
    path.write_bytes(path.read_bytes()[:-1])


def unfinished(folder: Path) -> None:
    (folder / "DONE").unlink()


def other_masks(folder: Path) -> None:
    content = json.loads((folder / "tracks.json").read_text())
    content["fps"] = 7.0
    (folder / "tracks.json").write_text(json.dumps(content))


@pytest.mark.parametrize("damage", [cut, unfinished, other_masks])
def test_a_folder_that_is_not_whole_is_not_there(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    store = TrackStore(tmp_path)
    store.write(some_tracks())
    damage(store.folder("set", "train", "clip"))
    assert store.fingerprint("set", "train", "clip") is None
    with pytest.raises(InputError, match="no finished tracks"):
        store.read("set", "train", "clip")
    store.write(some_tracks())
    assert_equal(store.read("set", "train", "clip"), some_tracks())


def test_a_swap_that_was_killed_half_way_is_finished(tmp_path: Path) -> None:
    store = TrackStore(tmp_path)
    store.write(some_tracks(1))
    folder = store.folder("set", "train", "clip")
    folder.rename(folder.with_name(".clip.partial"))  # the new folder, whole, after the old one had made room
    assert_equal(store.read("set", "train", "clip"), replace(some_tracks(1), fingerprint=""))


@pytest.mark.parametrize(
    "change",
    [
        {"area_NT": np.zeros((2, LENGTH), np.float32)},
        {"stability_NT": np.zeros((2, LENGTH + 1), np.float32)},
        {"candidates": {"detector": {"0": [2]}}},
        {"tracks": (a_track(0), a_track(0))},
        {"pointers_NTD": np.full((2, LENGTH, 8), 7e4, np.float32)},
        {"pointers_NTD": np.full((2, LENGTH, 8), np.nan, np.float32)},
    ],
)
def test_tracks_that_contradict_themselves_are_not_written(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        TrackStore(tmp_path).write(replace(some_tracks(), **change))
    assert not list(TrackStore(tmp_path).videos())


@pytest.mark.parametrize("name", ["..", "a/b", ""])
def test_names_stay_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        TrackStore(tmp_path).write(replace(some_tracks(), video_id=name))
