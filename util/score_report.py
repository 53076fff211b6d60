"""Scores as people read them: a table, JSON, one CSV row for each sentence and for each video, a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from util.davis_scores import MATCHINGS, ObjectScore, summarise_davis
from util.image_scores import ImageScore, best_of, summarise_images
from util.report import table, write_csv, write_json
from util.score_plot import save_score_plot
from util.scoring import ExpressionScore, summarise

Row = dict[str, Any]
_KEPT = ("J&F", "J", "F", "J recall", "F recall", "J decay", "F decay", "IoU", "temporal IoU", "volume IoU")


@dataclass(frozen=True)
class ScoreReport:
    """text: what is printed; summary: for JSON, 0..1; rows: one for each sentence (and frame, or object); metric: the
    column that is plotted
    """

    text: str
    summary: Mapping[str, Any]
    rows: Sequence[Row]
    metric: str

    def write(self, folder: Path, about: Mapping[str, Any]) -> list[Path]:
        """results.json with `about`, expressions.csv, videos.csv, and scores.png where matplotlib is installed."""
        videos = by_video(self.rows)
        written = [write_csv(folder / "expressions.csv", self.rows), write_csv(folder / "videos.csv", videos)]
        plot = save_score_plot(folder / "scores.png", self.rows, self.metric)
        written += [plot] if plot else []
        return [*written, write_json(folder / "results.json", {"summary": dict(self.summary), **about})]


def by_video(rows: Iterable[Row]) -> list[Row]:
    """Means over each video's rows of the columns that are scores, and their number."""
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row["video"], row.get("matching")), []).append(row)
    return [
        {"video": video, **({"matching": matching} if matching else {}), "rows": len(found)}
        | {name: float(np.mean([row[name] for row in found])) for name in _KEPT if name in found[0]}
        for (video, matching), found in grouped.items()
    ]


def video_report(scores: Sequence[ExpressionScore]) -> ScoreReport:
    """Of sentences about videos: Ref-YouTube-VOS, MeViS, masklets and the synthetic world."""
    summary = summarise(scores)
    shown = [
        {"sentences": name, "number": means["expressions"]} | _percent(means, ("J&F", "J", "F", "J recall", "F recall"))
        for name, means in (("all", summary), *summary["by_type"].items())
    ]
    lines = [table(shown), "mean over frames, then over sentences"]
    for name, meaning in (
        ("N-acc", "no-target sentences answered empty"), ("T-acc", "others answered non-empty"),
        ("temporal IoU", "frames predicted present against frames present"),
        ("volume IoU", "pixels of the whole video"),
        ("presence precision", "of frames predicted present, where the target comes and goes"),
        ("presence recall", "of frames present, where the target comes and goes"),
    ):  # fmt: skip
        if summary[name] is not None:
            lines.append(f"{name} {100 * summary[name]:.1f} ({meaning})")
    absent = sorted({score.video for score in scores if not score.answered})
    if absent:
        lines.append(f"{len(absent)} videos are not in the predictions and score 0: {', '.join(absent[:10])}"
                     + (", ..." if len(absent) > 10 else ""))  # fmt: skip
    return ScoreReport("\n".join(lines), summary, [_expression_row(score) for score in scores], "J&F")


def _expression_row(score: ExpressionScore) -> Row:
    return {
        "video": score.video, "expression": score.expression, "type": score.type, "text": score.text,
        "frames": score.frames, "J&F": score.j_and_f, "J": score.j.mean, "F": score.f.mean,
        "J recall": score.j.recall, "F recall": score.f.recall, "J decay": score.j.decay, "F decay": score.f.decay,
        "target": score.target, "empty": score.empty, "temporal IoU": score.presence.iou,
        "volume IoU": score.volume.iou, "area": score.area, "frames present": score.presence.true,
        "frames predicted": score.presence.predicted, "frames both": score.presence.both,
    }  # fmt: skip


def davis_report(scores: Sequence[ObjectScore]) -> ScoreReport:
    """Of Ref-DAVIS17."""
    summary = summarise_davis(scores)
    names = ("J&F", "J", "F", "J recall", "F recall", "J decay", "F decay")
    shown = [
        {"matching": matching, "annotation set": row} | _percent(means, names)
        for matching in MATCHINGS
        for row, means in (*summary[matching]["sets"].items(), ("mean", summary[matching]))
        if "J&F" in means
    ]
    text = (
        f"{table(shown)}\nmean over frames, objects, annotation sets; published: predicted ids are assigned\n"
        "to the objects that suit them best (swapped referents cost nothing), strict: ids count as predicted"
    )
    return ScoreReport(text, summary, [_object_row(score) for score in scores], "J&F")


def _object_row(score: ObjectScore) -> Row:
    return {
        "video": score.video, "object": score.object, "matching": score.matching,
        "type": f"{score.matching}, set {score.annotation_set}", "text": score.text, "frames": score.frames,
        "J&F": score.j_and_f, "J": score.j.mean, "F": score.f.mean, "J recall": score.j.recall,
        "F recall": score.f.recall, "J decay": score.j.decay, "F decay": score.f.decay, "area": score.area,
    }  # fmt: skip


def image_report(scores: Sequence[ImageScore], kind: Literal["masks", "boxes"]) -> ScoreReport:
    """Of sentences about frames: A2D, JHMDB (`masks`) and RefCOCO (`boxes`)."""
    summary = summarise_images(scores, kind)
    numbers = {name: value for name, value in summary.items() if name not in ("images", "videos")}
    shown = [{"score": name, "percent": "-" if value is None else f"{100 * value:.1f}"}
             for name, value in numbers.items()]  # fmt: skip
    if kind == "masks":
        note = "mAP published: every query is a detection; corrected: the best of each image alone, as for the others"
    else:
        note = (
            "P@0.5: boxes whose generalised IoU is 0.5 or more, as published; P@0.5 masks, overall and mean IoU: masks"
        )
    lines = [table(shown), f"{summary['images']} images of {summary['videos']} videos; {note}"]
    lost = sum(not score.detections for score in scores)
    if lost:
        lines.append(f"{lost} images have no detection and are scored as empty")
    return ScoreReport("\n".join(lines), summary, [_image_row(score) for score in scores], "IoU")


def _image_row(score: ImageScore) -> Row:
    best = best_of(score.detections)
    return {
        "image": score.image, "video": score.video, "expression": score.expression, "type": score.type,
        "text": score.text, "IoU": score.iou, "intersection": score.pixels.both,
        "union": score.pixels.predicted + score.pixels.true - score.pixels.both, "box GIoU": score.box_giou,
        "score": None if best is None else best.score, "detections": len(score.detections), "area": score.area,
    }  # fmt: skip


def _percent(means: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    return {name: f"{100 * means[name]:.1f}" for name in names}
