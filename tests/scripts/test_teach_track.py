"""`main.py teach track` and `teach convert` from end to end, with tiny random models read from folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import main
from datasets.video import open_video
from scripts.teaching.track import read_prompts
from tests.models.teacher.tiny_models import save_grounding_dino
from tests.models.teacher.tiny_sam2 import moving_square, save_tiny_sam2
from util.errors import InputError
from util.video_writer import VideoWriter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and a video of seven frames as images whose names are no numbers."""
    root = tmp_path_factory.mktemp("track")
    save_grounding_dino(root / "gdino")
    save_tiny_sam2(root / "sam2")
    (root / "video").mkdir()
    for t, frame in enumerate(moving_square(7, (96, 128))):
        Image.fromarray(frame).save(root / "video" / f"shot.a {t}.png")
    mask = np.zeros((96, 128), np.uint8)
    mask[20:40, 8:32] = 255
    Image.fromarray(mask).save(root / "mask.png")
    return root


def track(folder: Path, out: Path, *options: str) -> dict:
    words = ["teach", "track", str(folder / "video"), "--out", str(out), "--device", "cpu", "--fps", "5"]
    words += ["--detector", f"grounding_dino={folder / 'gdino'}", "--segmenter", f"sam2={folder / 'sam2'}"]
    assert main.main([*words, *options]) == 0
    return json.loads((out / "masks.json").read_text())  # type: ignore[no-any-return]


def test_box_points_and_mask_are_followed_both_ways_and_drawn(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--box", "3:10,20,34,40", "--point", "0:15,30;100,80,0", "--mask", f"6:{folder / 'mask.png'}"]
    answer = track(folder, tmp_path, *told, "--label-maps")
    assert [prompt["kind"] for entry in answer["objects"] for prompt in entry["prompts"]] == ["point", "box", "mask"]
    assert [entry["key"] for entry in answer["sentences"]] == [0, 3, 6]
    film = open_video(tmp_path / "overlay.mp4")
    assert (len(film), film.size, film.fps) == (7, (96, 128), pytest.approx(5.0))
    assert (tmp_path / "mask_data" / "mask_shot.a 4.npy").is_file()
    assert "1: object" in capsys.readouterr().out


def test_words_are_followed_with_and_without_going_back(folder: Path, tmp_path: Path) -> None:
    looked = ["--text", "dog. red car.", "--at", "4", "--threshold", "0.1"]
    both = track(folder, tmp_path / "both", *looked)
    forward = track(folder, tmp_path / "forward", *looked, "--no-reverse", "--prompt-by", "mask")
    assert {entry["noun"] for entry in both["objects"]} <= {"dog", "red car"} and both["objects"]
    assert both["generator"]["prompt_sources"][0]["nouns"] == ["dog", "red car"]
    assert "mask prompts" in forward["generator"]["segmenter"]["backend"]
    empty = "".join(mask["counts"] for entry in forward["sentences"] for mask in entry["masks"][:4])
    assert empty == forward["sentences"][0]["masks"][0]["counts"] * 4 * len(forward["sentences"])


def test_nothing_to_follow_says_what_to_give(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["teach", "track", str(folder / "video"), "--out", str(tmp_path), "--device", "cpu"]
    assert main.main(words) == 2
    assert "--text" in capsys.readouterr().err


def test_a_video_is_followed_as_if_it_came_live(folder: Path, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "live.mp4", fps=5) as video:
        for frame in moving_square(6, (96, 128)):
            video.write(frame)
    words = ["teach", "stream", str(tmp_path / "live.mp4"), "--text", "dog.", "--out", str(tmp_path / "out")]
    words += ["--detector", f"grounding_dino={folder / 'gdino'}", "--segmenter", f"sam2={folder / 'sam2'}"]
    assert main.main([*words, "--device", "cpu", "--every", "2", "--threshold", "0.1", "--frames", "4"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "objects.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2, 3]
    assert lines[3]["objects"] and {entry["noun"] for entry in lines[3]["objects"]} == {"dog"}
    assert len(open_video(tmp_path / "out" / "overlay.mp4")) == 4


def test_a_stream_that_gives_nothing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["teach", "stream", str(tmp_path / "none.mp4"), "--text", "dog.", "--device", "cpu"]) == 2
    assert "gives no picture" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("boxes", "points", "masks", "message"),
    [
        (["1,2,3,4"], [], [], "does not begin with a frame number"),
        (["0:1,2,3"], [], [], "needs 4 numbers"),
        ([], ["0:1,2;3"], [], "needs 2 or 3 numbers"),
        ([], ["0:1,nan"], [], "needs 2 or 3 numbers"),
        ([], [], ["0:none.png"], "cannot read the mask"),
    ],
)
def test_prompts_that_cannot_be_read_are_repeated(
    boxes: list[str], points: list[str], masks: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_prompts(boxes, points, masks)


def test_conversion_refuses_what_is_neither(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "a.pt")
    for name, message in (("a.bin", "neither"), ("a.pt", "no SAM 2 checkpoint"), ("none.pth", "no file")):
        assert main.main(["teach", "convert", str(tmp_path / name), str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
