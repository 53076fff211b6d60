"""Tracks as files: ids and colours that stay, overlaps settled by certainty, Grounded SAM 2's layout, nothing found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.tracks import Tracks
from datasets.video import open_video
from models.teacher.exports import TrackAnswer, certainty, frame_masks, label_map, noun_of, write_tracks
from models.teacher.sweep import SweepConfig, follow
from models.teacher.tracks import MergeConfig, to_tracks
from tests.models.teacher.scene import Path as Square
from tests.models.teacher.scene import Scene
from util import rle

SCENE = Scene((Square(range(12), 5, 5), Square(range(3, 12), 50, 9, -3)), length=12)


def tracked(scene: Scene) -> Tracks:
    objects = follow(scene.video.frames, lambda t: scene.found(t) if t % 4 == 0 else [], scene, SweepConfig())
    generator = {"segmenter": "scene"}
    return to_tracks(objects, scene.video, MergeConfig(), dataset="d", split="s", generator=generator, segmenter="x")


TRACKS = tracked(SCENE)


def test_overlaps_go_to_the_more_certain_and_ids_begin_at_one() -> None:
    frame = next(t for t in range(12) if frame_masks(TRACKS, t).all(0).any())  # the squares cross
    for surer in (0, 1):
        iou = TRACKS.predicted_iou_NT.copy()
        iou[surer] = 0.99
        labels = label_map(replace(TRACKS, predicted_iou_NT=iou), frame)
        masks = frame_masks(TRACKS, frame)
        assert labels.dtype == np.uint16
        assert (labels[masks.all(0)] == surer + 1).all()
        assert ((labels == 0) == ~masks.any(0)).all()


def test_an_iou_that_was_not_predicted_does_not_count_against_a_track() -> None:
    iou = np.full_like(TRACKS.predicted_iou_NT, np.nan)
    assert np.allclose(certainty(replace(TRACKS, predicted_iou_NT=iou)), TRACKS.presence_NT())


def test_the_name_is_what_detections_said_most_surely() -> None:
    votes = TRACKS.tracks[0].votes
    named = tuple(
        replace(vote, noun=noun, score=s) for vote, noun, s in zip(votes, "aba", (0.3, 0.5, 0.3), strict=True)
    )
    assert noun_of(replace(TRACKS, tracks=(replace(TRACKS.tracks[0], votes=named),)), 0) == "a"
    assert noun_of(TRACKS, 0) == "square"
    assert TrackAnswer(TRACKS).sentences == ["1: square", "2: square"]


def test_everything_is_written_at_the_videos_rate_and_reads_back(tmp_path: Path) -> None:
    written = write_tracks(tmp_path, SCENE.video.frames, TRACKS, label_maps=True)
    assert all(path.exists() for path in written)
    film = open_video(tmp_path / "overlay.mp4")
    assert (len(film), film.fps) == (12, pytest.approx(6.0))
    listed = json.loads((tmp_path / "masks.json").read_text(), parse_constant=pytest.fail)  # no NaN
    assert [entry["noun"] for entry in listed["objects"]] == ["square", "square"]
    assert [entry["key"] for entry in listed["sentences"]] == [0, 4]
    for row, entry in enumerate(listed["sentences"]):
        for frame in range(12):
            assert np.array_equal(rle.decode(entry["masks"][frame]), SCENE.mask(row, frame))


def test_label_maps_are_grounded_sam_2s(tmp_path: Path) -> None:
    write_tracks(tmp_path, SCENE.video.frames, TRACKS, label_maps=True)
    assert len(list((tmp_path / "mask_data").iterdir())) == len(list((tmp_path / "json_data").iterdir())) == 12
    array = np.load(tmp_path / "mask_data" / "mask_00002.npy", allow_pickle=False)
    assert array.dtype == np.uint16 and np.array_equal(array == 1, SCENE.mask(0, 2))
    told = json.loads((tmp_path / "json_data" / "mask_00002.json").read_text())
    assert told == {
        "mask_name": "mask_00002.npy",
        "mask_height": 60,
        "mask_width": 80,
        "promote_type": "mask",
        "labels": {"1": {"instance_id": 1, "class_name": "square", "x1": 7, "y1": 5, "x2": 18, "y2": 16, "logit": 0.9}},
    }


def test_nothing_found_is_an_answer_too(tmp_path: Path) -> None:
    empty = tracked(Scene((), length=3))
    write_tracks(tmp_path, Scene((), length=3).video.frames, empty, label_maps=True)
    assert json.loads((tmp_path / "masks.json").read_text())["objects"] == []
    assert json.loads((tmp_path / "json_data" / "mask_00001.json").read_text())["labels"] == {}
    assert not np.load(tmp_path / "mask_data" / "mask_00001.npy").any()
    assert len(open_video(tmp_path / "overlay.mp4")) == 3
