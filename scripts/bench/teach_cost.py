"""What more sentences of one video cost the teacher: seconds of each stage for 1, 4 and 16 sentences.

    python -m scripts.bench.teach_cost --out docs/benchmarks/teach_cost.json

The video is synthetic; detection and matching are scripted and cost next to nothing. Every object is followed by a
network of SAM 2's smallest size as well, with random weights, on images of --side pixels (its own size is 1024); its
answers are thrown away for the true ones, so its time counts and there are answers to be measured. One sentence is the
first of the 16: it asks for fewer nouns, so fewer objects are followed, and fewer answers are measured. Seconds are
those that the processor worked, which do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import Sam2VideoConfig

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from models.teacher.interfaces import ModelInfo, ObjectFrame, Prompt, SegmenterSession, VideoSegmenter
from models.teacher.parser import RuleParser
from models.teacher.pipeline import STAGES, Backends, Teacher, TeacherConfig
from models.teacher.scripted import ScriptedDetector, ScriptedMatcher, ScriptedSegmenter, Truth
from models.teacher.segment.sam2 import Sam2Network, Sam2Segmenter
from models.teacher.stages import Stopwatch
from util.report import provenance, table, write_json
from util.types import FrameSource, ReferringVideo

COUNTS = (1, 4, 16)
SCRIPTED = ModelInfo("scripted", "truth", None, "none")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--side", type=int, default=256, help="pixels of the network's images (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=24, help="of the video (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON to write")


class Paced:
    """A segmenter that answers as one does, and works as another does beside it."""

    def __init__(self, answers: VideoSegmenter, works: VideoSegmenter) -> None:
        self._answers, self._works = answers, works

    @property
    def info(self) -> ModelInfo:
        return self._works.info

    def open(self, frames: FrameSource) -> PacedSession:
        return PacedSession(self._answers.open(frames), self._works.open(frames))


class PacedSession:
    """A session of each."""

    def __init__(self, answers: SegmenterSession, works: SegmenterSession) -> None:
        self._answers, self._works = answers, works

    def add(self, object_id: int, prompt: Prompt) -> ObjectFrame:
        self._works.add(object_id, prompt)
        return self._answers.add(object_id, prompt)

    def step(self, object_id: int, frame: int, *, reverse: bool = False) -> ObjectFrame:
        self._works.step(object_id, frame, reverse=reverse)
        return self._answers.step(object_id, frame, reverse=reverse)

    def remove(self, object_id: int) -> None:
        self._works.remove(object_id)
        self._answers.remove(object_id)

    def close(self) -> None:
        self._works.close()
        self._answers.close()


def random_network(side: int) -> Sam2Network:
    """SAM 2's smallest network (transformers' default) for square images of `side` pixels, a multiple of 64."""
    config: Any = Sam2VideoConfig(image_size=side, memory_attention_rope_feat_sizes=[side // 16] * 2)
    config.vision_config.backbone_config.image_size = [side, side]
    config.vision_config.backbone_feature_sizes = [[side // stride] * 2 for stride in (4, 8, 16)]
    config.prompt_encoder_config.image_size = side
    torch.manual_seed(0)
    return Sam2Network(config).eval()


def with_sentences(video: ReferringVideo, count: int) -> ReferringVideo:
    """The video with `count` sentences, its own again and again under new ids."""
    known = [expression for expression in video.expressions if expression.object_ids]
    taken = itertools.islice(itertools.cycle(known), count)
    return replace(video, expressions=tuple(replace(e, id=str(place)) for place, e in enumerate(taken)))


def measure(video: ReferringVideo, truth: Truth, segmenter: VideoSegmenter) -> dict[str, float]:
    """Processor seconds by stage, of one run from nothing."""
    models = Backends(RuleParser(), ScriptedDetector(truth), segmenter, {"scripted": ScriptedMatcher(truth)})
    with tempfile.TemporaryDirectory() as folder:
        watch = Stopwatch(time.process_time)
        Teacher(models, TeacherConfig(), Path(folder)).teach(video, watch)
    return {stage: watch.seconds.get(stage, 0.0) for stage in STAGES}


def run(options: argparse.Namespace) -> int:
    """Measure, print a table, write it where asked."""
    torch.set_num_threads(1)
    config = SyntheticConfig(seed=11, videos=1, frames=options.frames, expressions=16, no_target=0.0)
    video = SyntheticVideos(config)[0]
    truth = Truth([video])
    truth.locate(video.frames[0])
    segmenter = Paced(ScriptedSegmenter(truth), Sam2Segmenter(random_network(options.side), SCRIPTED))
    rows = [_row(with_sentences(video, count), truth, segmenter, options.repeats) for count in COUNTS]
    for row in rows:
        row["times one sentence"] = round(row["total"] / rows[0]["total"], 2)
    print(table(rows))
    if options.out:
        command = f"python -m scripts.bench.teach_cost {' '.join(sys.argv[1:])}"
        write_json(options.out, {"command": command, **provenance(), "rows": rows})
    return 0


def _row(video: ReferringVideo, truth: Truth, segmenter: VideoSegmenter, repeats: int) -> dict[str, Any]:
    runs: Sequence[dict[str, float]] = [measure(video, truth, segmenter) for _ in range(repeats)]
    best = min(runs, key=lambda run: sum(run.values()))
    stages = {stage: round(seconds, 3) for stage, seconds in best.items()}
    return {"sentences": len(video.expressions), **stages, "total": round(sum(best.values()), 3)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    sys.exit(run(parser.parse_args()))
