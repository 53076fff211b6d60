"""Stages: keys and shards as specified, answers found again or made again, one bad video, one worker for each."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from models.teacher.interfaces import ModelInfo
from models.teacher.stages import Shard, Stopwatch, Workspace, attempt, noted, shard_of, stage_key
from models.teacher.workers import chosen, work_through
from tests.models.teacher.scene import Path as Square
from tests.models.teacher.scene import Scene
from util import atomic
from util.errors import InputError
from util.types import ReferringVideo


def test_canonical_json_is_the_specified_one() -> None:
    text = atomic.canonical({"stage": "detect", "b": [1, 2.5], "a": "é"})
    assert text == '{"a":"é","b":[1,2.5],"stage":"detect"}'
    assert atomic.sha256(text) == "508895fe4f996d42eaa70cb91e5564e06504f8bf992237cbb2a7e41f5b2bd528"
    with pytest.raises(ValueError):
        atomic.canonical([float("nan")])


@pytest.mark.parametrize(
    ("video_id", "expected"),
    [
        ("0ab4afe7fb46", (0, 2, 2)),
        ("0fea0cb75a25", (0, 4, 12)),
        ("synthetic_000", (1, 7, 15)),
        ("synthetic_001", (1, 1, 1)),
    ],
)
def test_shards_are_the_specified_ones(video_id: str, expected: tuple[int, ...]) -> None:
    assert tuple(shard_of(video_id, count) for count in (2, 8, 16)) == expected


def test_shards_share_the_videos_out() -> None:
    ids = [f"video{number}" for number in range(50)]
    places = [chosen(ids, Shard(index, 3)) for index in range(3)]
    assert sorted(place for part in places for place in part) == list(range(50))
    assert Shard.parse("2/3") == Shard(2, 3)
    for text in ("3/3", "1", "-1/2", "0/0", "a/b", "²/3"):
        with pytest.raises(InputError, match="shard"):
            Shard.parse(text)


def test_a_key_covers_everything_that_an_answer_depends_on() -> None:
    info = ModelInfo("b", "m", None, "l")
    keys = {
        stage_key("match", 1, settings={"a": 1}, models=[info], inputs=["x"]),
        stage_key("detect", 1, settings={"a": 1}, models=[info], inputs=["x"]),
        stage_key("match", 2, settings={"a": 1}, models=[info], inputs=["x"]),
        stage_key("match", 1, settings={"a": 2}, models=[info], inputs=["x"]),
        stage_key("match", 1, settings={"a": 1}, models=[], inputs=["x"]),
        stage_key("match", 1, settings={"a": 1}, models=[ModelInfo("b", "m", "r", "l")], inputs=["x"]),
        stage_key("match", 1, settings={"a": 1}, models=[info], inputs=["y"]),
    }
    assert len(keys) == 7


def test_an_answer_is_found_again_and_a_damaged_one_made_again(tmp_path: Path) -> None:
    workspace, watch = Workspace(tmp_path), Stopwatch()
    content = {"a": (1.5, None), "b": "é"}
    assert workspace.stage("parse", "clip", "k" * 64, lambda: content, watch) == {"a": [1.5, None], "b": "é"}
    again = workspace.stage("parse", "clip", "k" * 64, lambda: pytest.fail("made twice"), watch)
    assert again == {"a": [1.5, None], "b": "é"}
    path = workspace.path("parse", "clip", "k" * 64)
    for damage in (path.read_bytes()[:-3], path.read_bytes().replace(b"1.5", b"1.6"), b"[]", b""):
        path.write_bytes(damage)
        assert workspace.stage("parse", "clip", "k" * 64, lambda: content, watch) == again
    assert workspace.damaged == [path] * 4
    with pytest.raises(InputError):
        workspace.path("parse", "../up", "k" * 64)


def test_a_stage_is_not_charged_for_those_it_asks_for() -> None:
    ticks = iter((0.0, 1.0, 11.0, 13.0))  # outer and inner begin, inner and outer end
    watch = Stopwatch(lambda: next(ticks))
    watch.run("outer", lambda: watch.run("inner", lambda: None))
    assert watch.seconds == {"inner": 10.0, "outer": 3.0}


def test_who_watches_is_told_what_runs_and_how_far_it_is() -> None:
    told: list[tuple[str, int, int]] = []
    watch = Stopwatch(progress=lambda *progress: told.append(progress))
    assert watch.run("read", lambda: list(watch.counted("ab"))) == ["a", "b"]
    tick = watch.ticks(2)
    watch.run("follow", lambda: (tick(), tick()))
    assert told[:3] == [("read", 0, 0), ("read", 1, 2), ("read", 2, 2)]
    assert told[3:] == [("follow", 0, 0), ("follow", 1, 2), ("follow", 2, 2)]


def test_one_bad_video_stops_no_other_and_says_why(tmp_path: Path) -> None:
    videos = some_videos(3)

    def work(video: ReferringVideo, watch: Stopwatch) -> tuple[bool, str]:
        watch.run("ingest", lambda: None)
        if video.id == "v1":
            raise InputError("frame 3 cannot be read")
        return video.id == "v0", "key"

    report = work_through(videos, work, tmp_path)
    assert [(o.video_id, o.status, o.stage) for o in report.outcomes] == [
        ("v0", "ok", "ingest"), ("v1", "error", "ingest"), ("v2", "empty", "ingest")
    ]  # fmt: skip
    assert "v1 in ingest: frame 3 cannot be read" in report.page()
    lines = noted(tmp_path, "")
    assert {name: line["status"] for name, line in lines.items()} == {"v0": "ok", "v1": "error", "v2": "empty"}
    assert lines["v1"]["error"]["message"] == "frame 3 cannot be read"
    assert noted(tmp_path, "other settings") == {}


def test_a_line_that_a_kill_cut_short_hides_no_other(tmp_path: Path) -> None:
    work_through(some_videos(1), lambda video, watch: (True, ""), tmp_path)
    path = tmp_path / "manifest" / "0-of-1.jsonl"
    path.write_text(path.read_text() + '{"run":"","video_id":"v1"')
    work_through(some_videos(2), lambda video, watch: (True, ""), tmp_path)
    assert list(noted(tmp_path, "")) == ["v0", "v1"]


def test_a_full_disk_stops_everything() -> None:
    def work(watch: Stopwatch) -> tuple[bool, str]:
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        attempt("clip", work)


def test_two_workers_never_do_one_video(tmp_path: Path) -> None:
    done: list[str] = []

    def work(video: ReferringVideo, watch: Stopwatch) -> tuple[bool, str]:
        done.append(video.id)
        if video.id == "v0" and len(done) == 1:  # another worker comes while this one has v0
            other = work_through(some_videos(2), work, tmp_path)
            assert other.busy == ("v0",)
        return True, "key"

    report = work_through(some_videos(2), work, tmp_path)
    assert done == ["v0", "v1", "v1"]  # v1 was finished in between; its stages would be found
    assert not report.busy


def test_equal_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one id"):
        work_through([*some_videos(1), *some_videos(1)], lambda video, watch: (True, ""), tmp_path)


def some_videos(count: int) -> Sequence[ReferringVideo]:
    video = Scene((Square(range(24), 5, 5),)).video
    return [ReferringVideo(f"v{n}", video.frames, video.frame_names, ()) for n in range(count)]


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    atomic.write_bytes(tmp_path / "a" / "file", b"one")
    (tmp_path / "a" / "file.partial").write_bytes(b"left by a kill")
    atomic.write_bytes(tmp_path / "a" / "file", b"two")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
    assert (tmp_path / "a" / "file").read_bytes() == b"two"
    assert hashlib.sha256(b"two").hexdigest() == atomic.sha256(b"two")


def test_folders_are_swapped_whole(tmp_path: Path) -> None:
    for content in ("one", "two"):
        unfinished = tmp_path / ".folder.partial"
        unfinished.mkdir()
        (unfinished / content).touch()
        atomic.swap_folder(unfinished, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["two"]
