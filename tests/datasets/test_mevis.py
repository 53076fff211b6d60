"""MeViS trees: world -> tree -> adapter gives the same masks; real files; every missing part has a clear error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.mevis import read_mevis, write_mevis
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from tests.trees import copy, edit
from util import rle
from util.errors import InputError
from util.types import ABSENT, PRESENT

WORLD = SyntheticVideos(SyntheticConfig(seed=3, videos=3, frames=5, height=32, width=48, no_target=0.3))


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("mevis") / "tree"
    written = write_mevis(WORLD, root, "valid_u")
    assert (written.videos, written.expressions, written.left_out) == (3, sum(len(v.expressions) for v in WORLD), ())
    return root


def test_round_trip_is_exact(tree: Path) -> None:
    videos = read_mevis(tree, "valid_u")
    assert len(videos) == len(WORLD)
    targets = set()
    for video, source in zip(videos, WORLD, strict=True):
        assert (video.id, video.frame_names) == (source.id, source.frame_names)
        assert (len(video.frames), video.frames.size, video.frames.fps) == (5, (32, 48), source.frames.fps)
        for ours, theirs in zip(video.expressions, source.expressions, strict=True):
            assert (ours.id, ours.text, ours.type) == (theirs.id, theirs.text, theirs.type)
            assert len(ours.object_ids) == len(theirs.object_ids)
            targets.add(len(ours.object_ids))
            for frame in range(5):
                masks, states = video.masks.read(frame, ours.object_ids)
                expected, expected_states = source.masks.read(frame, theirs.object_ids)
                assert masks.dtype == bool and np.array_equal(masks, expected)
                assert np.array_equal(states, expected_states)
        for frame in (0, 4):
            error = np.abs(video.frames[frame].astype(int) - source.frames[frame])
            assert error.mean() < 4  # JPEG
    assert 0 in targets


def test_annotation_ids_are_unique_in_a_split(tree: Path) -> None:
    ids = [{i for e in video.expressions for i in e.object_ids} for video in read_mevis(tree, "valid_u")]
    assert (
        sum(map(len, ids)) == len(set().union(*ids)) == len(json.loads((tree / "valid_u/mask_dict.json").read_text()))
    )


def test_quality_is_the_jpegs(tmp_path: Path) -> None:
    for quality in (30, 95):
        write_mevis(WORLD[:1], tmp_path / str(quality), "train", quality=quality)
    sizes = [sum(f.stat().st_size for f in (tmp_path / name).rglob("*.jpg")) for name in ("30", "95")]
    assert sizes[0] < 0.7 * sizes[1]


def test_a_second_split_joins_a_tree_but_an_existing_one_is_left_alone(tree: Path, tmp_path: Path) -> None:
    root = copy(tree, tmp_path)
    write_mevis(WORLD[:1], root, "train")
    assert len(read_mevis(root, "train")) == 1 and len(read_mevis(root, "valid_u")) == 3
    with pytest.raises(InputError, match="not empty"):
        write_mevis(WORLD[:1], root, "train")
    with pytest.raises(InputError, match="plain names"):
        write_mevis(WORLD[:1], root, "../elsewhere")


def test_an_interrupted_tree_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    def interrupted():
        yield WORLD[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_mevis(interrupted(), tmp_path / "t", "train")
    with pytest.raises(InputError, match=r"meta_expressions\.json"):
        read_mevis(tmp_path / "t", "train")


def test_official_valid_has_no_answers(tree: Path, tmp_path: Path) -> None:
    root = copy(tree, tmp_path)
    (root / "valid_u/mask_dict.json").unlink()

    def strip(content) -> None:
        for entry in content["videos"].values():
            entry["expressions"] = {key: {"exp": value["exp"]} for key, value in entry["expressions"].items()}
            del entry["fps"]

    edit(root / "valid_u" / "meta_expressions.json", strip)
    for video in read_mevis(root, "valid_u"):
        assert video.masks is None and all(e.object_ids is None for e in video.expressions)
        assert video.frames.fps == 6


def test_ids_may_be_strings_or_a_single_number(tree: Path, tmp_path: Path) -> None:
    root = copy(tree, tmp_path)

    def retype(content) -> None:
        for entry in content["videos"].values():
            for value in entry["expressions"].values():
                ids = [str(i) for i in value["anno_id"]]
                value["anno_id"] = ids[0] if len(ids) == 1 else ids

    edit(root / "valid_u" / "meta_expressions.json", retype)
    for ours, before in zip(read_mevis(root, "valid_u"), read_mevis(tree, "valid_u"), strict=True):
        assert ours.expressions == before.expressions


def first(content) -> dict:
    return next(iter(content["videos"].values()))


def first_expression(content) -> dict:
    return next(iter(first(content)["expressions"].values()))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.pop("videos"), 'no "videos"'),
        (lambda c: first(c).pop("frames"), 'no list of "frames"'),
        (lambda c: first(c).update(frames=[]), 'no list of "frames"'),
        (lambda c: first_expression(c).pop("exp"), "has no text"),
        (lambda c: first_expression(c).update(exp=7), "has no text"),
        (lambda c: first_expression(c).update(exp=" "), "has no text"),
        (lambda c: first_expression(c).update(type=["a"]), "a type is a word"),
        (lambda c: first(c).update(fps=0), "frames a second"),
        (lambda c: c["videos"].update(extra=3), 'no list of "frames"'),
        (lambda c: first_expression(c).update(anno_id=["a"]), "whole numbers"),
        (lambda c: c["videos"].update({"../up": first(c)}), "plain names"),
        (lambda c: c["videos"].update({"/etc": first(c)}), "plain names"),
        (lambda c: c["videos"].update({"..": first(c)}), "plain names"),
        (lambda c: first(c)["frames"].append("..\\up"), "plain names"),
        (lambda c: first(c)["frames"].append(7), "plain names"),
        (lambda c: first(c)["expressions"].update({"../0": {"exp": "a"}}), "plain names"),
        (lambda c: c["videos"].update({"elsewhere": first(c)}), "missing .*JPEGImages/elsewhere: the frames"),
    ],
)
def test_malformed_sentences_are_refused(tree: Path, tmp_path: Path, change, message: str) -> None:
    root = copy(tree, tmp_path)
    edit(root / "valid_u" / "meta_expressions.json", change)
    with pytest.raises(InputError, match=message):
        read_mevis(root, "valid_u").check()


@pytest.mark.parametrize("path", ["meta_expressions.json", "mask_dict.json", "JPEGImages"])
def test_missing_parts_are_named(tree: Path, tmp_path: Path, path: str) -> None:
    root = copy(tree, tmp_path)
    (root / "valid_u" / path).rename(tmp_path / "gone")
    with pytest.raises(InputError, match=rf"missing .*valid_u/{path}.*expected there"):
        read_mevis(root, "valid_u").check()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.clear(), "annotation 0 .* is missing"),
        (lambda c: c["0"].pop(), "4 masks for 5 frames"),
        (lambda c: c["0"].__setitem__(0, rle.encode(np.ones((16, 16)))), "mask of 16x16 for a frame of 48x32"),
        (lambda c: c["0"].__setitem__(0, {"size": [32, 48], "counts": "1"}), r"mask_dict.json.*frame 0: .*damaged"),
        (lambda c: c["0"].__setitem__(0, {"size": [10**6, 10**6], "counts": [10**12]}), "mask of 1000000x1000000"),
        (lambda c: c["0"].__setitem__(0, "null"), "no run-length mask"),
        (lambda c: c.update({"0": 5}), "no list of masks"),
    ],
)
def test_masks_that_do_not_fit_are_refused_when_read(tree: Path, tmp_path: Path, change, message: str) -> None:
    root = copy(tree, tmp_path)
    edit(root / "valid_u" / "mask_dict.json", change)
    video = read_mevis(root, "valid_u")[0]
    with pytest.raises(InputError, match=message):
        video.masks.read(0, [0])


def test_a_missing_frame_is_named_when_read(tree: Path, tmp_path: Path) -> None:
    root = copy(tree, tmp_path)
    video = read_mevis(root, "valid_u")[0]
    path = root / "valid_u/JPEGImages" / video.id / "00003.jpg"
    path.unlink()
    assert video.frames[2].shape == (32, 48, 3)
    with pytest.raises(InputError, match=r"missing frame .*00003\.jpg"):
        video.frames[3]


def test_malformed_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/meta_expressions.json").write_text('{"videos": ')
    with pytest.raises(InputError, match="cannot read"):
        read_mevis(tmp_path, "train")


# ---- real files


def test_real_masks_are_those_of_the_annotation_images(samples: Path) -> None:
    videos = read_mevis(samples, "real_rvos")
    assert len(videos) == 7 and sum(len(v.expressions) for v in videos) == 35
    for video in videos:
        ids = sorted({i for e in video.expressions for i in e.object_ids})
        for frame in (0, len(video.frames) // 2, len(video.frames) - 1):
            name = video.frame_names[frame]
            labels = np.array(Image.open(samples / "real_rvos/Annotations" / video.id / f"{name}.png"))
            masks, _ = video.masks.read(frame, ids)
            assert np.array_equal(masks.any(0), labels > 0)
            assert video.frames[frame].shape[:2] == labels.shape


def test_real_composite_has_both_objects_one_of_them_late(samples: Path) -> None:
    swans = next(v for v in read_mevis(samples, "real_rvos") if v.id == "two-swans")
    both = next(e for e in swans.expressions if e.text == "both swans")
    none = next(e for e in swans.expressions if e.type == "no-target")
    assert len(both.object_ids) == 2 and none.object_ids == ()
    assert swans.masks.read(0, both.object_ids)[1].tolist() == [PRESENT, ABSENT]
    assert swans.masks.read(40, both.object_ids)[1].tolist() == [PRESENT, PRESENT]
    assert swans.masks.read(0, none.object_ids)[0].shape == (0, *swans.frames.size)
