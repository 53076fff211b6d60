"""JHMDB-Sentences trees: world -> tree -> adapter gives the same frames and masks; the published samples; bad files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.convert_a2d import JHMDB_TRUTH, convert_jhmdb
from datasets.jhmdb import FRAMES, MASKS, SAMPLES, image_id, read_jhmdb, read_puppet_mask, write_jhmdb
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from util.errors import InputError
from util.types import ABSENT, IGNORE, PRESENT

io = pytest.importorskip("scipy.io", reason="the masks are MATLAB files")

SIZE = 32, 48
WORLD = SyntheticVideos(SyntheticConfig(seed=3, videos=3, frames=7, height=32, width=48, no_target=0.3))


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("jhmdb") / "tree"
    written = write_jhmdb(WORLD, root, "test")
    assert (written.videos, written.expressions) == (3, 3)
    assert len(written.left_out) == sum(len(video.expressions) for video in WORLD) - 3
    assert {reason.split(": ")[1] for reason in written.left_out} <= {"0 objects", "a video has one sentence"}
    return root


@pytest.fixture
def copied(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "tree"))


def puppet(root: Path, video: str = WORLD[0].id) -> Path:
    return root / MASKS / "synthetic" / video / "puppet_mask.mat"


def save(path: Path, **members) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    io.savemat(path, members)


def test_round_trip_is_exact(tree: Path) -> None:
    for video, source in zip(read_jhmdb(tree), WORLD, strict=True):
        assert (video.id, len(video.frames), video.frames.size) == (source.id, 7, SIZE)
        (expression,) = video.expressions
        answer = next(e for e in source.expressions if e.object_ids)
        assert (expression.text, expression.object_ids) == (answer.text, (1,))
        assert len(video.labelled) == 3
        for frame in range(7):
            assert np.array_equal(video.frames[frame], source.frames[frame])
            masks, states = video.masks.read(frame, (1,))
            truth, known = source.masks.read(frame, answer.object_ids)
            if frame in video.labelled:
                assert known[0] == PRESENT and states[0] == PRESENT and np.array_equal(masks, truth)
            else:
                assert states[0] == IGNORE and not masks.any()
            assert masks.dtype == bool and states.dtype == np.int8


def test_published_samples(samples: Path, tmp_path: Path) -> None:
    """928 videos of one sentence, three scored frames each. The files, not shipped, are made for one video."""
    source = samples / "ref_text/jhmdb_sentences" / SAMPLES
    shutil.copy(source, tmp_path)
    rows = json.loads(source.read_text())
    first = [row for row in rows if row[0] == rows[0][0]]
    folder = "pullup/100_pullups_pullup_f_nm_np1_fr_med_1"
    (tmp_path / FRAMES / folder).mkdir(parents=True)
    for number in range(1, 41):
        Image.new("RGB", (32, 24), (number, 0, 0)).save(tmp_path / FRAMES / folder / f"{number:05d}.png")
    masks = np.zeros((24, 32, 42), np.uint8)  # more than frames, as the release has it
    masks[3:9, 4:11, 7] = 1
    save(tmp_path / MASKS / folder / "puppet_mask.mat", part_mask=masks)
    videos = read_jhmdb(tmp_path)
    assert len(videos) == 928
    video = videos[videos.ids.index(first[0][0])]
    assert (len(video.frames), video.labelled, video.frame_names[39]) == (40, (1, 7, 17), "00040")
    assert [image_id(video, video.expressions[0], index) for index in video.labelled] == [
        f"v_100_pullups_pullup_f_nm_np1_fr_med_1_f_{number}" for number in (2, 8, 18)
    ]
    assert video.expressions[0].text == first[0][4] and video.frames[7][0, 0, 0] == 8
    assert [video.masks.read(index, (1,))[1][0] for index in (0, 1, 7)] == [IGNORE, ABSENT, PRESENT]
    assert np.array_equal(video.masks.read(7, (1,))[0][0], masks[..., 7] > 0)
    with pytest.raises(InputError, match=r"missing .*the frames of this video"):
        videos[0 if videos.ids[0] != video.id else 1]


def row(**changes) -> list:
    entry = {
        "video": WORLD[0].id,
        "frame": f"./jhmdb_sentences/{FRAMES}/synthetic/{WORLD[0].id}/00002.png",
        "masks": f"./jhmdb_sentences/{MASKS}/synthetic/{WORLD[0].id}/puppet_mask.mat",
        "frames": 7,
        "text": "a thing",
    } | changes
    return list(entry.values())


@pytest.mark.parametrize(
    "rows, message",
    [
        ({}, r"row 0 is not \[video"),
        ([row()[:4]], r"row 0 is not \[video"),
        ([row(), row(frames="7")], r"row 1 is not \[video"),
        ([row(frame=None)], r"row 0 is not \[video"),
        ([row(frames=True)], r"row 0 is not \[video"),
    ],
)
def test_samples_of_another_shape_are_refused(copied: Path, rows, message: str) -> None:
    (copied / SAMPLES).write_text(json.dumps(rows))
    with pytest.raises(InputError, match=message):
        read_jhmdb(copied)


@pytest.mark.parametrize(
    "rows, message",
    [
        ([row(video="../x")], "cannot be a file name"),
        ([row(frame=f"{FRAMES}/../../x/00001.png")], "cannot be a file name"),
        ([row(frame="/etc/00001.png")], f"not a path in {FRAMES}"),
        ([row(masks="puppet_mask.mat")], f"not a path in {MASKS}"),
        ([row(frame=f"{FRAMES}/synthetic/{WORLD[0].id}/first.png")], "not a whole number"),
        ([row(frame=f"{FRAMES}/synthetic/{WORLD[0].id}/00008.png")], "has 7 frames, and scores frame 8"),
        ([row(frames=10**7)], "has 10000000 frames"),
        ([row(text=" ")], "has no text"),
        ([row(), row(text="another thing")], "different folders, lengths or sentences"),
        ([row(frame=f"{FRAMES}/synthetic/gone/00001.png")], "missing .*gone"),
    ],
)
def test_a_bad_row_is_a_fault_of_its_video(copied: Path, rows, message: str) -> None:
    (copied / SAMPLES).write_text(json.dumps(rows))
    videos = read_jhmdb(copied)
    with pytest.raises(InputError, match=message):
        videos[0]


@pytest.mark.parametrize("part", [SAMPLES, FRAMES, MASKS])
def test_missing_parts_are_named(copied: Path, part: str) -> None:
    (copied / part).rename(copied / "gone")
    with pytest.raises(InputError, match=rf"missing .*{part}.*expected there"):
        read_jhmdb(copied)


MASK = np.ones((*SIZE, 7), np.uint8)


@pytest.mark.parametrize(
    "message, spoil",
    [
        ("missing .*puppet_mask.mat", lambda path: path.unlink()),
        ("cannot read .*puppet_mask.mat", lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])),
        ("cannot read .*puppet_mask.mat", lambda path: path.write_bytes(b"")),
        ("no part_mask of H x W x T", lambda path: save(path, mask=MASK)),
        ("no part_mask of H x W x T", lambda path: save(path, part_mask=MASK[None])),
        ("masks of 32x48 for frames of 48x32", lambda path: save(path, part_mask=MASK.swapaxes(0, 1))),
        ("has 1 masks, none for frame", lambda path: save(path, part_mask=MASK[..., 0])),
    ],
)
def test_damaged_masks_are_named(copied: Path, message: str, spoil) -> None:
    video = read_jhmdb(copied)[0]
    spoil(puppet(copied))
    with pytest.raises(InputError, match=message):
        video.masks.read(video.labelled[-1], (1,))


def test_mutated_masks_never_end_otherwise(copied: Path) -> None:
    path = puppet(copied)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        spoiled = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            spoiled[place] = rng.integers(256)
        path.write_bytes(spoiled)
        try:
            assert read_puppet_mask(path, SIZE).shape[:2] == SIZE
        except InputError as error:
            refused += str(path) in str(error)
    assert refused > 20


def test_it_has_one_split_and_one_tree(tree: Path) -> None:
    for action in (lambda: read_jhmdb(tree, "train"), lambda: write_jhmdb(WORLD, tree.parent / "new", "train")):
        with pytest.raises(InputError, match="one split is test"):
            action()
    with pytest.raises(InputError, match="not empty"):
        write_jhmdb(WORLD, tree, "test")


def test_what_the_layout_cannot_hold_is_left_out(tmp_path: Path) -> None:
    source = WORLD[0]
    several = replace(source.expressions[0], id="x", object_ids=(1, 2))
    unknown = replace(source.expressions[0], id="y", object_ids=None)
    unseen = replace(source.expressions[0], id="z", object_ids=(99,))
    written = write_jhmdb([replace(source, expressions=(several, unknown, unseen))], tmp_path / "a", "test")
    reasons = ("x: 2 objects", "y: no answer", "z: its object is never seen")
    assert written.left_out == tuple(f"{source.id}/{reason}" for reason in reasons) and written.videos == 0


def test_ground_truth_is_what_pycocotools_takes(copied: Path) -> None:
    pytest.importorskip("pycocotools", reason="the official evaluation")
    from pycocotools.coco import COCO

    said: list[str] = []
    convert_jhmdb(copied, copied, said.append)
    assert said[0].startswith("read 3 videos with 9 scored frames")
    coco = COCO(copied / JHMDB_TRUTH)
    expected = {
        image_id(video, video.expressions[0], frame): video.masks.read(frame, (1,))[0][0]
        for video in read_jhmdb(copied)
        for frame in video.labelled
    }
    assert set(coco.imgs) == set(expected) and len(coco.anns) == len(expected) == 9
    for annotation in coco.anns.values():
        assert np.array_equal(coco.annToMask(annotation), expected[annotation["image_id"]])
