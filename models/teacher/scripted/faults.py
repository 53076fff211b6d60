"""What a scripted model does wrong, how often, and how the scores it states are drawn.

The noise model, in full. Every draw comes from a hash of (seed, what, video, object or sentence, frames), so it depends
neither on the order of calls nor on any other fault's rate.

    faults  Some objects, places and sentences are harder than others: each has a rate of its own, from a Beta
            distribution with the stated mean and a concentration of `CONCENTRATION`, and errs with it in each frame on
            its own. Id swaps alone have one rate: a sweep has one chance.
    scores  A detector's are uniform in `DETECTED`, for true and false boxes alike. A segmenter's object score is
            normal, its mean the positive of `OBJECT_SCORE` where it shows anything and the negative where it does not;
            its predicted IoU and its stability are normal and know nothing of the mask. A matcher's are uniform in
            `FITTING` where the mask it looks at is what it believes the sentence to mean, else in `OTHER`.

So no score reads a fault: with it or without, the numbers are drawn alike. What gives a fault away is what it does:
frames that disagree, masks that jump, boxes that are not found again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np

from models.teacher.interfaces import ModelInfo
from util.errors import InputError

CONCENTRATION = 2.0
DETECTED = (0.55, 0.95)
OBJECT_SCORE = (5.0, 1.5)  # mean and standard deviation, logits
PREDICTED_IOU = (0.85, 0.06)
STABILITY = (0.93, 0.03)
FITTING = (0.6, 0.95)
OTHER = (0.05, 0.4)


@dataclass(frozen=True)
class Faults:
    """Rates of faults, all 0: none.

    missed         share of visible objects that a detector does not report, per frame
    jitter         standard deviation of each side of a box, in parts of its width or height
    false_boxes    boxes of nothing, in parts of the number of objects in the video, per frame
    mask_noise     share of masks that are cut, swollen or blotted
    id_swaps       share of sweeps in which a track goes over to another object
    wrong_matches  share of (sentence, frame) in which the matcher believes another object to be meant
    """

    missed: float = 0.0
    jitter: float = 0.0
    false_boxes: float = 0.0
    mask_noise: float = 0.0
    id_swaps: float = 0.0
    wrong_matches: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        rates = {name: rate for name, rate in asdict(self).items() if name != "seed"}
        for name, rate in rates.items():
            if not 0 <= rate <= 1:
                raise InputError(f"scripted faults: {name} is {rate!r}; rates are numbers from 0 to 1")

    @property
    def info(self) -> ModelInfo:
        """A scripted model's; its revision is the faults, so that answers with other faults are not taken for these."""
        kept = {name: value for name, value in asdict(self).items() if value}
        return ModelInfo("scripted", "truth", json.dumps(kept, sort_keys=True), "none: the labels' own")

    def draw(self, *what: str | int) -> np.random.Generator:
        """Random numbers that belong to `what` alone."""
        digest = hashlib.sha256(json.dumps([self.seed, *what]).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))

    def happens(self, fault: str, rate: float, whose: tuple[str | int, ...], frame: int) -> bool:
        """Whether a fault of that mean rate befalls `whose` in this frame; see the noise model above."""
        if rate in (0.0, 1.0):
            return bool(rate)
        own = self.draw(fault, "rate", *whose).beta(CONCENTRATION * rate, CONCENTRATION * (1 - rate))
        return bool(self.draw(fault, *whose, frame).random() < own)

    def uniform(self, span: tuple[float, float], *what: str | int) -> float:
        """A score drawn from `span`."""
        return float(self.draw("score", *what).uniform(*span))
