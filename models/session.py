"""A stream of frames, segmented one at a time: `step(frame)` sees no future frame, and remembers a bounded past.

    session = VideoSession(segmenter)
    car = session.add_sentence("the red car")
    for frame in camera:                     # uint8 [H, W, 3], RGB, all of one size
        mask = session.step(frame)[car]      # bool [H, W]; all False while the car is not in sight

Each frame is encoded once: alone, or beside an earlier one where the network reads motion. Its features are kept for
`window` frames, which the network reads together when it looks for a referent. A sentence is tracked from the first
frame in which its referent is found, and anew from a later one that is clearly better and disagrees (`propagation.py`).
"""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from torch import Tensor

from models.inference import Answer, Inference, InferenceConfig, clean_sentences, evaluating, overlap, resolve
from models.propagation import Outcome, SentenceState, advance
from models.segmenter import Segmenter
from models.windows import join, join_text, take
from util.errors import InputError
from util.types import VideoFeatures


class VideoSession:
    """Sentences can be added and removed between any two frames; one that is added sees only the frames after."""

    def __init__(self, segmenter: Segmenter, config: InferenceConfig | None = None, *, fps: float = 25.0) -> None:
        """`fps` numbers the seconds of frames that come without a time. Raises InputError for impossible settings."""
        if fps <= 0:
            raise InputError(f"a stream's rate is {fps} frames a second; it must be above 0")
        self.segmenter = segmenter
        if config is not None and config.mode == "clip":
            raise InputError("clip mode reads whole videos; leave the mode out for a stream")
        self.config = resolve(config or InferenceConfig(), segmenter.config)
        self.fps = fps
        self.frames_seen = 0
        self.outcomes: dict[int, Outcome] = {}
        self._states: dict[int, SentenceState] = {}
        self._next_id = 0
        self._inference: Inference | None = None
        self._time: float | None = None
        self._before: deque[tuple[Tensor, float]] = deque(maxlen=self.config.spread + 1)

    @property
    def sentences(self) -> dict[int, str]:
        """The sentences looked for, by id."""
        return {id_: state.sentence for id_, state in self._states.items()}

    def add_sentence(self, text: str) -> int:
        """Look for this from the next frame on; returns its id. Raises InputError for an empty or too long sentence."""
        (cleaned,) = clean_sentences([text], self.segmenter.config.protocol.eval_text)
        with evaluating(self.segmenter):
            features = self.segmenter.encode_text([[cleaned]])
        self._next_id += 1
        self._states[self._next_id] = SentenceState(text, features, recent=deque(maxlen=self._span))
        return self._next_id

    def remove_sentence(self, id_: int) -> None:
        """Forget a sentence. Raises InputError for an id that is not in use."""
        if id_ not in self._states:
            raise InputError(f"no sentence has the id {id_}; in use: {sorted(self._states) or 'none'}")
        del self._states[id_]
        self.outcomes.pop(id_, None)

    def step(self, frame: np.ndarray, time: float | None = None) -> dict[int, np.ndarray]:
        """The mask bool [H, W] of every sentence in this frame, by id; `outcomes` says more (presence, origin).

        frame: uint8 [H, W, 3] RGB; time: seconds, by default from `fps`. Raises InputError for a frame of another size
        or type than the first, and for a time that does not lie after the last one's.
        """
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise InputError(f"a frame is {frame.dtype} {frame.shape}; it must be uint8 (height, width, 3), RGB")
        time = self._checked_time(time)
        if self._inference is None:
            self._inference = Inference(self.segmenter, self.config, frame.shape[:2])
        with evaluating(self.segmenter):
            found = self._read(self._inference, frame, time) if self._states else []
        self.outcomes = dict(zip(self._states, found, strict=True))
        self.frames_seen += 1
        self._time = time
        return {id_: outcome.mask_HW for id_, outcome in self.outcomes.items()}

    @property
    def _span(self) -> int:
        """Frames between the first and the last of a window, both counted."""
        return (self.config.window - 1) * self.config.spread + 1

    def _checked_time(self, time: float | None) -> float:
        if time is None:
            return self.frames_seen / self.fps if self._time is None else self._time + 1 / self.fps
        if self._time is not None and time <= self._time:
            raise InputError(f"a frame at {time} s follows one at {self._time} s; give rising times, or none")
        return time

    def _read(self, inference: Inference, frame: np.ndarray, time: float) -> list[Outcome]:
        """Encode the frame alone with every sentence, ask the first pass, and move every state on."""
        states = list(self._states.values())
        pixels = inference.pixels([frame])
        video = self._encode(inference, pixels, time)
        now = self.segmenter.encode_expressions(video, join_text([state.text for state in states]))
        for n, state in enumerate(states):
            state.recent.append(take(now, [n], [0]))
        first = self._first_pass(inference, states)
        scores = [self._score(inference, state, answer) for state, answer in zip(states, first, strict=True)]
        return advance(inference, states, now, first, pixels[0, 0], self.frames_seen, scores=scores)

    def _encode(self, inference: Inference, pixels: Tensor, time: float) -> VideoFeatures:
        """The frame's features (T = 1); motion is read against the frame `spread` before it, as in a window."""
        if not self.segmenter.config.motion:
            return self.segmenter.encode_video(pixels, torch.tensor([[time]], device=inference.device))
        self._before.append((pixels, time))
        clip = [self._before[0], self._before[-1]] if len(self._before) > 1 else [self._before[0]]
        times = torch.tensor([[then for _, then in clip]], device=inference.device)
        video = self.segmenter.encode_video(torch.cat([shown for shown, _ in clip], 1), times)
        return video.gather_frames(torch.tensor([[len(clip) - 1]], device=inference.device))

    def _first_pass(self, inference: Inference, states: list[SentenceState]) -> list[Answer]:
        """Without tracking: this frame as the last of each sentence's window, one decode for windows of one length."""
        windows = [list(state.recent)[::-1][:: self.config.spread][::-1] for state in states]
        lengths: dict[int, list[int]] = {}
        for n, window in enumerate(windows):
            lengths.setdefault(len(window), []).append(n)
        answers: dict[int, Answer] = {}
        for group in lengths.values():
            features = join([join(windows[n], "frames") for n in group], "expressions")
            read = inference.read(self.segmenter.decode(features))
            answers.update({n: read.at(row, -1) for row, n in enumerate(group)})
        return [answers[n] for n in range(len(states))]

    def _score(self, inference: Inference, state: SentenceState, answer: Answer) -> float:
        """The frame's score as a key; "stability" compares with the frame before, the only neighbour that is known."""
        kind = inference.config.frame_score
        score = answer.frame_score(kind)
        if kind == "stability":
            if state.previous is not None:
                score *= float(overlap(state.previous, answer.logits_hw, inference.config.threshold))
            state.previous = answer.logits_hw
        return score
