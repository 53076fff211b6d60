"""ReferFormer's own inference: one forward for many frames, one query for all of them, no tracking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from models.inference import Inference, mask_confidence, query_scores
from models.soft_masks import SoftMasks
from models.windows import blocks, select_text
from util import rle
from util.decision import decide
from util.types import FrameSource, Prediction, TextFeatures


@dataclass(frozen=True)
class _Clip:
    """What all queries say of one sentence in a forward's T frames; masks as logits, or finished and coded [T][Q]."""

    scores_TQ: Tensor
    presence_TQ: Tensor
    masks: Tensor | list[list[rle.RLE]]


@dataclass
class _Chosen:
    """One sentence's finished masks, scores and presence, frame by frame."""

    masks: list[rle.RLE] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    presence: list[float] = field(default_factory=list)


def segment_clips(
    inference: Inference, frames: FrameSource, text: TextFeatures, report: Callable[[str, int, int], None],
    soft: SoftMasks | None = None,
) -> tuple[list[list[rle.RLE]], np.ndarray, np.ndarray]:  # fmt: skip
    """Masks [E][T], score and presence of the chosen query [E, T].

    A forward holds `clip_window` frames, or the whole video under the protocol `fpn_window: all`, and one sentence. The
    query is the one whose class score, averaged over the frames, is best: over those of the forward, or over the whole
    video (protocol `query_scope`), for which every query's masks are kept, run-length coded, until its end. (A
    decision for several queries takes each whose average passes; their masks are united.) `soft` keeps what stands
    behind the masks; until the query is chosen, all queries' logits are then held instead of their coded masks.
    """
    length = len(frames) if inference.protocol.fpn_window == "all" else inference.config.clip_window
    clips = blocks(len(frames), length, 1)
    at_once = inference.protocol.query_scope == "forward" or len(clips) == 1
    sentences = range(text.sentence_BEC.shape[1])
    chosen = [_Chosen() for _ in sentences]
    waiting: list[list[_Clip]] = [[] for _ in sentences]
    for frames_of_clip in clips:
        pixels = inference.pixels([frames[t] for t in frames_of_clip])
        times = inference.times(frames_of_clip, frames.fps)
        video = inference.segmenter.encode_video(pixels, times)
        for e in sentences:
            read = inference.segmenter.encode_expressions(video, select_text(text, [e]))
            clip = _read(inference, inference.segmenter.decode(read))
            if at_once:
                _choose(inference, [clip], chosen[e], e, soft)
            else:
                waiting[e].append(_coded(inference, clip) if soft is None else clip)
        report("scoring", frames_of_clip.stop, len(frames))
    for e in sentences:
        if waiting[e]:
            _choose(inference, waiting[e], chosen[e], e, soft)
    return (
        [answer.masks for answer in chosen],
        np.array([answer.scores for answer in chosen], np.float32),
        np.array([answer.presence for answer in chosen], np.float32),
    )


def _read(inference: Inference, prediction: Prediction) -> _Clip:
    """The first video's first sentence."""
    scores_TQ = query_scores(prediction)[0]
    masks_TQhw = prediction.masks_BETQhw[0, 0].float()
    confidence_TQ = mask_confidence(masks_TQhw, inference.config.threshold)
    if prediction.presence_BETQ is None:
        presence_TQ = scores_TQ * confidence_TQ
    else:
        presence_TQ = prediction.presence_BETQ[0, 0].float().sigmoid() * (confidence_TQ > 0)
    return _Clip(scores_TQ, presence_TQ, masks_TQhw)


def _coded(inference: Inference, clip: _Clip) -> _Clip:
    """The same with finished, run-length coded masks: some kilobytes a frame."""
    assert isinstance(clip.masks, Tensor)
    coded = [[rle.encode(mask) for mask in inference.finish(logits)] for logits in clip.masks.unbind()]
    return _Clip(clip.scores_TQ, clip.presence_TQ, coded)


def _choose(inference: Inference, clips: list[_Clip], answer: _Chosen, sentence: int, soft: SoftMasks | None) -> None:
    """Decide for one query, or several, for all frames of the clips, and add them to the sentence's answer."""
    scores_TQ = torch.cat([clip.scores_TQ for clip in clips])
    presence_TQ = torch.cat([clip.presence_TQ for clip in clips])
    chosen_Q = decide(scores_TQ.mean(0), inference.config.decision).chosen_EN
    picks = chosen_Q.nonzero()[:, 0].tolist()
    presence_T = (presence_TQ * chosen_Q).amax(1).tolist()
    masks = (frame for clip in clips for frame in clip.masks)
    for queries, presence in zip(masks, presence_T, strict=True):
        mask_HW: np.ndarray = np.zeros(inference.source, bool)
        if picks and presence >= inference.presence_below:
            if isinstance(queries, Tensor):
                mask_HW = inference.finish(queries[picks]).max(0)
                if soft is not None:
                    soft.keep(sentence, len(answer.masks), queries[picks].amax(0))
            else:
                mask_HW = np.stack([rle.decode(queries[q]) for q in picks]).max(0)
        answer.masks.append(rle.encode(mask_HW))
    answer.scores += (scores_TQ * chosen_Q).amax(1).tolist()
    answer.presence += presence_T
