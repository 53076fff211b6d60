"""A video and sentences in, a mask per sentence and frame out: score every frame, choose a key, track from it.

Pass 1 reads the video once, in windows, and scores every frame for every sentence. The best frame is the sentence's
key. Pass 2 (`propagation.py`) walks out from it both ways. Of a frame nothing stays but scores and run-length masks,
so memory does not grow with the video. `clip_mode.py` is ReferFormer's own way, without a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from models.clip_mode import segment_clips
from models.election import FirstPass, elect
from models.inference import Inference, InferenceConfig, clean_sentences, evaluating, overlap
from models.propagation import Key
from models.segmenter import Segmenter
from models.soft_masks import SoftMasks
from models.windows import FeatureCache
from util import rle
from util.errors import InputError
from util.types import FrameSource

__all__ = ["InferenceConfig", "VideoResult", "open_video", "segment_video"]

# (stage, done, total): stage "scoring" counts frames, "tracking" masks
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class VideoResult:
    """Masks of E sentences in T frames, at the source's size.

    masks         run-length [E][T], util/rle.py
    scores_ET     frame scores of the first pass: what the key was chosen by (clip mode: the chosen query's score)
    presence_ET   0..1, what the absence of a mask was decided by
    key_E         frame that the sentence was tracked from; -1 where it was found nowhere, and in clip mode
    mode          "track" or "clip"
    """

    sentences: tuple[str, ...]
    size: tuple[int, int]
    masks: list[list[rle.RLE]]
    scores_ET: np.ndarray
    presence_ET: np.ndarray
    key_E: np.ndarray
    mode: str

    def frame_masks(self, frame: int) -> np.ndarray:
        """Masks of one frame, bool [E, H, W]."""
        return np.stack([rle.decode(masks_T[frame]) for masks_T in self.masks])


def segment_video(
    segmenter: Segmenter,
    frames: FrameSource,
    sentences: Sequence[str],
    config: InferenceConfig | None = None,
    *,
    keys: Mapping[int, tuple[int, np.ndarray | None]] | None = None,
    progress: Progress | None = None,
    soft: SoftMasks | None = None,
    cache: FeatureCache | None = None,
) -> VideoResult:
    """Segment what each sentence refers to.

    `keys` gives some sentences (by index) a key frame to track from, instead of the network's own, and its mask bool
    [H, W], or None for the first pass's mask there, whether or not the referent is found present. `progress` is called
    with (stage, done, total). `soft` is filled with the masks before the threshold. `cache`, from `open_video` with the
    same network, frames and sentences, carries what was read by earlier calls; clip mode takes only the words from it.

    Raises InputError for no frames, no or empty sentences, keys that do not fit the video, and weights that do not give
    numbers.
    """
    if len(frames) == 0:
        raise InputError("the video has no frames; give at least one")
    report = progress or (lambda stage, done, total: None)
    with evaluating(segmenter):
        inference = Inference(segmenter, config or InferenceConfig(), frames.size)
        cleaned = clean_sentences(sentences, inference.protocol.eval_text)
        if soft is not None:
            soft.begin(inference)
        given = _checked_keys(keys or {}, inference, len(frames), len(cleaned))
        text = segmenter.encode_text([cleaned]) if cache is None else cache.text
        if inference.config.mode == "clip":
            if given:
                raise InputError("clip mode tracks from no key; leave the keys out, or use mode track")
            masks, scores_ET, presence_ET = segment_clips(inference, frames, text, report, soft)
            key_E = np.full(len(cleaned), -1)
        else:
            cache = cache or FeatureCache(inference, frames, text)
            assert _read_alike(cache.inference.config, inference.config)
            first = score_frames(inference, cache, len(cleaned), report)
            elected = elect(inference, cache, cleaned, first, given, _counter("tracking", report, first), soft)
            masks, presence_ET, scores_ET = elected.masks, elected.presence_ET, first.scores_ET
            key_E = elected.key_E
    return VideoResult(tuple(sentences), frames.size, masks, scores_ET, presence_ET, key_E, str(inference.config.mode))


def open_video(
    segmenter: Segmenter, frames: FrameSource, sentences: Sequence[str], config: InferenceConfig
) -> FeatureCache:
    """What several calls of `segment_video` on one video can share: its features, read when the first call asks.

    Their configs may differ in all that is decided after the first pass has read the video: frame score, presence,
    patience. Nothing else of them may, for a reading depends on the windows and on the size.
    """
    with evaluating(segmenter):
        inference = Inference(segmenter, config, frames.size)
        text = segmenter.encode_text([clean_sentences(sentences, inference.protocol.eval_text)])
    return FeatureCache(inference, frames, text)


def _read_alike(one: InferenceConfig, other: InferenceConfig) -> bool:
    """Whether the first pass reads a video in the same way under both; both resolved."""
    decided_later = ("frame_score", "presence_below", "keys", "patience", "rekey_margin")
    free = {name: getattr(other, name) for name in decided_later}
    return replace(one, **free) == other


def score_frames(inference: Inference, cache: FeatureCache, sentences: int, report: Progress) -> FirstPass:
    """Pass 1. "stability" multiplies class x confidence with the mean overlap of the mask with its neighbours'."""
    frames = len(cache.frames)
    kind, threshold = inference.config.frame_score, inference.config.threshold
    scores_ET, presence_ET = (np.zeros((sentences, frames), np.float32) for _ in range(2))
    overlaps_ET = np.zeros((sentences, frames + 1), np.float32)  # [:, t]: of frame t with the one before it
    last: list[Tensor | None] = [None] * sentences
    for block in cache.blocks:
        for chunk in cache.chunks(block, range(sentences)):
            seen = cache.read(block, chunk)
            for e in chunk:
                for frame in block:
                    answer = seen.answer(frame, e)
                    scores_ET[e, frame], presence_ET[e, frame] = answer.frame_score(kind), answer.presence
                    if kind == "stability":
                        before, last[e] = last[e], answer.logits_hw
                        if before is not None:
                            overlaps_ET[e, frame] = float(overlap(before, answer.logits_hw, threshold))
        report("scoring", block.stop, frames)
    if kind == "stability" and frames > 1:
        neighbours = np.full(frames, 2.0)
        neighbours[[0, -1]] = 1
        scores_ET *= (overlaps_ET[:, :-1] + overlaps_ET[:, 1:]) / neighbours
    return FirstPass(scores_ET, presence_ET)


def _checked_keys(
    keys: Mapping[int, tuple[int, np.ndarray | None]], inference: Inference, frames: int, sentences: int
) -> dict[int, Key]:
    checked = {}
    for sentence, (frame, mask) in keys.items():
        if not 0 <= sentence < sentences:
            raise InputError(f"a key is given for sentence {sentence}, but there are {sentences}, counted from 0")
        if not 0 <= frame < frames:
            raise InputError(f"the key of sentence {sentence} is frame {frame}, but the video ends at {frames - 1}")
        if mask is None:
            checked[sentence] = Key(frame)
            continue
        mask_HW = np.asarray(mask)
        if mask_HW.shape != inference.source:
            raise InputError(
                f"the key mask of sentence {sentence} is {mask_HW.shape}, but frames are {inference.source}; "
                "give it at the frames' size"
            )
        checked[sentence] = Key(frame, mask_HW != 0)
    return checked


def _counter(stage: str, report: Progress, first: FirstPass) -> Callable[[int], None]:
    done, total = 0, first.scores_ET.size

    def count(more: int) -> None:
        nonlocal done
        done += more
        report(stage, done, total)

    return count
