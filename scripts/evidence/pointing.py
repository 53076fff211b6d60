"""Can movements be learned at all? The part before the encoder, trained alone, points at what a sentence means.

Each variant of the network trains from random weights on the same clips for the same number of steps. Every so often it
is asked about held-out videos which of their objects it points at most, over all frames of a clip; chance is one among
them. The videos hold two things that look alike, so that what they do is all there is to tell them apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from datasets.clips import ClipConfig
from datasets.loader import DataConfig, train_batches
from datasets.sources import SourceConfig
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from engine import TrainConfig, ValidationConfig, optimise, start
from models.inference import Inference, InferenceConfig, evaluating
from models.segmenter import Segmenter
from util.distributed import World
from util.types import Expression

# what of the network is switched on: (motion, space_time)
VARIANTS: dict[str, tuple[bool, bool]] = {
    "frames": (False, False),
    "space-time": (False, True),
    "motion": (True, False),
    "both": (True, True),
}
ABOUT = {
    "frames": "every frame alone, as the reference network",
    "space-time": "attention over all frames of the clip",
    "motion": "likeness to the frames before and after",
    "both": "likeness and attention",
}
WORLD = SyntheticConfig(
    seed=1, videos=100_000, height=64, width=112, split="twins", min_objects=2, max_objects=2, expressions=2
)
HELD_OUT = 2_500_000  # seed of the videos that are asked about


@dataclass(frozen=True)
class Schedule:
    """`batch` clips of `frames` frames a step, `spacing` apart; asked about `videos` videos every `every` steps."""

    steps: int = 500
    every: int = 50
    batch: int = 8
    frames: int = 6
    spacing: int = 4
    videos: int = 150
    lr: float = 1e-3


@dataclass(frozen=True)
class Asked:
    """One sentence of a held-out video: its family, whether the network pointed right, and how likely chance is to."""

    family: str
    right: bool
    chance: float


def learning_curve(
    config: TrainConfig, variant: str, schedule: Schedule, folder: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Train a variant of `config`'s network and return its curve: accuracy by step, by family at the end, and times.

    config: whose model and optimiser are taken. folder: for the tokenizer and the log. Raises InputError for a loss
    that is not finite.
    """
    held_out = SyntheticVideos(replace(WORLD, seed=HELD_OUT, videos=schedule.videos))
    run = start(
        _run_config(config, variant, schedule, folder / variant), World(0, 1, torch.device("cpu")), stage="grounding"
    )
    curve: list[dict[str, float]] = []
    asked: list[Asked] = []
    began = time.perf_counter()
    for batch in train_batches(run.config.data, per_rank=schedule.batch):
        optimise(run, batch)
        if run.step % schedule.every == 0 or run.step == schedule.steps:
            loss = run.losses.drain(run.world)["loss_grounding"]
            asked = ask(run.segmenter, held_out, schedule.frames)
            right = float(np.mean([one.right for one in asked]))
            curve.append({"step": run.step, "loss": round(loss, 4), "right": round(right, 4)})
            say(f"{variant}: step {run.step} of {schedule.steps}, loss {loss:.3f}, right {100 * right:.1f} %")
        if run.step == schedule.steps:
            break
    run.log.close()
    return {
        "variant": variant, "about": ABOUT[variant], "schedule": vars(schedule), "seed": config.seed,
        "sentences": len(asked), "chance": round(float(np.mean([one.chance for one in asked])), 4), "curve": curve,
        "families": by_family(asked), "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def _run_config(config: TrainConfig, variant: str, schedule: Schedule, folder: Path) -> TrainConfig:
    """A run of the part before the encoder alone, from random weights."""
    motion, space_time = VARIANTS[variant]
    model = replace(
        config.model, grounding=True, motion=motion, space_time=space_time, tracking="none", time=False, presence=False
    )
    # left and right stay what they are: one way of saying less to learn
    transform = replace(config.data.clip.transform, flip=0.0)
    spread = ClipConfig(
        frames=schedule.frames, expressions=WORLD.expressions, max_objects=2, min_skip=schedule.spacing,
        max_skip=schedule.spacing, transform=transform,
    )  # fmt: skip
    return replace(
        config, model=model, data=DataConfig((SourceConfig(synthetic=WORLD),), spread, workers=0, seed=config.seed),
        optim=replace(config.optim, lr=schedule.lr, lr_backbone=schedule.lr, lr_text_encoder=schedule.lr),
        validation=ValidationConfig(), grounding=None, weights=None, steps=schedule.steps, epochs=None,
        batch=schedule.batch, micro_batch=schedule.batch, ema_decay=None, output_dir=folder, device="cpu",
        resume="never",
    )  # fmt: skip


def ask(segmenter: Segmenter, videos: SyntheticVideos, frames: int) -> list[Asked]:
    """Which objects the network points at, for every sentence with a target, in a clip spread over each video."""
    answers = []
    with evaluating(segmenter):
        for number in range(len(videos)):
            answers += _ask_video(segmenter, videos, number, frames)
    return answers


def _ask_video(segmenter: Segmenter, videos: SyntheticVideos, number: int, frames: int) -> list[Asked]:
    video = videos[number]
    said = [expression for expression in video.expressions if expression.object_ids]
    if not said:
        return []
    assert video.masks is not None
    index = np.linspace(0, len(video.frames) - 1, frames).round().astype(int).tolist()
    ids = sorted(thing.id for thing in videos.program(number)[0].things)
    height, width = video.frames.size
    inference = Inference(segmenter, InferenceConfig(short_side=height, max_side=width), video.frames.size)
    seen = segmenter.encode_video(
        inference.pixels([video.frames[t] for t in index]), inference.times(index, video.frames.fps)
    )
    maps = segmenter.ground(seen, segmenter.encode_text([[expression.text for expression in said]]))
    rows, columns = maps.shapes[0]
    pointed = maps.logits_NS[:, : rows * columns].softmax(-1).view(len(said), frames, rows, columns)
    masks_TNHW = torch.from_numpy(np.stack([video.masks.read(t, ids)[0] for t in index]))
    cover = F.adaptive_avg_pool2d(masks_TNHW.float(), (rows, columns))
    share_EN = torch.einsum("ethw,tnhw->en", pointed, cover) / cover.sum((0, 2, 3)).clamp(min=1e-6)
    return [judge(share_N.tolist(), ids, e) for e, share_N in zip(said, share_EN, strict=True)]


def judge(shares: Sequence[float], ids: Sequence[int], expression: Expression) -> Asked:
    """Right when the referents are the objects with the largest shares; as many are taken as there are referents."""
    wanted = set(expression.object_ids or ())
    order = sorted(range(len(ids)), key=lambda n: -shares[n])
    chosen = {ids[n] for n in order[: len(wanted)]}
    return Asked(str(expression.type), chosen == wanted, 1 / math.comb(len(ids), len(wanted)))


def by_family(asked: Sequence[Asked]) -> dict[str, dict[str, float]]:
    """Accuracy, chance and number of sentences of each family."""
    families = sorted({one.family for one in asked})
    groups = {family: [one for one in asked if one.family == family] for family in families}
    return {
        family: {
            "accuracy": round(float(np.mean([one.right for one in group])), 4),
            "chance": round(float(np.mean([one.chance for one in group])), 4),
            "sentences": len(group),
        }
        for family, group in groups.items()
    }
