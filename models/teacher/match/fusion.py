"""Several matchers as one: a logit average, leaving out what a matcher did not judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.teacher.calibration import Isotonic
from models.teacher.interfaces import MatchScores
from util.errors import InputError

FAR = 1e-4  # chances are kept this far from 0 and 1, so that one matcher cannot outvote all others


@dataclass(frozen=True)
class Voice:
    """How much a matcher counts, and the monotone map from its scores to chances (None: they are chances)."""

    weight: float = 1.0
    calibration: Isotonic | None = None

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise InputError(f"a matcher's weight is {self.weight!r}; it is above 0, leave the matcher out instead")


def fuse(scores: Mapping[str, MatchScores], voices: Mapping[str, Voice]) -> MatchScores:
    """One table of scores from those of several matchers, by name; a name without a voice counts once.

    Raises InputError without any matcher.
    """
    if not scores:
        raise InputError("no matcher gave scores; name at least one")
    if len(scores) == 1 and not voices:
        return next(iter(scores.values()))
    names = sorted(scores)
    given = [voices.get(name, Voice()) for name in names]
    weights = [voice.weight for voice in given]
    mapped = [_mapped(scores[name].scores_ENF, voice) for name, voice in zip(names, given, strict=True)]
    return MatchScores(_mean(mapped, weights), _mean([scores[name].absent_E for name in names], weights))


def _mapped(scores: np.ndarray, voice: Voice) -> np.ndarray:
    if voice.calibration is None:
        return scores
    return np.where(np.isnan(scores), np.nan, voice.calibration(np.nan_to_num(scores)))


def _mean(chances: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    total, logits = np.zeros(chances[0].shape), np.zeros(chances[0].shape)
    for values, weight in zip(chances, weights, strict=True):
        judged = ~np.isnan(values)
        kept = np.clip(np.nan_to_num(values), FAR, 1 - FAR)
        logits += np.where(judged, weight * np.log(kept / (1 - kept)), 0.0)
        total += np.where(judged, weight, 0.0)
    mean = np.divide(logits, total, out=np.full(total.shape, np.nan), where=total > 0)
    return 1 / (1 + np.exp(-mean))
