"""A2D-Sentences trees: world -> tree -> adapter gives the same masks; the official layout and its traps; bad files."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.a2d import COPY, MASKS, SENTENCES, VIDEOSET, image_id, read_a2d, write_a2d
from datasets.a2d_masks import read_instances
from datasets.convert_a2d import A2D_TRUTH, convert_a2d
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from util.errors import InputError
from util.types import ABSENT, IGNORE, PRESENT

h5py = pytest.importorskip("h5py", reason="the masks are HDF5 files")

SIZE = 32, 48
WORLD = SyntheticVideos(SyntheticConfig(seed=3, videos=3, frames=7, height=32, width=48, no_target=0.3))
TRAIN, TEST = (WORLD[0], WORLD[1]), (WORLD[2],)
ROWS = "a2d_sentences_single_frame_{}_annotations.json"


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("a2d") / "tree"
    for split, videos in (("train", TRAIN), ("test", TEST)):
        written = write_a2d(videos, root, split)
        without = tuple(f"{v.id}/{e.id}: 0 objects" for v in videos for e in v.expressions if not e.object_ids)
        assert written.left_out == without and written.videos == len(videos)
        assert written.expressions == sum(len(v.expressions) for v in videos) - len(without)
    return root


@pytest.fixture
def copied(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "tree"))


def masks_of(root: Path, video: str = WORLD[0].id, frame: int = 3) -> Path:
    return root / MASKS / video / f"{frame:05d}.h5"


def test_round_trip_is_exact_in_the_labelled_frames(tree: Path) -> None:
    for split, sources in (("train", TRAIN), ("test", TEST)):
        for video, source in zip(read_a2d(tree, split), sources, strict=True):
            assert (video.id, len(video.frames), video.frames.size) == (source.id, 7, SIZE)
            assert (video.frames.fps, video.labelled) == (source.frames.fps, (2, 3, 4))
            assert video.frame_names[0] == "00001" and len(video.frame_names) == 7
            kept = [e for e in source.expressions if e.object_ids]
            assert [(e.text, e.object_ids) for e in video.expressions] == [(e.text, e.object_ids) for e in kept]
            ids = sorted({i for e in kept for i in e.object_ids})
            for frame in range(7):
                masks, states = video.masks.read(frame, ids)
                truth, known = source.masks.read(frame, ids)
                known = known if frame in video.labelled else np.full(len(ids), ABSENT)
                assert masks.dtype == bool and states.dtype == np.int8
                assert np.array_equal(states, np.where(known == PRESENT, PRESENT, IGNORE))
                assert np.array_equal(masks, truth & (known == PRESENT)[:, None, None])


def test_clips_show_the_frames(tree: Path) -> None:
    """H.264 changes pixels, and not by more than neighbouring frames differ; frames come in any order."""
    source, video = WORLD[0], read_a2d(tree)[0]
    for frame in (5, 0, 3):
        error = [np.abs(video.frames[frame].astype(int) - source.frames[other]).mean() for other in range(7)]
        assert np.argmin(error) == frame and error[frame] < 12


def test_image_ids_are_the_official_names(tree: Path) -> None:
    video = read_a2d(tree, "test")[0]
    first = video.expressions[0]
    assert image_id(video, first, 2) == f"v_{video.id}_f_3_i_{first.object_ids[0]}"
    names = {image_id(video, e, frame) for e in video.expressions for frame in video.labelled}
    assert len(names) == 3 * len(video.expressions), "sentences of one instance would share an image"


def write_h5(path: Path, instances, masks: np.ndarray, **more) -> None:
    with h5py.File(path, "w") as file:
        for name, value in ({"instance": np.asarray(instances), "reMask": masks} | more).items():
            file[name] = value


def test_official_shapes_of_the_masks(tmp_path: Path) -> None:
    """Transposed; two dimensions for one instance; numbers as MATLAB's doubles; a number twice; a surplus mask."""
    path = tmp_path / "00025.h5"
    masks = np.zeros((3, 48, 32), np.uint8)
    for place in range(3):
        masks[place, 5 * place : 40, 3 : 9 + place] = 1
    write_h5(path, [0], masks[1])
    assert np.array_equal(read_instances(path, {0, 7}, SIZE)[0], masks[1].T > 0)
    write_h5(path, [4], masks[1:2])
    assert np.array_equal(read_instances(path, {4}, SIZE)[4], masks[1].T > 0)
    write_h5(path, np.array([[0.0, 1.0, 1.0]]), masks)
    found = read_instances(path, {0, 1, 2}, SIZE)
    assert set(found) == {0, 1} and np.array_equal(found[1], masks[1].T > 0), "the first of two counts"
    write_h5(path, [8, 2], masks)
    assert np.array_equal(read_instances(path, [2], SIZE)[2], masks[1].T > 0)


def test_only_the_masks_asked_for_are_read(copied: Path) -> None:
    for path in (copied / MASKS).rglob("*.h5"):
        if path.stem != "00003":
            path.write_bytes(b"unreadable")
    video = read_a2d(copied)[0]
    assert video.masks.read(2, [1])[1][0] != IGNORE and video.masks.read(0, [1])[1][0] == IGNORE
    with pytest.raises(InputError, match=r"cannot read .*00004\.h5"):
        video.masks.read(3, [1])


# ---- the lists


def lines(path: Path, change) -> None:
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


def test_missed_videos_and_the_copied_instance_are_left_out(copied: Path) -> None:
    (copied / "text_annotations/a2d_missed_videos.txt").write_text(f"{WORLD[1].id}\n")
    lines(copied / SENTENCES, lambda rows: [*rows, f"{WORLD[0].id},{COPY},a mistake\n"])
    videos = read_a2d(copied)
    assert [video.id for video in videos] == [WORLD[0].id]
    assert "a mistake" not in {e.text for e in videos[0].expressions}


def test_rows_in_the_official_json_go_before_the_lists(copied: Path) -> None:
    video = WORLD[1].id
    rows = [["a thing", video, 3, 1], ["a thing", video, 4, 1], ["another", video, "4", "2"]]
    (copied / ROWS.format("train")).write_text(json.dumps(rows))
    for path in (copied / VIDEOSET, copied / SENTENCES):
        path.unlink()
    (only,) = read_a2d(copied)
    assert (only.id, only.labelled) == (video, (2, 3))
    assert [(e.id, e.text, e.object_ids) for e in only.expressions] == [("1", "a thing", (1,)), ("2", "another", (2,))]


@pytest.mark.parametrize(
    "rows, message",
    [
        ({"videos": []}, "not a list of rows"),
        ([["a thing", WORLD[0].id, 3]], r"row 0 is not \[text, video"),
        ([["a thing", 7, 3, 1]], r"row 0 is not \[text, video"),
    ],
)
def test_json_of_another_shape_is_refused(copied: Path, rows, message: str) -> None:
    (copied / ROWS.format("train")).write_text(json.dumps(rows))
    with pytest.raises(InputError, match=message):
        read_a2d(copied)


@pytest.mark.parametrize(
    "row, message",
    [
        (["", WORLD[0].id, 3, 1], "instance 1 has no text"),
        ([None, WORLD[0].id, 3, 1], "instance 1 has no text"),
        (["a thing", WORLD[0].id, 3, "one"], "not a whole number"),
        (["a thing", WORLD[0].id, 2.5, 1], "not a whole number"),
        (["a thing", WORLD[0].id, 0, 1], "frame 0 is labelled"),
        (["a thing", WORLD[0].id, 8, 1], "has 7 frames, but frame 8 is labelled"),
        (["a thing", "../outside", 3, 1], "cannot be a file name"),
        (["a thing", "gone", 3, 1], r"no such file: .*gone\.mp4"),
    ],
)
def test_a_bad_row_is_a_fault_of_its_video(copied: Path, row, message: str) -> None:
    (copied / ROWS.format("train")).write_text(json.dumps([row, ["a thing", WORLD[1].id, 3, 1]]))
    videos = read_a2d(copied)
    place = videos.ids.index(row[1])
    assert videos[1 - place].id == WORLD[1].id
    with pytest.raises(InputError, match=message):
        videos[place]


@pytest.mark.parametrize(
    "part, change, message",
    [
        (VIDEOSET, lambda rows: ["one,two\n", *rows], "row 1 has 2 columns instead of 9"),
        (SENTENCES, lambda rows: rows[1:], "does not begin with video_id,instance_id,query"),
        (SENTENCES, lambda rows: [*rows, f"{WORLD[0].id},1\n"], "has 2 columns"),
        (SENTENCES, lambda rows: [], "does not begin with"),
    ],
)
def test_malformed_lists_are_refused(copied: Path, part: str, change, message: str) -> None:
    lines(copied / part, change)
    with pytest.raises(InputError, match=message):
        read_a2d(copied)


@pytest.mark.parametrize("part", [VIDEOSET, SENTENCES, "text_annotations/a2d_missed_videos.txt", MASKS])
def test_missing_parts_are_named(copied: Path, part: str) -> None:
    (copied / part).rename(copied / "gone")
    with pytest.raises(InputError, match=rf"missing .*{part}.*expected there"):
        read_a2d(copied)


def test_other_splits_do_not_exist(tree: Path, tmp_path: Path) -> None:
    for action in (lambda: read_a2d(tree, "valid"), lambda: write_a2d(TEST, tmp_path, "valid")):
        with pytest.raises(InputError, match="train and test"):
            action()


# ---- damaged files


def test_a_clip_cut_short_is_named(copied: Path) -> None:
    clip = copied / "Release/clips320H" / f"{WORLD[0].id}.mp4"
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(InputError, match=clip.name):
        read_a2d(copied)[0].frames[6]


def damage(masks: np.ndarray):
    """(message, how the file of frame 3 is spoiled)."""
    return [
        ("cannot read .* as HDF5", lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])),
        ("cannot read .* as HDF5", lambda path: path.write_bytes(b"")),
        ("missing .*00003.h5", lambda path: path.unlink()),
        ("no array 'reMask'", lambda path: h5py.File(path, "w").create_dataset("instance", data=[1])),
        ("no array 'instance'", lambda path: h5py.File(path, "w").create_group("instance")),
        ("3x48x32 for 4 instances", lambda path: write_h5(path, [1, 2, 3, 4], masks)),
        ("48x32 for 2 instances", lambda path: write_h5(path, [1, 2], masks[0])),
        ("48 for 1 instances", lambda path: write_h5(path, [1], masks[0, :, 0])),
        ("mask of 32x48 for a frame of 48x32", lambda path: write_h5(path, [1, 2, 3], masks.swapaxes(1, 2))),
        ("not whole numbers", lambda path: write_h5(path, [1.5, 2, 3], masks)),
        ("not whole numbers", lambda path: write_h5(path, [b"1", b"2", b"3"], masks)),
        ("lists 20000 instances", lambda path: write_h5(path, np.arange(20000), masks)),
    ]


@pytest.mark.parametrize("case", range(12))
def test_damaged_masks_are_named(copied: Path, case: int) -> None:
    message, spoil = damage(np.ones((3, 48, 32), np.uint8))[case]
    path = masks_of(copied)
    spoil(path)
    with pytest.raises(InputError, match=message):
        read_instances(path, {1}, SIZE)


def test_mutated_masks_never_end_otherwise(copied: Path) -> None:
    path = masks_of(copied)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        spoiled = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 8)):
            spoiled[place] = rng.integers(256)
        path.write_bytes(spoiled)
        try:
            found = read_instances(path, {1, 2, 3}, SIZE)
            assert all(mask.shape == SIZE for mask in found.values())
        except InputError as error:
            refused += str(path) in str(error)
    assert refused > 20


# ---- writing and assembling


def test_what_the_layout_cannot_hold_is_left_out(tmp_path: Path) -> None:
    source = WORLD[0]
    several = replace(source.expressions[0], id="x", object_ids=(1, 2))
    unknown = replace(source.expressions[0], id="y", object_ids=None)
    written = write_a2d([replace(source, expressions=(several, unknown))], tmp_path / "a", "train")
    assert written.left_out == (f"{source.id}/x: 2 objects", f"{source.id}/y: no answer") and written.videos == 0
    hidden = replace(source, labelled=())
    written = write_a2d([hidden], tmp_path / "b", "train")
    single = next(expression for expression in source.expressions if len(expression.object_ids or ()) == 1)
    assert f"{source.id}/{single.id}: not seen in a labelled frame" in written.left_out


def test_nothing_is_written_over(copied: Path) -> None:
    with pytest.raises(InputError, match="split train already"):
        write_a2d([WORLD[2]], copied, "train")
    with pytest.raises(InputError, match=f"video {WORLD[0].id} already"):
        rows = [row for row in csv.reader((copied / VIDEOSET).open()) if row[-1] == "0"]
        (copied / VIDEOSET).write_text("".join(",".join(row) + "\n" for row in rows))
        write_a2d([WORLD[0]], copied, "test")


@pytest.mark.parametrize("beside", [True, False])
def test_assembled_tree_holds_the_same(copied: Path, tmp_path: Path, beside: bool) -> None:
    before = {split: list(read_a2d(copied, split)) for split in ("train", "test")}
    out = copied if beside else tmp_path / "out"
    said: list[str] = []
    convert_a2d(copied, out, said.append)
    assert said[0].startswith("train: read 2 videos") and said[1].startswith("test: read 1 videos")
    shutil.rmtree(copied / "Release/clips320H")  # no longer needed
    for split, videos in before.items():
        for video, source in zip(read_a2d(out, split), videos, strict=True):
            assert (out / ROWS.format(split)).is_file()
            assert (video.id, video.frames.fps, video.labelled) == (source.id, source.frames.fps, source.labelled)
            assert {e.id: e.text for e in video.expressions} == {e.id: e.text.lower() for e in source.expressions}
            for frame in video.labelled:
                ours, theirs = video.masks.read(frame, [1, 2, 3]), source.masks.read(frame, [1, 2, 3])
                assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_assembling_goes_on_where_it_was(copied: Path) -> None:
    clip = copied / "Release/clips320H" / f"{WORLD[1].id}.mp4"
    whole = clip.read_bytes()
    clip.write_bytes(b"not yet copied")
    with pytest.raises(InputError, match=clip.name):
        convert_a2d(copied, copied, lambda _: None)
    assert not (copied / ROWS.format("train")).exists()
    folder = copied / "Release/frames320H" / WORLD[0].id
    done = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(done) == 8
    clip.write_bytes(whole)
    convert_a2d(copied, copied, lambda _: None)
    assert done == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(read_a2d(copied)) == 2


def test_ground_truth_is_what_pycocotools_takes(copied: Path) -> None:
    pytest.importorskip("pycocotools", reason="the official evaluation")
    from pycocotools.coco import COCO

    convert_a2d(copied, copied, lambda _: None)
    coco = COCO(copied / A2D_TRUTH)
    (video,) = read_a2d(copied, "test")
    expected = {}
    for expression in video.expressions:
        for frame in video.labelled:
            masks, states = video.masks.read(frame, expression.object_ids)
            if states[0] == PRESENT:
                expected[image_id(video, expression, frame)] = masks[0]
    assert set(coco.imgs) == set(expected) and len(coco.anns) == len(expected)
    for annotation in coco.anns.values():
        mask = expected[annotation["image_id"]]
        assert np.array_equal(coco.annToMask(annotation), mask) and annotation["area"] == mask.sum()
        x, y, width, height = annotation["bbox"]
        assert mask[y : y + height, x : x + width].sum() == mask.sum() and mask[y].any() and mask[:, x].any()
        assert mask[y + height - 1].any() and mask[:, x + width - 1].any()
