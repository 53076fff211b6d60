"""`main.py teach calibrate`: fit what quality expects of J, on labelled training videos, for `teach run` to use."""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.teaching.backends import add_backend_arguments, build_backends
from scripts.teaching.settings import add_settings_arguments, teacher_config
from scripts.teaching.source import add_source_arguments, open_source

HELP = "fit quality to true J on labelled training videos; `teach run --calibration` uses it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("quality.json"), help="file to write (quality.json)")
    parser.add_argument("--work", type=Path, help="folder of what the stages leave (default: OUT.work)")
    add_backend_arguments(parser)
    add_settings_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Teach every video, compare with its labels, fit. Raises InputError for evaluation videos and for too few."""
    from datasets import evaluation_videos, tree
    from models.teacher import labelled
    from models.teacher.calibration import report
    from models.teacher.pipeline import Teacher
    from models.teacher.quality import plain_weight
    from models.teacher.stages import Stopwatch
    from models.teacher.workers import video_ids
    from util.report import provenance, table

    videos, settings = open_source(options), teacher_config(options)
    instead = "calibrate on training videos: who fits on what is scored can score nothing"
    evaluation_videos.refuse(video_ids(videos), evaluation_videos.evaluation_videos(), "the source", instead)
    work = options.work or options.out.with_name(options.out.name + ".work")
    teacher = Teacher(build_backends(options, settings, videos), settings, work, dataset=options.source.resolve().name)
    masklets: list[labelled.Masklet] = []
    for number in range(len(videos)):
        masklets += labelled.labelled_masklets(teacher.teach(videos[number], Stopwatch()))
    model = labelled.fit(masklets)
    j = [masklet.j for masklet in masklets]
    trusts = {
        "fitted (on these videos)": [model(masklet.features) for masklet in masklets],
        "not fitted": [plain_weight(masklet.features) for masklet in masklets],
    }
    print(f"{len(masklets)} masklets of {len(videos)} videos, mean J {sum(j) / len(j):.3f}")
    print(table([{"quality": name, **report(trust, j)} for name, trust in trusts.items()]))
    tree.write_json(options.out, model.to_dict() | {"masklets": len(masklets), "videos": len(videos), **provenance()})
    print(f"wrote {options.out}; use it with `teach run --calibration {options.out}`")
    return 0
