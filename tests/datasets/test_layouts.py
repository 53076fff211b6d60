"""World -> layout -> adapter -> masks, in all seven layouts: masks exact, sentences whole, stored digests.

Where a layout or the world is changed on purpose, `python -m tests.datasets.test_layouts` from the project's root
writes the digests anew.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from datasets.sources import LAYOUTS, SourceConfig, eval_videos, write_layout
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.tree import Written
from util.types import IGNORE, Expression, ReferringVideo

WORLD = SyntheticVideos(SyntheticConfig(seed=5, videos=5, frames=9, height=48, width=80, expressions=8, no_target=0.2))
SPLITS = {"ref_davis17": "val", "a2d": "test", "jhmdb": "test", "refcoco": "refcocog/val"}
GOLDEN = Path(__file__).with_name("golden") / "layouts.json"
# Mean difference of the frames in grey levels: none where they are PNGs, video coding halves the resolution of colours.
CLOSE = {"jhmdb": 0.0, "a2d": 6.0}
PACKAGES = {"a2d": ("h5py", "av"), "jhmdb": ("scipy",)}
HOLDS_ALL = ("mevis", "masklets")  # several objects, none, overlapping ones


def round_trip(layout: str, root: Path) -> tuple[Written, Sequence[ReferringVideo]]:
    split = SPLITS.get(layout, "train")
    written = write_layout(layout, WORLD, root, split)
    return written, eval_videos(SourceConfig(layout, root=str(root), split=split))


def kept(video: ReferringVideo, written: Written) -> list[Expression]:
    """The sentences that the layout was able to hold."""
    left_out = {line.split(":")[0] for line in written.left_out}
    return [] if video.id in left_out else [e for e in video.expressions if f"{video.id}/{e.id}" not in left_out]


def union(video: ReferringVideo, expression: Expression, index: int) -> tuple[np.ndarray, bool]:
    """What the sentence means in a frame, and whether that is known."""
    assert video.masks is not None and expression.object_ids is not None
    masks, states = video.masks.read(index, expression.object_ids)
    assert masks.shape == (len(expression.object_ids), *video.frames.size) and states.shape == masks.shape[:1]
    assert all(mask.any() == (state == 1) for mask, state in zip(masks, states, strict=True))
    return masks.any(0), IGNORE not in states


def digest(videos: Sequence[ReferringVideo]) -> str:
    """Of all that is read, frames' pixels apart: those depend on the decoder."""
    read = hashlib.sha256()
    for video in videos:
        read.update(f"{video.id} {video.frame_names} {video.frames.fps:.3f} {video.labelled}\n".encode())
        for expression in video.expressions:
            read.update(f"{expression.id} {expression.object_ids} {expression.text}\n".encode())
            for index in range(len(video.frames)):
                mask, known = union(video, expression, index)
                read.update(np.packbits(mask).tobytes() + bytes([known]))
    return read.hexdigest()


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    for package in PACKAGES.get(request.param, ()):
        pytest.importorskip(package)
    return request.param


@pytest.fixture(scope="module")
def trip(layout: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Written, Sequence[ReferringVideo]]:
    return round_trip(layout, tmp_path_factory.mktemp(layout))


def test_sentences_come_back_whole_and_what_was_left_out_is_named(layout: str, trip) -> None:
    written, videos = trip
    expected = {video.id: [e.text for e in kept(video, written)] for video in WORLD}
    found = {video.id: [e.text for e in video.expressions] for video in videos}
    assert {v: sorted(said) for v, said in found.items()} == {v: sorted(said) for v, said in expected.items() if said}
    assert written.expressions == sum(map(len, found.values())) and written.videos == len(found) > 2
    assert bool(written.left_out) != (layout in HOLDS_ALL)


def test_masks_come_back_exactly(layout: str, trip) -> None:
    written, videos = trip
    source = {video.id: video for video in WORLD}
    for video in videos:
        world = source[video.id]
        said = {e.text: e for e in kept(world, written)}
        assert video.frames.size == world.frames.size and (
            len(video.frames) == len(world.frames) or layout == "refcoco"
        )
        for expression in video.expressions:
            known_T = []
            for index in range(len(video.frames)):
                mask, known = union(video, expression, index)
                assert not known or np.array_equal(mask, union(world, said[expression.text], index)[0])
                known_T.append(known)
            known = set(np.flatnonzero(known_T))
            assert known == set(range(len(video.frames))) if video.labelled is None else known <= set(video.labelled)
            assert known  # and somewhere there is truth


def test_frames_come_back(layout: str, trip) -> None:
    _, videos = trip
    source = {video.id: video for video in WORLD}
    for video in videos:
        for index in (0, len(video.frames) - 1):
            difference = video.frames[index].astype(int) - source[video.id].frames[index]
            assert np.abs(difference).mean() <= CLOSE.get(layout, 3.0)


def test_everything_read_has_the_stored_digest(layout: str, trip) -> None:
    assert digest(trip[1]) == json.loads(GOLDEN.read_text())[layout]


if __name__ == "__main__":
    found = {}
    for name in LAYOUTS:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = digest(round_trip(name, Path(folder))[1])
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
