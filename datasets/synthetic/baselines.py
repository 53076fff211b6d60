"""How far one gets without understanding motion, with perfect masks: what may be guessed for each sentence and frame.

Every answer consists of true masks of things, so what is lost against the truth is lost in choosing. Where a choice is
left open, all that is left is equally likely; `util/expected.py` gives what that is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from util import rle
from util.expected import Answer, Guesses

from .controls import Case, Places
from .program import ALL, SPATIAL, Placed, Program, Relation, Timing
from .verifier import Verifier

Baseline = Literal[
    "largest", "random", "static-track", "static-track-all", "single-frame", "single-frame-all", "same-answer"
]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)

# Which way each relation and each side points: axis (0: x, 1: y) and sign.
_AXES = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
_SIDES = {"left": (0, -1), "right": (0, 1), "top": (1, -1), "bottom": (1, 1)}


def guesses(case: Case, baseline: Baseline) -> Guesses:
    """Answers [E][T] that a baseline gives with equal chances to a case's sentences.

    largest: the thing of the most visible pixels over the video. random: any one thing.
    static-track: over the whole video, things that the words fit which need no time ("the circle that turns": circles),
        as many as the sentence speaks of.
    single-frame: the same, chosen in each frame anew among what is seen there, by what is seen there.
    ...-all: not some of what fits but all of it at once, which is worth more than a guess between two.
    same-answer: what is right here or in the video that this is a control of, as of one to whom both look the same.
    """
    frames = len(case.video.frames)
    everywhere: Sequence[Sequence[Answer]]
    if baseline == "largest":
        everywhere = [[(_largest(case),)]] * len(case.sentences)
    elif baseline == "random":
        everywhere = [[(id_,) for id_ in case.ids]] * len(case.sentences)
    elif baseline == "same-answer":
        everywhere = case.alike
    else:
        picked = _all_of if baseline.endswith("-all") else _some_of
        if baseline.startswith("single-frame"):
            return _by_frame(case, picked)
        everywhere = [picked(s.program, fitting(s.program, case.verifier)) for s in case.sentences]
    return [[answers] * frames for answers in everywhere]


def drawn(case: Case, baseline: Baseline, seed: int) -> list[list[rle.RLE]]:
    """Masks [E][T] of one guess of each sentence; one who answers frame by frame guesses anew in each."""
    rng = np.random.default_rng(seed)
    count, frames = len(case.sentences), len(case.video.frames)
    drawn_ET = rng.random((count, frames if baseline.startswith("single-frame") else 1))
    chance_ET = np.broadcast_to(drawn_ET, (count, frames))
    answers = guesses(case, baseline)
    assert case.video.masks is not None
    masks: list[list[rle.RLE]] = [[] for _ in answers]
    for index in range(frames):
        masks_NHW, _ = case.video.masks.read(index, case.ids)
        for e, frames_of in enumerate(answers):
            picked = frames_of[index][int(chance_ET[e, index] * len(frames_of[index]))]
            masks[e].append(rle.encode(masks_NHW[[case.ids.index(id_) for id_ in picked]].any(axis=0)))
    return masks


def fitting(program: Program, verifier: Verifier, places: Places | None = None) -> list[int]:
    """Ids of things that a program may mean as far as that needs no time, ascending.

    places: of one frame, by which it is judged where things are; nothing that is not seen there is meant. None: it is
    judged by the whole video.
    """
    plain = program.timeless()
    if places is not None:
        plain = Program(tuple(claim for claim in plain.claims if not isinstance(claim, Relation)))
    truths = verifier.truths(plain)
    ids = sorted(id_ for id_, truth in truths.items() if truth is not False and (places is None or id_ in places))
    for claim in program.claims:
        if isinstance(claim, Relation | Timing):
            ids = _beside(claim, ids, fitting(claim.other, verifier, places), places)
    for claim in program.claims:
        if isinstance(claim, Placed) and places is not None and ids:
            axis, sign = _SIDES[claim.side]
            ids = [max(ids, key=lambda id_: sign * places[id_][axis])]
    return ids


def _beside(claim: Relation | Timing, ids: list[int], others: list[int], places: Places | None) -> list[int]:
    """Which of the ids may stand in the relation, where it is known to what; not that thing itself, at least."""
    if len(others) != 1:
        return ids
    ids = [id_ for id_ in ids if id_ != others[0]]
    if places is None or not isinstance(claim, Relation) or claim.kind not in SPATIAL or claim.other.times_matter:
        return ids
    axis, sign = _AXES[claim.kind]
    return [id_ for id_ in ids if sign * (places[id_] - places[others[0]])[axis] > 0]


def _some_of(program: Program, ids: list[int]) -> list[Answer]:
    """As many of what fits as the sentence speaks of: each choice of them."""
    if program.number == ALL:
        return [tuple(ids)]
    return list(combinations(ids, min(program.number, len(ids))))


def _all_of(program: Program, ids: list[int]) -> list[Answer]:
    return [tuple(ids)]


def _by_frame(case: Case, picked: Callable[[Program, list[int]], list[Answer]]) -> Guesses:
    programs = [sentence.program for sentence in case.sentences]
    return [
        [picked(program, fitting(program, case.verifier, places)) for places in case.places] for program in programs
    ]


def _largest(case: Case) -> int:
    pixels = np.bincount(case.observed.labels_THW.ravel(), minlength=256)
    return max(case.ids, key=lambda id_: int(pixels[id_]))
