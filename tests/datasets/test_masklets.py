"""Masklets: states and weights survive the round trip, MeViS's reader takes the tree, equal videos give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.masklets import read_masklets, write_masklets
from datasets.mevis import read_mevis
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from tests.trees import copy, edit
from util import rle
from util.errors import InputError
from util.types import IGNORE, Expression, ReferringVideo

FRAMES = 6
CONFIG = SyntheticConfig(seed=3, videos=3, frames=FRAMES, height=32, width=48, no_target=0.3, late=1.0)


class Unsure:
    """Masks of a teacher: in every third frame it does not know, with a mask at hand or without."""

    def __init__(self, video: ReferringVideo) -> None:
        self.masks = video.masks

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        masks, states = self.masks.read(index, object_ids)
        if index % 3 == 1:
            states = np.full_like(states, IGNORE)
            masks = masks & (index == 1)
        return masks, states


def taught(video: ReferringVideo) -> ReferringVideo:
    weights = np.linspace(0.1234567, 1, len(video.expressions))
    expressions = tuple(replace(e, weight=float(w)) for e, w in zip(video.expressions, weights, strict=True))
    return replace(video, expressions=expressions, masks=Unsure(video))


WORLD = [taught(video) for video in SyntheticVideos(CONFIG)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("masklets") / "tree"
    written = write_masklets(WORLD, root, "train")
    assert (written.videos, written.expressions, written.left_out) == (3, sum(len(v.expressions) for v in WORLD), ())
    return root


def test_round_trip_is_exact(tree: Path) -> None:
    seen = set()
    for video, source in zip(read_masklets(tree), sorted(WORLD, key=lambda v: v.id), strict=True):
        assert (video.id, video.frame_names, video.frames.fps) == (source.id, source.frame_names, source.frames.fps)
        for ours, theirs in zip(video.expressions, source.expressions, strict=True):
            assert (ours.id, ours.text, ours.type) == (theirs.id, theirs.text, theirs.type)
            assert ours.weight == round(theirs.weight, 6) and len(ours.object_ids) == len(theirs.object_ids)
            for frame in range(FRAMES):
                masks, states = video.masks.read(frame, ours.object_ids)
                expected, expected_states = source.masks.read(frame, theirs.object_ids)
                assert np.array_equal(masks, expected) and np.array_equal(states, expected_states)
                seen |= {(int(state), bool(mask.any())) for state, mask in zip(states, masks, strict=True)}
    assert seen == {(0, False), (1, True), (IGNORE, True), (IGNORE, False)}


def test_mevis_reader_takes_a_split_as_it_is(tree: Path) -> None:
    for ours, theirs in zip(read_mevis(tree, "train"), read_masklets(tree), strict=True):
        assert [e.object_ids for e in ours.expressions] == [e.object_ids for e in theirs.expressions]
        ids = sorted({i for e in ours.expressions for i in e.object_ids})
        assert np.array_equal(ours.masks.read(0, ids)[0], theirs.masks.read(0, ids)[0])


def test_files_follow_the_format(tree: Path) -> None:
    described = json.loads((tree / "dataset.json").read_text())
    masks, states = (json.loads((tree / "train" / f"{name}.json").read_text()) for name in ("mask_dict", "frame_state"))
    assert described["schema"] == "rvos-masklets/1" and described["counts"]["train"]["masklets"] == len(masks)
    assert set(masks) == set(states) == {str(i) for i in range(len(masks))}
    for number, runs in masks.items():
        assert all(one is None or rle.area(one) for one in runs)  # nothing is written as a mask of zeros
        assert all((one is not None) == (s == "P") for one, s in zip(runs, states[number], strict=True) if s != "I")
    order = []
    for _, entry in sorted(json.loads((tree / "train/meta_expressions.json").read_text())["videos"].items()):
        pairs = {pair for e in entry["expressions"].values() for pair in zip(e["obj_id"], e["anno_id"], strict=True)}
        order += [number for _, number in sorted(pairs)]
        assert entry["size"] == [32, 48] and [place for place, _ in sorted(pairs)] == list(range(1, len(pairs) + 1))
    assert order == list(range(len(masks)))  # numbered by video and object


def test_equal_videos_give_equal_bytes_whatever_their_order(tree: Path, tmp_path: Path) -> None:
    write_masklets(WORLD[::-1], tmp_path, "train")
    for path in tree.rglob("*.json"):
        assert path.read_bytes() == (tmp_path / path.relative_to(tree)).read_bytes(), path.name


def test_a_second_split_joins_and_what_cannot_be_held_is_named(tree: Path, tmp_path: Path) -> None:
    root = copy(tree, tmp_path)
    asked = Expression("7", "who knows", None)
    image = SyntheticVideos(replace(CONFIG, frames=1))[0]
    written = write_masklets([replace(WORLD[0], expressions=(asked,)), image], root, "more")
    assert written.left_out == (f"{WORLD[0].id}/7: no answer", f"{image.id}: one frame") and written.expressions == 0
    assert set(json.loads((root / "dataset.json").read_text())["counts"]) == {"train", "more"}
    assert len(read_masklets(root, "train")) == 3 and len(read_masklets(root, "more")) == 1
    with pytest.raises(InputError, match="not empty"):
        write_masklets(WORLD, root, "train")


def first_with_objects(content) -> dict:
    return next(e for v in content["videos"].values() for e in v["expressions"].values() if e["obj_id"])


META = "train/meta_expressions.json"


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("dataset.json", lambda c: c.update(schema="rvos-masklets/2"), r"schema 'rvos-masklets/2'"),
        (META, lambda c: first_with_objects(c)["obj_id"].append(9), "two lists of one length"),
        (META, lambda c: first_with_objects(c).update(obj_id=[], anno_id=[]), "status is not no_target"),
        (META, lambda c: first_with_objects(c).update(weight=1.5), "weight 1.5"),
        (META, lambda c: first_with_objects(c).update(weight=True), "weight True"),
        (META, lambda c: first_with_objects(c).update(anno_id=["x"]), "whole number"),
        (META, lambda c: next(iter(c["videos"].values())).pop("fps"), 'no "fps"'),
        ("train/frame_state.json", lambda c: c.pop("0"), "annotation 0 needs one letter"),
        ("train/frame_state.json", lambda c: c.update({"0": "PPP"}), f"each of {FRAMES} frames"),
        ("train/frame_state.json", lambda c: c.update({"0": "P" * (FRAMES - 1) + "X"}), "one letter of P, A and I"),
        ("train/mask_dict.json", lambda c: c.update({"0": [None] * FRAMES}), "frame . is P, but has no mask"),
        ("train/frame_state.json", lambda c: c.update({"0": "A" * FRAMES}), "frame . is A, but has a mask"),
        ("train/mask_dict.json", lambda c: c.pop("0"), "annotation 0 .* is missing"),
    ],
)
def test_faults_are_named(tree: Path, tmp_path: Path, name: str, change, message: str) -> None:
    root = copy(tree, tmp_path)
    edit(root / name, change)
    with pytest.raises(InputError, match=message):
        for video in read_masklets(root):
            for frame in range(FRAMES):
                video.masks.read(frame, sorted({i for e in video.expressions for i in e.object_ids}))


@pytest.mark.parametrize("name", ["dataset.json", META, "train/mask_dict.json", "train/frame_state.json"])
def test_missing_files_are_named(tree: Path, tmp_path: Path, name: str) -> None:
    root = copy(tree, tmp_path)
    (root / name).unlink()
    with pytest.raises(InputError, match=f"missing .*{name}"):
        read_masklets(root)
