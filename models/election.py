"""Which of several keys: each is tracked through the video, and the sentence is asked of the tracks.

A frame by itself may well be sure of the wrong thing. The first candidate is the best-scoring frame. The next begins at
the best frame whose own answer no track so far agrees with, so that a video whose frames are of one mind is tracked
once. A network that chooses among tracks (`choice.py`) decides in the windows of the first pass; where it has not
learned to, all frames vote for the track they agree with, for most are seldom wrong about the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from models.inference import Inference
from models.propagation import Key, propagate
from models.soft_masks import SoftMasks
from models.windows import FeatureCache, select_text
from util import rle

EXPLAINED = 0.5  # agreement from which a track accounts for what a frame says by itself


@dataclass(frozen=True)
class FirstPass:
    """What pass 1 says of each sentence and frame: frame score and presence, [E, T]."""

    scores_ET: np.ndarray
    presence_ET: np.ndarray


@dataclass(frozen=True)
class Candidate:
    """One sentence tracked from one key: masks [T], presence and agreement with the first pass [T], 0..1."""

    key: Key
    masks: list[rle.RLE]
    presence_T: np.ndarray
    agreement_T: np.ndarray


@dataclass(frozen=True)
class Elected:
    """The tracks that were chosen: masks [E][T], presence [E, T], key frames [E], -1 for a sentence without."""

    masks: list[list[rle.RLE]]
    presence_ET: np.ndarray
    key_E: np.ndarray


def elect(
    inference: Inference, cache: FeatureCache, sentences: Sequence[str], first: FirstPass, given: Mapping[int, Key],
    report: Callable[[int], None], soft: SoftMasks | None = None,
) -> Elected:  # fmt: skip
    """Track each sentence from up to `config.keys` keys, and keep what it is said of, the first of equals.

    Keys that are `given` stand. `report` and `soft` are `propagate`'s; what further keys take is not counted, and what
    stands behind the masks is kept of the elected tracks alone, which are then walked once more.
    """
    below = inference.presence_below
    keys = [given.get(e) or choose_key(first, e, below) for e in range(len(sentences))]
    several = inference.config.keys > 1
    tracks = propagate(inference, cache, sentences, keys, report, None if several else soft)
    tried = [
        [] if key is None else [Candidate(key, tracks.masks[e], tracks.presence_ET[e], tracks.agreement_ET[e])]
        for e, key in enumerate(keys)
    ]
    for _ in range(inference.config.keys - 1):
        more = [
            None if e in given or not candidates else next_key(first, e, below, candidates)
            for e, candidates in enumerate(tried)
        ]
        if all(key is None for key in more):
            break
        again = propagate(inference, cache, sentences, more, lambda count: None)
        for e, key in enumerate(more):
            if key is not None:
                tried[e].append(Candidate(key, again.masks[e], again.presence_ET[e], again.agreement_ET[e]))
    for e, candidates in enumerate(tried):
        if len(candidates) > 1:
            asked = inference.segmenter.choice is not None
            scores = chances(cache, e, candidates) if asked else [votes(first, e, below, one) for one in candidates]
            best = candidates[int(np.argmax(scores))]
            keys[e], tracks.masks[e], tracks.presence_ET[e] = best.key, best.masks, best.presence_T
    if several and soft is not None:
        propagate(inference, cache, sentences, keys, lambda count: None, soft)
    key_E = np.array([-1 if key is None else key.frame for key in keys])
    return Elected(tracks.masks, tracks.presence_ET, key_E)


def choose_key(first: FirstPass, sentence: int, presence_below: float) -> Key | None:
    """The best-scoring frame in which the referent is present, the earliest of equals; None when there is none."""
    return _best(first, sentence, first.presence_ET[sentence] >= presence_below)


def next_key(first: FirstPass, sentence: int, presence_below: float, tried: Sequence[Candidate]) -> Key | None:
    """The best-scoring frame whose answer none of these tracks explains; None when all are explained."""
    explained_T = np.max([candidate.agreement_T for candidate in tried], axis=0) >= EXPLAINED
    return _best(first, sentence, (first.presence_ET[sentence] >= presence_below) & ~explained_T)


def votes(first: FirstPass, sentence: int, presence_below: float, candidate: Candidate) -> float:
    """Sum of the frames' agreement with the track, weighted by their scores; frames that see nothing do not vote."""
    voting_T = first.presence_ET[sentence] >= presence_below
    return float((candidate.agreement_T * first.scores_ET[sentence])[voting_T].sum())


def chances(cache: FeatureCache, sentence: int, candidates: Sequence[Candidate]) -> list[float]:
    """Logarithm of each track's chance to be what the sentence means, summed over the windows of the video."""
    inference = cache.inference
    text = select_text(cache.text, [sentence])
    total_K = torch.zeros(len(candidates))
    for window, video in cache.windows():
        masks = np.stack([[rle.decode(candidate.masks[frame]) for frame in window] for candidate in candidates])
        masks_KTHW = F.interpolate(torch.from_numpy(masks).float().to(inference.device), inference.canvas, mode="area")
        total_K += inference.segmenter.choose(video, text, masks_KTHW[None])[0, 0].float().log_softmax(-1).cpu()
    return total_K.tolist()


def _best(first: FirstPass, sentence: int, among_T: np.ndarray) -> Key | None:
    if not among_T.any():
        return None
    return Key(int(np.where(among_T, first.scores_ET[sentence], -np.inf).argmax()))
