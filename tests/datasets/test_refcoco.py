"""RefCOCO: JSON trees are read exactly, releases converted as their counts say, and a pickle never runs anything."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.convert import convert
from datasets.refcoco import read_refcoco, write_refcoco
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from tests.trees import copy, edit
from util.errors import InputError

WORLD = SyntheticVideos(SyntheticConfig(seed=3, videos=4, frames=3, height=32, width=48, no_target=0.3, late=1.0))
JSON = "refcoco+/instances_refcoco+_val.json"


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("refcoco") / "tree"
    written = write_refcoco(WORLD, root, "refcoco+/val")
    assert 2 < written.videos <= 4 and written.expressions > 4
    assert written.expressions + len(written.left_out) == sum(len(v.expressions) for v in WORLD)
    assert {reason.split(": ")[1] for reason in written.left_out} == {
        "0 objects",
        "its object is not in the first frame",
    }
    return root


def test_round_trip_is_exact(tree: Path) -> None:
    videos = {video.id: video for video in read_refcoco(tree, "refcoco+/val")}
    ids = set()
    for source in WORLD:
        first = source.masks.read(0, [i for e in source.expressions for i in e.object_ids])[1]
        video = videos[source.id]
        assert (len(video.frames), video.frames.size) == (1, (32, 48)) and first.any()
        kept = [e for e in source.expressions if len(e.object_ids) == 1 and source.masks.read(0, e.object_ids)[0].any()]
        assert [(e.text, e.type) for e in video.expressions] == [(e.text, e.type) for e in kept]
        for ours, theirs in zip(video.expressions, kept, strict=True):
            masks, states = video.masks.read(0, ours.object_ids)
            assert masks.dtype == bool and np.array_equal(masks, source.masks.read(0, theirs.object_ids)[0])
            assert states.tolist() == [1]
        same = {e.object_ids for e in kept}
        assert len(same) == len({e.object_ids for e in video.expressions})  # an object keeps one id
        ids |= {e.id for e in video.expressions}
    assert len(ids) == sum(len(v.expressions) for v in videos.values())


def test_a_split_without_a_set_is_refcoco(tmp_path: Path) -> None:
    write_refcoco(WORLD[:1], tmp_path, "train")
    assert (tmp_path / "refcoco/instances_refcoco_train.json").is_file()
    assert len(read_refcoco(tmp_path, "train")) == len(read_refcoco(tmp_path, "refcoco/train")) == 1
    with pytest.raises(InputError, match="SET/SPLIT"):
        read_refcoco(tmp_path, "coco/train")
    for split in ("../train", "refcoco/..", "../../refcoco/train"):
        with pytest.raises(InputError):
            read_refcoco(tmp_path, split)
    with pytest.raises(InputError, match="exists"):
        write_refcoco(WORLD[:1], tmp_path, "train")
    with pytest.raises(InputError, match=r"jpg exists"):
        write_refcoco(WORLD[:1], tmp_path, "val")


def release(root: Path) -> Path:
    """Two images, three references of both splits; an annotation in two polygons, one in COCO's plain run lengths."""
    (root / "refcocog").mkdir(parents=True)
    (root / "train2014").mkdir()
    names = {7: "COCO_train2014_000000000007.jpg", 8: "COCO_train2014_000000000008.jpg"}
    for name in names.values():
        Image.new("RGB", (40, 30)).save(root / "train2014" / name)
    box, common = [10, 5, 28.5, 23.75], {"area": 1.0, "iscrowd": 0, "category_id": 1}
    segments = {
        100: [[10, 5, 20, 5, 20, 15, 10, 15], [30.5, 20.25, 38, 22, 31, 28.75]],
        900100000101: {"size": [30, 40], "counts": [31, 5, 1200 - 36]},
        102: [[0, 0, 40, 0, 40, 30, 0, 30]],
    }
    instances = {
        "info": {}, "licenses": [], "categories": [{"id": 1, "name": "thing"}],
        "images": [{"id": i, "file_name": name, "height": 30, "width": 40} for i, name in names.items()],
        "annotations": [{"id": i, "image_id": 7, "segmentation": s, "bbox": box} | common for i, s in segments.items()],
    }  # fmt: skip
    (root / "refcocog/instances.json").write_text(json.dumps(instances))
    references = [
        reference(100, 7, "train", ["two parts", "one thing"]),
        reference(102, 8, "val", ["all of it"]),
        reference(900100000101, 7, "train", ["a line"]),
    ]
    (root / "refcocog/refs(umd).p").write_bytes(pickle.dumps(references, protocol=2))
    return root


def reference(annotation: int, image: int, split: str, texts: list[str]) -> dict:
    return {"ann_id": annotation, "image_id": image, "split": split, "sentences": [{"sent": text} for text in texts]}


def test_release_becomes_a_tree_and_is_not_done_twice(tmp_path: Path) -> None:
    root, out, said = release(tmp_path / "release"), tmp_path / "out", []
    convert("refcoco", root, out, said.append)
    assert [line.split(",")[0] for line in said[:2]] == [
        "refcocog/train: read 2 objects with 3 sentences",
        "refcocog/val: read 1 objects with 1 sentences",
    ]
    (video,) = read_refcoco(out, "refcocog/train")
    assert video.id == "COCO_train2014_000000000007" and video.frames[0].shape == (30, 40, 3)
    assert [(e.id, e.text, e.object_ids) for e in video.expressions] == [
        ("1", "two parts", (100,)),
        ("2", "one thing", (100,)),
        ("3", "a line", (900100000101,)),
    ]
    (parts, line), states = video.masks.read(0, [100, 900100000101])
    assert states.tolist() == [1, 1]
    assert parts[5:15, 10:20].all() and parts[:, :29].sum() == 100  # the pixels whose centres lie in the rectangle
    assert 20 < parts[20:29, 30:38].sum() < 40
    assert np.argwhere(line).tolist() == [[row, 1] for row in range(1, 6)]  # runs go down the columns
    (whole,) = read_refcoco(out, "refcocog/val")
    assert whole.masks.read(0, [102])[0].all()
    kept = out / "refcocog/instances_refcocog_val.json"
    before = kept.stat().st_mtime_ns
    (out / "refcocog/instances_refcocog_train.json").unlink()  # as if it had been killed in between
    convert("refcoco", root, out, said.append)
    assert kept.stat().st_mtime_ns == before and len(read_refcoco(out, "refcocog/train")) == 1
    convert("refcoco", root, out, said.append)
    assert "already" in said[-1]


def test_polygons_are_those_of_coco(tmp_path: Path) -> None:
    """Each polygon as COCO's own code fills it."""
    coco = pytest.importorskip("pycocotools.mask")
    root = release(tmp_path)
    rng = np.random.default_rng(1)
    polygons = {100 + n: [rng.uniform(-3, 43, 2 * rng.integers(3, 9)).tolist()] for n in range(3)}

    def change(content) -> None:
        for annotation, (number, polygon) in zip(content["annotations"], polygons.items(), strict=True):
            annotation |= {"id": number, "segmentation": polygon}

    edit(root / "refcocog/instances.json", change)
    references = [reference(number, 7, "train", ["it"]) for number in polygons]
    (root / "refcocog/refs(umd).p").write_bytes(pickle.dumps(references))
    convert("refcoco", root, root)
    (video,) = read_refcoco(root, "refcocog/train")
    assert video.boxes == dict.fromkeys(polygons, (10.0, 5.0, 38.5, 28.75))  # what is annotated, not the masks' own
    for number, polygon in polygons.items():
        expected = coco.decode(coco.merge(coco.frPyObjects(polygon, 30, 40)))
        assert expected.any() and np.array_equal(video.masks.read(0, [number])[0][0], expected)


class Runs:
    """A pickle that would make a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, protocol: int) -> None:
    root = release(tmp_path / "release")
    (root / "refcocog/refs(umd).p").write_bytes(pickle.dumps([Runs(tmp_path / "made")], protocol))
    with pytest.raises(InputError, match=r"refs\(umd\)\.p: it holds .*mkdir, which is not plain data"):
        convert("refcoco", root, tmp_path / "out")
    assert not (tmp_path / "made").exists()


def test_damaged_releases_are_refused(tmp_path: Path) -> None:
    """Cut and mutated pickles end in InputError, or in a conversion; never in anything else."""
    root = release(tmp_path / "release")
    path = root / "refcocog/refs(umd).p"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for number in range(150):
        damaged = bytearray(whole[: rng.integers(0, len(whole))] if number % 3 == 0 else whole)
        for _ in range(number % 3):
            damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        try:
            convert("refcoco", root, tmp_path / "out", lambda line: None)
        except InputError:
            refused += 1
    assert refused > 60
    with pytest.raises(InputError, match="unpack a release"):
        convert("refcoco", tmp_path / "out", tmp_path)


def first(content, key: str) -> dict:
    return content[key][0]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.pop("images"), 'no list of "images"'),
        (lambda c: c.update(annotations=[7]), 'no list of "annotations"'),
        (lambda c: first(c, "images").pop("file_name"), "no file_name"),
        (lambda c: first(c, "images").update(file_name="../a.jpg"), "plain names"),
        (lambda c: first(c, "images").update(caption=" "), "no text"),
        (lambda c: first(c, "images").update(id="x"), "whole number"),
        (lambda c: first(c, "images").update(type=[]), "a type is a word"),
        (lambda c: c["annotations"].pop(0), "no annotation"),
        (lambda c: first(c, "annotations").update(original_id=-1), "whole number"),
        (lambda c: first(c, "annotations").update(bbox=[1, 2, 3, float("inf")]), "not x, y, width, height"),
        (lambda c: first(c, "annotations").update(segmentation=None), "no run-length mask"),
        (lambda c: first(c, "annotations").update(segmentation=[]), "no polygon"),
        (lambda c: first(c, "annotations").update(segmentation=[[1, 2, 3]]), "at least 3 points"),
        (lambda c: first(c, "annotations").update(segmentation=[[1, 2, 3, 4, 5, 1e12]]), "near the image"),
        (lambda c: first(c, "annotations").update(segmentation=[[1, 2, 3, 4, 5, float("nan")]]), "near the image"),
        (lambda c: first(c, "annotations").update(segmentation={"size": [9, 9], "counts": "1"}), "mask of 9x9"),
    ],
)
def test_faults_are_named(tree: Path, tmp_path: Path, change, message: str) -> None:
    root = copy(tree, tmp_path)
    edit(root / JSON, change)
    with pytest.raises(InputError, match=message):
        for video in read_refcoco(root, "refcoco+/val"):
            video.masks.read(0, [i for e in video.expressions for i in e.object_ids])


def test_numbers_may_be_texts_and_one_fault_leaves_the_other_images(tree: Path, tmp_path: Path) -> None:
    root = copy(tree, tmp_path)

    def retype(content) -> None:
        for entry in (*content["images"], *content["annotations"]):
            entry |= {key: str(entry[key]) for key in ("id", "image_id", "original_id") if key in entry}

    edit(root / JSON, retype)
    ours, before = read_refcoco(root, "refcoco+/val"), read_refcoco(tree, "refcoco+/val")
    assert [v.expressions for v in ours] == [v.expressions for v in before]
    edit(root / JSON, lambda c: c["images"][0].update(caption=""))
    faulty = 0
    for n in range(4):
        try:
            read_refcoco(root, "refcoco+/val")[n]
        except InputError:
            faulty += 1
    assert faulty == 1
