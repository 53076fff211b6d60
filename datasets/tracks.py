"""Tracks of one video in memory: every object that was followed, prompted by what, seen where and how surely.

Letters: N tracks, T frames, D the size of an object pointer. A track is named by its row, `index`, inside a video and
by `track_id` across stores. `datasets/track_store.py` reads and writes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from util import rle
from util.errors import InputError
from util.types import ABSENT, IGNORE, PRESENT, Box

Source = Literal["gt", "grid", "detector", "teacher", "file", "student"]
PromptKind = Literal["mask", "box", "point"]
SOURCES: tuple[str, ...] = get_args(Source)

STABLE = 0.7  # least stability of a mask that counts as seen
GONE = 0.3  # presence below which an empty mask means that the object is not there


@dataclass(frozen=True)
class TrackPrompt:
    """What a track was begun with: a box (xyxy, pixels), points (x, y, label) or a mask.

    noun, phrase, det_score  of the detection behind it; stability, area  of the mask that it gave (area in 0..1)
    expression_ids           sentences that proposed it
    """

    frame: int
    kind: PromptKind
    box: Box | None = None
    points: tuple[tuple[float, float, int], ...] = ()
    rle: rle.RLE | None = None
    noun: str = ""
    phrase: str = ""
    det_score: float | None = None
    stability: float | None = None
    area: float | None = None
    expression_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vote:
    """A detection that was joined to a track in a key frame; `iou` is that of the two masks."""

    frame: int
    noun: str
    phrase: str
    score: float
    iou: float


@dataclass(frozen=True)
class Track:
    """What is known of a track beside its frames.

    cluster      tracks of one cluster show the same thing (volume IoU above 0.7)
    merged_from  ids of the tracks that were merged into it
    votes        detections that were joined to it, in the order of frames
    """

    track_id: str
    source: Source
    prompts: tuple[TrackPrompt, ...]
    cluster: int = 0
    merged_from: tuple[str, ...] = ()
    votes: tuple[Vote, ...] = ()

    @property
    def noun_scores(self) -> dict[str, float]:
        """Best detector score of each noun that proposed or confirmed the track."""
        best: dict[str, float] = {}
        proposed = [(prompt.noun, prompt.det_score) for prompt in self.prompts if prompt.noun]
        for noun, score in [*proposed, *((vote.noun, vote.score) for vote in self.votes)]:
            best[noun] = max(best.get(noun, 0.0), score or 0.0)
        return best


@dataclass(frozen=True)
class Tracks:
    """All tracks of a video.

    frame_names      [T]; size (height, width); fps None where it is not known
    generator        models, their versions, thresholds and hashes: what the tracks were made with
    masks            [N][T] run-length masks, None where the mask is empty
    object_score_NT  f32 logit of being in the frame, stability_NT f32, predicted_iou_NT f32: NaN where a model has none
    boxes_NT4        f32 xyxy in 0..1 of the frame, NaN where the mask is empty; area_NT  f32 share of the frame
    tracked_NT       bool; False where the segmenter was not run, which is not the same as absent
    disputed_NT      bool; True where the merged members of a track disagree
    pointers_NTD     f32, or None: the segmenter's description of the object in each frame
    key_frames       frames in which detections were looked for
    candidates       set name -> sentence id -> rows; a sentence that is missing was not judged, an empty list was
    fingerprint      of the folder it was read from; "" before it is written
    """

    dataset: str
    split: str
    video_id: str
    frame_names: tuple[str, ...]
    size: tuple[int, int]
    fps: float | None
    generator: Mapping[str, Any]
    tracks: tuple[Track, ...]
    masks: tuple[tuple[rle.RLE | None, ...], ...]
    object_score_NT: np.ndarray
    stability_NT: np.ndarray
    predicted_iou_NT: np.ndarray
    boxes_NT4: np.ndarray
    area_NT: np.ndarray
    tracked_NT: np.ndarray
    disputed_NT: np.ndarray
    pointers_NTD: np.ndarray | None = None
    key_frames: tuple[int, ...] = ()
    candidates: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.tracks)

    @property
    def length(self) -> int:
        """T."""
        return len(self.frame_names)

    def mask(self, index: int, frame: int) -> np.ndarray:
        """Mask bool [H, W] of a track in a frame."""
        runs = self.masks[index][frame]
        return np.zeros(self.size, bool) if runs is None else rle.decode(runs)

    def pixel_boxes_NT4(self) -> np.ndarray:
        """Boxes f32 in pixels, NaN where the mask is empty."""
        height, width = self.size
        return self.boxes_NT4 * np.array([width, height, width, height], np.float32)

    def presence_NT(self) -> np.ndarray:
        """Chance f32 0..1 of being in the frame; where the model has no score, whether there is a mask."""
        logits = self.object_score_NT.astype(np.float64)
        with np.errstate(over="ignore"):
            chance = 1 / (1 + np.exp(-logits))
        seen = (self.area_NT > 0).astype(np.float64)
        return np.where(np.isnan(logits), seen, chance).astype(np.float32)

    def visible_NT(self) -> np.ndarray:
        """Bool: there is a mask."""
        return self.area_NT > 0

    def states_NT(self) -> np.ndarray:
        """PRESENT, ABSENT or IGNORE, int8.

        Present: a mask of stability at least 0.7 (or of none measured). Absent: no mask, and a presence under 0.3.
        Everything else is ignored: unsure frames, those that were not tracked, and those that members dispute.
        """
        visible = self.visible_NT()
        stable = np.isnan(self.stability_NT) | (self.stability_NT >= STABLE)
        states = np.full(self.area_NT.shape, IGNORE, np.int8)
        states[visible & stable] = PRESENT
        states[~visible & (self.presence_NT() < GONE)] = ABSENT
        states[~self.tracked_NT | self.disputed_NT] = IGNORE
        return states

    def support_N(self) -> np.ndarray:
        """Share f64 of the key frames in which a track is visible where a detection confirmed it; NaN if in none."""
        visible_NT = self.visible_NT()
        visible = visible_NT[:, list(self.key_frames)].sum(1)
        confirmed = np.array(
            [len({v.frame for v in track.votes if visible_NT[row, v.frame]}) for row, track in enumerate(self.tracks)],
            np.float64,
        )
        return np.divide(confirmed, visible, out=np.full(len(self), np.nan), where=visible > 0)

    def check(self, where: str) -> Tracks:
        """These tracks. Raises InputError, naming `where`, for a shape, an id or a number that contradicts another."""
        count, length = len(self.tracks), len(self.frame_names)
        arrays: dict[str, tuple[np.ndarray, tuple[int, ...]]] = {
            "object_score": (self.object_score_NT, ()), "stability": (self.stability_NT, ()),
            "pred_iou": (self.predicted_iou_NT, ()), "box": (self.boxes_NT4, (4,)), "area": (self.area_NT, ()),
            "tracked": (self.tracked_NT, ()), "disputed": (self.disputed_NT, ()),
        }  # fmt: skip
        for name, (array, rest) in arrays.items():
            if array.shape != (count, length, *rest):
                raise _broken(where, f"{name} is {array.shape} for {count} tracks of {length} frames")
        if self.pointers_NTD is not None and self.pointers_NTD.shape[:2] != (count, length):
            raise _broken(where, f"obj_ptr is {self.pointers_NTD.shape} for {count} tracks of {length} frames")
        if len(self.masks) != count or any(len(row) != length for row in self.masks):
            raise _broken(where, f"the masks are not those of {count} tracks of {length} frames")
        ids = [track.track_id for track in self.tracks]
        if len(set(ids)) < count or any(track.source not in SOURCES for track in self.tracks):
            raise _broken(where, "track ids repeat, or a source is unknown")
        for row, track in enumerate(self.tracks):
            frames = [prompt.frame for prompt in track.prompts] + [vote.frame for vote in track.votes]
            if any(not 0 <= frame < length for frame in frames):
                raise _broken(where, f"track {row} was prompted outside the video")
            seen = np.array([runs is not None for runs in self.masks[row]])
            if (seen != (self.area_NT[row] > 0)).any():
                raise _broken(where, f"masks and areas of track {row} disagree on where it is seen")
        used = [row for kind in self.candidates.values() for rows in kind.values() for row in rows]
        if any(not 0 <= row < count for row in used):
            raise _broken(where, "candidates name a track that is not there")
        return self


def make_track_id(source: str, prompt: TrackPrompt, segmenter: str) -> str:
    """12 hexadecimal digits that depend on where the track began and who followed it (`segmenter`: its fingerprint)."""
    geometry = [prompt.kind, prompt.box, prompt.points, prompt.rle]
    text = json.dumps([source, prompt.frame, geometry, segmenter], separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _broken(where: str, fault: str) -> InputError:
    return InputError(f"{where}: {fault}; delete the folder and make the tracks again")
