"""Two hundred damaged files for every adapter: each is read, or refused in one line that names it; nothing is written.

What a reader refuses, `data check` reports and `--skip-bad` sets aside: the three agree on every damaged tree.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.check.reading import labelled_frames
from datasets.check.run import check
from datasets.predictions import PngFiles, masks_of, prefix_of
from datasets.skipping import GoodVideos
from datasets.sources import LAYOUTS, reader, write_layout
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from util.errors import InputError
from util.types import ReferringVideo

WORLD = SyntheticConfig(seed=5, videos=2, frames=3, height=24, width=32)
SPLITS = {"ref_davis17": "val", "jhmdb": "test", "a2d": "test", "refcoco": "refcoco/train"}  # of the others: train
DAMAGES = 200  # for each layout

Random = np.random.Generator


@pytest.fixture(scope="module", params=LAYOUTS)
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, str]:
    """A small tree: its kind, root and split."""
    kind = request.param
    root = tmp_path_factory.mktemp("bad") / kind
    split = SPLITS.get(kind, "train")
    write_layout(kind, SyntheticVideos(WORLD), root, split)
    return kind, root, split


def test_a_whole_tree_has_no_fault(tree: tuple[str, Path, str]) -> None:
    kind, root, split = tree
    report = check(root)
    assert (report.kind, [(s.split, s.videos) for s in report.splits]) == (kind, [(split, 2)])
    # the world does not have four sentences about each object, as Ref-DAVIS17 does
    assert not [finding for finding in report.findings if "annotation sets" not in finding.text], report.page()
    assert report.splits[0].labelled and report.splits[0].sentences


def test_damage_is_refused_in_one_line(tree: tuple[str, Path, str]) -> None:
    kind, root, split = tree
    files = sorted(path for path in root.rglob("*") if path.is_file())
    refused = 0
    for number in range(DAMAGES):
        random = np.random.default_rng([LAYOUTS.index(kind), number])
        # JSON and lists decide what is read, so they are hit as often as all images together
        described = [path for path in files if path.suffix in (".json", ".txt", ".csv")]
        path = _any(random, described if random.random() < 0.5 else files)
        whole = path.read_bytes()
        how = damage(random, path, files)
        try:
            before = listing(root)
            bad, messages = read_all(kind, root, split)
            assert listing(root) == before, f"{number}: reading wrote something"
            refused += bool(messages)
            for message in messages:
                assert "\n" not in message and len(message) < 1000, f"{number}: {message}"
                assert "synthetic" in message or str(root) in message, f"{number} names nothing: {message}"
            agree = check_agrees if number % 2 else skipping_agrees
            agree(tree, bad, messages, f"{number}: {how} {path.relative_to(root)}")
        finally:
            if path.is_dir():
                shutil.rmtree(path)
            path.write_bytes(whole)
    assert refused > DAMAGES / 4  # else nothing was tried


def test_damaged_zips_of_predictions_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "masks.zip"
    video = SyntheticVideos(WORLD)[0]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for expression, name in product(video.expressions[:2], video.frame_names):
            png = io.BytesIO()
            Image.fromarray(np.eye(*video.frames.size, dtype=np.uint8)).save(png, "png")
            archive.writestr(f"{video.id}/{expression.id}/{name}.png", png.getvalue())
    video = replace(video, expressions=video.expressions[:2])
    whole, refused = path.read_bytes(), 0
    for number in range(DAMAGES):
        damage(np.random.default_rng([99, number]), path, [path])
        try:
            files = PngFiles(path)
            masks = masks_of(files, prefix_of(files, [video.id]), video)
            assert masks is not None and masks(1, 2).shape == video.frames.size
        except InputError as error:
            refused += 1
            assert "masks.zip" in str(error) and "\n" not in str(error)
        if path.is_dir():
            path.rmdir()
        path.write_bytes(whole)
    assert refused > DAMAGES / 4 and [entry.name for entry in tmp_path.iterdir()] == ["masks.zip"]


@pytest.mark.parametrize("name", ["../up.png", "/etc/up.png", "a/../../up.png", "C:\\up.png"])
def test_a_zip_that_leads_out_of_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(InputError, match="leads out"):
        PngFiles(tmp_path / "masks.zip")
    assert [entry.name for entry in tmp_path.iterdir()] == ["masks.zip"]


def read_all(kind: str, root: Path, split: str) -> tuple[set[int] | None, list[str]]:
    """Places of the videos that cannot be read, None where no video can be asked for; all messages."""
    try:
        videos = reader(kind)(root, split)
    except InputError as error:
        return None, [str(error)]
    bad, messages = set(), []
    for place in range(len(videos)):
        try:
            read_one(videos[place])
        except InputError as error:
            bad.add(place)
            messages.append(str(error))
    return bad, messages


def read_one(video: ReferringVideo) -> None:
    for index in range(len(video.frames)):
        assert video.frames[index].shape == (*video.frames.size, 3)
    ids = sorted({i for expression in video.expressions for i in expression.object_ids or ()})
    if video.masks is None or not ids:
        return
    for index in labelled_frames(video):
        masks, states = video.masks.read(index, ids)
        assert masks.shape == (len(ids), *video.frames.size) and masks.dtype == bool and states.shape == (len(ids),)


def check_agrees(tree: tuple[str, Path, str], bad: set[int] | None, messages: list[str], where: str) -> None:
    """`data check` finds a fault in what cannot be read, and none in the rest."""
    kind, root, split = tree
    report = check(root, kind=kind, split=split, workers=1)
    assert report.faulty == bool(messages), f"{where}: {messages} but\n{report.page()}"


def skipping_agrees(tree: tuple[str, Path, str], bad: set[int] | None, messages: list[str], where: str) -> None:
    """`GoodVideos` leaves what can be read, and lists the rest."""
    kind, root, split = tree
    if bad is None:
        return
    videos = reader(kind)(root, split)
    if len(videos) == len(bad) > 0:
        with pytest.raises(InputError, match="none of"):
            GoodVideos(videos, workers=1)
        return
    good = GoodVideos(videos, workers=1)
    assert {skipped.place for skipped in good.skipped} == bad, f"{where}: {good.listing()}"
    assert [video.id for video in good] == [videos[n].id for n in range(len(videos)) if n not in bad]


def listing(root: Path) -> list[tuple[str, int, int]]:
    """Everything beside and below the tree, as far as writing would change it."""
    stats = ((path, path.lstat()) for path in sorted(root.parent.rglob("*")))
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


# ---- damage ----------------------------------------------------------------------------------------------------------


def damage(random: Random, path: Path, files: list[Path]) -> str:
    """Damage a file; returns how."""
    ways: list[Callable[[], Any]] = [
        lambda: path.write_bytes(path.read_bytes()[: int(random.integers(path.stat().st_size or 1))]),
        lambda: path.write_bytes(_flipped(random, path.read_bytes())),
        lambda: path.write_bytes(path.read_bytes() + random.bytes(50)),
        lambda: path.write_bytes(_any(random, files).read_bytes()),
        lambda: path.write_bytes(b""),
        lambda: path.unlink(),
        lambda: [make() for make in (path.unlink, path.mkdir)],
    ]
    names = ["cut", "flipped", "lengthened", "exchanged", "emptied", "removed", "made a folder of"]
    if path.suffix == ".json" and random.random() < 0.8:
        return change_json(random, path)
    way = int(random.integers(len(ways)))
    ways[way]()
    return names[way]


def _flipped(random: Random, content: bytes) -> bytes:
    values = np.frombuffer(content or b"a", np.uint8).copy()
    places = random.integers(len(values), size=int(random.integers(1, 9)))
    values[places] = random.integers(256, size=len(places))
    return values.tobytes()


STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 3, 2.5, 10**30, 1e308, float("nan"), float("inf"), "", " ", "x", "1", "-1", "²", "10" * 200,
    "../../up", "/etc/passwd", "..", "C:\\x", "a\0b", "\ud800", "a" * 5000, [], {}, [[]], [None], [1, [2]],
    ["../up"], {"a": 1}, {"size": [24, 32], "counts": "a"}, {"size": [1, 1], "counts": [1]},
    {"size": [24, 32], "counts": [-1, 769]}, {"size": [10**6, 10**6], "counts": [10**12]},
)  # fmt: skip


def change_json(random: Random, path: Path) -> str:
    """Put something strange in one place of a JSON file, take a place away, or name it anew."""
    content = json.loads(path.read_text(encoding="utf-8"))
    places = list(_places(content))
    holder, key = _any(random, places)
    strange = _any(random, STRANGE)
    way = random.random()
    if way < 0.2:
        del holder[key]
        how = f"took away {key!r}"
    elif way < 0.4 and isinstance(holder, dict):
        holder[strange if isinstance(strange, str) else str(strange)] = holder.pop(key)
        how = f"renamed {key!r} {strange!r:.50}"
    else:
        holder[key] = strange
        how = f"set {key!r} to {strange!r:.50}"
    path.write_text(json.dumps(content), encoding="utf-8")
    return f"{how} in"


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value in a JSON file."""
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield content, key
        yield from _places(content[key])


def _any(random: Random, choices: Any) -> Any:
    return choices[int(random.integers(len(choices)))]
