"""From tracks to answers: the judge's steps as stages that are kept on disk.

    match    tracks and sentences -> each matcher's scores
    resolve  scores of all matchers -> which tracks each sentence means, or why none
    score    answers -> what is measured of them
Weighing what was measured is quick and not kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from datasets.tracks import Tracks
from models.teacher.calibration import QualityModel
from models.teacher.following import Ingested, pooled_nouns
from models.teacher.interfaces import Detection, Detector, Matcher, ModelInfo, Parsed, VideoSegmenter
from models.teacher.judging import FrameScores, Judge, JudgeConfig
from models.teacher.match.fusion import Voice
from models.teacher.quality import NAN, Quality
from models.teacher.resolver import Decision
from models.teacher.stages import Stopwatch, Workspace, stage_key
from util.errors import InputError

VERSIONS = {"match": 1, "resolve": 1, "score": 2, "weigh": 2}  # raised when a stage's code answers differently


@dataclass(frozen=True)
class Case:
    """A video's tracks and what its sentences ask for."""

    ingested: Ingested
    tracks: Tracks
    parsed: tuple[Parsed, ...]
    parse_key: str

    @property
    def expression_ids(self) -> list[str]:
        return [expression.id for expression in self.ingested.video.expressions]


@dataclass(frozen=True)
class Answers:
    """What was decided of each sentence, and how good it is: None where there is no masklet. `key`: of all this."""

    decisions: list[Decision]
    qualities: list[Quality | None]
    key: str


class Decider:
    """Asks matchers which tracks sentences mean, decides, and measures; what is on disk is not asked again."""

    def __init__(
        self,
        matchers: Mapping[str, Matcher],
        detector: Detector,
        segmenter: VideoSegmenter,
        config: JudgeConfig,
        workspace: Workspace,
        *,
        voices: Mapping[str, Voice] | None = None,
        model: QualityModel | None = None,
    ) -> None:
        """`voices`: how much each matcher counts; `model`: the fitted quality. Raises InputError without a matcher."""
        if not matchers:
            raise InputError("no matcher; name at least one with --matcher")
        self.matchers, self.detector, self.segmenter = dict(matchers), detector, segmenter
        self.config, self.workspace = config, workspace
        self.voices, self.model = voices or {}, model

    def keys(self, parse_key: str, tracks: str, expression_ids: Sequence[str]) -> dict[str, str]:
        """The key of each stage, "match:NAME" for each matcher; `tracks` is their fingerprint."""
        keys = {
            f"match:{name}": self._key("match", {"frames": self.config.frames}, [matcher.info], [tracks, parse_key])
            for name, matcher in self.matchers.items()
        }
        voices = {name: asdict(voice) for name, voice in self.voices.items()}
        resolving = {"resolver": asdict(self.config.resolver), "expressions": list(expression_ids), "voices": voices}
        keys["resolve"] = self._key("resolve", resolving, [], list(keys.values()))
        models = [self.detector.info, self.segmenter.info]
        keys["score"] = self._key("score", {"checks": asdict(self.config.checks)}, models, [keys["resolve"]])
        return keys

    def answer(self, case: Case, watch: Stopwatch) -> Answers:
        """Decisions and qualities of all sentences, in their order."""
        keys = self.keys(case.parse_key, case.tracks.fingerprint, case.expression_ids)
        judge = self._judge(case.parsed)
        said: list[FrameScores] = []  # asked for only where a later stage is not there

        def scores() -> FrameScores:
            if not said:
                said.append(self._match(judge, case, keys, watch))
            return said[0]

        decisions = self._resolve(judge, case, keys["resolve"], scores, watch)
        features = self._measure(judge, case, keys["score"], decisions, scores, watch)
        model = asdict(self.model) if self.model else None
        key = self._key("weigh", {"model": model}, [], [keys["score"]])
        return Answers(decisions, judge.weigh(decisions, features), key)

    def _judge(self, parsed: Sequence[Parsed]) -> Judge:
        detector = PooledDetector(self.detector, pooled_nouns(parsed))
        return Judge(self.matchers, detector, self.segmenter, self.config, voices=self.voices, model=self.model)

    def _match(self, judge: Judge, case: Case, keys: Mapping[str, str], watch: Stopwatch) -> FrameScores:
        """Scores of all matchers, each kept on its own, so that one more asks no other again."""
        video, found = case.ingested.video.id, []
        for name, matcher in self.matchers.items():
            alone = Judge({name: matcher}, judge.detector, judge.segmenter, self.config)

            def work(alone: Judge = alone) -> Any:
                return alone.match(case.tracks, case.ingested.frames, case.parsed).to_dict()

            stored = self.workspace.stage("match", video, keys[f"match:{name}"], work, watch)
            found.append(FrameScores.from_dict(stored))
        return FrameScores(found[0].frames, {name: said for one in found for name, said in one.by_matcher.items()})

    def _resolve(
        self, judge: Judge, case: Case, key: str, scores: Callable[[], FrameScores], watch: Stopwatch
    ) -> list[Decision]:
        def work() -> Any:
            decided = judge.resolve(case.tracks, case.expression_ids, case.parsed, scores())
            return [without_nan(asdict(decision)) for decision in decided]

        stored = self.workspace.stage("resolve", case.ingested.video.id, key, work, watch)
        return [decision_from(entry) for entry in stored]

    def _measure(
        self,
        judge: Judge,
        case: Case,
        key: str,
        decisions: Sequence[Decision],
        scores: Callable[[], FrameScores],
        watch: Stopwatch,
    ) -> list[dict[str, float] | None]:
        def work() -> Any:
            frames, used = case.ingested.frames, scores().frames
            return without_nan(judge.measure(case.tracks, frames, case.parsed, decisions, used))

        stored = self.workspace.stage("score", case.ingested.video.id, key, work, watch)
        return [
            None if entry is None else {name: NAN if value is None else value for name, value in entry.items()}
            for entry in stored
        ]

    def _key(self, stage: str, settings: Mapping[str, Any], models: Sequence[ModelInfo], inputs: Sequence[str]) -> str:
        return stage_key(stage, VERSIONS[stage], settings=settings, models=models, inputs=inputs)


class PooledDetector:
    """A detector that is asked of all nouns of a video at once, and of each image once."""

    def __init__(self, detector: Detector, nouns: Sequence[str]) -> None:
        self._detector, self._nouns = detector, nouns
        self._found: list[tuple[np.ndarray, list[Detection]]] = []

    @property
    def info(self) -> ModelInfo:
        return self._detector.info

    def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
        """Boxes of `nouns`, the most certain first; one that is not among the video's finds nothing."""
        for image, known in self._found:
            if image is image_HW3 or np.array_equal(image, image_HW3):
                found = known
                break
        else:
            found = self._detector.detect(image_HW3, self._nouns)
            self._found.append((image_HW3, found))
        return [detection for detection in found if detection.noun in nouns]


def without_nan(content: Any) -> Any:
    """The same with None in the place of NaN, which JSON has not."""
    if isinstance(content, dict):
        return {name: without_nan(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def decision_from(entry: Mapping[str, Any]) -> Decision:
    """A decision out of JSON."""
    numbers = {name: NAN if entry[name] is None else entry[name] for name in ("p", "margin", "absent")}
    lists = {name: tuple(entry[name]) for name in ("rows", "shared_with", "conflict_with")}
    duplicates = tuple((row, stands) for row, stands in entry["duplicates"])
    return Decision(**{**entry, **numbers, **lists, "duplicates": duplicates})
