"""From answers to a data set: what is kept, what is rejected and why, and whose models made it.

A sentence is kept when it was decided ("ok", "partial") and its masklet has a weight; one without a referent only where
asked for. Kept sentences go into `rvos-masklets/1`, and a row for every sentence into quality.jsonl or rejected.jsonl.
Nothing written depends on the time or the machine: equal answers give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from datasets import evaluation_videos, likeness, tree
from datasets.masklets import write_masklets
from datasets.tracks import Tracks
from models.teacher.interfaces import ModelInfo
from models.teacher.quality import Quality
from models.teacher.resolver import Decision
from util import atomic
from util.errors import InputError
from util.types import Expression, ReferringVideo

INSTEAD = "leave them out, or label them with --allow-eval-videos and never score on what is trained with them"
RESTRICTED = ("non-commercial", "noncommercial", "research only", "research-only", "cc-by-nc")


class Answered(Protocol):
    """A video with what was decided of its sentences, in their order."""

    @property
    def video(self) -> ReferringVideo: ...
    @property
    def tracks(self) -> Tracks: ...
    @property
    def decisions(self) -> Sequence[Decision]: ...
    @property
    def qualities(self) -> Sequence[Quality | None]: ...


@dataclass(frozen=True)
class ExportConfig:
    """no_target  whether sentences are kept that have no referent, as far as a matcher said so.
    denylist  further lists of evaluation videos; hashes  files of what they look like (`datasets/likeness.py`)
    allow_evaluation  label them all the same, and say so in the data set
    jpeg  quality of frames that are not JPEGs yet.
    """

    no_target: bool = False
    denylist: tuple[Path, ...] = ()
    hashes: tuple[Path, ...] = ()
    allow_evaluation: bool = False
    jpeg: int = tree.JPEG_QUALITY


@dataclass(frozen=True)
class Provenance:
    """models  role -> model; settings  what the teacher was run with; source  name of the videos; commit  of the code.

    calibration  how quality was fitted: an id, or "" where it was not
    """

    models: Mapping[str, ModelInfo]
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    commit: str = ""
    calibration: str = ""

    def describe(self, config: ExportConfig, listed: frozenset[str], known: likeness.Known) -> dict[str, Any]:
        """What dataset.json says of it, but for `contaminated`, which is False here.

        `listed` and `known`: evaluation videos by name and by looks. Raises InputError for a model that does not state
        its licence.
        """
        for role, model in self.models.items():
            if not model.licence:
                raise InputError(
                    f"the {role} {model.model_id} states no licence, so nobody could tell what may be done with the "
                    "masklets; name the licence of its weights"
                )
        models = [{"role": role, **asdict(model)} for role, model in sorted(self.models.items())]
        return {
            "models": models,
            "licence_tags": licence_tags(self.models.values()),
            "source": self.source,
            "code": self.commit,
            "settings": dict(self.settings),
            "config_sha256": atomic.sha256(atomic.canonical([self.settings, models, config.no_target])),
            "calibration": self.calibration,
            "denylist_sha256": evaluation_videos.fingerprint(listed),
            "hashes_sha256": likeness.fingerprint(known),
            "contaminated": False,
        }


def licence_tags(models: Iterable[ModelInfo]) -> list[str]:
    """Tags that travel with the data: "non-commercial" where a model's licence says so."""
    bound = any(word in model.licence.lower() for model in models for word in RESTRICTED)
    return ["non-commercial"] if bound else []


class TrackMasks:
    """A `MaskSource` of tracks: ids 1, 2, ... stand for `rows`, one each."""

    def __init__(self, tracks: Tracks, rows: Sequence[int]) -> None:
        self._tracks, self._rows, self._states_NT = tracks, rows, tracks.states_NT()

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool [N, H, W] and states int8 [N]."""
        rows = [self._rows[object_id - 1] for object_id in object_ids]
        masks = np.zeros((len(rows), *self._tracks.size), bool)
        for place, row in enumerate(rows):
            masks[place] = self._tracks.mask(row, index)
        return masks, self._states_NT[rows, index].astype(np.int8)


def export(
    answers: Iterable[Answered],
    root: Path,
    split: str,
    provenance: Provenance,
    config: ExportConfig | None = None,
    failed: Iterable[Mapping[str, Any]] = (),
) -> tree.Written:
    """Write the masklets of all videos as split `split` of the tree at `root`, in the order given.

    failed  rows for rejected.jsonl of videos that could not be answered: video_id, reason, detail
    Raises InputError for evaluation videos that are not allowed, for a model without a licence, and as
    `write_masklets` does.
    """
    config = config or ExportConfig()
    listed, known = evaluation_videos.evaluation_videos(config.denylist), likeness.read_hashes(config.hashes)
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    rejected: list[dict[str, Any]] = [dict(row) for row in failed]
    more: dict[tuple[str, str], dict[str, Any]] = {}
    # what is contaminated is known only once all videos were seen, and dataset.json is written last of all
    about = provenance.describe(config, listed, known)

    def videos() -> Iterator[ReferringVideo]:
        for answered in answers:
            check_allowed([answered.video.id], listed, config)
            suspected = likeness.suspects([answered.video], [0], known)
            check_looks(suspected, config)
            about["contaminated"] |= bool(suspected) or answered.video.id in listed
            yield from _kept(answered, config, kept, rejected, more)

    return write_masklets(
        videos(), root, split, quality=config.jpeg, about=about, more=more,
        lines={"quality.jsonl": lambda: kept.values(), "rejected.jsonl": lambda: rejected},
    )  # fmt: skip


def check_allowed(ids: Iterable[str], listed: frozenset[str], config: ExportConfig) -> None:
    """Raises InputError where videos are to be scored on, unless that is allowed."""
    if not config.allow_evaluation:
        evaluation_videos.refuse(ids, listed, "the source", INSTEAD)


def check_looks(suspected: Mapping[str, Sequence[str]], config: ExportConfig) -> None:
    """Raises InputError where videos look like those that are scored on, unless that is allowed."""
    if suspected and not config.allow_evaluation:
        pairs = [f"{name} like {others[0]}" for name, others in list(suspected.items())[:3]]
        more = f" and {len(suspected) - 3} more" if len(suspected) > 3 else ""
        raise InputError(
            f"the source has videos that look like evaluation videos ({', '.join(pairs)}{more}); {INSTEAD}"
        )


def _kept(
    answered: Answered,
    config: ExportConfig,
    kept: dict[tuple[str, str], dict[str, Any]],
    rejected: list[dict[str, Any]],
    more: dict[tuple[str, str], dict[str, Any]],
) -> Iterator[ReferringVideo]:
    """The video with the sentences that are kept, if any is; their rows go to `kept`, `rejected` and `more`."""
    video, tracks = answered.video, answered.tracks
    verdicts = [_reason(d, q, config, tracks) for d, q in zip(answered.decisions, answered.qualities, strict=True)]
    named = {row for d, reason in zip(answered.decisions, verdicts, strict=True) if not reason for row in d.rows}
    rows = sorted(named, key=lambda row: tracks.tracks[row].track_id)
    number = {row: place for place, row in enumerate(rows, 1)}
    expressions = []
    for expression, decision, quality, reason in zip(
        video.expressions, answered.decisions, answered.qualities, verdicts, strict=True
    ):
        line = _line(video, expression, decision, quality, tracks)
        if reason:
            rejected.append(line | {"reason": reason})
            continue
        weight = line["weight"]
        ids = tuple(number[row] for row in decision.rows)
        expressions.append(replace(expression, object_ids=ids, weight=weight))
        kept[video.id, expression.id] = line
        more[video.id, expression.id] = {"quality": line["quality"], "source": "teacher", "status": decision.status}
    if expressions:
        yield replace(video, expressions=tuple(expressions), masks=TrackMasks(tracks, rows), labelled=None, boxes=None)


def _reason(decision: Decision, quality: Quality | None, config: ExportConfig, tracks: Tracks) -> str:
    """Why a sentence is rejected; "" where it is kept."""
    if tracks.length < 2:
        return "one_frame"
    if decision.status == "no_target":
        return "" if config.no_target and np.isfinite(decision.absent) else "no_target"
    if decision.status == "no_candidates" and not len(tracks):
        return "no_detection"
    if quality is None:
        return decision.reason or decision.status
    return quality.reason


def _line(
    video: ReferringVideo, expression: Expression, decision: Decision, quality: Quality | None, tracks: Tracks
) -> dict[str, Any]:
    """The row of a sentence. Without a referent the weight is the chance that there is none, and quality as well."""
    known = asdict(decision)
    names = [tracks.tracks[row].track_id for row in decision.rows]
    runner_up = None if decision.runner_up is None else tracks.tracks[decision.runner_up].track_id
    absent = round(decision.absent, 6) if decision.status == "no_target" else 0.0
    line = {
        "video_id": video.id, "exp": expression.text, **known, "track_ids": names, "runner_up": runner_up,
        "weight": quality.weight if quality else absent, "calibrated": bool(quality and quality.calibrated),
        "quality": quality.quality if quality and quality.calibrated else None,
        "features": {} if quality is None else {k: v if np.isfinite(v) else None for k, v in quality.features.items()},
    }  # fmt: skip
    del line["rows"], line["duplicates"]
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in line.items()}
