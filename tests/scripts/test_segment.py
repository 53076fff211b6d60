"""`segment` and `demo` from the command line, on a network whose answers are known: every file, size and rate."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
import pytest

import main
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from models.key_frame import InferenceConfig, VideoResult
from scripts import demo as demo_script
from scripts import segment as segment_script
from tests.fakes import SIZE, FakeSegmenter, Squares, agree, moving
from util import rle
from util.answer_files import check_folder, write_answer
from util.errors import InputError
from util.scoring import true_masks
from util.video_writer import VideoWriter


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> FakeSegmenter:
    """The fake in place of the weights, with settings at its size."""
    fake = FakeSegmenter()
    monkeypatch.setattr(segment_script, "load_segmenter", lambda *_, **__: fake)
    settings = InferenceConfig(short_side=64, max_side=96, window=3)
    monkeypatch.setattr(segment_script, "stored_settings", lambda weights: settings)
    return fake


@pytest.fixture
def video() -> Squares:
    red, blue = moving(7, best=3, top=4), moving(7, colour="blue", best=2, top=40)
    return Squares([[*r, *(b if t > 1 else [])] for t, (r, b) in enumerate(zip(red, blue, strict=True))])


def folder_of(video: Squares, path: Path) -> Path:
    path.mkdir()
    for t in range(len(video)):
        cv2.imwrite(str(path / f"{10 * t:03d}.png"), video[t][..., ::-1])
    return path


def call(*words: object) -> int:
    return main.main(["segment", *map(str, words), "--device", "cpu"])


def test_folder_of_frames_to_every_file(video: Squares, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = folder_of(video, tmp_path / "clip"), tmp_path / "out"
    assert call(source, "-e", "red", "-e", "Blue ", "-e", "green", "--out", out, "--fps", 6) == 0

    told = capsys.readouterr().out
    assert "device: cpu" in told and "7 frames of 96x64 at 6 frames/s" in told
    assert "'red': in 7 of 7 frames, tracked from frame 3" in told and "'green': not found" in told
    assert sorted(p.name for p in out.iterdir()) == ["contact_sheet.png", "masks", "masks.json", "overlay.mp4"]

    written = json.loads((out / "masks.json").read_text())
    assert (written["video"], written["size"], written["fps"]) == ("clip", list(SIZE), 6.0)
    assert written["frames"] == [f"{10 * t:03d}" for t in range(7)]
    assert (written["protocol"], written["mode"]) == ("corrected", "track")
    red, blue, green = written["sentences"]
    assert [s["sentence"] for s in (red, blue, green)] == ["red", "Blue ", "green"]
    assert (red["key"], blue["key"], green["key"]) == (3, 2, None)
    assert np.argmax(red["scores"]) == 3 and [p > 0.3 for p in blue["presence"]] == [False] * 2 + [True] * 5
    for t, name in enumerate(written["frames"]):
        for k, place in ((0, 0), (1, 1)):
            png = cv2.imread(str(out / "masks" / str(k) / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            assert png.dtype == np.uint8 and set(np.unique(png)) <= {0, 255}
            assert agree(png > 0, video.truth(t, place))
            assert np.array_equal(png > 0, rle.decode(written["sentences"][k]["masks"][t]))
    assert len(list((out / "masks").rglob("*.png"))) == 21
    assert cv2.imread(str(out / "contact_sheet.png")) is not None


def test_video_file_keeps_its_size_and_rate(video: Squares, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with VideoWriter(tmp_path / "in.mp4", fps=29.97) as file:
        for t in range(len(video)):
            file.write(video[t])
    assert call(tmp_path / "in.mp4", "-e", "red", "--out", tmp_path / "out") == 0
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as made, av.open(str(tmp_path / "in.mp4")) as given:
        new, old = (file.streams.video[0] for file in (made, given))
        assert (new.height, new.width, new.average_rate) == (old.height, old.width, old.average_rate)
        frames = [frame.to_ndarray(format="rgb24") for frame in made.decode(new)]
    assert len(frames) == 7
    inside = video.truth(3)
    assert np.abs(frames[3][inside].mean(0) - (0.5 * np.array([242, 0, 0]) + 0.5 * np.array([230, 159, 0]))).max() < 20


def test_image_gives_a_picture(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), Squares(moving(1))[0][..., ::-1])
    assert call(tmp_path / "photo.png", "-e", "red", "--out", tmp_path / "out") == 0
    assert cv2.imread(str(tmp_path / "out" / "overlay.png")).shape == (*SIZE, 3)
    assert not (tmp_path / "out" / "overlay.mp4").exists()
    assert [p.name for p in (tmp_path / "out" / "masks" / "0").iterdir()] == ["photo.png"]


def test_results_go_to_output_by_default(video: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder_of(video, tmp_path / "clip.v2")
    assert call("clip.v2", "-e", "red") == 0
    assert (tmp_path / "output" / "clip" / "masks.json").is_file()


def test_an_earlier_answer_is_replaced_and_nothing_else(video: Squares, tmp_path: Path) -> None:
    source, out = folder_of(video, tmp_path / "clip"), tmp_path / "out"
    assert call(source, "-e", "red", "-e", "blue", "--out", out) == 0
    (out / "masks" / "1" / "mine.png").write_text("kept")
    (out / "notes.txt").write_text("kept")
    assert call(source, "-e", "blue", "--out", out) == 0
    assert [p.name for p in (out / "masks" / "1").iterdir()] == ["mine.png"] and (out / "notes.txt").exists()
    assert len(list((out / "masks" / "0").iterdir())) == 7
    (out / "masks.json").write_text('{"of": "somebody else"}')
    stranger = out / "masks" / "1" / "mine.png"
    assert call(source, "-e", "red", "--out", out) == 0 and stranger.exists()


def test_clip_mode_and_size_reach_the_network(video: Squares, tmp_path: Path, network: FakeSegmenter) -> None:
    source = folder_of(video, tmp_path / "clip")
    assert call(source, "-e", "red", "--mode", "clip", "--short-side", 128, "--fps", 10,
                "--out", tmp_path / "out") == 0  # fmt: skip
    assert network.sizes == {(128, 192)} and network.tracked == [] and network.encoded == [list(range(7))]
    assert json.loads((tmp_path / "out" / "masks.json").read_text())["mode"] == "clip"
    larger = segment_script.with_size(InferenceConfig(short_side=96, max_side=160), 360)
    assert (larger.short_side, larger.max_side) == (360, 600)


@pytest.mark.parametrize(
    "words, said",
    [
        (["nowhere.mp4", "-e", "red"], "no such file"),
        (["EMPTY", "-e", "red"], "no frames"),
        (["TEXT", "-e", "red"], "TEXT.mp4"),
        (["CLIP", "-e", " "], "sentence 1 is empty"),
        (["CLIP", "-e", "red", "--fps", "0"], "--fps is 0"),
        (["CLIP", "-e", "red", "--device", "toaster"], "unknown device"),
        (["CLIP", "-e", "red", "--out", "CLIP/000.png/x"], "choose another --out"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    video: Squares, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    clip = folder_of(video, tmp_path / "clip")
    (tmp_path / "empty").mkdir()
    (tmp_path / "TEXT.mp4").write_text("no video")
    names = {
        "CLIP": clip,
        "EMPTY": tmp_path / "empty",
        "TEXT": tmp_path / "TEXT.mp4",
        "CLIP/000.png/x": clip / "000.png/x",
    }
    arguments = [str(names.get(word, word)) for word in words]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out")]
    if "--device" not in arguments:
        arguments += ["--device", "cpu"]
    assert main.main(["segment", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


def test_full_disk_is_refused_before_the_work(
    video: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: FakeSegmenter
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    assert call(folder_of(video, tmp_path / "clip"), "-e", "red", "--out", tmp_path / "out") == 2
    assert network.encoded == []
    with pytest.raises(InputError, match="no space left"):
        check_folder(tmp_path / "out", video, 1)


def test_write_error_midway_leaves_no_half_video(video: Squares, tmp_path: Path) -> None:
    def answer(frame: int) -> np.ndarray:
        if frame == 4:
            raise InputError("cannot write: no space left")
        return video.truth(frame)[None]

    masks = [[rle.encode(video.truth(t)) for t in range(7)]]
    result = VideoResult(("red",), SIZE, masks, np.zeros((1, 7)), np.zeros((1, 7)), np.array([3]), "track")
    object.__setattr__(result, "frame_masks", answer)
    with pytest.raises(InputError, match="no space"):
        write_answer(tmp_path, video, list("abcdefg"), result, {})
    assert [p.name for p in tmp_path.iterdir()] == ["masks"]


# --- the demo


def oracle(good: bool):
    """A stand-in for segment_video that answers with the truth, or with its complement."""
    videos = {}

    def segment(segmenter, frames, sentences, config, progress) -> VideoResult:
        video = videos["video"]
        shape = (len(sentences), len(frames))
        truth_T = [true_masks(video, t)[0] for t in range(len(frames))]
        masks = [[rle.encode(truth[e] if good else ~truth[e]) for truth in truth_T] for e in range(shape[0])]
        return VideoResult(
            tuple(sentences), frames.size, masks, np.ones(shape), np.ones(shape), np.zeros(shape[0], int), "track"
        )

    return videos, segment


@pytest.mark.parametrize("good", [True, False])
def test_demo_passes_on_the_truth_and_fails_below_60(
    good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    videos, segment = oracle(good)
    choose = demo_script.with_few_sentences
    monkeypatch.setattr(demo_script, "with_few_sentences", lambda v: videos.setdefault("video", choose(v)))
    monkeypatch.setattr(demo_script, "SIZE", (48, 80))
    monkeypatch.setattr(demo_script, "segment_video", segment)
    monkeypatch.setattr(demo_script, "load_segmenter", lambda *_, **__: FakeSegmenter())
    monkeypatch.setattr(demo_script, "stored_settings", lambda weights: InferenceConfig())
    status = main.main(["demo", "--out", str(tmp_path / "demo"), "--device", "cpu"])
    told = capsys.readouterr().out
    assert status == (0 if good else 1)
    assert ("J&F 100.0" in told and "main.py segment" in told) == good and ("failed: J&F" in told) != good
    asked = videos["video"].expressions
    rows = told.splitlines()
    assert all(any(line.startswith(f"| {e.text} ") for line in rows) for e in asked)
    assert (tmp_path / "demo" / "overlay.mp4").stat().st_size > 1000
    assert (tmp_path / "demo" / "contact_sheet.png").is_file()
    assert len(list((tmp_path / "demo" / "masks").iterdir())) == len(asked)


def test_demo_video_asks_about_several_objects_by_their_looks() -> None:
    videos = SyntheticVideos(SyntheticConfig(seed=demo_script.SEED, height=48, width=80, videos=1000))
    video = demo_script.with_few_sentences(videos[demo_script.VIDEO])
    targets = [e.object_ids for e in video.expressions]
    assert 3 <= len(targets) <= 4 and len(set(targets)) == len(targets) and () not in targets
    assert {e.type for e in video.expressions} == {"appearance"}
    # the same sentences whatever the size it is drawn at
    larger = SyntheticVideos(SyntheticConfig(seed=demo_script.SEED, height=96, width=160, videos=1000))
    assert demo_script.with_few_sentences(larger[demo_script.VIDEO]).expressions == video.expressions


def test_settings_come_from_the_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    info = namedtuple("info", "extra")
    monkeypatch.setattr(
        segment_script, "read_info", lambda source: info({"inference": {"window": 3, "short_side": 96}})
    )
    assert segment_script.stored_settings("folder") == InferenceConfig(window=3, short_side=96)
    assert segment_script.stored_settings("released.pth") == InferenceConfig()
    monkeypatch.setattr(segment_script, "read_info", lambda source: info({"inference": {"windw": 3}}))
    with pytest.raises(InputError, match="windw"):
        segment_script.stored_settings("folder")
