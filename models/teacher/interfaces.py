"""What the teacher asks of a foundation model: small protocols, each with several backends and a scripted one.

    Detector          an image and nouns -> boxes
    VideoSegmenter    a video and prompts -> masks of each object in each frame
    ExpressionParser  a sentence -> its noun and what else rules or a language model can tell
    Matcher           sentences against tracks, on several frames -> scores

Boxes are xyxy in pixels of the frame, right and bottom exclusive. Images are uint8 RGB [H, W, 3].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from util.types import Box, FrameSource


@dataclass(frozen=True)
class ModelInfo:
    """Where answers come from; it is copied into every data set that is made with them.

    backend   name of our adapter; model_id  hub id, path or address
    revision  of the hub's repository, or a hash of the weights; None where neither is known
    licence   of the weights; a tag such as "non-commercial" travels with the data
    """

    backend: str
    model_id: str
    revision: str | None
    licence: str


@dataclass(frozen=True)
class Detection:
    """A box of one noun. `score` 0..1; `noun` is the one of the call that was asked for, `phrase` what was matched.

    token_scores  each word that was asked about and its probability, in order; none where a model has no such scores
    """

    box: Box
    score: float
    noun: str
    phrase: str = ""
    token_scores: tuple[tuple[str, float], ...] = ()


class Detector(Protocol):
    """Finds what nouns name in one image."""

    @property
    def info(self) -> ModelInfo: ...

    def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
        """Boxes of every noun, each asked on its own, the most certain first; nothing found is an empty list."""
        ...


@dataclass(frozen=True)
class Prompt:
    """What an object is told by, in one frame: exactly one of a box, a mask bool [H, W], or points.

    points  (x, y, label) with label 1 on the object and 0 beside it
    """

    frame: int
    box: Box | None = None
    mask_HW: np.ndarray | None = None
    points: tuple[tuple[float, float, int], ...] = ()


@dataclass(frozen=True)
class ObjectFrame:
    """One object in one frame, as a segmenter saw it.

    mask_HW       bool, at the frame's size
    object_score  logit of being in the frame; NaN where the model has none
    predicted_iou 0..1; NaN where it has none
    stability     IoU of {logit > 1} and {logit > -1}; NaN when both are empty
    pointer_D     the model's description of the object in this frame; None where it has none
    """

    mask_HW: np.ndarray
    object_score: float
    predicted_iou: float
    stability: float
    pointer_D: np.ndarray | None = None


class SegmenterSession(Protocol):
    """One video being tracked. Objects are independent of each other: adding one changes no other's masks.

    The order is: forward over all frames, then backward; an object is stepped forward from the frame after its prompt,
    and backward from the frame before it.
    """

    def add(self, object_id: int, prompt: Prompt) -> ObjectFrame:
        """Begin an object, at any time of the forward sweep; the answer is its frame of the prompt."""
        ...

    def step(self, object_id: int, frame: int, *, reverse: bool = False) -> ObjectFrame:
        """The object in the next frame of a sweep."""
        ...

    def remove(self, object_id: int) -> None:
        """Forget an object."""
        ...

    def close(self) -> None:
        """Free what the session holds."""
        ...


class VideoSegmenter(Protocol):
    """Follows objects through a video."""

    @property
    def info(self) -> ModelInfo: ...

    def open(self, frames: FrameSource) -> SegmenterSession:
        """A session on this video; frames are read when they are stepped to."""
        ...


Cardinality = Literal["one", "k", "many", "unknown"]


@dataclass(frozen=True)
class Parsed:
    """What a sentence asks for.

    noun         head noun of what is meant; hypernym  a broader noun to detect as well, or None
    cardinality  one, exactly `k`, many ("all the dogs"), or unknown
    negated      the sentence says what the referent is not; motion  it speaks of a movement
    attributes   words by kind, such as {"colour": ("red",), "side": ("left",)}
    """

    text: str
    noun: str
    hypernym: str | None = None
    cardinality: Cardinality = "one"
    k: int | None = None
    negated: bool = False
    motion: bool = False
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def nouns(self) -> tuple[str, ...]:
        """What to ask a detector for."""
        return (self.noun,) if self.hypernym in (None, self.noun) else (self.noun, str(self.hypernym))


class ExpressionParser(Protocol):
    """Understands a sentence as far as the teacher needs it."""

    @property
    def info(self) -> ModelInfo: ...

    def parse(self, text: str) -> Parsed: ...


@dataclass(frozen=True)
class TrackView:
    """One track as a matcher sees it.

    index        its number in the track store
    noun_scores  best detector score of each noun that proposed it
    boxes_T4     float xyxy, NaN where absent; presence_T  0..1
    mask         frame -> bool [H, W]
    """

    index: int
    noun_scores: Mapping[str, float]
    boxes_T4: np.ndarray
    presence_T: np.ndarray
    mask: Callable[[int], np.ndarray]


@dataclass(frozen=True)
class MatchScores:
    """scores_ENF in 0..1, NaN = not judged; absent_E: chance that the sentence has no referent, NaN = not judged."""

    scores_ENF: np.ndarray
    absent_E: np.ndarray


@dataclass(frozen=True)
class Question:
    """What a matcher is shown of one video: F frames by their numbers, N tracks, and E sentences."""

    video_id: str
    images: Mapping[int, np.ndarray]
    tracks: Sequence[TrackView]
    expressions: Sequence[Parsed]

    @property
    def seen_NF(self) -> np.ndarray:
        """Which track is seen in which frame, bool."""
        seen = [[track.presence_T[frame] > 0 for frame in self.images] for track in self.tracks]
        return np.array(seen, bool).reshape(len(self.tracks), len(self.images))

    def unjudged(self) -> MatchScores:
        """NaN everywhere, in arrays of their own, which a matcher fills as far as it can judge."""
        sentences = len(self.expressions)
        scores_ENF = np.full((sentences, len(self.tracks), len(self.images)), np.nan)
        return MatchScores(scores_ENF, np.full(sentences, np.nan))


class Matcher(Protocol):
    """Scores sentences against tracks. It never leaves a track out: deciding is the resolver's."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def sees_motion(self) -> bool:
        """Whether several frames are judged together, so that a movement can count."""
        ...

    def score(self, question: Question) -> MatchScores:
        """Scores of the question's sentences, tracks and frames, in its orders."""
        ...
