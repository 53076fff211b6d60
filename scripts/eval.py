"""`main.py eval`: segment every video of a split, score every sentence, print J&F and the protocol behind it.

Under `torchrun` the videos are dealt out to the ranks; the numbers are those of one process. Beside the network's own
answer stand the controls that a good score must beat (`--baseline`, `--sentence other`) or approach (`--key true`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from datasets.sources import SourceConfig, eval_videos
from datasets.synthetic import SyntheticConfig
from util.controls import Baseline, answer_with_one_object, true_keys, with_other_sentences
from util.distributed import World, join_world, leave_world
from util.errors import InputError
from util.report import provenance, table, write_csv, write_json
from util.scoring import ExpressionScore, Masks, score_videos, summarise
from util.types import ReferringVideo

HELP = "score weights on a split: J&F of every sentence, by type, with the protocol's name"

Answer = Callable[[int, ReferringVideo], Masks]  # of video number n


def add_arguments(parser: argparse.ArgumentParser) -> None:
    answer = parser.add_mutually_exclusive_group(required=True)
    answer.add_argument("--weights", help="checkpoint folder, .safetensors, released .pth, or hub id")
    answer.add_argument("--baseline", choices=("largest", "random"), help="no network: one object's true mask")
    parser.add_argument("--data", choices=("synthetic", "ref_youtube_vos", "mevis"), default="synthetic")
    parser.add_argument("--root", type=Path, help="the data set's folder")
    parser.add_argument("--split", help="split of the data set, for example valid or valid_u")
    parser.add_argument("--limit", type=int, help="score only the first N videos")
    parser.add_argument("--mode", choices=("track", "clip"), help="default: track if the weights can")
    parser.add_argument("--key", choices=("found", "true"), default="found", help="true: track from the true mask")
    parser.add_argument(
        "--sentence", choices=("own", "other"), default="own", help="other: ask another sentence of the same video"
    )
    parser.add_argument("--short-side", type=int, help="pixels of the network's input (default: the weights' own)")
    parser.add_argument("--text-encoder", help="folder or hub id, for released weights that come without a tokenizer")
    parser.add_argument(
        "--tracking", choices=("none", "rgb"), default="none", help="of a released .pth: rgb if it is TF-RVOS's"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--out", type=Path, help="folder for results.json and expressions.csv")
    world = parser.add_argument_group("synthetic world")
    world.add_argument("--videos", type=int, default=50)
    world.add_argument("--seed", type=int, default=1_000_000, help="training uses small seeds")
    world.add_argument("--size", default="96x160", help="HEIGHTxWIDTH")
    world.add_argument("--frames", type=int, default=24)


def run(options: argparse.Namespace) -> int:
    """Evaluate, print, write. Raises InputError for bad options, weights or data."""
    source = _source(options.data, options.root, options.split, _synthetic(options))
    if options.baseline and (options.mode or options.key == "true" or options.sentence == "other"):
        raise InputError("--baseline asks no network; leave out --mode, --key and --sentence")
    world = join_world(options.device)
    try:
        videos = eval_videos(source)
        if options.baseline:
            answer, about = baseline_answer(options.baseline), {"answer": f"{options.baseline} object"}
        else:
            answer, about = network_answer(
                options.weights, world, mode=options.mode, true_key=options.key == "true",
                short_side=options.short_side, text_encoder=options.text_encoder, tracking=options.tracking,
            )  # fmt: skip
        prepare = with_other_sentences if options.sentence == "other" else None
        scores = score_videos(answer, videos, world, limit=options.limit, prepare=prepare, progress=True)
        if world.is_main:
            about |= {"data": options.data, "split": options.split, "key": options.key, "sentence": options.sentence}
            _report(scores, about | {"ranks": world.size, **provenance(world.device)}, options.out)
    finally:
        leave_world()
    return 0


def baseline_answer(baseline: Baseline) -> Answer:
    """Answers that need no network: the largest object's true mask, or a random object's."""
    return lambda number, video: answer_with_one_object(video, baseline, seed=number)


def network_answer(
    weights: str,
    world: World,
    *,
    mode: Literal["track", "clip"] | None,
    true_key: bool,
    short_side: int | None,
    text_encoder: str | None,
    tracking: Literal["none", "rgb"],
) -> tuple[Answer, dict[str, Any]]:
    """The network's answers, and what to say of them in a report: protocol and inference settings."""
    from models.checkpoint import load_segmenter
    from models.key_frame import segment_video
    from scripts.segment import stored_settings, with_size

    segmenter = load_segmenter(weights, text_encoder=text_encoder, tracking=tracking, device=world.device)
    config = with_size(stored_settings(weights), short_side)
    config = replace(config, mode=mode or config.mode)

    def answer(number: int, video: ReferringVideo) -> Masks:
        sentences = [expression.text for expression in video.expressions]
        keys = true_keys(video) if true_key else None
        return segment_video(segmenter, video.frames, sentences, config, keys=keys).masks

    about = {"weights": weights, "protocol": segmenter.config.protocol.name, "inference": asdict(config)}
    return answer, about


def _source(
    data: Literal["synthetic", "ref_youtube_vos", "mevis"],
    root: Path | None,
    split: str | None,
    synthetic: SyntheticConfig,
) -> SourceConfig:
    if data == "synthetic":
        return SourceConfig(kind="synthetic", synthetic=synthetic)
    if root is None or split is None:
        raise InputError(f"--data {data} needs --root (its folder) and --split; docs/data.md shows the layout")
    return SourceConfig(kind=data, root=str(root), split=split)


def _synthetic(options: argparse.Namespace) -> SyntheticConfig:
    try:
        height, width = (int(side) for side in options.size.lower().split("x"))
    except ValueError:
        raise InputError(f"--size is {options.size!r}; write HEIGHTxWIDTH, for example 96x160") from None
    return SyntheticConfig(seed=options.seed, videos=options.videos, frames=options.frames, height=height, width=width)


def _report(scores: list[ExpressionScore], about: dict[str, Any], out: Path | None) -> None:
    summary = summarise(scores)
    rows = [{"sentences": "all", **summary}] + [{"sentences": n, **means} for n, means in summary["by_type"].items()]
    shown = [
        {
            "sentences": row["sentences"],
            "number": row["expressions"],
            **{name: f"{100 * row[name]:.1f}" for name in ("J&F", "J", "F", "J recall", "F recall")},
        }
        for row in rows
    ]
    print(table(shown))
    print(f"protocol {about.get('protocol', 'none (no network)')}: mean over frames, then over sentences")
    for name, meaning in (("N-acc", "no-target sentences answered empty"), ("T-acc", "others answered non-empty")):
        if summary[name] is not None:
            print(f"{name} {100 * summary[name]:.1f} ({meaning})")
    if out is not None:
        write_csv(out / "expressions.csv", [_row(score) for score in scores])
        print(f"wrote {write_json(out / 'results.json', {'summary': summary, **about})}")


def _row(score: ExpressionScore) -> dict[str, Any]:
    return {
        "video": score.video, "expression": score.expression, "type": score.type, "text": score.text,
        "frames": score.frames, "J&F": score.j_and_f, "J": score.j.mean, "F": score.f.mean,
        "J recall": score.j.recall, "F recall": score.f.recall, "J decay": score.j.decay, "F decay": score.f.decay,
        "target": score.target, "empty": score.empty,
    }  # fmt: skip
