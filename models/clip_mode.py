"""ReferFormer's own inference: one forward for many frames, one query for all of them, no tracking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from models.inference import Inference, mask_confidence, query_scores
from models.soft_masks import SoftMasks
from models.windows import Window, blocks, select_text, spread_over, windows_of
from util import rle
from util.decision import decide
from util.types import FrameSource, Prediction, TextFeatures


@dataclass(frozen=True)
class _Clip:
    """What all queries say of one sentence in a forward's T frames; masks as logits, or finished and coded [T][Q]."""

    frames: Window
    scores_TQ: Tensor
    presence_TQ: Tensor
    masks: Tensor | list[list[rle.RLE]]


@dataclass
class _Chosen:
    """One sentence's finished masks, scores and presence, by frame."""

    masks: dict[int, rle.RLE] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    presence: dict[int, float] = field(default_factory=dict)


def segment_clips(
    inference: Inference, frames: FrameSource, text: TextFeatures, report: Callable[[str, int, int], None],
    soft: SoftMasks | None = None,
) -> tuple[list[list[rle.RLE]], np.ndarray, np.ndarray]:  # fmt: skip
    """Masks [E][T], score and presence of the chosen query [E, T].

    A forward holds `clip_window` frames, spread as windows are, or the whole video under the protocol `fpn_window:
    all`, and one sentence. The query is the one whose class score, averaged over the frames, is best: over those of the
    forward, or over the whole video (protocol `query_scope`), for which every query's masks are kept, run-length
    coded, until its end. (A decision for several queries takes each whose average passes; their masks are united.)
    `soft` keeps what stands behind the masks; until the query is chosen, all queries' logits are then held instead.
    """
    clips = _forwards(len(frames), inference)
    at_once = inference.protocol.query_scope == "forward" or len(clips) == 1
    sentences = range(text.sentence_BEC.shape[1])
    chosen = [_Chosen() for _ in sentences]
    waiting: list[list[_Clip]] = [[] for _ in sentences]
    done = 0
    for frames_of_clip in clips:
        pixels = inference.pixels([frames[t] for t in frames_of_clip])
        times = inference.times(frames_of_clip, frames.fps)
        video = inference.segmenter.encode_video(pixels, times)
        for e in sentences:
            read = inference.segmenter.encode_expressions(video, select_text(text, [e]))
            clip = _read(inference, frames_of_clip, inference.segmenter.decode(read))
            if at_once:
                _choose(inference, [clip], chosen[e], e, soft)
            else:
                waiting[e].append(_coded(inference, clip) if soft is None else clip)
        done += len(frames_of_clip)
        report("scoring", done, len(frames))
    for e in sentences:
        if waiting[e]:
            _choose(inference, waiting[e], chosen[e], e, soft)
    return (
        [[answer.masks[t] for t in range(len(frames))] for answer in chosen],
        np.array([[answer.scores[t] for t in range(len(frames))] for answer in chosen], np.float32),
        np.array([[answer.presence[t] for t in range(len(frames))] for answer in chosen], np.float32),
    )


def _forwards(frames: int, inference: Inference) -> list[Window]:
    """The frames of each forward."""
    if inference.protocol.fpn_window == "all":
        return [tuple(range(frames))]
    window = inference.config.clip_window
    return [
        clip
        for block in blocks(frames, window, spread_over(frames, window, inference.config))
        for clip in windows_of(block, window)
    ]


def _read(inference: Inference, frames: Window, prediction: Prediction) -> _Clip:
    """The first video's first sentence."""
    scores_TQ = query_scores(prediction)[0]
    masks_TQhw = prediction.masks_BETQhw[0, 0].float()
    confidence_TQ = mask_confidence(masks_TQhw, inference.config.threshold)
    if prediction.presence_BETQ is None:
        presence_TQ = scores_TQ * confidence_TQ
    else:
        presence_TQ = prediction.presence_BETQ[0, 0].float().sigmoid() * (confidence_TQ > 0)
    return _Clip(frames, scores_TQ, presence_TQ, masks_TQhw)


def _coded(inference: Inference, clip: _Clip) -> _Clip:
    """The same with finished, run-length coded masks: some kilobytes a frame."""
    assert isinstance(clip.masks, Tensor)
    coded = [[rle.encode(mask) for mask in inference.finish(logits)] for logits in clip.masks.unbind()]
    return _Clip(clip.frames, clip.scores_TQ, clip.presence_TQ, coded)


def _choose(inference: Inference, clips: list[_Clip], answer: _Chosen, sentence: int, soft: SoftMasks | None) -> None:
    """Decide for one query, or several, for all frames of the clips, and add them to the sentence's answer."""
    scores_TQ = torch.cat([clip.scores_TQ for clip in clips])
    presence_TQ = torch.cat([clip.presence_TQ for clip in clips])
    chosen_Q = decide(scores_TQ.mean(0), inference.config.decision).chosen_EN
    picks = chosen_Q.nonzero()[:, 0].tolist()
    presence_T = (presence_TQ * chosen_Q).amax(1).tolist()
    score_T = (scores_TQ * chosen_Q).amax(1).tolist()
    numbers = [frame for clip in clips for frame in clip.frames]
    masks = (frame for clip in clips for frame in clip.masks)
    for number, queries, score, presence in zip(numbers, masks, score_T, presence_T, strict=True):
        mask_HW: np.ndarray = np.zeros(inference.source, bool)
        if picks and presence >= inference.presence_below:
            if isinstance(queries, Tensor):
                mask_HW = inference.finish(queries[picks]).max(0)
                if soft is not None:
                    soft.keep(sentence, number, queries[picks].amax(0))
            else:
                mask_HW = np.stack([rle.decode(queries[q]) for q in picks]).max(0)
        answer.masks[number] = rle.encode(mask_HW)
        answer.scores[number] = score
        answer.presence[number] = presence
