"""Every recipe in configs/ loads, says the published numbers, and those on images train on a small world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datasets.sources import LAYOUTS, write_layout
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from engine import TrainConfig, train
from tests.micro_run import micro_config
from util.config import load_config
from util.optimization import learning_rate_share

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
RECIPES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
COCO = [f"{name}/train" for name in ("refcoco", "refcoco+", "refcocog")]

# Rows of ReferFormer's recipes: epochs, when rates drop, batch of all GPUs, frames, starts from RefCOCO, the rest.
PUBLISHED: dict[str, tuple[int, tuple[int, ...], int, int, bool, dict[str, Any]]] = {
    "refcoco_r50": (12, (8, 10), 64, 1, False, {"splits": COCO, "frozen": False}),
    "ref_youtube_vos_r50": (6, (3, 5), 8, 5, True, {}),
    "joint_r50": (12, (8, 10), 32, 5, False, {"splits": [*COCO, "train"], "frozen": False}),
    "ref_youtube_vos_video_swin_t_scratch": (10, (6, 8), 8, 5, False, {"frozen": None}),
    "a2d_video_swin_t": (6, (3, 5), 16, 5, True, {}),
    "a2d_video_swin_t_scratch": (12, (8, 10), 8, 6, False, {"frozen": None, "dropout": 0.0, "weight_decay": 1e-4}),
}


def recipe(name: str) -> TrainConfig:
    return load_config(TrainConfig, CONFIGS / f"{name}.yaml")


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_loads(name: str) -> None:
    config = recipe(name)
    assert (config.steps is None) != (config.epochs is None) and config.batch % config.micro_batch == 0
    assert config.output_dir == Path("output") / name
    sources = [*config.data.sources, *([config.validation.source] if config.validation.source else [])]
    assert all((source.kind in LAYOUTS) == bool(source.root) for source in sources)
    assert name in PUBLISHED or name in ("ablation", "student") or name.startswith("tiny")


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipe_is_as_published(name: str) -> None:
    epochs, drops, batch, frames, pretrained, special = PUBLISHED[name]
    config = recipe(name)
    clip, model, optim = config.data.clip, config.model, config.optim
    assert (config.epochs, config.batch, clip.frames, model.queries) == (epochs, batch, frames, 5)
    assert (optim.lr, optim.lr_backbone, optim.lr_text_encoder, optim.clip_norm) == (1e-4, 5e-5, 1e-5, 0.1)
    assert optim.weight_decay == special.get("weight_decay", 5e-4) and model.dropout == special.get("dropout", 0.1)
    shares = [learning_rate_share(epoch * 10, epochs * 10, optim, 10) for epoch in range(epochs)]
    assert shares == pytest.approx([0.1 ** sum(epoch >= drop for drop in drops) for epoch in range(epochs)])
    assert (config.weights is not None, config.backbone_weights is not None) == (pretrained, not pretrained)
    assert [source.split for source in config.data.sources] == special.get("splits", ["train"])
    if special.get("frozen", True) is not None:
        assert model.text.freeze is special.get("frozen", True)
    if frames > 1:
        assert clip.sampler == "published" and clip.transform.max_side == 640


def test_images_are_pre_trained_at_their_own_sizes_and_joined_as_pseudo_videos() -> None:
    images = recipe("refcoco_r50").data
    transform = images.clip.transform
    assert transform.short_sides == tuple(range(480, 769, 32)) and transform.max_side == 800
    assert transform.cropped_short_sides == (296, 328, 360, 392, 416, 448, 480, 512)
    assert (transform.cropped_max_side, transform.crop, transform.flip, transform.photometric) == (640, 0.5, 0.5, False)
    joint = recipe("joint_r50").data.sources
    assert [source.pseudo_videos for source in joint] == [True, True, True, False]
    assert {source.weight for source in (*images.sources, *joint)} == {None}


@pytest.mark.parametrize("name", ["refcoco_r50", "joint_r50"])
def test_recipes_on_images_train(name: str, tmp_path: Path) -> None:
    """The recipe's own sources and clips, with small pictures and a tiny network."""
    config, micro = recipe(name), micro_config(tmp_path / "out", steps=2)
    for number, source in enumerate((*config.data.sources, config.validation.source)):
        if source is not None:
            world = SyntheticVideos(SyntheticConfig(seed=number, videos=2, frames=6, height=32, width=48))
            write_layout(source.kind, world, tmp_path / source.kind, source.split)
    sources = tuple(replace(source, root=str(tmp_path / source.kind)) for source in config.data.sources)
    clip = replace(config.data.clip, transform=micro.data.clip.transform, frames=min(2, config.data.clip.frames))
    validation = config.validation
    if validation.source is not None:
        held_out = replace(validation.source, root=str(tmp_path / validation.source.kind))
        small = replace(validation.inference, short_side=32, max_side=64)
        validation = replace(validation, source=held_out, videos=2, inference=small)
    model = replace(micro.model, tracking=config.model.tracking, time=config.model.time, presence=config.model.presence)
    outcome = train(
        replace(micro, data=replace(micro.data, sources=sources, clip=clip), model=model, validation=validation)
    )
    assert outcome.step == 2 and (outcome.best is not None) == (validation.source is not None)
