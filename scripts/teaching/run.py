"""`main.py teach run`: a folder of videos and sentences becomes a data set that `main.py train` reads."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.teaching.backends import add_backend_arguments, build_backends
from scripts.teaching.settings import add_settings_arguments, teacher_config
from scripts.teaching.source import add_source_arguments, open_source
from util.types import ReferringVideo

if TYPE_CHECKING:
    from models.teacher.calibration import QualityModel
    from models.teacher.masklet_writer import ExportConfig, Provenance
    from models.teacher.pipeline import Teacher
    from models.teacher.stages import Shard, Stopwatch

HELP = "label a folder of videos: a masklet and its quality for each sentence, as a data set to train on"
FAILED = 3  # exit status where some videos failed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set to write")
    parser.add_argument("--work", type=Path, help="folder of what the stages leave (default: OUT.work)")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="this worker's share of the videos, from 0/N")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="a fitted quality (`teach calibrate`)")
    parser.add_argument("--keep-no-target", action="store_true", help="keep sentences that mean nothing in the video")
    parser.add_argument(
        "--denylist", type=Path, action="append", default=[], metavar="FILE",
        help="more evaluation videos to refuse: a meta_expressions.json, or a text of ids",
    )  # fmt: skip
    parser.add_argument(
        "--eval-hashes", type=Path, action="append", default=[], metavar="FILE",
        help="refuse what looks like evaluation videos, too: a file of `teach hashes`",
    )  # fmt: skip
    parser.add_argument(
        "--allow-eval-videos", action="store_true", help="label evaluation videos; the data set says so"
    )
    add_backend_arguments(parser)
    add_settings_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Teach this worker's share; the last worker writes the data set. Exit status 3 where videos failed."""
    from datasets import evaluation_videos, likeness
    from models.teacher.assembling import check_place
    from models.teacher.masklet_writer import ExportConfig, Provenance, check_allowed, check_looks
    from models.teacher.pipeline import Teacher
    from models.teacher.stages import Shard
    from models.teacher.workers import chosen, video_ids
    from util.report import commit

    shard, videos = Shard.parse(options.shard), open_source(options)
    denylist, hashes = tuple(options.denylist), tuple(options.eval_hashes)
    config = ExportConfig(options.keep_no_target, denylist, hashes, options.allow_eval_videos)
    ids, source = video_ids(videos), options.source.resolve().name
    check_allowed(ids, evaluation_videos.evaluation_videos(config.denylist), config)
    check_looks(likeness.suspects(videos, chosen(ids, shard), likeness.read_hashes(config.hashes)), config)
    check_place(options.out, source)
    settings = teacher_config(options)
    backends = build_backends(options, settings, videos)
    work = options.work or options.out.with_name(options.out.name + ".work")
    model, calibration = _calibration(options.calibration)
    teacher = Teacher(backends, settings, work, dataset=source, model=model)
    provenance = Provenance(backends.roles(), teacher.settings, source, commit(), calibration)
    if options.dry_run:
        print(plan(teacher, [videos[n] for n in range(len(videos)) if shard.has(ids[n])]))
        return 0

    return label(teacher, videos, options.out, provenance, config, shard)


def label(
    teacher: Teacher,
    videos: Sequence[ReferringVideo],
    out: Path,
    provenance: Provenance,
    config: ExportConfig,
    shard: Shard,
) -> int:
    """Teach the shard's videos, print what became of them, and write the data set where all are done. As `run`."""
    from models.teacher.assembling import run_key
    from models.teacher.stages import noted
    from models.teacher.workers import video_ids, work_through

    def teach(video: ReferringVideo, watch: Stopwatch) -> tuple[bool, str]:
        taught = teacher.teach(video, watch)
        return taught.kept, taught.key

    ids, key = video_ids(videos), run_key(teacher, config, provenance)
    report = work_through(videos, teach, teacher.work, shard=shard, run=key)
    print(report.page())
    for path in teacher.workspace.damaged:
        print(f"damaged, and made again: {path}")
    found = noted(teacher.work, key)
    if set(ids) <= set(found):
        _write(teacher, videos, {name: found[name] for name in ids}, out, provenance, config)
    else:
        print(f"{len(set(ids) - set(found))} videos are other workers'; the last one writes {out}")
    return FAILED if report.failed else 0


def plan(teacher: Teacher, videos: Sequence[ReferringVideo]) -> str:
    """What would be done: for each stage, how many videos have it and how many lack it."""
    from models.teacher.pipeline import STAGES

    lacking: Counter[str] = Counter()
    for video in videos:
        lacking.update(teacher.missing(video))
    lines = [f"{stage:8} {len(videos) - lacking[stage]:6} done {lacking[stage]:6} to do" for stage in STAGES]
    return "\n".join([f"{len(videos)} videos", *lines])


def _write(
    teacher: Teacher,
    videos: Sequence[ReferringVideo],
    found: dict[str, dict[str, object]],
    out: Path,
    provenance: Provenance,
    config: ExportConfig,
) -> None:
    from models.teacher.assembling import assemble
    from util import atomic

    with atomic.locked(teacher.work / "locks" / "export.lock") as mine:
        if not mine:
            print(f"another worker is writing {out}")
            return
        written = assemble(teacher, videos, found, out, "train", provenance, config)
    if written is None:
        print(f"{out} is up to date")
        return
    print(f"wrote {written.videos} videos with {written.expressions} sentences to {written.folder}")
    print(f"rejected: {rejections(written.folder / 'rejected.jsonl')}")


def rejections(path: Path) -> str:
    """How many were rejected for which reason, the most frequent first, and where each is listed."""
    rows = path.read_text(encoding="utf-8").splitlines()
    reasons = Counter(json.loads(row)["reason"] for row in rows)
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) + f" ({path})" if rows else "none"


def _calibration(path: Path | None) -> tuple[QualityModel | None, str]:
    """The fitted quality and its id; nothing where none is given."""
    if path is None:
        return None, ""
    from datasets import tree
    from models.teacher.calibration import QualityModel
    from util import atomic

    content = tree.read_json(path, "a fitted quality")
    return QualityModel.from_dict(content), atomic.sha256(atomic.canonical(content))[:16]
