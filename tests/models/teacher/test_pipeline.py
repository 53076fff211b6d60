"""The pipeline: right with perfect models, nothing computed twice, the same bytes however it was interrupted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.masklets import read_masklets
from datasets.mevis import read_mevis
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from main import main
from models.teacher.interfaces import MatchScores, Question
from models.teacher.judging import JudgeConfig
from models.teacher.parser import RuleParser
from models.teacher.pipeline import STAGES, Backends, Taught, Teacher, TeacherConfig
from models.teacher.resolver import ResolverConfig
from models.teacher.scripted import Faults, ScriptedDetector, ScriptedMatcher, ScriptedSegmenter, Truth
from models.teacher.stages import Stopwatch
from models.teacher.workers import work_through
from scripts.bench.teach_kill import begin, clear, different, digest, end, teach, write_source
from util import atomic
from util.errors import InputError
from util.types import ABSENT, PRESENT, ReferringVideo

WORLD = SyntheticVideos(SyntheticConfig(seed=2, videos=2, frames=10, height=48, width=64))
SCRIPTED = ["--detector", "scripted", "--segmenter", "scripted", "--matcher", "scripted", "--device", "cpu"]


@pytest.fixture(scope="module")
def videos() -> list[ReferringVideo]:
    return [WORLD[number] for number in range(len(WORLD))]


class Calls(ScriptedMatcher):
    """A matcher that counts what it is asked."""

    calls = 0

    def score(self, question: Question) -> MatchScores:
        self.calls += 1
        return super().score(question)


def backends(videos: list[ReferringVideo], faults: Faults | None = None) -> Backends:
    truth = Truth(videos)
    models = (ScriptedDetector(truth, faults), ScriptedSegmenter(truth, faults), {"scripted": Calls(truth, faults)})
    return Backends(RuleParser(), *models)


def asked(models: Backends) -> tuple[int, int, int]:
    return models.detector.calls, models.segmenter.steps, models.matchers["scripted"].calls


def test_perfect_models_give_perfect_masklets(videos: list[ReferringVideo], tmp_path: Path) -> None:
    teacher = Teacher(backends(videos), TeacherConfig(), tmp_path)
    answered = 0
    for video in videos:
        taught = teacher.teach(video, Stopwatch())
        assert video.masks is not None
        for expression, decision in zip(video.expressions, taught.decisions, strict=True):
            if not expression.object_ids:
                assert decision.status == "no_target"
                continue
            if decision.status != "ok":
                continue
            answered += 1
            for frame in range(len(video.frames)):
                truth = video.masks.read(frame, expression.object_ids)[0].any(0)
                shown = np.any([taught.tracks.mask(row, frame) for row in decision.rows], axis=0)
                np.testing.assert_array_equal(shown, truth)
                states = taught.tracks.states_NT()[list(decision.rows), frame]
                assert set(states.tolist()) <= {PRESENT, ABSENT}
    assert answered >= 0.8 * sum(bool(e.object_ids) for video in videos for e in video.expressions)


def test_what_is_there_is_not_asked_again(videos: list[ReferringVideo], tmp_path: Path) -> None:
    told: dict[str, tuple[int, int]] = {}
    begun = Stopwatch(progress=lambda stage, done, total: told.update({stage: (done, total)}))
    first = Teacher(backends(videos), TeacherConfig(), tmp_path).teach(videos[0], begun)
    length = len(videos[0].frames)
    assert set(told) == set(STAGES)
    assert (told["ingest"], told["track"]) == ((length, length), (2 * length, 2 * length))
    models, watch = backends(videos), Stopwatch()
    teacher = Teacher(models, TeacherConfig(), tmp_path)
    assert teacher.missing(videos[0]) == ()
    again = teacher.teach(videos[0], watch)
    assert asked(models) == (0, 0, 0)
    assert set(watch.seconds) == {"ingest"}  # its frames are read, to see whether they are the same
    assert_equal(first, again)
    assert len(teacher.missing(videos[1])) == 7


def test_a_setting_makes_anew_what_depends_on_it(videos: list[ReferringVideo], tmp_path: Path) -> None:
    Teacher(backends(videos), TeacherConfig(), tmp_path).teach(videos[0], Stopwatch())
    strict = TeacherConfig(judge=JudgeConfig(resolver=ResolverConfig(accept=0.9)))
    models, watch = backends(videos), Stopwatch()
    Teacher(models, strict, tmp_path).teach(videos[0], watch)
    assert set(watch.seconds) == {"ingest", "resolve", "score"}
    one_more = replace(videos[0], expressions=(*videos[0].expressions, replace(videos[0].expressions[0], id="more")))
    watch = Stopwatch()
    Teacher(models, TeacherConfig(), tmp_path).teach(one_more, watch)
    assert set(watch.seconds) == {"ingest", "parse", "match", "resolve", "score"}  # no noun is new: tracks stay


def test_damaged_answers_are_made_again_and_reported(videos: list[ReferringVideo], tmp_path: Path) -> None:
    teacher = Teacher(backends(videos), TeacherConfig(), tmp_path)
    first = teacher.teach(videos[0], Stopwatch())
    (path,) = (tmp_path / "resolve" / videos[0].id).iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    (tmp_path / "tracks" / "videos" / "train" / videos[0].id / "masks.json.gz").unlink()
    assert_equal(teacher.teach(videos[0], Stopwatch()), first)
    assert teacher.workspace.damaged == [path]


def test_odd_videos_have_a_status_and_no_exception(videos: list[ReferringVideo], tmp_path: Path) -> None:
    video = videos[0]
    single = ReferringVideo("single", Cut(video, 1), video.frame_names[:1], video.expressions, video.masks)
    silent = replace(video, id="silent", expressions=())
    twice = replace(video, id="twice", expressions=(video.expressions[0], replace(video.expressions[0], id="again")))
    for odd in (single, silent, twice):
        blind = Teacher(backends([odd], Faults(missed=1.0)), TeacherConfig(), tmp_path / "blind")
        statuses = [decision.status for decision in blind.teach(odd, Stopwatch()).decisions]
        assert statuses == ["no_candidates"] * len(odd.expressions)
        seeing = Teacher(backends([odd]), TeacherConfig(), tmp_path / "seeing")
        assert len(seeing.teach(odd, Stopwatch()).decisions) == len(odd.expressions)


def test_a_bad_video_stops_no_other(videos: list[ReferringVideo], tmp_path: Path) -> None:
    teacher = Teacher(backends(videos), TeacherConfig(), tmp_path)
    bad = replace(videos[0], id="bad", frames=Cut(videos[0], len(videos[0].frames), broken=3))

    def work(video: ReferringVideo, watch: Stopwatch) -> tuple[bool, str]:
        taught = teacher.teach(video, watch)
        return taught.kept, taught.key

    report = work_through([bad, videos[1]], work, tmp_path)
    assert [(outcome.video_id, outcome.status) for outcome in report.outcomes] == [
        ("bad", "error"),
        (videos[1].id, "ok"),
    ]
    assert "bad in ingest: frame 3 cannot be read" in report.page()


class Cut:
    """The first frames of a video, of which one may be broken."""

    def __init__(self, video: ReferringVideo, length: int, broken: int | None = None) -> None:
        self._frames, self._length, self._broken = video.frames, length, broken
        self.fps, self.size = video.frames.fps, video.frames.size

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> np.ndarray:
        if index == self._broken:
            raise InputError(f"frame {index} cannot be read")
        return self._frames[index]


def assert_equal(one: Taught, other: Taught) -> None:
    assert repr(one.decisions) == repr(other.decisions)
    assert repr(one.qualities) == repr(other.qualities)
    assert (one.key, one.tracks.fingerprint) == (other.key, other.tracks.fingerprint)


# What follows runs the command itself, on files.


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("data") / "source", videos=3, frames=8)


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert teach(source, out) == 0
    return out


def test_the_data_set_is_read_as_it_stands(source: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(whole)]) == 0
    assert "faults: none" in capsys.readouterr().out
    truth = {video.id: video for video in read_mevis(source)}
    for video in read_masklets(whole):
        labelled = truth[video.id]
        answers = {expression.text: expression.object_ids for expression in labelled.expressions}
        for expression in video.expressions:
            assert expression.object_ids and 0 < expression.weight <= 1
            for frame in range(len(video.frames)):
                masks, _ = video.masks.read(frame, expression.object_ids)
                true, _ = labelled.masks.read(frame, answers[expression.text])
                np.testing.assert_array_equal(masks.any(0), true.any(0))


def test_two_workers_make_what_one_makes(source: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["teach", "run", str(source), "--out", str(out), *SCRIPTED]
    assert main([*words, "--shard", "0/2"]) == 0
    assert not out.exists()
    assert main([*words, "--shard", "1/2"]) == 0
    assert different(digest(whole), digest(out)) == []


def test_a_dry_run_writes_nothing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teach", "run", str(source), "--out", str(tmp_path / "out"), "--dry-run", *SCRIPTED]) == 0
    assert "track         0 done      3 to do" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def in_a_stage(path: Path) -> bool:
    return path.parent.parent.name == "detect"


def in_the_store(path: Path) -> bool:
    return path.name == "tokens.safetensors"


def in_the_data_set(path: Path) -> bool:
    return path.name == "out"


@pytest.mark.parametrize("point", [in_a_stage, in_the_store, in_the_data_set])
def test_a_killed_run_ends_with_the_same_bytes(
    source: Path, whole: Path, tmp_path: Path, point: Callable[[Path], bool]
) -> None:
    out = tmp_path / "out"

    def killed() -> int:
        write, swap = atomic.write_bytes, atomic.swap_folder
        atomic.write_bytes = lambda path, content: kill_half_way(path) if point(path) else write(path, content)
        atomic.swap_folder = lambda before, path: kill_half_way(path) if point(path) else swap(before, path)
        return teach(source, out)

    clear(out)
    assert end(begin(killed)) == -signal.SIGKILL
    assert not out.exists()
    assert end(begin(lambda: teach(source, out))) == 0
    assert different(digest(whole), digest(out)) == []
    assert not list(tmp_path.rglob("*.partial"))


def kill_half_way(path: Path) -> None:
    """Half a file where one is written; a folder is whole, and not yet in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.with_name(path.name + ".partial").write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
