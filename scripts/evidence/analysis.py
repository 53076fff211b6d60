"""Where answers are right and wrong: by family, distance from the key, time since re-entry, size; presence.

Everything is a mean over something with its count beside it, [count, mean], so that means of several splits or seeds
can be put together from the numbers alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from util.scoring import ExpressionScore, FrameSeries, summarise

# First frame of each bin; the last one is open.
DISTANCE = (0, 1, 3, 6, 11, 17, 24)
SINCE = (0, 1, 2, 4, 8, 16)
SIZES = ("small", "medium", "large")
SPAN = 24  # frames over which a drift is stated
RIGHT = 0.5  # J from which a key counts as the right object's

Cell = list[Any]  # [count, mean], the mean None where the count is 0


@dataclass(frozen=True)
class Trace:
    """One sentence's answer: its score, what it is made of, and the key frame (-1: none)."""

    score: ExpressionScore
    series: FrameSeries
    key: int

    @property
    def jf_n(self) -> np.ndarray:
        return (self.series.j_n + self.series.f_n) / 2

    @property
    def there_n(self) -> np.ndarray:
        """Whether the target is seen, bool [n]."""
        return self.series.pixels_n3[:, 2] > 0

    @property
    def key_j(self) -> float | None:
        """J at the key frame; None without a key, or where the target is not to be seen there."""
        at = np.flatnonzero((self.series.frames_n == self.key) & self.there_n)
        return float(self.series.j_n[at[0]]) if len(at) else None


def labels(starts: Sequence[int]) -> list[str]:
    """Names of the bins: "0", "1-2", ..., "24+"."""
    ends = [following - 1 for following in starts[1:]]
    closed = [str(a) if a == b else f"{a}-{b}" for a, b in zip(starts[:-1], ends, strict=True)]
    return [*closed, f"{starts[-1]}+"]


def analyse(traces: Sequence[Trace]) -> dict[str, Any]:
    """All numbers of one row on one split, JSON-ready, scores 0..1. Raises InputError when there is no sentence."""
    found = summarise([trace.score for trace in traces])
    kept = ("J&F", "J", "F", "N-acc", "T-acc", "temporal IoU", "presence precision", "presence recall", "videos")
    right = [trace for trace in traces if (trace.key_j or 0) >= RIGHT]
    return _rounded({
        **{name: found[name] for name in kept},
        "sentences": len(traces),
        "families": {name: [part["expressions"], part["J&F"]] for name, part in found["by_type"].items()},
        "distance": {"all": by_distance(traces), "right key": by_distance(right)},
        "drift": {"all": drift(traces), "right key": drift(right)},
        "since re-entry": by_return(traces),
        "size": by_size(traces),
        "key": key_quality(traces),
    })  # fmt: skip


def by_distance(traces: Iterable[Trace]) -> list[Cell]:
    """J&F of the frames in which the target is seen, in bins of their distance from the sentence's key frame."""
    pairs = [_from_key(trace) for trace in traces]
    return _binned([distance for distance, _ in pairs], [jf for _, jf in pairs], DISTANCE)


def drift(traces: Iterable[Trace]) -> list[float]:
    """[spread, change]: sums from which J&F's change over `SPAN` frames of distance is SPAN * change / spread.

    The slope of a straight line through each sentence's frames, all sentences sharing the slope and none the height:
    sentences that are easier and have their key elsewhere do not count as drift. The key frame itself is left out:
    its mask is not tracked, and may have been given.
    """
    spread = change = 0.0
    for trace in traces:
        distance, jf = _from_key(trace)
        jf, distance = jf[distance > 0], distance[distance > 0]
        if len(jf):
            centred = distance - distance.mean()
            spread += float(centred @ centred)
            change += float(centred @ (jf - jf.mean()))
    return [spread, change]


def by_return(traces: Iterable[Trace]) -> list[Cell]:
    """J&F of the frames of a target that is back after an absence, in bins of the frames since it came back."""
    elapsed, scores = [], []
    for trace in traces:
        since = frames_since_return(trace.there_n)
        elapsed.append(since[since >= 0])
        scores.append(trace.jf_n[since >= 0])
    return _binned(elapsed, scores, SINCE)


def frames_since_return(there_n: np.ndarray) -> np.ndarray:
    """Frames since the target came back, int [n]; -1 where it is not seen, or has not been away since first seen."""
    since = np.full(len(there_n), -1)
    seen = away = False
    count = 0
    for n, there in enumerate(there_n):
        if not there:
            away, count = seen, 0
            continue
        seen = True
        if away:
            since[n] = count
            count += 1
    return since


def by_size(traces: Iterable[Trace]) -> dict[str, Any]:
    """J&F of sentences whose target is seen, in thirds by the mean share of the frame that it covers."""
    seen = [trace.score for trace in traces if trace.score.area > 0]
    if not seen:
        return {"bounds": [], "thirds": [[0, None]] * len(SIZES)}
    areas = np.array([score.area for score in seen])
    bounds = np.quantile(areas, (1 / 3, 2 / 3))
    third = np.searchsorted(bounds, areas)
    return {"bounds": bounds.tolist(), "thirds": _binned([third], [[score.j_and_f for score in seen]], range(3))}


def key_quality(traces: Sequence[Trace]) -> dict[str, float | None]:
    """Of the sentences with a target: the share that has a key, the keys' mean J, and the share on the right object.

    A key in a frame where the target is not to be seen has J 0.
    """
    targets = [trace for trace in traces if trace.score.target]
    keyed = [trace.key_j or 0.0 for trace in targets if trace.key >= 0]
    return {
        "given": len(keyed) / len(targets) if targets else None,
        "J": float(np.mean(keyed)) if keyed else None,
        "right": float(np.mean([j >= RIGHT for j in keyed])) if keyed else None,
    }


def merged(cells: Iterable[Cell]) -> Cell:
    """[count, mean] of the union of what the cells are means of."""
    filled = [(count, mean) for count, mean in cells if count]
    total = sum(count for count, _ in filled)
    return [total, sum(count * mean for count, mean in filled) / total if total else None]


def _from_key(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """Distances from the key and J&F of the frames in which the target is seen; nothing without a key."""
    kept = trace.there_n if trace.key >= 0 else np.zeros(len(trace.jf_n), bool)
    return np.abs(trace.series.frames_n - trace.key)[kept], trace.jf_n[kept]


def _binned(values: Sequence[Any], scores: Sequence[Any], starts: Sequence[int]) -> list[Cell]:
    """[count, mean score] of each bin."""
    joined, jf = (np.concatenate([np.asarray(part, float) for part in [*parts, []]]) for parts in (values, scores))
    place = np.searchsorted(starts, joined, side="right") - 1
    return [[int((place == b).sum()), float(jf[place == b].mean()) if (place == b).any() else None]
            for b in range(len(starts))]  # fmt: skip


def _rounded(value: Any) -> Any:
    """Floats to five digits, in whatever holds them."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 5) if isinstance(value, float) else value
