"""How far a masklet is to be trusted: what is measured of it, and the weight that follows.

features  of the decision (`match_p`, `margin`, `vote_share`, `absent`); of the tracks as they lie in the store; and
          of checks that ask the models again: on frames the matcher has not seen (`verify`, `redetect_iou`), about
          sentences with a word swapped (`hardneg_gap`), and by following the object back from its far end
          (`cycle_iou`); and whether what is said to go anywhere does (`motion_ok`, 1 or 0)
floors    a feature beyond its floor rejects, whatever the rest says; where quality was fitted, checks that err
          themselves have none, because the fit has seen what they are worth
weight    clip((quality - 0.35) / 0.40, 0, 1), quality the J that a model fitted on labelled videos expects; without
          such a model  match_p * verify * min(1, cycle_iou / 0.8), leaving out what was not measured
A feature that could not be measured is NaN and stays so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from datasets.tracks import Tracks
from models.teacher.calibration import QualityModel
from models.teacher.resolver import Decision
from util.types import PRESENT

NAN = float("nan")
JUMP = 2.0  # change of area between neighbouring frames, as a factor, that a thing seldom makes

# feature -> whether more of it is better; what is measured of each track, the worst of a masklet's tracks counting
OF_TRACKS = {
    "detection": True, "support": True, "vote_iou": True, "stability": True, "presence": True, "predicted_iou": True,
    "visible_share": True, "area": True, "redetect_iou": True, "cycle_iou": True,
    "fragments": False, "area_jump": False, "wobble": False, "leap": False, "border": False, "disputed": False,
}  # fmt: skip
ASKED = ("verify", "hardneg_gap")  # of matchers
OF_DECISIONS = ("match_p", "margin", "vote_share", "absent", *ASKED, "motion_ok")
FEATURES = (*OF_DECISIONS, *OF_TRACKS)

FLOORS: Mapping[str, float] = {
    "match_p": 0.35, "verify": 0.3, "redetect_iou": 0.3, "cycle_iou": 0.5, "stability": 0.7, "presence": 0.5,
    "area": 1e-4, "visible_share": 0.05, "hardneg_gap": 0.0,
}  # fmt: skip
ERRING = ("verify", "hardneg_gap", "redetect_iou", "cycle_iou")
CEILINGS: Mapping[str, float] = {"fragments": 6.0, "area_jump": 0.5}

WORTHLESS, SPAN = 0.35, 0.40  # expected J of weight 0, and how much more has weight 1
CYCLE = 0.8  # agreement forward and back from which nothing is taken off


@dataclass(frozen=True)
class Quality:
    """quality  expected J, NaN without a calibration; weight  0..1; reason  of a weight of 0, else ""."""

    features: Mapping[str, float]
    quality: float
    weight: float
    reason: str = ""

    @property
    def calibrated(self) -> bool:
        return bool(np.isfinite(self.quality))


def track_features(tracks: Tracks, row: int) -> dict[str, float]:
    """What the store tells of one track; means are over the frames in which it is present."""
    present = np.flatnonzero(tracks.states_NT()[row] == PRESENT)
    track, visible = tracks.tracks[row], tracks.visible_NT()[row]
    ious = [vote.iou for vote in track.votes]
    found = {
        "detection": max(track.noun_scores.values(), default=NAN),
        "support": float(tracks.support_N()[row]),
        "vote_iou": float(np.mean(ious)) if ious else NAN,
        "stability": _mean(tracks.stability_NT[row, present]),
        "presence": _mean(tracks.presence_NT()[row, present])
        if np.isfinite(tracks.object_score_NT[row]).any()
        else NAN,
        "predicted_iou": _mean(tracks.predicted_iou_NT[row, present]),
        "visible_share": float(visible.mean()),
        "area": _mean(tracks.area_NT[row, present]),
        "disputed": float(tracks.disputed_NT[row].mean()),
    }
    shapes = [_shape(tracks.mask(row, frame)) for frame in present.tolist()]
    found["fragments"] = _mean(np.array([fragments for fragments, _ in shapes]))
    found["border"] = _mean(np.array([border for _, border in shapes]))
    return found | _steps(tracks, row, present)


def _shape(mask_HW: np.ndarray) -> tuple[float, float]:
    """Connected parts of a mask, and the share of its outline's box that lies along the frame's border."""
    parts = cv2.connectedComponents(mask_HW.astype(np.uint8), connectivity=8)[0] - 1
    edge = sum(int(side.sum()) for side in (mask_HW[0], mask_HW[-1], mask_HW[1:-1, 0], mask_HW[1:-1, -1]))
    return float(parts), edge / max(int(mask_HW.sum()), 1)


def _steps(tracks: Tracks, row: int, present: np.ndarray) -> dict[str, float]:
    """How a track changes from one frame to the next.

    area_jump  share of doubled or halved areas; wobble  mean size of the areas' logarithmic change
    leap       the farthest: what the centre moves, less what it moved before, in square roots of the area.
    """
    pairs = present[:-1][np.diff(present) == 1] if len(present) > 1 else present[:0]
    if not len(pairs):
        return {"area_jump": NAN, "wobble": NAN, "leap": NAN}
    area = tracks.area_NT[row].astype(np.float64)
    ratio = area[pairs + 1] / area[pairs]
    box = tracks.pixel_boxes_NT4()[row].astype(np.float64)
    centre = (box[:, :2] + box[:, 2:]) / 2
    moved = np.full_like(centre, np.nan)
    moved[pairs] = centre[pairs + 1] - centre[pairs]
    before = np.nan_to_num(np.roll(moved, 1, axis=0)[pairs])
    size = np.sqrt(np.maximum(area[pairs] * tracks.size[0] * tracks.size[1], 1.0))
    leap = np.hypot(*(moved[pairs] - before).T) / size
    jumps = (ratio > JUMP) | (ratio < 1 / JUMP)
    return {"area_jump": float(jumps.mean()), "wobble": float(np.abs(np.log(ratio)).mean()), "leap": float(leap.max())}


def masklet_features(
    decision: Decision, of_tracks: Mapping[int, Mapping[str, float]], checked: Mapping[str, float]
) -> dict[str, float]:
    """All features of one sentence's masklet, in the order of `FEATURES`.

    of_tracks  those of each of its rows; checked  those that were measured of the sentence, NaN for the others
    """
    found = {
        "match_p": decision.p,
        "margin": decision.margin,
        "vote_share": decision.votes / decision.frames if decision.frames else NAN,
        "absent": decision.absent,
        **{name: checked.get(name, NAN) for name in (*ASKED, "motion_ok")},
    }
    for name, more in OF_TRACKS.items():
        values = [of_tracks[row].get(name, NAN) for row in decision.rows]
        known = [value for value in values if np.isfinite(value)]
        found[name] = (min(known) if more else max(known)) if known else NAN
    return {name: round(float(found[name]), 6) for name in FEATURES}


def weigh(decision: Decision, features: Mapping[str, float], model: QualityModel | None) -> Quality:
    """The weight of a masklet that was decided "ok" or "partial"; 0 for what is to be rejected."""
    quality = NAN if model is None else round(model(features), 6)
    floors = {name: least for name, least in FLOORS.items() if model is None or name not in ERRING}
    broken = [name for name, least in floors.items() if features[name] < least]
    broken += [name for name, most in CEILINGS.items() if features[name] > most]
    if broken:
        return Quality(features, quality, 0.0, f"floor:{broken[0]}")
    if np.isnan(features["area"]):  # in no frame is any of it certain: there would be nothing to learn from
        return Quality(features, quality, 0.0, "never_present")
    weight = plain_weight(features) if model is None else float(np.clip((quality - WORTHLESS) / SPAN, 0, 1))
    weight = round(weight * decision.factor, 6)
    return Quality(features, quality, weight, "" if weight else "low_quality")


def plain_weight(features: Mapping[str, float]) -> float:
    """The weight without a calibration."""
    cycle = features["cycle_iou"]
    parts = [features["match_p"], features["verify"], min(1.0, cycle / CYCLE) if np.isfinite(cycle) else NAN]
    return float(np.prod([part for part in parts if np.isfinite(part)]))


def unused_frames(seen_T: np.ndarray, used: Sequence[int], count: int) -> tuple[int, ...]:
    """Up to `count` frames, spread evenly, that show a masklet and were not used in matching it."""
    free = np.setdiff1d(np.flatnonzero(seen_T), np.asarray(used, np.int64))
    if not len(free):
        return ()
    places = np.linspace(0, len(free) - 1, min(count, len(free)) + 2)[1:-1].round().astype(int)
    return tuple(np.unique(free[places]).tolist())


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else NAN
