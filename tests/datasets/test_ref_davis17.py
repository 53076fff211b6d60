"""Ref-DAVIS17: four text files beside the DAVIS tree, read as they were unpacked; round trip; the assembled tree."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.convert import convert
from datasets.ref_davis17 import ANNOTATION_SETS, VOID, read_ref_davis17, write_ref_davis17
from datasets.ref_youtube_vos import read_ref_youtube_vos
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from tests.trees import copy
from util.errors import InputError
from util.types import Expression, ReferringVideo

WORLD = SyntheticVideos(SyntheticConfig(seed=3, videos=3, frames=4, height=32, width=48, no_target=0.3, expressions=8))
TEXTS = [f"davis_text_annotations/{name}" for name, _ in ANNOTATION_SETS]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("ref_davis17") / "tree"
    written = write_ref_davis17(WORLD, root, "val")
    assert written.expressions + len(written.left_out) == sum(len(v.expressions) for v in WORLD)
    assert any(reason.endswith("0 objects") for reason in written.left_out)
    return root


def expected(video: ReferringVideo) -> dict[str, tuple[str, int]]:
    """Sentences by the id they must come back with: 4 x place of the object + its how manieth sentence it is."""
    by_object: dict[str, list[str]] = {}
    for e in video.expressions:
        if len(e.object_ids) == 1:
            by_object.setdefault(str(e.object_ids[0]), []).append(e.text)
    return {
        str(4 * place + k): (text, int(name))
        for place, name in enumerate(sorted(by_object))
        for k, text in enumerate(by_object[name][:4])
    }


def test_round_trip_is_exact(tree: Path) -> None:
    videos = read_ref_davis17(tree, "val")
    assert [v.id for v in videos] == sorted(v.id for v in WORLD)
    for video, source in zip(videos, sorted(WORLD, key=lambda v: v.id), strict=True):
        assert {e.id: (e.text, e.object_ids[0]) for e in video.expressions} == expected(source)
        assert (video.frame_names, video.frames.fps) == (source.frame_names, 24)
        ids = sorted({e.object_ids[0] for e in video.expressions})
        for frame in range(4):
            for ours, theirs in zip(video.masks.read(frame, ids), source.masks.read(frame, ids), strict=True):
                assert np.array_equal(ours, theirs)


def official(root: Path) -> Path:
    """A release by hand: two splits, misspelled names, Latin-1, void pixels, lines that end as Windows' do."""
    rng = np.random.default_rng(0)
    for video in ("classic-car", "zebra"):
        for folder, suffix in (("JPEGImages", "jpg"), ("Annotations_unsupervised", "png")):
            (root / "DAVIS" / folder / "480p" / video).mkdir(parents=True)
            for frame in range(3):
                labels = rng.choice(np.array([0, 1, 2, VOID], np.uint8), (32, 48))
                image = Image.fromarray(labels) if suffix == "png" else Image.new("RGB", (48, 32))
                image.save(root / "DAVIS" / folder / "480p" / video / f"{frame:05d}.{suffix}")
    (root / "DAVIS/ImageSets/2017").mkdir(parents=True)
    (root / "DAVIS/ImageSets/2017/train.txt").write_text("zebra\n")
    (root / "DAVIS/ImageSets/2017/val.txt").write_text("classic-car\n")
    (root / "davis_text_annotations").mkdir()
    for name, (path, (_, encoding)) in zip("abcd", zip(TEXTS, ANNOTATION_SETS, strict=True), strict=True):
        accent = "é" if encoding == "latin-1" else "→"
        lines = [
            f'clasic-car 2 "{name}2 with a {accent}"',
            f'clasic-car 10 "{name}10"',
            f'clasic-car 1 " {name}1  "said" "',
            f'zebra 1 "{name}"',
        ]
        (root / path).write_bytes("\r\n".join([*lines, "", ""]).encode(encoding))
    return root


def test_official_files_as_they_are(tmp_path: Path) -> None:
    root = official(tmp_path)
    (car,) = read_ref_davis17(root, "val")
    assert car.id == "classic-car"
    # objects in the order of their ids as strings, as the published numbering has them
    assert [(e.id, e.object_ids[0]) for e in car.expressions] == [
        (str(4 * place + k), i) for place, i in enumerate((1, 10, 2)) for k in range(4)
    ]
    assert [e.text for e in car.expressions][:2] == ['a1  "said"', 'b1  "said"']
    assert [e.text for e in car.expressions][8:] == ["a2 with a →", "b2 with a →", "c2 with a é", "d2 with a é"]
    labels = np.array(Image.open(root / "DAVIS/Annotations_unsupervised/480p/classic-car/00001.png"))
    masks, states = car.masks.read(1, [1, 10, VOID])
    assert np.array_equal(masks, np.stack([labels == i for i in (1, 10, VOID)])) and states.tolist() == [1, 0, 1]
    assert [v.id for v in read_ref_davis17(root, "train")] == ["zebra"]
    assert len(read_ref_davis17(root, "valid")) == 1


def test_assembled_tree_holds_the_same_and_is_resumed(tmp_path: Path) -> None:
    root = official(tmp_path / "release")
    (root / "DAVIS/davis_semantics.json").write_text(json.dumps({"classic-car": {"1": "car"}}))
    out = tmp_path / "out"
    said: list[str] = []
    convert("ref_davis17", root, out, said.append)
    assert len(said) == 2 and "1 videos with 12 sentences" in said[1]
    for reader, split in ((read_ref_youtube_vos, "valid"), (read_ref_davis17, "val")):
        (ours,), (theirs,) = reader(out, split), read_ref_davis17(root, "val")
        assert (ours.id, ours.frame_names, ours.expressions) == (theirs.id, theirs.frame_names, theirs.expressions)
        assert ours.frames.fps == theirs.frames.fps
        for frame in range(3):
            assert np.array_equal(ours.masks.read(frame, [1, 2, VOID])[0], theirs.masks.read(frame, [1, 2, VOID])[0])
            assert np.array_equal(ours.frames[frame], theirs.frames[frame])
    assert json.loads((out / "valid/meta.json").read_text())["videos"]["classic-car"]["objects"]["1"] == {
        "category": "car"
    }
    # killed while it copied: one file is short, one missing, and the list of the split not yet written
    frames = out / "valid/JPEGImages/classic-car"
    (frames / "00000.jpg").write_bytes(b"")
    (frames / "00001.jpg").unlink()
    (out / "meta_expressions/valid/meta_expressions.json").unlink()
    convert("ref_davis17", root, out, said.append)
    assert "is there already" in said[2] and "1 videos" in said[3]
    assert read_ref_davis17(out, "val")[0].frames[1].shape == (32, 48, 3)
    with pytest.raises(InputError, match=r"holds neither train\.txt nor val\.txt"):
        convert("ref_davis17", out, tmp_path / "more")
    with pytest.raises(InputError, match="needs no assembling"):
        convert("mevis", root, out)
    with pytest.raises(InputError, match="the release itself"):
        convert("ref_davis17", root, root)


def write(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text)


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda r: (r / TEXTS[3]).unlink(), r"missing .*annot2_full_video\.txt"),
        (lambda r: (r / TEXTS[0]).write_bytes(b"\xff\xfe\xff"), r"cannot read .*annot1\.txt"),
        (lambda r: write(r, TEXTS[1], "classic-car car\n"), r"full_video\.txt: the line classic-car car is not"),
        (lambda r: write(r, TEXTS[1], 'classic-car 1 ""\n'), "is not VIDEO OBJECT"),
        (lambda r: write(r, TEXTS[1], 'classic-car 1 "a"\nclassic-car 1 "b"\n'), "second sentence"),
        (lambda r: [write(r, name, "") for name in TEXTS], "no sentence about video classic-car"),
        (lambda r: (r / "DAVIS/ImageSets/2017/val.txt").unlink(), r"missing .*val\.txt"),
        (lambda r: write(r, "DAVIS/ImageSets/2017/val.txt", "../../etc\n"), "plain names"),
        (lambda r: shutil.rmtree(r / "DAVIS/JPEGImages/480p/classic-car"), "missing .*JPEGImages/480p/classic-car"),
        (lambda r: shutil.rmtree(r / "DAVIS/Annotations_unsupervised"), "missing .*Annotations_unsupervised/480p"),
        (lambda r: [f.unlink() for f in (r / "DAVIS/JPEGImages/480p/classic-car").iterdir()], "holds no frames"),
    ],
)
def test_faults_are_named(tmp_path: Path, break_it, message: str) -> None:
    root = official(tmp_path)
    break_it(root)
    with pytest.raises(InputError, match=message):
        list(read_ref_davis17(root, "val"))


def test_a_fault_of_one_video_leaves_the_others(tmp_path: Path) -> None:
    root = official(tmp_path)
    write(root, "DAVIS/ImageSets/2017/val.txt", "classic-car\nzebra\n")
    shutil.rmtree(root / "DAVIS/JPEGImages/480p/classic-car")
    assert read_ref_davis17(root, "val")[1].id == "zebra"


def test_unknown_splits_and_what_the_layout_cannot_hold(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no split 'test'"):
        read_ref_davis17(tree, "test")
    root = copy(tree, tmp_path)
    with pytest.raises(InputError, match="exists"):
        write_ref_davis17(WORLD, root, "val")
    with pytest.raises(InputError, match=r"is in .* already"):
        write_ref_davis17(WORLD, root, "train")
    write_ref_davis17([replace(WORLD[0], id="other")], root, "train")
    assert len(read_ref_davis17(root, "train")) == 1 and len(read_ref_davis17(root, "val")) == 3
    many = tuple(Expression(str(i), f"one {i}", (1,)) for i in range(5))
    arrow = (Expression("8", "a", (2,)), Expression("9", "b", (2,)), Expression("10", "→", (2,)))
    written = write_ref_davis17([replace(WORLD[0], expressions=many + arrow)], tmp_path / "new", "val")
    assert [reason.split(": ")[1] for reason in written.left_out] == [
        "more than 4 sentences of one object",
        "Davis17_annot2.txt is latin-1",
    ]
