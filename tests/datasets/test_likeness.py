"""Videos that show the same: found when shown smaller, coarser and darker, and nothing else is suspected."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.likeness import alike, fingerprint, frame_hash, read_hashes, suspects, video_hashes, write_hashes
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.video import MemoryVideo
from util.errors import InputError
from util.types import ReferringVideo


def scenes(count: int, seed: int) -> list[MemoryVideo]:
    """Videos of smooth random scenes over which the camera goes."""
    draw, made = np.random.default_rng(seed), []
    for _ in range(count):
        coarse = draw.integers(0, 255, (14, 22, 3), np.uint8)
        scene = cv2.resize(coarse, (440, 280), interpolation=cv2.INTER_CUBIC)
        made.append(MemoryVideo(np.stack([scene[40:240, 4 * t : 4 * t + 320] for t in range(24)]), 6.0))
    return made


def hosted_again(video: MemoryVideo) -> MemoryVideo:
    """The video smaller, compressed and darker, at half the rate."""
    frames = []
    for index in range(0, len(video), 2):
        small = cv2.resize(video[index], (208, 130), interpolation=cv2.INTER_AREA)
        _, packed = cv2.imencode(".jpg", (small * 0.8).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 40])
        frames.append(cv2.imdecode(packed, cv2.IMREAD_COLOR))
    return MemoryVideo(np.stack(frames), 3.0)


def test_what_was_put_online_again_is_found_and_nothing_else() -> None:
    videos = scenes(20, 0)
    known = {str(n): video_hashes(video) for n, video in enumerate(videos)}
    for n, video in enumerate(videos):
        assert alike(video_hashes(hosted_again(video)), known) == [str(n)]
    assert not any(alike(video_hashes(video), known) for video in scenes(20, 1))


def test_three_frames_must_be_alike() -> None:
    known = {"a": np.arange(8, dtype=np.uint64) << np.uint64(8)}
    far = np.full(8, 2**64 - 1, np.uint64)
    for count, expected in ((2, []), (3, ["a"])):
        hashes = far.copy()
        hashes[:count] = known["a"][:count] ^ np.uint64(0b111111)
        assert alike(hashes, known) == expected
    one_more = far.copy()
    one_more[:3] = known["a"][:3] ^ np.uint64(0xFE << 32)  # 7 bits
    assert alike(one_more, known) == [] and alike(known["a"][:1], known) == ["a"]
    assert alike(np.zeros(0, np.uint64), known) == [] == alike(far, {"empty": np.zeros(0, np.uint64)})


def test_a_plain_frame_says_nothing() -> None:
    assert frame_hash(np.full((40, 60, 3), 77, np.uint8)) is None
    black = MemoryVideo(np.zeros((9, 40, 60, 3), np.uint8), 6.0)
    assert len(video_hashes(black)) == 0


def test_hashes_are_kept_in_a_file(tmp_path: Path) -> None:
    known = {name: video_hashes(video) for name, video in zip("ba", scenes(2, 3), strict=True)}
    write_hashes(tmp_path / "known.json", known)
    again = read_hashes([tmp_path / "known.json"])
    assert list(again) == ["a", "b"] and all((again[name] == known[name]).all() for name in known)
    assert fingerprint(again) != fingerprint({"a": again["a"]}) and fingerprint({}) == "" == fingerprint(
        read_hashes([])
    )
    for text in ("[]", '{"schema": "other"}', '{"schema": "rvos-hashes/1", "videos": {"a": ["12"]}}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match=r"teach hashes|make them again"):
            read_hashes([tmp_path / "bad.json"])


def test_a_video_that_cannot_be_read_is_no_suspect() -> None:
    videos: list[ReferringVideo] = [SyntheticVideos(SyntheticConfig(videos=2, frames=9))[n] for n in range(2)]

    class Broken:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, place: int) -> ReferringVideo:
            if place == 0:
                raise InputError("cut short")
            return videos[1]

    known = {"scored": video_hashes(videos[1].frames)}
    assert suspects(Broken(), [0, 1], known) == {videos[1].id: ["scored"]}
    assert suspects(Broken(), [0, 1], {}) == {}
