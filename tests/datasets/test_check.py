"""`data check` finds which data set it is, names each kind of fault once, in its category, and ends with a status."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from datasets.check.findings import Report, fault
from datasets.check.run import check
from datasets.mevis import write_mevis
from datasets.ref_davis17 import write_ref_davis17
from datasets.ref_youtube_vos import write_ref_youtube_vos
from datasets.sources import Layout, write_layout
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from main import main
from tests.trees import edit
from util import rle

WORLD = SyntheticVideos(SyntheticConfig(seed=5, videos=2, frames=3, height=24, width=32))
FIRST, SECOND = (video.id for video in WORLD)
TEXTS = "meta_expressions/train/meta_expressions.json"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree in Ref-YouTube-VOS layout."""
    write_ref_youtube_vos(WORLD, tmp_path / "tree", "train")
    return tmp_path / "tree"


def found(report: Report, *, faults: bool) -> list[tuple[str, str]]:
    return [(finding.category, finding.text) for finding in report.findings if finding.fault is faults]


def only(report: Report, category: str, *words: str, faults: bool) -> None:
    """There is one finding, of this category and kind, that says these words."""
    assert [finding.category for finding in report.findings] == [category], report.page()
    assert report.faulty is faults
    for word in words:
        assert word in report.findings[0].text


def mask_path(root: Path, frame: int = 1) -> Path:
    return root / "train/Annotations" / FIRST / f"{frame:05d}.png"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def resize(path: Path, size: tuple[int, int]) -> None:
    image = Image.open(path)
    image.resize(size, Image.Resampling.NEAREST).save(path)


def first_sentence(content: Any) -> dict[str, Any]:
    return next(iter(content["videos"][FIRST]["expressions"].values()))


FAULTS: dict[str, tuple[Callable[[Path], Any], str, tuple[str, ...]]] = {
    "frame missing": (lambda r: (r / "train/JPEGImages" / FIRST / "00001.jpg").unlink(), "missing", ("00001.jpg",)),
    "frame cut": (lambda r: cut(r / "train/JPEGImages" / FIRST / "00001.jpg"), "truncated", ("00001.jpg",)),
    "frame size": (
        lambda r: resize(r / "train/JPEGImages" / FIRST / "00001.jpg", (30, 24)), "mis-sized", ("30x24", "32x24")),
    "mask missing": (lambda r: mask_path(r).unlink(), "missing", ("00001.png",)),
    "mask cut": (lambda r: cut(mask_path(r)), "truncated", ("00001.png",)),
    "mask size": (lambda r: resize(mask_path(r), (16, 12)), "mis-sized", ("00001.png", "16x12")),
    "mask colours": (lambda r: Image.open(mask_path(r)).convert("RGB").save(mask_path(r)), "inconsistent", ("RGB",)),
    "video missing": (lambda r: shutil.rmtree(r / "train/JPEGImages" / FIRST), "missing", ("JPEGImages", FIRST)),
    "masks missing": (lambda r: shutil.rmtree(r / "train/Annotations" / FIRST), "missing", ("Annotations", FIRST)),
    "no text": (lambda r: edit(r / TEXTS, lambda c: first_sentence(c).pop("exp")), "empty", (TEXTS, FIRST, "text")),
    "climbs": (
        lambda r: edit(r / TEXTS, lambda c: c["videos"].update({"../up": c["videos"].pop(FIRST)})),
        "inconsistent", (TEXTS, "../up")),
    "no object id": (
        lambda r: edit(r / TEXTS, lambda c: first_sentence(c).pop("obj_id")), "inconsistent", (FIRST, "obj_id")),
    "wrong shape": (lambda r: (r / TEXTS).write_text("[]"), "inconsistent", (TEXTS, "videos")),
    "json cut": (lambda r: cut(r / TEXTS), "truncated", (TEXTS,)),
}  # fmt: skip


@pytest.mark.parametrize("damage, category, words", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_once(tree: Path, damage, category: str, words: tuple[str, ...]) -> None:
    damage(tree)
    ((given, text),) = found(check(tree, workers=2), faults=True)
    assert given == category and all(word in text for word in words), text


def grey(path: Path, labels: Callable[[np.ndarray], np.ndarray]) -> None:
    Image.fromarray(labels(np.array(Image.open(path)))).save(path)


def narrow(root: Path) -> None:
    """DAVIS has a mask that lacks a column."""
    grey(mask_path(root), lambda labels: labels[:, :-1])


NOTES: dict[str, tuple[Callable[[Path], Any], str, tuple[str, ...]]] = {
    "a column short": (narrow, "mis-sized", ("00001.png", "31x24", "background")),
    "grey with alpha": (
        lambda r: Image.open(mask_path(r)).convert("L").convert("LA").save(mask_path(r)), "inconsistent", ("LA",)),
    "more videos": (lambda r: (r / "train/JPEGImages/other").mkdir(), "unlisted", ("JPEGImages", "other")),
    "more frames": (lambda r: (r / "train/JPEGImages" / FIRST / "9.jpg").touch(), "unlisted", (FIRST, "9.jpg")),
    "no meta.json": (lambda r: (r / "train/meta.json").unlink(), "missing", ("meta.json", "ReferFormer")),
    "meta.json differs": (
        lambda r: edit(r / "train/meta.json", lambda c: c["videos"][FIRST]["objects"].clear()),
        "inconsistent", ("meta.json", FIRST)),
    "ids of two types": (
        lambda r: edit(r / TEXTS, lambda c: first_sentence(c).update(obj_id=int(first_sentence(c)["obj_id"]))),
        "inconsistent", ("text", "numbers")),
    "a frame twice": (
        lambda r: edit(r / TEXTS, lambda c: c["videos"][FIRST]["frames"].append("00001")), "inconsistent",
        (FIRST, "00001")),
}  # fmt: skip


@pytest.mark.parametrize("change, category, words", NOTES.values(), ids=NOTES)
def test_what_is_read_all_the_same_is_a_note(tree: Path, change, category: str, words: tuple[str, ...]) -> None:
    change(tree)
    only(check(tree, workers=2), category, *words, faults=False)


def test_an_object_without_any_mask_is_empty(tree: Path) -> None:
    for frame in range(3):
        grey(mask_path(tree, frame), np.zeros_like)
    notes = found(check(tree), faults=False)
    objects = {e.object_ids for e in WORLD[0].expressions if e.object_ids and len(e.object_ids) == 1}
    assert len(notes) == len(objects) and all(category == "empty" and FIRST in text for category, text in notes)


def test_masks_of_0_and_255_are_void_to_davis(tree: Path) -> None:
    for frame in range(3):
        grey(mask_path(tree, frame), lambda labels: np.where(labels > 0, 255, 0).astype(np.uint8))
    texts = [text for _, text in found(check(tree), faults=False) if "void" in text]
    assert len(texts) == 1 and "only 0 and 255" in texts[0] and FIRST in texts[0]


def test_an_object_that_comes_late_is_not_scored_by_davis(tmp_path: Path) -> None:
    write_ref_davis17(WORLD, tmp_path, "val")
    path = tmp_path / "DAVIS/Annotations_unsupervised/480p" / FIRST / "00000.png"
    last = max(i for e in WORLD[0].expressions for i in e.object_ids or ())
    grey(path, lambda labels: np.where(labels == last, 0, labels).astype(np.uint8))
    assert any(f"lacks object {last}" in text for _, text in found(check(tmp_path), faults=False))


def test_the_validation_list_needs_the_list_of_test(tree: Path) -> None:
    (tree / "train").rename(tree / "valid")
    (tree / "meta_expressions/train").rename(tree / "meta_expressions/valid")

    def hide(content: Any) -> None:
        for entry in content["videos"].values():
            for sentence in entry["expressions"].values():
                del sentence["obj_id"]

    edit(tree / TEXTS.replace("train", "valid"), hide)
    shutil.rmtree(tree / "valid/Annotations")
    only(check(tree), "missing", "202", faults=False)
    shutil.copytree(tree / "meta_expressions/valid", tree / "meta_expressions/test")
    edit(tree / TEXTS.replace("train", "test"), lambda c: c["videos"].pop(FIRST))
    only(check(tree), "inconsistent", "leaves 1 videos", "202", faults=False)


def test_run_lengths_are_compared_with_sentences_and_frames(tmp_path: Path) -> None:
    write_mevis(WORLD, tmp_path, "valid_u")
    path = tmp_path / "valid_u/mask_dict.json"

    def damage(content: Any) -> None:
        content["0"][1] = rle.encode(np.ones((5, 5)))
        content["1"].pop()
        content["77"] = content["0"]

    edit(path, damage)
    report = check(tmp_path)
    categories = sorted(category for category, _ in found(report, faults=True))
    assert set(categories) == {"mis-sized", "inconsistent"}
    assert any("no sentence names (1): 77" in text for _, text in found(report, faults=False))


def test_a_split_may_be_given_alone(tmp_path: Path) -> None:
    write_mevis(WORLD, tmp_path, "valid_u")
    report = check(tmp_path / "valid_u")
    assert (report.kind, report.splits[0].split, report.splits[0].videos) == ("mevis", "valid_u", 2)


def test_every_layout_is_recognised(tmp_path: Path) -> None:
    splits = {"ref_davis17": "val", "jhmdb": "test", "a2d": "test", "refcoco": "refcocog/val"}
    for kind in get_args(Layout):
        write_layout(kind, WORLD, tmp_path / kind, splits.get(kind, "train"))
        report = check(tmp_path / kind)
        assert (report.kind, report.splits[0].split) == (kind, splits.get(kind, "train"))


def test_the_page_counts_and_shows_the_first(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for frame in range(3):
        (tree / "train/JPEGImages" / SECOND / f"{frame:05d}.jpg").unlink()
        mask_path(tree, frame).unlink()
    assert main(["data", "check", str(tree), "--workers", "2"]) == 1
    page = capsys.readouterr().out
    lines = page.splitlines()
    assert lines[0] == f"{tree} holds ref_youtube_vos"
    assert lines[2].split()[:3] == ["train", "2", "6"]
    assert "  missing: 6" in lines and "    ... and 3 more" in lines
    assert "--skip-bad" in lines[-1] and len(lines) < 30 and max(map(len, lines)) < 240


def test_status_is_0_without_faults_and_2_without_a_data_set(tree: Path, tmp_path: Path, capsys) -> None:
    assert main(["data", "check", str(tree), "--split", "train"]) == 0
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.zip").touch()
    for place, word in (("empty", "no data set"), ("nowhere", "no folder"), ("a.zip", "unpack")):
        assert main(["data", "check", str(tmp_path / place)]) == 2
        assert word in capsys.readouterr().err
    assert main(["data", "check", str(tree), "--split", "valid"]) == 2
    assert "with the splits train" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, category",
    [
        ("missing /a/no frames/x.jpg; copy it there", "missing"),
        ("cannot read /missing/x.png: broken; unpack again", "truncated"),
        ("/damaged/x.png: mask of 3x3 for a frame of 4x4; fix the data", "mis-sized"),
        ("/missing/meta.json: video 'a' has the object id 'b'", "inconsistent"),
    ],
)
def test_the_category_does_not_come_from_a_folders_name(text: str, category: str) -> None:
    assert fault(ValueError(text)).category == category


def test_real_files_that_break_careless_loaders(tree: Path, samples: Path) -> None:
    """A DAVIS mask stored as grey with alpha, and one of 853x480 for a frame of 854x480."""
    edge = samples / "loader_edge"
    frame = Image.open(edge / "judo_00005_frame_854x480.jpg")
    for name in ("00000", "00001", "00002"):
        frame.save(tree / "train/JPEGImages" / FIRST / f"{name}.jpg", quality=30)
        shutil.copy(edge / "judo_00005_mask_853x480_vs_frame_854x480.png", mask_path(tree, int(name)))
    shutil.copy(edge / "bear_00077_modeLA.png", mask_path(tree, 1))
    report = check(tree)
    assert not report.faulty, report.page()
    texts = [text for _, text in found(report, faults=False)]
    assert sum("853x480 for a frame of 854x480" in text for text in texts) == 2
    assert sum("mode LA" in text for text in texts) == 1


def test_real_videos_are_whole(samples: Path) -> None:
    report = check(samples / "real_rvos")
    assert (report.kind, report.faulty) == ("mevis", False)
    counts = report.splits[0]
    assert (counts.videos, counts.sentences, counts.no_target) == (7, 35, 7)
    assert [text.split()[-1] for _, text in found(report, faults=False)] == ["Annotations"]
