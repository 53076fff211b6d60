"""A teacher's data set: what is kept and why not, who made it, equal bytes, and every corruption is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from datasets.check.run import check
from datasets.evaluation_videos import evaluation_videos
from datasets.masklets import read_masklets
from datasets.masklets_compat import write_compat
from datasets.mevis import read_mevis
from datasets.ref_youtube_vos import read_ref_youtube_vos
from datasets.tracks import Track, TrackPrompt, Tracks
from datasets.video import MemoryVideo
from models.teacher.interfaces import ModelInfo
from models.teacher.masklet_writer import ExportConfig, Provenance, export
from models.teacher.quality import FEATURES, Quality
from models.teacher.resolver import Decision
from tests.trees import copy, edit
from util import rle
from util.errors import InputError
from util.types import ABSENT, IGNORE, PRESENT, Expression, ReferringVideo

MODEL = ModelInfo("scripted", "truth", None, "Apache-2.0")
PROVENANCE = Provenance({"detector": MODEL, "matcher": MODEL}, {"x": 1}, "test", "abc")
T, SIZE = 4, (16, 24)
# Track 0 is seen throughout, 1 is absent in frame 0 and unsure in frame 1, 2 overlaps 0.
BOXES = {0: (2, 2, 8, 8), 1: (2, 12, 8, 20), 2: (5, 5, 12, 12)}


def masks() -> np.ndarray:
    made = np.zeros((3, T, *SIZE), bool)
    for row, (top, left, bottom, right) in BOXES.items():
        made[row, :, top:bottom, left:right] = True
    made[1, 0] = False
    return made


def tracks_of(video: str) -> Tracks:
    shown = masks()
    area = shown.mean((2, 3)).astype(np.float32)
    score = np.where(area > 0, 5, -5).astype(np.float32)
    stability = np.full((3, T), 0.9, np.float32)
    stability[1, 1] = 0.5
    runs = tuple(tuple(rle.encode(m) if m.any() else None for m in row) for row in shown)
    listed = tuple(Track(name * 12, "detector", (TrackPrompt(0, "box"),)) for name in "cab")
    names = tuple(f"{t:05d}" for t in range(T))
    return Tracks(
        "d", "train", video, names, SIZE, 6.0, {}, listed, runs, score, stability, stability,
        np.zeros((3, T, 4), np.float32), area, np.ones((3, T), bool), np.zeros((3, T), bool),
    )  # fmt: skip


@dataclass(frozen=True)
class Answered:
    video: ReferringVideo
    tracks: Tracks
    decisions: list[Decision]
    qualities: list[Quality | None]


def answered(name: str = "v") -> Answered:
    frames = MemoryVideo(np.random.default_rng(1).integers(0, 255, (T, *SIZE, 3), np.uint8), 6.0)
    told = [
        ("ok", (0,), 0.8, ""), ("ok", (1, 2), 0.4, ""), ("partial", (2,), 0.3, ""), ("ok", (2,), 0.0, "floor:verify"),
        ("ambiguous", (0,), None, ""), ("no_target", (), None, ""), ("no_candidates", (), None, "few_votes"),
    ]  # fmt: skip
    expressions = tuple(Expression(str(n), f"thing {n}", None) for n in range(len(told)))
    features = dict.fromkeys(FEATURES, 0.5) | {"cycle_iou": float("nan")}
    decisions = [
        Decision(str(n), status, rows, "one", p=0.7, absent=0.9, reason="" if rows else reason)
        for n, (status, rows, _, reason) in enumerate(told)
    ]
    qualities = [None if w is None else Quality(features, 0.6, w, reason) for _, _, w, reason in told]
    video = ReferringVideo(name, frames, frames.names, expressions)
    return Answered(video, tracks_of(name), decisions, qualities)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("taught") / "tree"
    export([answered("a"), answered("b")], root, "train", PROVENANCE, ExportConfig(no_target=True))
    return root


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_kept_reads_as_it_was_decided(tree: Path) -> None:
    for name, video in zip("ab", read_masklets(tree), strict=True):
        assert video.id == name and [e.id for e in video.expressions] == ["0", "1", "2", "5"]
        assert [e.weight for e in video.expressions] == [0.8, 0.4, 0.3, 0.9]
        shown = masks()
        for expression, meant in zip(video.expressions, ((0,), (1, 2), (2,), ()), strict=True):
            for t in range(T):
                got, states = video.masks.read(t, expression.object_ids)
                assert (got.any(0) if len(got) else np.zeros(SIZE, bool)).tolist() == shown[list(meant), t].any(
                    0
                ).tolist()
                if meant == (1, 2):  # in the order of track ids: "a..." is row 1, "b..." row 2
                    assert states.tolist() == [(ABSENT, IGNORE, PRESENT, PRESENT)[t], PRESENT]


def test_sentences_share_the_masklets_of_their_tracks(tree: Path) -> None:
    videos = json.loads((tree / "train/meta_expressions.json").read_text())["videos"]
    said = [videos[v]["expressions"][e]["anno_id"] for v in "ab" for e in ("0", "1", "2", "5")]
    assert said == [[2], [0, 1], [1], [], [5], [3, 4], [4], []]
    entry = videos["a"]["expressions"]["2"]
    assert (entry["status"], entry["source"], entry["quality"]) == ("partial", "teacher", 0.6)
    assert [len(v.expressions) for v in read_mevis(tree, "train")] == [4, 4]


def test_every_sentence_has_a_row(tree: Path) -> None:
    kept, rejected = rows(tree / "train/quality.jsonl"), rows(tree / "train/rejected.jsonl")
    assert [(r["video_id"], r["expression_id"]) for r in kept] == [(v, e) for v in "ab" for e in "0125"]
    assert [r["reason"] for r in rejected] == ["floor:verify", "ambiguous", "few_votes"] * 2
    assert kept[0]["features"]["cycle_iou"] is None and kept[0]["features"]["match_p"] == 0.5
    assert kept[1]["track_ids"] == ["a" * 12, "b" * 12] and kept[0]["calibrated"] is True


def test_equal_answers_give_equal_bytes(tree: Path, tmp_path: Path) -> None:
    export([answered("a"), answered("b")], tmp_path, "train", PROVENANCE, ExportConfig(no_target=True))
    for path in sorted(p for p in tree.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / path.relative_to(tree)).read_bytes()


def test_without_being_asked_no_target_is_rejected(tmp_path: Path) -> None:
    export([answered()], tmp_path, "train", PROVENANCE)
    assert "no_target" in [row["reason"] for row in rows(tmp_path / "train/rejected.jsonl")]
    assert not check(tmp_path, kind="masklets").faulty


def test_licences_travel(tmp_path: Path) -> None:
    bound = Provenance({"matcher": replace(MODEL, licence="IDEA License 1.0, non-commercial")})
    export([answered()], tmp_path / "bound", "train", bound)
    assert json.loads((tmp_path / "bound/dataset.json").read_text())["licence_tags"] == ["non-commercial"]
    with pytest.raises(InputError, match="states no licence"):
        export([answered()], tmp_path / "none", "train", Provenance({"matcher": replace(MODEL, licence="")}))


def test_evaluation_videos_are_refused(tmp_path: Path) -> None:
    assert len(evaluation_videos()) == 507 + 30
    for name in ("blackswan", "0062f687f1"):
        with pytest.raises(InputError, match="evaluation videos"):
            export([answered(name)], tmp_path / name, "train", PROVENANCE)
    (tmp_path / "own.txt").write_text("# ours\nv\n")
    with pytest.raises(InputError, match="evaluation videos"):
        export([answered()], tmp_path / "own", "train", PROVENANCE, ExportConfig(denylist=(tmp_path / "own.txt",)))
    root = tmp_path / "allowed"
    export([answered("blackswan")], root, "train", PROVENANCE, ExportConfig(allow_evaluation=True))
    described = json.loads((root / "dataset.json").read_text())
    assert described["contaminated"] is True and len(read_masklets(root)) == 1
    (root / "dataset.json").write_text(json.dumps(described | {"contaminated": False}))
    with pytest.raises(InputError, match="cannot be scored"):
        read_masklets(root)


def sentence(content: dict, key: str = "0") -> dict:
    return content["videos"]["a"]["expressions"][key]


CORRUPTIONS: dict[str, tuple[str, Callable]] = {
    "letters of another length": ("frame_state.json", lambda c: c.update({"0": "PP"})),
    "an unknown letter": ("frame_state.json", lambda c: c.update({"2": "PPPX"})),
    "P without a mask": ("frame_state.json", lambda c: c.update({"0": "PPPP"})),
    "A with a mask": ("frame_state.json", lambda c: c.update({"2": "APPP"})),
    "a damaged mask": ("mask_dict.json", lambda c: c["2"][0].update(counts="0")),
    "a mask of another size": ("mask_dict.json", lambda c: c["2"].__setitem__(0, rle.encode(np.ones((5, 5))))),
    "a mask of nothing": ("mask_dict.json", lambda c: c["0"].__setitem__(0, rle.encode(np.zeros(SIZE)))),
    "a gap in the numbers": ("mask_dict.json", lambda c: c.update({"9": c.pop("5")})),
    "lists of two lengths": ("meta_expressions.json", lambda c: sentence(c).update(obj_id=[1, 2])),
    "a weight of NaN": ("meta_expressions.json", lambda c: sentence(c).update(weight=float("nan"))),
    "a weight above 1": ("meta_expressions.json", lambda c: sentence(c).update(weight=1.5)),
    "another weight than its row's": ("meta_expressions.json", lambda c: sentence(c).update(weight=0.1)),
    "no objects, but a target": ("meta_expressions.json", lambda c: sentence(c, "5").update(status="ok")),
    "a size that the frames have not": ("meta_expressions.json", lambda c: c["videos"]["a"].update(size=[1, 1])),
    "a sentence too few": ("meta_expressions.json", lambda c: c["videos"]["a"]["expressions"].pop("0")),
    "an evaluation video": ("meta_expressions.json", lambda c: c["videos"].update(judo=c["videos"].pop("a"))),
    "no licence tags": ("../dataset.json", lambda c: c.pop("licence_tags")),
    "a model without a licence": ("../dataset.json", lambda c: c["models"][0].update(licence="")),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_are_found(tree: Path, tmp_path: Path, name: str) -> None:
    root = copy(tree, tmp_path)
    assert not check(root).findings
    file, change = CORRUPTIONS[name]
    edit(root / "train" / file, change)
    assert check(root).faulty


def test_missing_files_are_found(tree: Path, tmp_path: Path) -> None:
    for number, change in enumerate(
        (lambda r: (r / "train/JPEGImages/a/00001.jpg").unlink(), lambda r: (r / "train/quality.jsonl").write_text(""))
    ):
        root = copy(tree, tmp_path / str(number))
        change(root)
        assert check(root).faulty


def test_the_other_layout_says_what_it_can(tree: Path, tmp_path: Path) -> None:
    written = write_compat(read_masklets(tree), tmp_path / "plain", "train")
    assert written.expressions == 2  # the second thing overlaps the first, whose sentence weighs more
    assert [text.split(": ")[1] for text in written.left_out[:3]] == [
        "2 objects", "overlaps an object of greater weight", "0 objects",
    ]  # fmt: skip
    painted = write_compat(read_masklets(tree), tmp_path / "painted", "train", paint=True)
    assert painted.expressions == 4
    video = read_ref_youtube_vos(tmp_path / "painted", "train")[0]
    first, second = (video.masks.read(0, e.object_ids)[0][0] for e in video.expressions)
    assert (first == masks()[0, 0]).all() and (second == masks()[2, 0] & ~masks()[0, 0]).all()
    meta = json.loads((tmp_path / "painted/train/meta.json").read_text())
    assert {o["category"] for o in meta["videos"]["a"]["objects"].values()} == {"others"}
