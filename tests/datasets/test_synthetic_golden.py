"""A seed means the same videos on every machine: stored digests of masks, tracks, sentences; frames to 2 grey levels.

Where the world is changed on purpose, `python -m tests.datasets.test_synthetic_golden` from the project's root writes
the goldens anew; every number measured on the world before then is of another world.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.synthetic.scenes import SPLITS

GOLDEN = Path(__file__).with_name("golden")
CONFIG = SyntheticConfig(seed=1234, videos=40)
FRAMES = [(number, frame) for number in range(6) for frame in (0, 11, 23)]
# Hard videos of each split; plain ones have the same things on the same ways.
HARD = SyntheticConfig(seed=1234, videos=8, hard=True)


def all_digests() -> dict[str, dict[str, str]]:
    hard = {split: digests(replace(HARD, split=split), HARD.videos) for split in SPLITS}
    return {"plain": digests(CONFIG, CONFIG.videos)} | hard


def digests(config: SyntheticConfig, count: int) -> dict[str, str]:
    videos = SyntheticVideos(config)
    said, masks, tracks = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    for number in range(count):
        video = videos[number]
        for one in video.expressions:
            said.update(f"{video.id} {one.id} {one.type} {one.object_ids} {one.text}\n".encode())
        world, _ = videos.program(number)
        poses = world.poses(np.linspace(0, 1, 7))
        tracks.update(np.round(poses[:, :5] * 1e4).astype("<i4").tobytes())
        assert video.masks is not None
        for frame in range(0, config.frames, 6):
            read, states = video.masks.read(frame, [thing.id for thing in world.things])
            masks.update(np.packbits(read).tobytes() + states.tobytes())
    return {"masks": masks.hexdigest(), "sentences": said.hexdigest(), "tracks": tracks.hexdigest()}


def frames() -> np.ndarray:
    """Some frames at a quarter of their size, one below the other: of the plain world, and a hard one of each split."""
    shown = [SyntheticVideos(CONFIG)[number].frames[frame] for number, frame in FRAMES]
    shown += [SyntheticVideos(replace(HARD, split=split))[0].frames[11] for split in SPLITS]
    size = (CONFIG.width // 4, CONFIG.height // 4)
    return np.concatenate([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in shown])


def test_masks_tracks_and_sentences_have_the_stored_digests():
    assert all_digests() == json.loads((GOLDEN / "synthetic.json").read_text())


def test_frames_are_within_two_grey_levels_of_the_stored_ones():
    stored = cv2.imread(str(GOLDEN / "synthetic_frames.png"))[..., ::-1]
    assert np.abs(frames().astype(int) - stored).max() <= 2


def some() -> list[dict[str, str]]:
    return [digests(CONFIG, 6), digests(replace(HARD, split="mixed"), 4)]


def test_another_process_makes_the_same_videos():
    """Nothing depends on a process's own hash seed or on what was made before."""
    root = Path(__file__).resolve().parents[2]
    code = "import json; from tests.datasets.test_synthetic_golden import some; print(json.dumps(some()))"
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    run = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == some()


if __name__ == "__main__":
    (GOLDEN / "synthetic.json").write_text(json.dumps(all_digests(), indent=1) + "\n")
    cv2.imwrite(str(GOLDEN / "synthetic_frames.png"), frames()[..., ::-1])
