"""`main.py teach video`, `requests` and `run` with tiny random networks, up to a data set that a student trains on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import main
from datasets.masklets import read_masklets
from tests.micro_run import micro_dict
from tests.models.teacher.tiny_models import save_grounding_dino
from tests.models.teacher.tiny_sam2 import moving_square, tiny_sam2
from util import rle
from util.errors import InputError

SIZE = (96, 128)
ANYTHING = ["--set", "follow.detect.threshold=0.05", "--set", "follow.sweep.begin=0.05"]


@torch.no_grad()
def save_sam2_of_blobs(folder: Path) -> None:
    """A SAM 2 whose masks are sure of themselves and of few parts, so that quality keeps some."""
    model = tiny_sam2(seed=3)
    decoder = model.mask_decoder
    for layer in (decoder.upscale_conv1, decoder.upscale_conv2):  # no pattern of its own at each place
        layer.weight.copy_(layer.weight.mean((2, 3), keepdim=True).expand_as(layer.weight))
    for network in decoder.output_hypernetworks_mlps:
        network.proj_out.weight.mul_(3000)
        network.proj_out.bias.mul_(3000)
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and a folder of two videos with sentences."""
    root = tmp_path_factory.mktemp("video")
    save_grounding_dino(root / "gdino")
    save_sam2_of_blobs(root / "sam2")
    sentences = {}
    for name, length in (("long", 7), ("short", 5)):
        (root / "videos" / name).mkdir(parents=True)
        for t, frame in enumerate(moving_square(length, SIZE)):
            Image.fromarray(frame).save(root / "videos" / name / f"{t:05d}.png")
        sentences[name] = ["the red car", "a dog on the left", "the cat that runs"]
    (root / "videos/sentences.json").write_text(json.dumps(sentences))
    return root


def models(folder: Path) -> list[str]:
    named = ["--detector", f"grounding_dino={folder / 'gdino'}", "--segmenter", f"sam2={folder / 'sam2'}"]
    return [*named, "--device", "cpu", *ANYTHING]


def test_a_video_is_answered_and_the_best_guess_shown_where_it_is_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["teach", "video", str(folder / "videos/long"), "-e", "the dog", "-e", "the red dog", "--fps", "5"]
    strict = ["--set", "judge.resolver.accept=1", "--out", str(tmp_path), *models(folder)]
    assert main.main([*ask, *strict]) == 0
    said = capsys.readouterr().out
    assert "detect" in said and said.count("no answer: no_match, the best match is 0.") == 2
    assert shown(tmp_path) == [0, 0]
    assert main.main([*ask, *strict, "--doubtful"]) == 0
    assert "detect" not in capsys.readouterr().out.split("seconds:")[1]  # the work is done
    assert all(shown(tmp_path))
    for name in ("overlay.mp4", "contact_sheet.png", "masks/1/00006.png"):
        assert (tmp_path / name).is_file()


def shown(folder: Path) -> list[int]:
    """Pixels of all frames, for each sentence."""
    answered = json.loads((folder / "masks.json").read_text())
    return [sum(rle.area(mask) for mask in entry["masks"]) for entry in answered["sentences"]]


def test_a_student_trains_on_masks_of_networks(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, work, asked = str(folder / "videos"), str(tmp_path / "work"), tmp_path / "asked"
    # random networks find nothing twice
    unchecked = ["--set", "judge.checks.frames=0", "--set", "judge.checks.cycle=false", *models(folder)]
    assert main.main(["teach", "requests", videos, "--work", work, "--out", str(asked), *unchecked]) == 0
    lines = [json.loads(line) for line in (asked / "requests.jsonl").read_text().splitlines()]
    who = {"schema": "rvos-scores/1", "matcher": {"name": "a", "model_id": "a/b", "revision": None, "licence": "MIT"}}
    with (tmp_path / "scores.jsonl").open("w") as file:
        for line in lines:
            answer = {key: line[key] for key in ("fingerprint", "video_id", "expression_id", "frame")}
            answer |= {"candidates": line["track_index"], "selected": line["track_index"][:1]}
            file.write(json.dumps(who | answer) + "\n")
    external = f"external={tmp_path / 'scores.jsonl'},{asked / 'requests.jsonl'}"
    run = ["teach", "run", videos, "--work", work, "--out", str(tmp_path / "set"), "--matcher", external, *unchecked]
    assert main.main(run) == 0
    said = capsys.readouterr().out
    assert "2 with masklets" in said and "rejected: none" in said
    assert main.main(["data", "check", str(tmp_path / "set")]) == 0
    for video in read_masklets(tmp_path / "set"):
        assert video.masks is not None and video.expressions
        for expression in video.expressions:
            masks = [video.masks.read(t, expression.object_ids)[0].any(0) for t in range(len(video.frames))]
            assert all(mask.any() for mask in masks) and np.mean(masks) < 1
    sources = [{"kind": "masklets", "root": str(tmp_path / "set")}]
    config = micro_dict(tmp_path / "run", steps=2)
    config["data"]["sources"] = sources
    (tmp_path / "micro.yaml").write_text(json.dumps(config))
    assert main.main(["train", "--config", str(tmp_path / "micro.yaml")]) == 0
    assert (tmp_path / "run/model/model.safetensors").is_file()


def test_a_data_set_of_nothing_says_why_it_is_empty(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = ["--set", "judge.resolver.accept=1", *models(folder)]
    assert main.main(["teach", "run", str(folder / "videos"), "--out", str(tmp_path / "set"), *strict]) == 0
    assert "rejected: 6 no_match" in capsys.readouterr().out
    with pytest.raises(InputError, match="no sentence was kept"):
        read_masklets(tmp_path / "set")
