"""`main.py teach`: calibrate on labelled videos, run with that, validate, export, ask elsewhere; scripted models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datasets.masklets import read_masklets
from datasets.mevis import write_mevis
from datasets.ref_youtube_vos import read_ref_youtube_vos
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from main import main
from models.teacher.match.external import REQUEST

SCRIPTED = ["--detector", "scripted", "--segmenter", "scripted", "--device", "cpu"]
VIDEOS = SyntheticVideos(SyntheticConfig(seed=9, videos=5, frames=6, height=32, width=48, expressions=3))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    write_mevis(VIDEOS, root, "train")
    return root


@pytest.fixture(scope="module")
def taught(source: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    models = [*SCRIPTED, "--matcher", "scripted"]
    assert main(["teach", "calibrate", str(source), "--out", str(folder / "quality.json"), *models]) == 0
    run = ["teach", "run", str(source), "--out", str(folder / "set"), "--calibration", str(folder / "quality.json")]
    assert main([*run, *models]) == 0
    return folder


def test_quality_is_fitted_and_used(taught: Path) -> None:
    rows = [json.loads(line) for line in (taught / "set/train/quality.jsonl").read_text().splitlines()]
    assert rows and all(row["calibrated"] and row["quality"] > 0.9 and row["weight"] == 1 for row in rows)
    described = json.loads((taught / "set/dataset.json").read_text())
    assert described["calibration"] and {model["role"] for model in described["models"]} >= {"detector", "segmenter"}
    assert sum(len(video.expressions) for video in read_masklets(taught / "set")) == len(rows)


def test_validate_and_export(taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["teach", "validate", str(taught / "set")]) == 0
    assert (
        main(["teach", "export", str(taught / "set"), "--out", str(tmp_path / "ytvos"), "--paint-order", "quality"])
        == 0
    )
    count = sum(len(video.expressions) for video in read_masklets(taught / "set"))
    assert sum(len(video.expressions) for video in read_ref_youtube_vos(tmp_path / "ytvos")) == count
    broken = taught / "set/train/frame_state.json"
    whole = broken.read_text()
    broken.write_text(whole.replace("P", "A", 1))
    try:
        assert main(["teach", "validate", str(taught / "set")]) == 4
    finally:
        broken.write_text(whole)
    assert "has a mask" in capsys.readouterr().out


def test_answers_made_elsewhere_are_taken(source: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    ask = ["teach", "requests", str(source), "--out", str(asked), "--work", str(tmp_path / "work"), *SCRIPTED]
    assert main(ask) == 0
    lines = [json.loads(line) for line in (asked / "requests.jsonl").read_text().splitlines()]
    assert lines and all(line["schema"] == REQUEST and (asked / line["image"]).is_file() for line in lines)
    matcher = {"name": "they", "model_id": "they/one", "revision": None, "licence": "IDEA License 1.0, non-commercial"}
    with (tmp_path / "scores.jsonl").open("w") as file:
        for line in lines:
            kept = {key: line[key] for key in ("fingerprint", "video_id", "expression_id", "frame")}
            answer = {"schema": "rvos-scores/1", "matcher": matcher, "candidates": line["track_index"]}
            file.write(json.dumps(kept | answer | {"selected": line["track_index"][:1]}) + "\n")
    external = f"external={tmp_path / 'scores.jsonl'},{asked / 'requests.jsonl'}"
    run = ["teach", "run", str(source), "--out", str(tmp_path / "set"), "--work", str(tmp_path / "work"), *SCRIPTED]
    assert main([*run, "--matcher", external]) == 0
    described = json.loads((tmp_path / "set/dataset.json").read_text())
    assert described["licence_tags"] == ["non-commercial"]
    assert any(video.expressions for video in read_masklets(tmp_path / "set"))


def test_a_video_that_cannot_be_read_is_asked_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/cut.mp4").write_bytes(b"no video")
    (tmp_path / "videos/sentences.json").write_text('{"cut": "the dog"}')
    ask = ["teach", "requests", str(tmp_path / "videos"), "--work", str(tmp_path / "work"), *SCRIPTED]
    assert main([*ask, "--out", str(tmp_path / "asked")]) == 3
    assert "failed: cut: cannot read" in capsys.readouterr().out
    assert (tmp_path / "asked/requests.jsonl").read_text() == ""
    assert not list(tmp_path.glob(".*"))


def test_calibrating_on_what_is_scored_is_refused(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from dataclasses import replace

    write_mevis([replace(VIDEOS[0], id="blackswan")], tmp_path / "davis", "train")
    assert main(["teach", "calibrate", str(tmp_path / "davis"), *SCRIPTED, "--matcher", "scripted"]) == 2
    assert "evaluation videos" in capsys.readouterr().err


def test_what_looks_like_evaluation_videos_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["teach", "hashes", str(source / "train/JPEGImages"), "--out", str(tmp_path / "scored.json")]
    assert main(words) == 0
    models = [*SCRIPTED, "--matcher", "scripted", "--eval-hashes", str(tmp_path / "scored.json")]
    run = ["teach", "run", str(source), "--out", str(tmp_path / "set"), *models]
    assert main(run) == 2
    assert "look like evaluation videos" in capsys.readouterr().err and not (tmp_path / "set").exists()
    assert main([*run, "--allow-eval-videos"]) == 0
    described = json.loads((tmp_path / "set/dataset.json").read_text())
    assert described["contaminated"] and described["hashes_sha256"]


def test_videos_that_cannot_be_read_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/cut.mp4").write_bytes(b"no video")
    assert main(["teach", "hashes", str(tmp_path / "videos"), "--out", str(tmp_path / "scored.json")]) == 3
    assert "failed: videos/cut" in capsys.readouterr().out
    (tmp_path / "videos/cut.mp4").unlink()
    assert main(["teach", "hashes", str(tmp_path / "videos"), "--out", str(tmp_path / "scored.json")]) == 2
