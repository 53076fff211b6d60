"""From a video to its tracks: the stages that know sentences only by the nouns in them.

ingest  frames -> their hash, size, rate, key frames
parse   sentences -> nouns and what else rules can tell
detect  key frames and the nouns of all sentences -> boxes
track   boxes -> the track store
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from datasets.held_frames import HeldFrames, content_hash
from datasets.track_store import Tracks, TrackStore
from models.teacher.detect.boxes import Candidate, merge_nouns, suppress
from models.teacher.detect.sliced import SlicedDetector
from models.teacher.interfaces import Detection, Detector, ExpressionParser, Parsed, VideoSegmenter
from models.teacher.key_frames import KeyFrameConfig, find_key_frames
from models.teacher.stages import Stopwatch, Workspace, stage_key
from models.teacher.sweep import SweepConfig, follow
from models.teacher.tracks import MergeConfig, to_tracks
from util.errors import InputError
from util.types import ReferringVideo

VERSIONS = {"ingest": 1, "parse": 1, "detect": 1, "track": 1}  # raised when a stage's code answers differently


@dataclass(frozen=True)
class DetectConfig:
    """threshold  least score of a box that is kept.
    same_noun  box IoU above which two boxes of one noun are one; any_noun  of whatever nouns.
    tile  pixels of the tiles in which a larger frame is looked at again, for what is small; None: not.
    """

    threshold: float = 0.25
    same_noun: float = 0.7
    any_noun: float = 0.85
    tile: int | None = None

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < 32:
            raise InputError(f"tiles of {self.tile} pixels show nothing; take at least 32")
        if not (0 <= self.threshold <= 1 and 0 < self.same_noun <= 1 and 0 < self.any_noun <= 1):
            raise InputError("threshold, same_noun and any_noun of detection are shares: above 0 and up to 1")


@dataclass(frozen=True)
class FollowConfig:
    """Settings of the stages up to the tracks."""

    keys: KeyFrameConfig = field(default_factory=KeyFrameConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    merge: MergeConfig = field(default_factory=MergeConfig)


@dataclass(frozen=True)
class Ingested:
    """A video as the stages see it. `frames` keeps what it decoded."""

    video: ReferringVideo
    frames: HeldFrames
    key: str
    key_frames: tuple[int, ...]


class Follower:
    """Makes the tracks of videos, or finds them made."""

    def __init__(
        self,
        parser: ExpressionParser,
        detector: Detector,
        segmenter: VideoSegmenter,
        config: FollowConfig,
        workspace: Workspace,
        store: TrackStore,
        *,
        dataset: str,
        split: str,
    ) -> None:
        self.parser, self.segmenter, self.config = parser, segmenter, config
        self.detector = SlicedDetector(detector, size=config.detect.tile) if config.detect.tile else detector
        self.workspace, self.store = workspace, store
        self.dataset, self.split = dataset, split

    def ingest_key(self, video: ReferringVideo, watch: Stopwatch, frames: HeldFrames | None = None) -> str:
        """The stage's key: of what the frames show, or of the files that they lie in. `frames`: of the video, kept."""
        shown = frames if frames is not None and _in_memory(video) else video.frames
        settings = {"keys": asdict(self.config.keys), "fps": round(video.frames.fps, 6), "names": video.frame_names}
        inputs = [watch.run("ingest", lambda: content_hash(shown))]
        return stage_key("ingest", VERSIONS["ingest"], settings=settings, models=(), inputs=inputs)

    def ingest(self, video: ReferringVideo, watch: Stopwatch) -> Ingested:
        """Read all frames once: is the video whole, and where are its key frames?"""
        frames = HeldFrames(video.frames)
        key = self.ingest_key(video, watch, frames)

        def work() -> dict[str, Any]:
            shown = (frames[index] for index in watch.counted(range(len(frames))))
            keys = find_key_frames(shown, self.config.keys)
            return {"frames": len(frames), "size": frames.size, "fps": round(frames.fps, 6), "key_frames": keys}

        found = self.workspace.stage("ingest", video.id, key, work, watch)
        return Ingested(video, frames, key, tuple(found["key_frames"]))

    def parse_key(self, video: ReferringVideo) -> str:
        texts = {"sentences": [expression.text for expression in video.expressions]}
        return stage_key("parse", VERSIONS["parse"], settings=texts, models=[self.parser.info], inputs=())

    def parse(self, video: ReferringVideo, watch: Stopwatch) -> tuple[str, tuple[Parsed, ...]]:
        """The stage's key, and what each sentence asks for, in their order."""
        key, texts = self.parse_key(video), [expression.text for expression in video.expressions]

        def work() -> list[dict[str, Any]]:
            return [asdict(self.parser.parse(text)) for text in texts]

        return key, self.parsed(self.workspace.stage("parse", video.id, key, work, watch))

    def parsed(self, stored: Sequence[Mapping[str, Any]]) -> tuple[Parsed, ...]:
        """What the stage left."""
        return tuple(_parsed(entry) for entry in stored)

    def detect_key(self, ingest_key: str, nouns: Sequence[str]) -> str:
        settings = {"nouns": list(nouns), **asdict(self.config.detect)}
        models, inputs = [self.detector.info], [ingest_key]
        return stage_key("detect", VERSIONS["detect"], settings=settings, models=models, inputs=inputs)

    def detect(self, ingested: Ingested, nouns: Sequence[str], watch: Stopwatch) -> dict[int, list[Candidate]]:
        """What the nouns name in each key frame, each thing once, the most certain first."""

        def work() -> dict[str, Any]:
            return {
                str(frame): [_as_json(c) for c in self._look(ingested, frame, nouns)]
                for frame in watch.counted(ingested.key_frames)
            }

        found = self.workspace.stage("detect", ingested.video.id, self.detect_key(ingested.key, nouns), work, watch)
        return {int(frame): [_candidate(entry) for entry in entries] for frame, entries in found.items()}

    def track_key(self, detect_key: str) -> str:
        settings = {"sweep": asdict(self.config.sweep), "merge": asdict(self.config.merge)}
        models = [self.segmenter.info]
        return stage_key("track", VERSIONS["track"], settings=settings, models=models, inputs=[detect_key])

    def stored(self, video_id: str, key: str) -> Tracks | None:
        """The tracks in the store, if they were made with this key."""
        if self.store.fingerprint(self.dataset, self.split, video_id) is None:
            return None
        tracks = self.store.read(self.dataset, self.split, video_id)
        return tracks if tracks.generator.get("key") == key else None

    def track(self, ingested: Ingested, nouns: Sequence[str], watch: Stopwatch) -> Tracks:
        """Everything the nouns name, followed through the whole video; detects only where the tracks are not there."""
        detect_key = self.detect_key(ingested.key, nouns)
        key, video = self.track_key(detect_key), ingested.video
        found = self.stored(video.id, key)
        if found is not None:
            return found
        detections, keys = self.detect(ingested, nouns, watch), {"key": key, "detections": detect_key}
        watch.run("track", lambda: self.store.write(self._follow(ingested, detections, keys, watch)))
        # what is read may differ from what was written in the last bit of the pointers, and a later run reads it
        return self.store.read(self.dataset, self.split, video.id)

    def _look(self, ingested: Ingested, frame: int, nouns: Sequence[str]) -> list[Candidate]:
        if not nouns:
            return []
        found = [
            d for d in self.detector.detect(ingested.frames[frame], nouns) if d.score >= self.config.detect.threshold
        ]
        return merge_nouns(suppress(found, self.config.detect.same_noun), self.config.detect.any_noun)

    def _follow(
        self,
        ingested: Ingested,
        detections: Mapping[int, Sequence[Candidate]],
        keys: Mapping[str, str],
        watch: Stopwatch,
    ) -> Tracks:
        config, segmenter, frames = self.config, asdict(self.segmenter.info), ingested.frames
        tick = watch.ticks(len(frames) * (1 + config.sweep.backward))
        objects = follow(frames, lambda frame: detections.get(frame, ()), self.segmenter, config.sweep, tick=tick)
        prompts = {"name": "detector", "model": asdict(self.detector.info), "config": asdict(config.detect)}
        generator = {
            "segmenter": segmenter, "prompt_sources": [prompts], "keys": asdict(config.keys), **keys,
            "sweep": asdict(config.sweep), "merge": asdict(config.merge), "order": "forward, then backward",
        }  # fmt: skip
        return to_tracks(
            objects,
            ingested.video,
            config.merge,
            dataset=self.dataset,
            split=self.split,
            generator=generator,
            segmenter=repr(sorted(segmenter.items())),
            key_frames=ingested.key_frames,
        )


def pooled_nouns(parsed: Sequence[Parsed]) -> list[str]:
    """Every noun that a sentence of the video asks for, once, in the order of the alphabet."""
    return sorted({noun for sentence in parsed for noun in sentence.nouns})


def _in_memory(video: ReferringVideo) -> bool:
    """Whether the hash must be of pixels, which are then worth keeping."""
    return not hasattr(video.frames, "paths") and not hasattr(video.frames, "path")


def _parsed(entry: Mapping[str, Any]) -> Parsed:
    attributes = {kind: tuple(values) for kind, values in entry["attributes"].items()}
    return Parsed(**{**entry, "attributes": attributes})


def _as_json(candidate: Candidate) -> dict[str, Any]:
    best = candidate.best
    box = [float(side) for side in np.asarray(best.box, np.float64)]
    scores = {noun: float(score) for noun, score in candidate.noun_scores.items()}
    return {"box": box, "score": float(best.score), "noun": best.noun, "phrase": best.phrase, "noun_scores": scores}


def _candidate(entry: Mapping[str, Any]) -> Candidate:
    left, top, right, bottom = entry["box"]
    best = Detection((left, top, right, bottom), entry["score"], entry["noun"], entry["phrase"])
    return Candidate(best, entry["noun_scores"])
