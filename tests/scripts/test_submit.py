"""`main.py submit`: exact zips, resumed runs, and every file that is missing or wrong named."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import main
from datasets.sources import SourceConfig, eval_videos, write_layout
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from models.inference import InferenceConfig
from util import rle
from util.scoring import true_masks
from util.types import FrameSource, ReferringVideo

KINDS = {"ref_youtube_vos": "valid", "mevis": "valid", "ref_davis17": "val"}


def truth(video: ReferringVideo) -> list[list[rle.RLE]]:
    frames = [true_masks(video, t)[0] for t in range(len(video.frames))]
    return [[rle.encode(frame[e]) for frame in frames] for e in range(len(video.expressions))]


@pytest.fixture(params=KINDS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    world = SyntheticVideos(SyntheticConfig(seed=5, videos=2, frames=3, height=48, width=64))
    write_layout(request.param, world, tmp_path / "data", KINDS[request.param])
    return request.param, tmp_path / "data"


def videos_of(kind: str, root: Path) -> Sequence[ReferringVideo]:
    return eval_videos(SourceConfig(kind=kind, root=str(root), split=KINDS[kind]))  # type: ignore[arg-type]


@pytest.fixture
def network(tree: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A stand-in that answers with the truth; lists what it was asked."""
    asked: list[list[str]] = []

    def segment(
        _: Any, frames: FrameSource, sentences: list[str], config: Any, *, keys: Any = None, soft: Any = None
    ) -> Any:
        asked.append(sentences)
        video = next(v for v in videos_of(*tree) if [e.text for e in v.expressions] == sentences)
        masks = truth(video)
        if soft is not None:
            soft.probabilities = lambda frame, places: np.stack([rle.decode(masks[e][frame]) for e in places])
        return SimpleNamespace(masks=masks)

    loaded = SimpleNamespace(config=SimpleNamespace(protocol=SimpleNamespace(name="corrected")))
    monkeypatch.setattr("models.checkpoint.load_segmenter", lambda *a, **k: loaded)
    monkeypatch.setattr("scripts.segment.stored_settings", lambda weights: InferenceConfig())
    monkeypatch.setattr("models.key_frame.segment_video", segment)
    return asked


def submit(kind: str, root: Path, out: Path, *words: str) -> int:
    return main.main(["submit", kind, "--root", str(root), "--out", str(out), "--device", "cpu", *words])


def test_the_zip_is_exact_and_scores_100(
    tree: tuple[str, Path], network: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, root = tree
    assert submit(kind, root, tmp_path / "out", "--weights", "x") == 0
    zipped = tmp_path / "out" / "submission.zip"
    expected = set()
    for video in videos_of(kind, root):
        for name in video.frame_names:
            if kind == "ref_davis17":
                expected |= {f"anno_{k}/{video.id}/{name}.png" for k in range(4)}
            else:
                above = "Annotations/" if kind == "ref_youtube_vos" else ""
                expected |= {f"{above}{video.id}/{e.id}/{name}.png" for e in video.expressions}
    with zipfile.ZipFile(zipped) as archive:
        assert set(archive.namelist()) == expected
        with archive.open(sorted(expected)[0]) as file, Image.open(file) as image:
            assert (image.mode, image.size) == ("P" if kind == "ref_davis17" else "L", (64, 48))
    words = ["--data", kind, "--root", str(root), "--split", KINDS[kind], "--processes", "2"]
    assert main.main(["eval", "--predictions", str(zipped), *words, "--out", str(tmp_path / "scores")]) == 0
    summary = json.loads((tmp_path / "scores" / "results.json").read_text())["summary"]
    if kind == "ref_davis17":
        # the world's objects have up to two sentences each, so only the first set asks for all of them
        assert summary["published"]["sets"]["0"]["J&F"] == summary["strict"]["J&F"] == 1
    else:
        assert (summary["J&F"], summary["T-acc"]) == (1, 1)
    assert (tmp_path / "scores" / "videos.csv").is_file()


def test_a_run_goes_on_where_it_ended(tree: tuple[str, Path], network: list[list[str]], tmp_path: Path) -> None:
    kind, root = tree
    out = tmp_path / "out"
    assert submit(kind, root, out, "--weights", "x") == 0
    first = (out / "submission.zip").read_bytes()
    lost = next(path for path in sorted(out.rglob("*.png"))).parent
    shutil.rmtree(lost)
    before = len(network)
    assert submit(kind, root, out, "--weights", "x") == 0
    assert len(network) == before + 1
    with zipfile.ZipFile(out / "submission.zip") as again:
        assert again.testzip() is None
    assert len((out / "submission.zip").read_bytes()) == len(first)
    assert submit(kind, root, out, "--weights", "other") == 2  # its masks would be mixed with the first's


@pytest.mark.parametrize("fault", ["missing", "size", "mode", "grey", "cut"])
def test_a_wrong_png_is_named(
    fault: str, tree: tuple[str, Path], network: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, root = tree
    out = tmp_path / "out"
    assert submit(kind, root, out, "--weights", "x") == 0
    victim = sorted(out.rglob("*.png"))[-1]
    if fault == "missing":
        victim.unlink()
    elif fault == "cut":
        victim.write_bytes(victim.read_bytes()[:40])
    elif fault == "grey" and kind == "ref_davis17":
        pytest.skip("palette images may hold any id")
    else:
        size = (63, 48) if fault == "size" else (64, 48)
        mode = "RGB" if fault == "mode" else "P" if kind == "ref_davis17" else "L"
        Image.new(mode, size, 1).save(victim)
    (out / "submission.zip").unlink()
    capsys.readouterr()
    assert submit(kind, root, tmp_path / "packed", "--predictions", str(out)) == 2
    assert victim.name in capsys.readouterr().err
    assert not (tmp_path / "packed" / "submission.zip").exists()
    assert list((tmp_path / "packed").glob("*")) == []


def test_a_zip_that_climbs_out_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = SyntheticVideos(SyntheticConfig(seed=5, videos=1, frames=2, height=48, width=64))
    write_layout("mevis", world, tmp_path / "data", "valid")
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../outside.png", b"")
    words = ["--data", "mevis", "--root", str(tmp_path / "data"), "--split", "valid"]
    for path, said in (("bad.zip", "../outside.png"), ("none.zip", "missing"), ("data", "holds none")):
        assert main.main(["eval", "--predictions", str(tmp_path / path), *words]) == 2
        assert said in capsys.readouterr().err
