"""The teacher: video and sentences -> a masklet of known quality for each sentence, or the reason why there is none.

    ingest -> parse -> detect -> track        following.py; once for all sentences of a video
           -> match -> resolve -> score       deciding.py; once for each track, as far as it can be

Every stage is kept on disk under a key of all it depends on, so a run that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.track_store import TrackStore
from datasets.tracks import Tracks
from models.teacher.calibration import QualityModel
from models.teacher.deciding import Answers, Case, Decider
from models.teacher.following import FollowConfig, Follower, Ingested, pooled_nouns
from models.teacher.interfaces import Detector, ExpressionParser, Matcher, ModelInfo, Parsed, VideoSegmenter
from models.teacher.judging import JudgeConfig
from models.teacher.match.fusion import Voice
from models.teacher.quality import Quality
from models.teacher.resolver import Decision
from models.teacher.stages import Stopwatch, Workspace
from util.config import to_dict
from util.types import ReferringVideo

STAGES = ("ingest", "parse", "detect", "track", "match", "resolve", "score")


@dataclass(frozen=True)
class TeacherConfig:
    """Settings of all stages; each stage's key covers its own."""

    follow: FollowConfig = field(default_factory=FollowConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)


@dataclass(frozen=True)
class Backends:
    """The models behind the protocols; `matchers` by name."""

    parser: ExpressionParser
    detector: Detector
    segmenter: VideoSegmenter
    matchers: Mapping[str, Matcher]

    def roles(self) -> dict[str, ModelInfo]:
        """Who does what, for the description of what is made with them."""
        named = {"parser": self.parser.info, "detector": self.detector.info, "segmenter": self.segmenter.info}
        return named | {f"matcher:{name}": matcher.info for name, matcher in sorted(self.matchers.items())}


@dataclass(frozen=True)
class Taught:
    """A video with what the teacher found. Decisions and qualities are in the order of the video's sentences.

    key  of everything that the answers depend on
    """

    ingested: Ingested
    tracks: Tracks
    parsed: tuple[Parsed, ...]
    decisions: list[Decision]
    qualities: list[Quality | None]
    key: str

    @property
    def video(self) -> ReferringVideo:
        return self.ingested.video

    @property
    def kept(self) -> bool:
        """Whether any sentence has a masklet with a weight."""
        return any(quality is not None and quality.weight > 0 for quality in self.qualities)


class Teacher:
    """All stages with their models; `work` is the folder of what they leave. `dataset` and `split` name the videos."""

    def __init__(
        self,
        backends: Backends,
        config: TeacherConfig,
        work: Path,
        *,
        dataset: str = "videos",
        split: str = "train",
        voices: Mapping[str, Voice] | None = None,
        model: QualityModel | None = None,
    ) -> None:
        self.backends, self.config, self.work = backends, config, work
        self.workspace, self.store = Workspace(work), TrackStore(work / "tracks")
        parser, detector, segmenter = backends.parser, backends.detector, backends.segmenter
        self.follower = Follower(
            parser, detector, segmenter, config.follow, self.workspace, self.store, dataset=dataset, split=split
        )
        self.decider = Decider(
            backends.matchers, detector, segmenter, config.judge, self.workspace, voices=voices, model=model
        )

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as JSON can hold them, for the description of a data set."""
        return to_dict(self.config)

    def teach(self, video: ReferringVideo, watch: Stopwatch) -> Taught:
        """Run a video through all stages; what is there is not made again. Raises what the models raise."""
        ingested = self.follower.ingest(video, watch)
        parse_key, parsed = self.follower.parse(video, watch)
        tracks = self.follower.track(ingested, pooled_nouns(parsed), watch)
        answers: Answers = self.decider.answer(Case(ingested, tracks, parsed, parse_key), watch)
        return Taught(ingested, tracks, parsed, answers.decisions, answers.qualities, answers.key)

    def missing(self, video: ReferringVideo) -> tuple[str, ...]:
        """The stages that `teach` would run, without running one; frames are read for their hash."""
        ingest_key, parse_key = self.follower.ingest_key(video, Stopwatch()), self.follower.parse_key(video)
        there = {"ingest": self._has("ingest", video, ingest_key), "parse": self._has("parse", video, parse_key)}
        if all(there.values()):
            parsed = self.follower.parsed(self.workspace.read("parse", video.id, parse_key) or ())
            detect_key = self.follower.detect_key(ingest_key, pooled_nouns(parsed))
            tracks = self.follower.stored(video.id, self.follower.track_key(detect_key))
            there |= {"detect": self._has("detect", video, detect_key), "track": tracks is not None}
            if tracks is not None:
                keys = self.decider.keys(parse_key, tracks.fingerprint, [e.id for e in video.expressions])
                done = {name: self._has(name.split(":")[0], video, key) for name, key in keys.items()}
                there["match"] = all(found for name, found in done.items() if name.startswith("match:"))
                there |= {"detect": True, "resolve": done["resolve"], "score": done["score"]}
        return tuple(stage for stage in STAGES if not there.get(stage))

    def _has(self, stage: str, video: ReferringVideo, key: str) -> bool:
        return self.workspace.read(stage, video.id, key) is not None
