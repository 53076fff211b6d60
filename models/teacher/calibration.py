"""From features to an expected J, and how well an estimate orders what it estimates. Numpy alone.

Sources: pool adjacent violators (Ayer et al. 1955); iteratively reweighted least squares for a logistic model whose
targets are shares; area under the risk-coverage curve (Geifman and El-Yaniv 2017); expected calibration error (Naeini
et al. 2015).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from util.errors import InputError

FOLDS = 5
L2 = 10.0  # of the logistic model, on standardised features
STEPS = 50


@dataclass(frozen=True)
class Isotonic:
    """A map that never falls: `values` at ascending `points`, straight between them, flat beyond."""

    points: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, x: ArrayLike) -> np.ndarray:
        return np.interp(np.asarray(x, np.float64), self.points, self.values)


def isotonic(y: ArrayLike, weights: ArrayLike | None = None) -> np.ndarray:
    """The non-falling sequence nearest to `y` in (weighted) squares."""
    values = np.asarray(y, np.float64).tolist()
    mass = [1.0] * len(values) if weights is None else np.asarray(weights, np.float64).tolist()
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values, mass, strict=True):
        block = (value, weight, 1)
        while blocks and blocks[-1][0] >= block[0]:
            mean, before, length = blocks.pop()
            total = before + block[1]
            block = ((mean * before + block[0] * block[1]) / total, total, length + block[2])
        blocks.append(block)
    return np.repeat([mean for mean, _, _ in blocks], [length for _, _, length in blocks])


def fit_isotonic(x: ArrayLike, y: ArrayLike) -> Isotonic:
    """The non-falling map that is nearest to y at x. Raises InputError without finite pairs."""
    x_, y_ = np.asarray(x, np.float64), np.asarray(y, np.float64)
    keep = np.isfinite(x_) & np.isfinite(y_)
    if not keep.any():
        raise InputError("nothing to calibrate on; give labelled videos whose sentences were matched")
    points, place, count = np.unique(x_[keep], return_inverse=True, return_counts=True)
    means = np.bincount(place, y_[keep]) / count
    return Isotonic(tuple(points.tolist()), tuple(isotonic(means, count).tolist()))


@dataclass(frozen=True)
class Logistic:
    """Chance = sigmoid(bias + sum over features of slope * z), z standardised and 0 where missing, + what missing says.

    names, means, deviations, slopes, missing  one each per feature; `missing` is added where the feature is NaN
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    slopes: tuple[float, ...]
    missing: tuple[float, ...]
    bias: float

    def __call__(self, rows_RF: np.ndarray) -> np.ndarray:
        """Chances [R] of rows whose columns are the features in the order of `names`, NaN where missing."""
        gaps = np.isnan(rows_RF)
        z = np.where(gaps, 0.0, (rows_RF - self.means) / self.deviations)
        return _sigmoid(self.bias + z @ np.array(self.slopes) + gaps @ np.array(self.missing))


def fit_logistic(names: Sequence[str], rows_RF: np.ndarray, targets_R: np.ndarray, l2: float = L2) -> Logistic:
    """The L2-regularised logistic model of targets 0..1; the bias is free. Raises InputError without a row."""
    if not len(rows_RF):
        raise InputError("nothing to calibrate on; give labelled videos whose sentences were matched")
    gaps = np.isnan(rows_RF)
    counted = np.maximum((~gaps).sum(0), 1)
    means = np.where(gaps, 0, rows_RF).sum(0) / counted
    spread = np.sqrt(np.where(gaps, 0, (rows_RF - means) ** 2).sum(0) / counted)
    deviations = np.where(spread > 1e-9, spread, 1.0)
    z = np.where(gaps, 0.0, (rows_RF - means) / deviations)
    design = np.concatenate([z, gaps.astype(float), np.ones((len(z), 1))], axis=1)
    penalty = np.diag([l2] * (design.shape[1] - 1) + [1e-9])
    beta = np.zeros(design.shape[1])
    for _ in range(STEPS):
        p = _sigmoid(design @ beta)
        curvature = design.T @ (design * np.maximum(p * (1 - p), 1e-6)[:, None]) + penalty
        step = np.linalg.solve(curvature, design.T @ (targets_R - p) - penalty @ beta)
        beta += step
        if np.abs(step).max() < 1e-9:
            break
    count = len(names)
    return Logistic(
        tuple(names), tuple(means.tolist()), tuple(deviations.tolist()), tuple(beta[:count].tolist()),
        tuple(beta[count:-1].tolist()), float(beta[-1]),
    )  # fmt: skip


@dataclass(frozen=True)
class QualityModel:
    """Expected J of a masklet from its features: a logistic model, then a monotone map of what it says."""

    logistic: Logistic
    isotonic: Isotonic

    def __call__(self, features: Mapping[str, float]) -> float:
        row = np.array([[features.get(name, np.nan) for name in self.logistic.names]], np.float64)
        return float(self.isotonic(self.logistic(row))[0])

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; `from_dict` is the inverse."""
        return {"logistic": vars(self.logistic), "isotonic": vars(self.isotonic)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> QualityModel:
        """Raises InputError for what `to_dict` did not make."""
        try:
            return cls(Logistic(**_tuples(content["logistic"])), Isotonic(**_tuples(content["isotonic"])))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"this is no quality model ({error}); calibrate again") from error


def _tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples they were."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


def fit_quality(
    names: Sequence[str], rows_RF: np.ndarray, j_R: np.ndarray, videos_R: Sequence[str], folds: int = FOLDS
) -> QualityModel:
    """A model of J from features. The monotone map is fitted to what the logistic model says of rows it was not
    fitted to: videos are dealt to `folds` parts, in the order of their names. Raises InputError with fewer videos.
    """
    known = sorted(set(videos_R))
    if len(known) < folds:
        raise InputError(f"calibration takes at least {folds} labelled videos, and {len(known)} are given")
    part_R = np.array([known.index(video) % folds for video in videos_R])
    said_R = np.zeros(len(j_R))
    for part in range(folds):
        out = part_R == part
        said_R[out] = fit_logistic(names, rows_RF[~out], j_R[~out])(rows_RF[out])
    return QualityModel(fit_logistic(names, rows_RF, j_R), fit_isotonic(said_R, j_R))


def aurc(trust: ArrayLike, j: ArrayLike) -> float:
    """Mean over k of the mean 1 - J of the k most trusted; equal trust in the order given."""
    order = np.argsort(-np.asarray(trust, np.float64), kind="stable")
    risk = np.cumsum(1 - np.asarray(j, np.float64)[order]) / np.arange(1, len(order) + 1)
    return float(risk.mean())


def report(trust: ArrayLike, j: ArrayLike, bins: int = 10) -> dict[str, float]:
    """How well `trust` foretells J: AURC, Brier score, expected calibration error, Spearman's rank correlation."""
    said, true = np.asarray(trust, np.float64), np.asarray(j, np.float64)
    place = np.minimum((said * bins).astype(int), bins - 1)
    gap = [abs(said[place == b].sum() - true[place == b].sum()) for b in range(bins)]
    ranks = np.stack([_ranks(values) for values in (said, true)])
    varied = bool((np.ptp(ranks, axis=1) > 0).all())
    return {
        "aurc": aurc(said, true),
        "brier": float(((said - true) ** 2).mean()),
        "ece": float(np.sum(gap) / len(said)),
        "spearman": float(np.corrcoef(ranks)[0, 1]) if varied else float("nan"),
    }


def ece_by_chance(trust: ArrayLike, j: ArrayLike, bins: int = 10, draws: int = 200) -> float:
    """The calibration error that as many samples show by chance, where trust is right on average in every bin.

    Mean over `draws` in which each J is drawn anew, with replacement, from those of its bin.
    """
    said, true = np.asarray(trust, np.float64), np.asarray(j, np.float64)
    place, draw = np.minimum((said * bins).astype(int), bins - 1), np.random.default_rng(0)
    of_bins = [true[place == b] for b in range(bins) if (place == b).any()]
    gaps = [np.abs(draw.choice(of_bin, (draws, len(of_bin))).sum(1) - of_bin.sum()) for of_bin in of_bins]
    return float(np.sum(gaps, axis=0).mean() / len(said))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, equal values sharing their mean."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
