"""From tracks to trusted answers, in four steps that may each be kept: match, resolve, measure, weigh.

match    the matchers' scores of every sentence, track and chosen frame
resolve  which tracks each sentence means
measure  the features of each masklet that was decided on
weigh    their weights, or why they are rejected
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datasets.tracks import Tracks
from models.teacher import checks
from models.teacher.calibration import QualityModel
from models.teacher.interfaces import Detector, Matcher, MatchScores, Parsed, Question, VideoSegmenter
from models.teacher.match.frames import FRAMES, choose_frames, seen_NT, track_views
from models.teacher.match.fusion import Voice, fuse
from models.teacher.movement import MOVED, camera, gone, travels
from models.teacher.quality import ASKED, NAN, Quality, masklet_features, track_features, weigh
from models.teacher.resolver import Decision, ResolverConfig, resolve
from util.types import FrameSource

EXPORTED = ("ok", "partial")


@dataclass(frozen=True)
class JudgeConfig:
    """frames  that a matcher is shown."""

    frames: int = FRAMES
    resolver: ResolverConfig = field(default_factory=ResolverConfig)
    checks: checks.CheckConfig = field(default_factory=checks.CheckConfig)


@dataclass(frozen=True)
class FrameScores:
    """What each matcher, by name, said of the frames that it was shown."""

    frames: tuple[int, ...]
    by_matcher: Mapping[str, MatchScores]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it, null where nothing was judged; `from_dict` is the inverse."""
        said = {name: _as_lists(scores) for name, scores in self.by_matcher.items()}
        return {"frames": list(self.frames), "by_matcher": said}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> FrameScores:
        by_matcher = {
            name: MatchScores(_or_nan(said["scores"]).reshape(said["shape"]), _or_nan(said["absent"]))
            for name, said in content["by_matcher"].items()
        }
        return cls(tuple(content["frames"]), by_matcher)


class Judge:
    """Decides which tracks sentences mean. `voices`: how much each matcher counts; `model`: a fitted quality model."""

    def __init__(
        self,
        matchers: Mapping[str, Matcher],
        detector: Detector,
        segmenter: VideoSegmenter,
        config: JudgeConfig | None = None,
        *,
        voices: Mapping[str, Voice] | None = None,
        model: QualityModel | None = None,
    ) -> None:
        self.matchers, self.detector, self.segmenter = matchers, detector, segmenter
        self.config, self.voices, self.model = config or JudgeConfig(), voices or {}, model

    def match(self, tracks: Tracks, frames: FrameSource, parsed: Sequence[Parsed]) -> FrameScores:
        """Scores of all sentences; matchers are not asked where there is no track."""
        chosen = choose_frames(seen_NT(tracks), self.config.frames) if len(tracks) else ()
        question = Question(tracks.video_id, {frame: frames[frame] for frame in chosen}, track_views(tracks), parsed)
        asked = bool(chosen and parsed)
        said = {
            name: matcher.score(question) if asked else question.unjudged() for name, matcher in self.matchers.items()
        }
        return FrameScores(chosen, said)

    def resolve(
        self, tracks: Tracks, expression_ids: Sequence[str], parsed: Sequence[Parsed], said: FrameScores
    ) -> list[Decision]:
        """A decision for each sentence."""
        seen_NF = seen_NT(tracks)[:, list(said.frames)]
        clusters = [track.cluster for track in tracks.tracks]
        fused = fuse(said.by_matcher, self.voices)
        return resolve(expression_ids, parsed, fused, seen_NF, clusters, self.config.resolver)

    def measure(
        self,
        tracks: Tracks,
        frames: FrameSource,
        parsed: Sequence[Parsed],
        decisions: Sequence[Decision],
        used: Sequence[int],
    ) -> list[dict[str, float] | None]:
        """Features of each masklet; None for a sentence without tracks. `used`: frames that matching was shown.

        A track's own are measured once for all sentences that mean it.
        """
        rows = sorted({row for decision in decisions for row in decision.rows})
        views = track_views(tracks)
        going = [decision.rows and travels(sentence) for decision, sentence in zip(decisions, parsed, strict=True)]
        pans = camera(tracks, frames) if any(going) else []
        cycles = checks.cycle_ious(tracks, rows, frames, self.segmenter) if self.config.checks.cycle else {}
        of_tracks = {
            row: track_features(tracks, row)
            | {"redetect_iou": self._found_again(tracks, row, frames, used), "cycle_iou": cycles.get(row, NAN)}
            for row in rows
        }
        found: list[dict[str, float] | None] = []
        for decision, sentence, goes in zip(decisions, parsed, going, strict=True):
            if not decision.rows:
                found.append(None)
                continue
            said = [
                checks.ask_again(decision, sentence, tracks, views, frames, used, matcher, self.config.checks)
                for matcher in self.matchers.values()
            ]
            checked = {name: _mean([one[name] for one in said]) for name in ASKED}
            if goes:
                ways = [gone(tracks, row, pans) for row in decision.rows]
                checked["motion_ok"] = NAN if np.isnan(ways).any() else float(min(ways) >= MOVED)
            found.append(masklet_features(decision, of_tracks, checked))
        return found

    def weigh(
        self, decisions: Sequence[Decision], features: Sequence[Mapping[str, float] | None]
    ) -> list[Quality | None]:
        """The weight of each masklet that may be exported; None for a sentence that has none, or none to export."""
        return [
            weigh(decision, measured, self.model) if measured is not None and decision.status in EXPORTED else None
            for decision, measured in zip(decisions, features, strict=True)
        ]

    def _found_again(self, tracks: Tracks, row: int, frames: FrameSource, used: Sequence[int]) -> float:
        nouns = sorted(tracks.tracks[row].noun_scores)
        if not nouns:
            return NAN
        return checks.redetect_iou(tracks, row, nouns, frames, used, self.detector, self.config.checks)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else NAN


def _as_lists(scores: MatchScores) -> dict[str, Any]:
    table = scores.scores_ENF
    return {"shape": list(table.shape), "scores": _or_none(table), "absent": _or_none(scores.absent_E)}


def _or_none(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values.ravel()]


def _or_nan(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], np.float64)
