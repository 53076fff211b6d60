"""The grid of experiments: which trainings there are, and what each row of a table makes of one of them.

A row whose settings matter only at inference names the training that it shares with others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from datasets.synthetic.scenes import Split
from util.errors import InputError

Key = Literal["network", "first", "best", "true"]
Asked = Literal["held-out", "new-words", "swapped", "shuffled", "reversed", "pairs"]

HARD: tuple[Split, ...] = ("twins", "late", "reentry", "swap", "crowd", "long")  # what the claim is averaged over

_TRUE_MASKS_ONLY = tuple(
    f"tracking.corruption.{name}=0"
    for name in ("erode", "dilate", "boundary", "drop", "wrong_object", "stale", "jitter")
)

_TIMELESS = ("model.motion=false", "model.space_time=false")
_LEARNED = ("model.pointed=false", "criterion.matched=clip")  # who a query is does not depend on the frame then
_UNFORCED = ("tracking.drop_all=1.0", "model.matching=false")  # without masks there is nothing to match


@dataclass(frozen=True)
class Training:
    """One network to train: the base config with `changes` ("key=value", as on `train`'s command line)."""

    about: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of a table.

    training   name of the training whose network is asked
    inference  fields of InferenceConfig that differ from the network's own
    key        where tracking begins: the network's choice; frame 0; the frame whose first-pass mask is truly the best;
               or the frame in which the target is largest, with its true mask
    tracking   "true": from the key that the network found, the objects under its mask are followed without error
    videos     which videos and sentences: those of the splits; the same in words and combinations that training leaves
               out; asked with the words of another sentence; or under a control of `datasets/synthetic/controls.py`
    seeds      trainings of different seeds that are run unless told otherwise
    """

    about: str
    training: str
    inference: Mapping[str, Any] = field(default_factory=dict)
    key: Key = "network"
    tracking: Literal["network", "true"] = "network"
    videos: Asked = "held-out"
    seeds: int = 1


TRAININGS: dict[str, Training] = {
    "forced": Training("tracking-forced: true masks, corrupted, on a rising schedule the network's own"),
    "unforced": Training("never told a mask: the same network without tracking-forcing", _UNFORCED),
    "teacher": Training("told true masks alone", ("tracking.self_prediction=0", *_TRUE_MASKS_ONLY)),
    "corrupted": Training("told true masks, corrupted", ("tracking.self_prediction=0",)),
    "rgb": Training("tracking stream of blacked-out pixels (TF-RVOS's)", ("model.tracking=rgb",)),
    "timeless": Training("every frame alone: neither motion nor attention over time", _TIMELESS),
    "unforced-timeless": Training("never told a mask, every frame alone: ReferFormer", (*_TIMELESS, *_UNFORCED)),
    "matchless": Training("the reference mask told to the queries alone (TF-RVOS)", ("model.matching=false",)),
    "learned": Training("queries start from learned points", _LEARNED),
    "unforced-learned": Training("never told a mask, queries start from learned points", (*_LEARNED, *_UNFORCED)),
    "presenceless": Training("without the presence head", ("model.presence=false",)),
}

ROWS: dict[str, Row] = {
    "forced": Row("key frame + tracking, tracking-forced", "forced", seeds=3),
    "clip": Row("clip mode, without tracking-forcing", "unforced", {"mode": "clip"}, seeds=3),
    "timeless": Row("key frame + tracking, tracking-forced, no time", "timeless", seeds=3),
    "clip-timeless": Row("clip mode, no time (ReferFormer)", "unforced-timeless", {"mode": "clip"}, seeds=3),
    "unforced": Row("key frame + tracking, without tracking-forcing", "unforced"),
    "forced-clip": Row("clip mode, tracking-forced", "forced", {"mode": "clip"}),
    "teacher": Row("teacher forcing alone", "teacher"),
    "corrupted": Row("teacher forcing + corruption", "corrupted"),
    "rgb": Row("stream of pixels instead of features", "rgb"),
    "matchless": Row("masks told to queries alone, not carried", "matchless"),
    "learned": Row("queries start from learned points", "learned"),
    "clip-learned": Row("the same in clip mode, without forcing", "unforced-learned", {"mode": "clip"}),
    "surest": Row("the surest frame as key, no choice", "forced", {"keys": 1}),
    "key-class": Row("the same by class score alone", "forced", {"keys": 1, "frame_score": "class"}),
    "key-stability": Row("the same by stability", "forced", {"keys": 1, "frame_score": "stability"}),
    "key-first": Row("first frame as key", "forced", key="first"),
    "key-best": Row("oracle key: best first-pass mask", "forced", key="best"),
    "true-key": Row("true mask as key, own tracking", "forced", key="true"),
    "true-tracking": Row("found key, perfect tracking", "forced", tracking="true"),
    "presenceless": Row("no presence head (score x confidence)", "presenceless"),
    "presence-ignored": Row("presence head trained, never absent", "forced", {"presence_below": 0.0}),
    "no-search": Row("lost referents are not looked for again", "forced", {"patience": 1_000_000}),
    "new-words": Row("phrasings and combinations not seen in training", "forced", videos="new-words"),
    "swapped": Row("asked another sentence of the video", "forced", videos="swapped"),
    "shuffled": Row("frames in a random order", "forced", videos="shuffled"),
    "reversed": Row("backwards, sentences that mean another thing then", "forced", videos="reversed"),
    "pairs": Row("pairs with one first frame and different answers", "forced", videos="pairs"),
}

# Tables of the report: each question compares rows with the first one it names.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "Key frame and tracking against clip mode": ("forced", "clip", "unforced", "forced-clip"),
    "Time": ("forced", "timeless", "clip", "clip-timeless"),
    "What the tracking stream is told in training": ("forced", "corrupted", "teacher", "unforced"),
    "What the tracking stream is made of": ("forced", "matchless", "rgb"),
    "Where queries start": ("forced", "learned", "clip", "clip-learned"),
    "Which frame is the key": (
        "forced", "surest", "key-class", "key-stability", "key-first", "key-best",
    ),
    "What finding loses, and what following loses": ("forced", "true-key", "true-tracking"),
    "Other words, other sentences, other orders": ("forced", "new-words", "swapped", "shuffled", "reversed", "pairs"),
    "Presence and looking again": ("forced", "presenceless", "presence-ignored", "no-search"),
}  # fmt: skip


def chosen_rows(names: Sequence[str]) -> dict[str, Row]:
    """The rows of these names, or all. Raises InputError for a name that is not in the grid."""
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise InputError(f"no row is called {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return {name: row for name, row in ROWS.items() if not names or name in names}
