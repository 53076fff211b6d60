"""Following everything a detector finds through a video: one sweep forward, in which detections are joined to what is
already followed, and one back, in which each object is traced to where it began.

In a key frame every detection is first segmented on its own. Those that fit an object being followed confirm it, one to
one; those that are part of one are dropped; the others begin new objects in the same session. An object that the
detector misses is followed on, and nothing already decided changes, so ids never do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from datasets.tracks import PromptKind, TrackPrompt, Vote
from models.teacher.detect.boxes import Candidate
from models.teacher.interfaces import ObjectFrame, Prompt, SegmenterSession, VideoSegmenter
from models.teacher.overlap import assign, overlaps
from util import rle
from util.errors import InputError
from util.types import FrameSource

Candidates = Callable[[int], Sequence[Candidate]]  # what was found in a frame; nothing where it is no key frame


@dataclass(frozen=True)
class SweepConfig:
    """begin  least score of a detection that begins an object; all confirm.
    join  least IoU of a detection's mask with that of the object it confirms.
    part  share of the smaller mask inside the other from which a detection of the same noun is part of an object.
    per_noun, most  objects of one noun, and of a video; the most certain of a frame come first.
    give_up  frames after which a sweep leaves an object it does not see; None: never, so that all re-entries are found.
    backward  whether objects are traced back to where they began; if not, the frames before were not tracked.
    """

    begin: float = 0.35
    join: float = 0.5
    part: float = 0.8
    per_noun: int = 16
    most: int = 48
    give_up: int | None = None
    backward: bool = True

    def __post_init__(self) -> None:
        if not (0 <= self.begin <= 1 and 0 < self.join <= 1 and 0 < self.part <= 1):
            raise InputError("begin, join and part of the sweep are shares: above 0 and up to 1")
        if min(self.per_noun, self.most, self.give_up or 1) < 1:
            raise InputError("per_noun, most and give_up of the sweep are at least 1")


@dataclass(frozen=True)
class Seen:
    """An object in one frame, small enough to keep: the mask as runs, None where it is empty."""

    runs: rle.RLE | None
    area: int
    box: tuple[int, int, int, int] | None
    object_score: float
    predicted_iou: float
    stability: float
    pointer_D: np.ndarray | None


@dataclass
class Followed:
    """An object: what began it, the detections that confirmed it, and what was seen of it in which frame.

    number  its id in the session
    """

    number: int
    prompt: TrackPrompt
    nouns: frozenset[str]
    votes: list[Vote] = field(default_factory=list)
    seen: dict[int, Seen] = field(default_factory=dict)

    def lost(self, frame: int, step: int, give_up: int | None) -> bool:
        """Whether the frames before `frame`, in the direction of `step`, were long enough without it."""
        if give_up is None:
            return False
        before = [self.seen.get(frame - step * back) for back in range(1, give_up + 1)]
        return all(seen is None or not seen.area for seen in before)


def follow(
    frames: FrameSource,
    candidates: Candidates,
    segmenter: VideoSegmenter,
    config: SweepConfig,
    *,
    prompts: Sequence[Prompt] = (),
    tick: Callable[[], None] = lambda: None,
) -> list[Followed]:
    """Everything that detections or `prompts` begin, in the order in which it began, seen in every frame of the video.

    Prompts given by hand begin objects whatever is there already. `tick` is called after each frame of either sweep.
    """
    session = segmenter.open(frames)
    try:
        forward = ForwardSweep(session, config)
        for frame in range(len(frames)):
            forward.push(frame, candidates(frame), [prompt for prompt in prompts if prompt.frame == frame])
            tick()
        for frame in range(len(frames) - 1, -1, -1) if config.backward else ():
            _step(session, forward.objects, frame, -1, config)
            tick()
        return forward.objects
    finally:
        session.close()


class ForwardSweep:
    """The sweep forward, a frame at a time. `objects`: those begun so far and not taken out by the caller."""

    def __init__(self, session: SegmenterSession, config: SweepConfig) -> None:
        self.objects: list[Followed] = []
        self._session, self._config = session, config
        self._joining = _Joining(session, self.objects, config)

    def push(self, frame: int, found: Sequence[Candidate], prompts: Sequence[Prompt] = ()) -> dict[int, np.ndarray]:
        """Go on to the next frame, in which a detector found these; gives the masks, by place, of what is seen."""
        live = _step(self._session, self.objects, frame, 1, self._config)
        for prompt in prompts:
            self._joining.begin_by_hand(prompt, live)
        self._joining.join(frame, found, live)
        return live


def _step(
    session: SegmenterSession, objects: Sequence[Followed], frame: int, step: int, config: SweepConfig
) -> dict[int, np.ndarray]:
    """Go on to `frame` with every object that this direction has not left; gives the masks, by place, where any."""
    live = {}
    for place, followed in enumerate(objects):
        ahead = (frame - followed.prompt.frame) * step
        unbroken = ahead == 1 or frame - step in followed.seen
        if ahead < 1 or not unbroken or followed.lost(frame, step, config.give_up):
            continue
        found = session.step(followed.number, frame, reverse=step < 0)
        followed.seen[frame] = keep(found)
        if followed.seen[frame].area:
            live[place] = found.mask_HW
    return live


class _Joining:
    """Deciding in a key frame what each detection is."""

    def __init__(self, session: SegmenterSession, objects: list[Followed], config: SweepConfig) -> None:
        self._session, self._objects, self._config = session, objects, config
        self._next = 0  # id in the session of what is prompted next

    def begin_by_hand(self, prompt: Prompt, live: dict[int, np.ndarray]) -> None:
        """Begin an object and add it to `live`, whatever is there already."""
        kind: PromptKind = "mask" if prompt.mask_HW is not None else "box" if prompt.box is not None else "point"
        runs = rle.encode(prompt.mask_HW) if prompt.mask_HW is not None else None
        number, found = self._prompt(prompt)
        told = TrackPrompt(prompt.frame, kind, prompt.box, prompt.points, runs)
        self._objects.append(Followed(number, _measured(told, found), frozenset(), [], {prompt.frame: keep(found)}))
        live[len(self._objects) - 1] = found.mask_HW

    def join(self, frame: int, candidates: Sequence[Candidate], live: dict[int, np.ndarray]) -> None:
        """Confirm, drop or begin; what begins is added to `live`, the masks of the objects in this frame by place."""
        tried = [(c, *self._prompt(Prompt(frame, box=c.best.box))) for c in candidates]
        masks = [found.mask_HW for _, _, found in tried]
        places = list(live)
        ious_NM, parts_NM = overlaps(masks, list(live.values()))
        confirmed = dict(assign(ious_NM, self._config.join))
        for row, (candidate, number, found) in enumerate(tried):
            inside = {places[column] for column in np.flatnonzero(parts_NM[row] >= self._config.part)}
            if row in confirmed:
                place = places[confirmed[row]]
                self._objects[place].votes += _votes(frame, candidate, float(ious_NM[row, confirmed[row]]))
            elif found.mask_HW.any() and not self._is_part(candidate, inside) and self._may_begin(candidate):
                self._objects.append(_begun(frame, candidate, number, found))
                places.append(len(self._objects) - 1)
                live[places[-1]] = found.mask_HW
                # what comes after it in this frame may be part of it
                parts_NM = np.concatenate([parts_NM, overlaps(masks, [found.mask_HW])[1]], axis=1)
                continue
            self._session.remove(number)

    def _prompt(self, prompt: Prompt) -> tuple[int, ObjectFrame]:
        self._next += 1
        return self._next, self._session.add(self._next, prompt)

    def _is_part(self, candidate: Candidate, inside: set[int]) -> bool:
        return any(self._objects[place].nouns & set(candidate.noun_scores) for place in inside)

    def _may_begin(self, candidate: Candidate) -> bool:
        same = sum(followed.prompt.noun == candidate.best.noun for followed in self._objects)
        full = len(self._objects) >= self._config.most or same >= self._config.per_noun
        return candidate.best.score >= self._config.begin and not full


def _begun(frame: int, candidate: Candidate, number: int, found: ObjectFrame) -> Followed:
    best = candidate.best
    prompt = TrackPrompt(frame, "box", best.box, noun=best.noun, phrase=best.phrase, det_score=best.score)
    nouns = frozenset(candidate.noun_scores)
    return Followed(number, _measured(prompt, found), nouns, _votes(frame, candidate, 1.0), {frame: keep(found)})


def _votes(frame: int, candidate: Candidate, iou: float) -> list[Vote]:
    phrase, scores = candidate.best.phrase, sorted(candidate.noun_scores.items())
    return [Vote(frame, noun, phrase, score, round(iou, 6)) for noun, score in scores]


def keep(found: ObjectFrame) -> Seen:
    """What is remembered of an object in a frame."""
    mask_HW = found.mask_HW
    area = int(mask_HW.sum())
    box = None
    if area:
        rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    runs = rle.encode(mask_HW) if area else None
    return Seen(runs, area, box, found.object_score, found.predicted_iou, found.stability, found.pointer_D)


def _measured(prompt: TrackPrompt, found: ObjectFrame) -> TrackPrompt:
    """The prompt with the stability and the area of the mask that it gave, as JSON can hold them."""
    stability = None if np.isnan(found.stability) else round(float(found.stability), 6)
    return replace(prompt, stability=stability, area=round(float(found.mask_HW.mean()), 9))
