"""`data synth` writes trees that the adapters read, and refuses bad options in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets.sources import SourceConfig, eval_videos
from main import main


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
