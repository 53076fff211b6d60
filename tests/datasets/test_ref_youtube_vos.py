"""Ref-YouTube-VOS trees: world -> tree -> adapter gives the same masks; real files; every missing part is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.ref_youtube_vos import read_ref_youtube_vos, write_ref_youtube_vos
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.tree import read_labels
from tests.trees import copy, edit
from util.errors import InputError
from util.types import Expression

WORLD = SyntheticVideos(SyntheticConfig(seed=3, videos=3, frames=5, height=32, width=48, no_target=0.3))
SENTENCES = "meta_expressions/train/meta_expressions.json"


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("ref_youtube_vos") / "tree"
    written = write_ref_youtube_vos(WORLD, root, "train")
    without = [f"{v.id}/{e.id}: 0 objects" for v in WORLD for e in v.expressions if not e.object_ids]
    assert written.left_out == tuple(without) and without
    assert written.expressions == sum(len(v.expressions) for v in WORLD) - len(without)
    return root


def test_round_trip_is_exact(tree: Path) -> None:
    videos = read_ref_youtube_vos(tree, "train")
    for video, source in zip(videos, WORLD, strict=True):
        assert (video.id, video.frame_names) == (source.id, source.frame_names)
        assert (len(video.frames), video.frames.size, video.frames.fps) == (5, (32, 48), source.frames.fps)
        assert video.expressions == tuple(e for e in source.expressions if e.object_ids)
        ids = sorted({i for e in video.expressions for i in e.object_ids})
        for frame in range(5):
            for ours, theirs in zip(video.masks.read(frame, ids), source.masks.read(frame, ids), strict=True):
                assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


def test_written_tree_is_the_official_layout(tree: Path) -> None:
    video = WORLD[0]
    with Image.open(tree / "train/Annotations" / video.id / "00000.png") as image:
        assert image.mode == "P" and image.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
    entry = json.loads((tree / SENTENCES).read_text())["videos"][video.id]
    assert entry["frames"] == list(video.frame_names)
    assert all(value["obj_id"].isdecimal() for value in entry["expressions"].values())
    objects = json.loads((tree / "train/meta.json").read_text())["videos"][video.id]["objects"]
    assert {value["obj_id"] for value in entry["expressions"].values()} == set(objects)


def test_masks_are_decoded_only_for_the_frames_read(tree: Path, tmp_path: Path) -> None:
    root = copy(tree, tmp_path)
    for path in (root / "train/Annotations").rglob("*.png"):
        if path.stem != "00002":
            path.write_bytes(b"unreadable")
    video = read_ref_youtube_vos(root, "train")[0]
    assert video.masks.read(2, [1])[0].shape == (1, 32, 48)
    with pytest.raises(InputError, match=r"cannot read .*00003\.png"):
        video.masks.read(3, [1])


def official_valid(root: Path) -> Path:
    """The train split turned into an official valid: no answers, no masks."""
    (root / "train").rename(root / "valid")
    (root / "meta_expressions/train").rename(root / "meta_expressions/valid")
    shutil.rmtree(root / "valid/Annotations")

    def strip(content) -> None:
        for entry in content["videos"].values():
            entry["expressions"] = {key: {"exp": value["exp"]} for key, value in entry["expressions"].items()}
            del entry["fps"]

    path = root / "meta_expressions/valid/meta_expressions.json"
    edit(path, strip)
    return path


def test_official_valid_has_no_answers_and_loses_the_test_videos(tree: Path, tmp_path: Path) -> None:
    root = copy(tree, tmp_path)
    path = official_valid(root)
    videos = read_ref_youtube_vos(root, "valid")
    assert len(videos) == 3
    for video in videos:
        assert video.masks is None and {e.object_ids for e in video.expressions} == {None}
        assert video.frames.fps == 6
    test = root / "meta_expressions/test/meta_expressions.json"
    test.parent.mkdir()
    entries = json.loads(path.read_text())["videos"]
    test.write_text(json.dumps({"videos": {WORLD[1].id: entries[WORLD[1].id]}}))
    assert [video.id for video in read_ref_youtube_vos(root, "valid")] == [WORLD[0].id, WORLD[2].id]


@pytest.mark.parametrize("part", [SENTENCES, "train/JPEGImages", "train/Annotations"])
def test_missing_parts_are_named(tree: Path, tmp_path: Path, part: str) -> None:
    root = copy(tree, tmp_path)
    (root / part).rename(tmp_path / "gone")
    with pytest.raises(InputError, match=rf"missing .*{part}.*expected there"):
        read_ref_youtube_vos(root, "train").check()


def test_a_missing_video_folder_is_named(tree: Path, tmp_path: Path) -> None:
    root = copy(tree, tmp_path)
    shutil.rmtree(root / "train/Annotations" / WORLD[1].id)
    videos = read_ref_youtube_vos(root, "train")
    assert len(videos) == len(WORLD) and videos[0].id == WORLD[0].id  # the others can still be read
    with pytest.raises(InputError, match=rf"missing .*Annotations/{WORLD[1].id}: the object masks"):
        videos[1]
    shutil.rmtree(root / "train/JPEGImages" / WORLD[0].id)
    with pytest.raises(InputError, match="1 more videos have a fault"):
        videos.check()


def test_a_missing_mask_is_named_when_read(tree: Path, tmp_path: Path) -> None:
    root = copy(tree, tmp_path)
    (root / "train/Annotations" / WORLD[0].id / "00001.png").unlink()
    with pytest.raises(InputError, match=r"missing .*00001\.png"):
        read_ref_youtube_vos(root, "train")[0].masks.read(1, [1])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda expression: expression.update(obj_id="one"), "whole numbers"),
        (lambda expression: expression.pop("obj_id"), "some of its sentences"),
    ],
)
def test_bad_object_ids_are_refused(tree: Path, tmp_path: Path, change, message: str) -> None:
    root = copy(tree, tmp_path)
    edit(root / SENTENCES, lambda c: change(next(iter(c["videos"][WORLD[0].id]["expressions"].values()))))
    with pytest.raises(InputError, match=message):
        read_ref_youtube_vos(root, "train").check()


def test_object_ids_may_be_numbers(tree: Path, tmp_path: Path) -> None:
    root = copy(tree, tmp_path)

    def retype(content) -> None:
        for entry in content["videos"].values():
            for value in entry["expressions"].values():
                value["obj_id"] = int(value["obj_id"])

    edit(root / SENTENCES, retype)
    for ours, before in zip(read_ref_youtube_vos(root), read_ref_youtube_vos(tree), strict=True):
        assert ours.expressions == before.expressions


class Everything:
    """Two objects in the same place."""

    def read(self, index: int, object_ids) -> tuple[np.ndarray, np.ndarray]:
        return np.ones((len(object_ids), 32, 48), bool), np.ones(len(object_ids), np.int8)


def test_what_the_layout_cannot_hold_is_refused(tmp_path: Path) -> None:
    both = (Expression("0", "one", (1,)), Expression("1", "other", (2,)))
    with pytest.raises(InputError, match="overlap"):
        write_ref_youtube_vos([replace(WORLD[0], expressions=both, masks=Everything())], tmp_path / "a", "train")
    far = (Expression("0", "one", (256,)),)
    with pytest.raises(InputError, match="1 to 255"):
        write_ref_youtube_vos([replace(WORLD[0], expressions=far, masks=Everything())], tmp_path / "b", "train")
    with pytest.raises(InputError, match="not empty"):
        write_ref_youtube_vos(WORLD[:1], tmp_path / "a", "train")


# ---- real files


def test_real_valid_list(samples: Path, tmp_path: Path) -> None:
    """507 videos; the first frame is often not 00000. Folders stand in for the frames, which are not shipped."""
    source = samples / "ref_text/ref_youtube_vos_valid/meta_expressions.json"
    (tmp_path / "meta_expressions/valid").mkdir(parents=True)
    shutil.copy(source, tmp_path / "meta_expressions/valid")
    ids = list(json.loads(source.read_text())["videos"])
    for video in ids:
        (tmp_path / "valid/JPEGImages" / video).mkdir(parents=True)
    videos = read_ref_youtube_vos(tmp_path, "valid")
    assert len(videos) == 507 and sum(len(video.expressions) for video in videos) == 2096
    assert sum(video.frame_names[0] != "00000" for video in videos) > 20
    assert all(video.masks is None for video in videos)


def test_real_masks_that_break_careless_readers(samples: Path) -> None:
    edge = samples / "loader_edge"
    with Image.open(edge / "bear_00077_modeLA.png") as image:
        assert image.mode == "LA"
        grey = np.array(image)[..., 0]
    assert np.array_equal(read_labels(edge / "bear_00077_modeLA.png", (480, 854)), grey)
    narrow = edge / "judo_00005_mask_853x480_vs_frame_854x480.png"
    labels = read_labels(narrow, (480, 854))
    assert labels.shape == (480, 854) and np.array_equal(labels[:, :853], np.array(Image.open(narrow)))
    assert not labels[:, 853].any()
    with pytest.raises(InputError, match="mask of 853x480 for a frame of 640x360"):
        read_labels(narrow, (360, 640))


def test_colour_images_are_no_masks(tmp_path: Path) -> None:
    Image.new("RGB", (48, 32)).save(tmp_path / "0.png")
    with pytest.raises(InputError, match="palette or grey"):
        read_labels(tmp_path / "0.png", (32, 48))
