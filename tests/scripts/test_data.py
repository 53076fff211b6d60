"""`data synth` writes trees that the adapters read, and refuses bad options in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets.sources import SourceConfig, eval_videos
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from main import main
from util.scoring import true_masks


@pytest.mark.parametrize("layout", ["ref_youtube_vos", "mevis"])
def test_synth_writes_a_readable_tree(layout: str, tmp_path: Path, capsys) -> None:
    options = ["--videos", "2", "--seed", "4", "--size", "32x48", "--frames", "3", "--split", "valid"]
    assert main(["data", "synth", "--layout", layout, "--out", str(tmp_path / "t"), *options]) == 0
    videos = eval_videos(SourceConfig(layout, root=str(tmp_path / "t"), split="valid"))
    assert len(videos) == 2
    for video in videos:
        assert (len(video.frames), video.frames[0].shape) == (3, (32, 48, 3))
        assert video.masks is not None and video.expressions
    count = sum(len(video.expressions) for video in videos)
    assert f"wrote 2 videos with {count} sentences" in capsys.readouterr().out


def test_synth_writes_a_split_as_the_world_has_it(tmp_path: Path) -> None:
    options = ["--videos", "2", "--seed", "4", "--size", "32x48", "--frames", "3", "--world", "swap", "--hard"]
    assert main(["data", "synth", "--layout", "mevis", "--out", str(tmp_path), *options]) == 0
    config = SyntheticConfig(seed=4, videos=2, frames=3, height=32, width=48, split="swap", hard=True)
    for video, original in zip(
        eval_videos(SourceConfig("mevis", root=str(tmp_path))), SyntheticVideos(config), strict=True
    ):
        assert [e.text for e in video.expressions] == [e.text for e in original.expressions]
        assert (true_masks(video, 1)[0] == true_masks(original, 1)[0]).all()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--size", "9x"], "height x width"),
        (["--quality", "0"], "quality"),
        (["--split", "../up"], "plain names"),
        (["--videos", "0"], "videos"),
    ],
)
def test_bad_options_are_one_line(options: list[str], message: str, tmp_path: Path, capsys) -> None:
    assert main(["data", "synth", "--layout", "mevis", "--out", str(tmp_path / "t"), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
