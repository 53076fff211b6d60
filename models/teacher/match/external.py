"""Scores that were made elsewhere, by a model that is no part of this: a remote one, a non-commercial one, a person.

    requests  one line for each video, frame and sentence, with the boxes to choose from
        {"schema": "rvos-match-request/1", "fingerprint", "video_id", "frame", "image", "boxes": [[x0, y0, x1, y1]],
         "track_index": [...], "expression_id", "expression"}
    scores    what comes back, one line for each answer
        {"schema": "rvos-scores/1", "fingerprint", "matcher": {"name", "model_id", "revision", "licence"}, "video_id",
         "expression_id", "frame": number or null (all frames), and
             "track_index": n, "score": s   or   "selected": [...], "candidates": [...]   (1 and 0)
             and where it is known "absent": chance that nothing is meant}

The fingerprint is the tracks': answers about other tracks are refused, as is everything out of range.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datasets.tracks import Tracks
from models.teacher.interfaces import MatchScores, ModelInfo, Question, TrackView
from util.errors import InputError
from util.types import Expression

REQUEST, SCORES = "rvos-match-request/1", "rvos-scores/1"
NEAR = 0.01  # pixels by which a box of a request may miss the track's


def requests(
    tracks: Tracks, frames: Sequence[int], expressions: Sequence[Expression], images: Mapping[int, str]
) -> Iterator[dict[str, Any]]:
    """A line for each frame and sentence; `images` names the picture of each frame. Tracks must have been stored."""
    boxes_NT4 = tracks.pixel_boxes_NT4()
    for frame in frames:
        seen = np.flatnonzero(tracks.visible_NT()[:, frame]).tolist()
        for expression in expressions if seen else ():
            yield {
                "schema": REQUEST, "fingerprint": tracks.fingerprint, "video_id": tracks.video_id, "frame": frame,
                "image": images[frame], "track_index": seen, "expression_id": expression.id,
                "boxes": [[round(float(side), 3) for side in boxes_NT4[row, frame]] for row in seen],
                "expression": expression.text,
            }  # fmt: skip


@dataclass
class _Asked:
    """What was asked of a video: sentences by id, and the box of each (frame, track)."""

    fingerprint: str
    texts: dict[str, str] = field(default_factory=dict)
    boxes: dict[tuple[int, int], list[float]] = field(default_factory=dict)


class ExternalMatcher:
    """A `Matcher` that reads its scores; `requests` is the file that was sent out, `scores` the one that came back."""

    def __init__(self, scores: Path, requests: Path, *, sees_motion: bool = False) -> None:
        """Raises InputError, with the line, for an answer to no question, and for a number out of its range."""
        self._asked = _read_requests(requests)
        self._said: dict[tuple[str, str], dict[tuple[int | None, int], float]] = {}
        self._absent: dict[tuple[str, str], float] = {}
        self._sees_motion = sees_motion
        models = {self._read(where, entry) for where, entry in _lines(scores, SCORES)}
        if len(models) != 1:
            raise InputError(f"{scores} has answers of {len(models)} matchers; give one file for each matcher")
        name, model_id, revision, licence = models.pop()
        digest = hashlib.sha256(scores.read_bytes()).hexdigest()[:16]
        self._info = ModelInfo(f"external:{name}", model_id, f"{revision or 'unknown'}, answers {digest}", licence)

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def sees_motion(self) -> bool:
        return self._sees_motion

    def score(self, question: Question) -> MatchScores:
        """NaN where nothing was said. Raises InputError where the tracks are not those that were asked about."""
        said = question.unjudged()
        asked = self._asked.get(question.video_id)
        if asked is None:
            return said
        self._compare(question.video_id, asked, question.tracks)
        ids = {text: key for key, text in asked.texts.items()}
        place = {frame: f for f, frame in enumerate(question.images)}
        row = {track.index: n for n, track in enumerate(question.tracks)}
        for e, parsed in enumerate(question.expressions):
            key = (question.video_id, ids.get(parsed.text, ""))
            said.absent_E[e] = self._absent.get(key, np.nan)
            # what was said of all frames first, so that what was said of one counts more
            for (frame, track), score in sorted(
                self._said.get(key, {}).items(), key=lambda item: item[0][0] is not None
            ):
                columns = [place[frame]] if frame in place else list(place.values()) if frame is None else []
                if track in row:
                    said.scores_ENF[e, row[track], columns] = score
        said.scores_ENF[:, ~question.seen_NF] = np.nan
        return said

    def _read(self, where: str, entry: Mapping[str, Any]) -> tuple[str, str, str | None, str]:
        """Keep one line; gives who answered."""
        video, expression, frame = entry.get("video_id"), entry.get("expression_id"), entry.get("frame")
        asked = self._asked.get(str(video))
        if asked is None or expression not in asked.texts:
            raise InputError(f"{where}: {video}/{expression} was not asked about; answer the requests' sentences")
        if entry.get("fingerprint") != asked.fingerprint:
            raise InputError(f"{where}: the answer is about other tracks; write the requests again, and ask anew")
        key = (str(video), str(expression))
        said = self._said.setdefault(key, {})
        for track, score in _answers(where, entry):
            frames = {f for f, n in asked.boxes if n == track}
            if not frames or (frame is not None and frame not in frames):
                raise InputError(f"{where}: track {track} was not shown in frame {frame}; answer with what was asked")
            said[frame, track] = _share(where, "score", score)
        if entry.get("absent") is not None:
            self._absent[key] = _share(where, "absent", entry["absent"])
        matcher = entry.get("matcher")
        if not isinstance(matcher, dict) or not matcher.get("licence") or not matcher.get("model_id"):
            raise InputError(f'{where}: "matcher" must say the model_id and the licence of who answered')
        return str(matcher.get("name", "")), matcher["model_id"], matcher.get("revision"), matcher["licence"]

    @staticmethod
    def _compare(video_id: str, asked: _Asked, tracks: Sequence[TrackView]) -> None:
        boxes = {track.index: track.boxes_T4 for track in tracks}
        for (frame, track), box in asked.boxes.items():
            if track in boxes and not np.allclose(boxes[track][frame], box, atol=NEAR):
                raise InputError(
                    f"video {video_id} was tracked anew since it was asked about; write the requests again"
                )


def _answers(where: str, entry: Mapping[str, Any]) -> list[tuple[int, Any]]:
    """(track, score) of a line."""
    if "track_index" in entry:
        return [(entry["track_index"], entry.get("score"))]
    candidates, selected = entry.get("candidates"), entry.get("selected")
    if not isinstance(candidates, list) or not isinstance(selected, list):
        if entry.get("absent") is not None:
            return []
        raise InputError(f'{where}: no "track_index" and "score", nor "selected" and "candidates"')
    if not set(selected) <= set(candidates):
        raise InputError(f"{where}: {sorted(set(selected) - set(candidates))} was selected, but is no candidate")
    return [(track, float(track in selected)) for track in candidates]


def _share(where: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise InputError(f"{where}: the {name} is {value!r}; it is a number from 0 to 1")
    return float(value)


def _read_requests(path: Path) -> dict[str, _Asked]:
    asked: dict[str, _Asked] = {}
    for where, entry in _lines(path, REQUEST):
        try:
            video = asked.setdefault(entry["video_id"], _Asked(entry["fingerprint"]))
            video.texts[entry["expression_id"]] = entry["expression"]
            for track, box in zip(entry["track_index"], entry["boxes"], strict=True):
                video.boxes[int(entry["frame"]), int(track)] = box
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: no request ({error}); write the requests again") from error
    return asked


def _lines(path: Path, schema: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line with its place. Raises InputError for what is no JSON, or of another schema."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; check the path") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise InputError(f"{where}: no JSON ({error}); write one answer a line") from error
        if not isinstance(entry, dict) or entry.get("schema") != schema:
            raise InputError(f"{where}: the schema must be {schema}")
        yield where, entry
