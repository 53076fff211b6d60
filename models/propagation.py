"""Tracking from frame to frame: the state of one sentence, the rule that moves it on, and the walk out from the key.

Four things can happen to a sentence in a frame, and where they disagree the first that applies wins:
1. The frame is its key: the mask is the first pass's, or the one that was given.
2. It is tracked: the network, told the last good mask, finds the referent present, also on average with the first pass,
   which a mask that went astray does not mislead (but a mask that was given is believed). Where the first pass would
   see the referent is not asked, so a look-alike elsewhere cannot take over while the referent is in sight.
3. It is lost: not found, and the last good mask is `patience` frames old or less. The frame is predicted empty, and the
   same mask is tried again on the next one; the first pass is not asked either, since a referent that was hidden for a
   moment is better continued than looked for.
4. It is looked for: the first pass's answer is taken if it finds the referent present, and tracked from there; else
   the frame is predicted empty.
In a stream, 2 has an exception, see `_better_key`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.inference import Answer, Inference, overlap
from models.soft_masks import SoftMasks
from models.windows import Block, FeatureCache, join, join_text, select_text, take
from util import rle
from util.types import ExpressionFeatures, TextFeatures


@dataclass(frozen=True)
class Key:
    """Where a sentence is tracked from: a frame's index, and its mask bool [H, W] or None for the first pass's."""

    frame: int
    mask_HW: np.ndarray | None = None


@dataclass(frozen=True)
class Reference:
    """The last good frame: its features with this sentence (E = T = 1), its mask 0..1, its pixels [3, H, W]."""

    frame: int
    features: ExpressionFeatures
    mask_hw: Tensor
    pixels_CHW: Tensor


@dataclass
class SentenceState:
    """All that is remembered of one sentence between two frames.

    given      whether tracking began from a mask that was given
    missed     frames since the referent was last found
    key_score  frame score of the frame that tracking began from (streams)
    recent     features of the last frames, for the first pass of a stream, which sees only the past
    previous   the first pass's last mask logits [h, w], for the frame score "stability" in a stream
    """

    sentence: str
    text: TextFeatures
    reference: Reference | None = None
    given: bool = False
    missed: int = 0
    key_score: float = 0.0
    recent: deque[ExpressionFeatures] = field(default_factory=deque)
    previous: Tensor | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a sentence in a frame: the finished mask bool [H, W], the presence behind it, and its origin.

    `logits_hw` is the mask before it was finished; None where there is none, or the mask was given. `agreement` is its
    overlap with what the first pass says here, 0..1, measured where several keys are tried.
    """

    mask_HW: np.ndarray
    presence: float
    origin: Literal["key", "tracked", "found", "absent"]
    logits_hw: Tensor | None = None
    agreement: float = 1.0


@dataclass(frozen=True)
class Tracks:
    """E sentences tracked through a video: masks [E][T], presence and agreement with the first pass [E, T], 0..1."""

    masks: list[list[rle.RLE]]
    presence_ET: np.ndarray
    agreement_ET: np.ndarray


def start(
    inference: Inference, state: SentenceState, now: ExpressionFeatures, pixels_CHW: Tensor, frame: int,
    answer: Answer, mask_HW: np.ndarray | None = None,
) -> Outcome:  # fmt: skip
    """Track from this frame on: from the first pass's answer, or from a given mask bool [H, W]."""
    given = mask_HW is not None
    finished = mask_HW if mask_HW is not None else inference.finish(answer.logits_hw[None])[0]
    soft = inference.as_reference(finished) if given else inference.handed_on(answer.logits_hw, finished)
    state.missed, state.given = 0, given
    state.reference = Reference(frame, now, soft, pixels_CHW.clone()) if inference.tracks else None
    if given:
        return Outcome(finished, 1.0, "key")
    return Outcome(finished, answer.presence, "key", answer.logits_hw)


def advance(
    inference: Inference, states: Sequence[SentenceState], now: ExpressionFeatures, first: Sequence[Answer],
    pixels_CHW: Tensor, frame: int, *, scores: Sequence[float] | None = None,
) -> list[Outcome]:  # fmt: skip
    """One frame on for every state. `now` holds its features with each sentence (T = 1), `first` the answers without
    tracking, `scores` their frame scores in a stream (None: the key was chosen with the whole video in view).
    """
    tracked = {
        n: replace(answer, presence=agreed_presence(answer.presence, first[n].presence, given=states[n].given))
        for n, answer in _track(inference, states, now).items()
    }
    chosen = [
        _follow(inference, states[n], tracked.get(n), first[n], None if scores is None else scores[n])
        for n in range(len(states))
    ]
    found = [answer.logits_hw for answer, _ in chosen if answer is not None]
    finished = iter(inference.finish(torch.stack(found)) if found else ())
    agreement = _agreement(inference, [answer for answer, _ in chosen], first)
    outcomes = []
    for n, (answer, origin) in enumerate(chosen):
        if answer is None:
            presence = (tracked.get(n) or first[n]).presence
            outcomes.append(Outcome(np.zeros(inference.source, bool), presence, origin, agreement=0.0))
            continue
        mask_HW = next(finished)
        states[n].missed = 0
        states[n].given &= origin == "tracked"
        if inference.tracks:
            soft = inference.handed_on(answer.logits_hw, mask_HW)
            states[n].reference = Reference(frame, take(now, [n], [0]), soft, pixels_CHW.clone())
        outcomes.append(Outcome(mask_HW, answer.presence, origin, answer.logits_hw, agreement[n]))
    return outcomes


def _agreement(inference: Inference, chosen: Sequence[Answer | None], first: Sequence[Answer]) -> dict[int, float]:
    """Overlap of each chosen mask with the first pass's; 1 for all where nobody asks (one copy from the device)."""
    pairs = {n: (answer, first[n]) for n, answer in enumerate(chosen) if answer is not None}
    if inference.config.keys == 1 or not pairs:
        return dict.fromkeys(pairs, 1.0)
    ours, theirs = (torch.stack([pair[side].logits_hw for pair in pairs.values()]) for side in (0, 1))
    return dict(zip(pairs, overlap(ours, theirs, inference.config.threshold).tolist(), strict=True))


def _track(inference: Inference, states: Sequence[SentenceState], now: ExpressionFeatures) -> dict[int, Answer]:
    """The answers of the sentences that have a reference, one decode for all that share its frame."""
    groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for n, state in enumerate(states):
        if state.reference is not None:
            # given masks are finer than predicted ones
            groups.setdefault((state.reference.frame, tuple(state.reference.mask_hw.shape)), []).append(n)
    network = inference.segmenter
    answers = {}
    for group in groups.values():
        references = [reference for n in group if (reference := states[n].reference) is not None]
        memory = network.track(
            join([reference.features for reference in references], "expressions"),
            torch.stack([reference.mask_hw for reference in references])[None, :, None],
            torch.ones(1, len(group), 1, dtype=torch.bool, device=inference.device),
            frames_BTCHW=references[0].pixels_CHW[None, None],
            text=join_text([states[n].text for n in group]),
        )
        read = inference.read(network.decode(take(now, group, [0]), memory))
        answers.update({n: read.at(row, 0) for row, n in enumerate(group)})
    return answers


def _follow(
    inference: Inference, state: SentenceState, tracked: Answer | None, first: Answer, score: float | None
) -> tuple[Answer | None, Literal["tracked", "found", "absent"]]:
    """Rules 2 to 4 of this file's docstring for one sentence; counts what it misses, and gives up its reference."""
    below = inference.presence_below
    if tracked is not None and tracked.presence >= below:
        if score is None or not _better_key(inference, state, tracked, first, score):
            return tracked, "tracked"
        return first, "found"
    if state.reference is not None:
        state.missed += 1
        if state.missed <= inference.config.patience:
            return None, "absent"
        state.reference = None
    if first.presence < below:
        return None, "absent"
    state.key_score = score or 0.0
    return first, "found"


def agreed_presence(tracked: float, first: float, *, given: bool) -> float:
    """Presence of what is tracked, of which the first pass may make one doubt, but not convince one; 0..1 all."""
    return tracked if given else min(tracked, (tracked + first) / 2)


def _better_key(inference: Inference, state: SentenceState, tracked: Answer, first: Answer, score: float) -> bool:
    """Whether a stream's tracked mask gives way to the first pass's: it scores clearly above the key, and differs.

    A stream takes its key from the frames it has seen; a clearly better frame can show that it was the wrong object.
    """
    if first.presence < inference.presence_below or score < state.key_score + inference.config.rekey_margin:
        return False
    state.key_score = score
    return float(overlap(tracked.logits_hw, first.logits_hw, inference.config.threshold)) < 0.5


def propagate(
    inference: Inference, cache: FeatureCache, sentences: Sequence[str], keys: Sequence[Key | None],
    report: Callable[[int], None], soft: SoftMasks | None = None,
) -> Tracks:  # fmt: skip
    """Walk from each sentence's key to the end, then to the beginning.

    A sentence without a key (None) is absent everywhere. Under the protocol `skipped`, the frames next to the key keep
    their first-pass mask and are not tracked from (spec 2.6). `report` is told of finished masks, a few at a time;
    `soft` keeps what stands behind them.
    """
    frames = len(cache.frames)
    nothing = rle.encode(np.zeros(inference.source, bool))
    masks_ET = [[nothing] * frames for _ in sentences]
    presence_ET, agreement_ET = (np.zeros((len(sentences), frames), np.float32) for _ in range(2))
    for direction in (1, -1):
        for e, frame, outcome in _walk(inference, cache, sentences, keys, direction):
            if outcome.mask_HW.any():
                masks_ET[e][frame] = rle.encode(outcome.mask_HW)
            if soft is not None and outcome.logits_hw is not None:
                soft.keep(e, frame, outcome.logits_hw)
            presence_ET[e, frame], agreement_ET[e, frame] = outcome.presence, outcome.agreement
            report(1)
    report(frames * sum(key is None for key in keys))
    return Tracks(masks_ET, presence_ET, agreement_ET)


def _walk(
    inference: Inference, cache: FeatureCache, sentences: Sequence[str], keys: Sequence[Key | None], direction: int
) -> Iterator[tuple[int, int, Outcome]]:
    """(sentence, frame, outcome) in one direction of time; the key frames themselves come with the first."""
    states: dict[int, SentenceState] = {}
    skips = inference.protocol.track_adjacent == "skipped"
    for block in cache.blocks[::direction]:
        far_end = block[-1] if direction > 0 else block[0]
        begun = [e for e, key in enumerate(keys) if key is not None and direction * (far_end - key.frame) >= 0]
        for chunk in cache.chunks(block, begun):
            seen = cache.read(block, chunk)
            for frame in block[::direction]:
                moving = []
                for e in chunk:
                    key = keys[e]
                    assert key is not None  # begun holds no other
                    steps = direction * (frame - key.frame)
                    if steps == 0:
                        states[e] = SentenceState(sentences[e], select_text(cache.text, [e]))
                        outcome = _start_from_key(inference, seen, states[e], e, key)
                        if direction > 0:
                            yield e, frame, outcome
                    elif steps == 1 and skips:
                        yield e, frame, _first_pass(inference, seen.answer(frame, e))
                    elif steps > 0:
                        moving.append(e)
                if moving:
                    now, first = seen.features(frame, moving), [seen.answer(frame, e) for e in moving]
                    outcomes = advance(inference, [states[e] for e in moving], now, first, seen.pixels(frame), frame)
                    yield from ((e, frame, outcome) for e, outcome in zip(moving, outcomes, strict=True))


def _start_from_key(inference: Inference, seen: Block, state: SentenceState, sentence: int, key: Key) -> Outcome:
    now = seen.features(key.frame, [sentence])
    first = seen.answer(key.frame, sentence)
    return start(inference, state, now, seen.pixels(key.frame), key.frame, first, key.mask_HW)


def _first_pass(inference: Inference, answer: Answer) -> Outcome:
    return Outcome(inference.finish(answer.logits_hw[None])[0], answer.presence, "found", answer.logits_hw)
