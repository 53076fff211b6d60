"""`--skip-bad`: what can be read goes on, what cannot is listed; without it the first fault ends the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datasets.loader import DataConfig, samples_per_epoch, train_batches
from datasets.mevis import write_mevis
from datasets.skipping import GoodVideos
from datasets.sources import SourceConfig, eval_videos
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from main import main
from util.errors import InputError

WORLD = SyntheticVideos(SyntheticConfig(seed=5, videos=4, frames=4, height=32, width=48))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Four videos: of the second a frame is cut in half, of the fourth a sentence has no text."""
    root = tmp_path / "tree"
    write_mevis(WORLD, root, "train")
    frame = root / "train/JPEGImages" / WORLD[1].id / "00002.jpg"
    frame.write_bytes(frame.read_bytes()[: frame.stat().st_size // 2])
    path = root / "train/meta_expressions.json"
    content = json.loads(path.read_text())
    next(iter(content["videos"][WORLD[3].id]["expressions"].values()))["exp"] = ""
    path.write_text(json.dumps(content))
    return root


def test_bad_videos_are_set_aside_and_listed(tree: Path) -> None:
    videos = eval_videos(SourceConfig("mevis", root=str(tree), skip_bad=True))
    assert isinstance(videos, GoodVideos) and len(videos) == 2
    assert [video.id for video in videos] == [video.id for video in videos[:]] == [WORLD[0].id, WORLD[2].id]
    assert [skipped.place for skipped in videos.skipped] == [1, 3]
    head, frame, sentence = videos.listing().splitlines()
    assert "set aside 2 of 4 videos" in head
    assert "00002.jpg" in frame and "no text" in sentence and WORLD[3].id in sentence


def test_without_it_the_first_fault_ends_the_run(tree: Path) -> None:
    with pytest.raises(InputError, match="no text"):
        eval_videos(SourceConfig("mevis", root=str(tree)))


def test_training_goes_on_with_the_good_videos_alone(tree: Path) -> None:
    config = DataConfig((SourceConfig("mevis", root=str(tree), skip_bad=True),), workers=0)
    assert samples_per_epoch(config) > 0
    batches = train_batches(config, per_rank=2)
    seen = {line for _ in range(8) for line in next(batches).identity}
    assert any(WORLD[0].id in line for line in seen) and any(WORLD[2].id in line for line in seen)
    assert not any(bad in line for line in seen for bad in (WORLD[1].id, WORLD[3].id))


def test_evaluation_scores_the_good_videos_and_lists_the_others(tree: Path, tmp_path: Path, capsys) -> None:
    options = ["--baseline", "largest", "--data", "mevis", "--root", str(tree), "--split", "train"]
    assert main(["eval", *options]) == 2
    assert "no text" in capsys.readouterr().err
    assert main(["eval", *options, "--skip-bad", "--processes", "1"]) == 0
    shown = capsys.readouterr().out
    assert "set aside 2 of 4 videos" in shown and "00002.jpg" in shown


def test_nothing_left_is_an_error(tree: Path) -> None:
    for path in (tree / "train/JPEGImages").rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of 4 videos can be read; the first: .*00000\.jpg"):
        eval_videos(SourceConfig("mevis", root=str(tree), skip_bad=True))


def test_train_passes_it_on_to_every_source(tree: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    import engine

    monkeypatch.setattr(engine, "train", lambda config: engine.Outcome(0, None))
    config = tmp_path / "c.yaml"
    source = f"{{kind: mevis, root: '{tree}'}}"
    config.write_text(f"data: {{sources: [{source}]}}\nvalidation: {{source: {source}}}\n")
    assert main(["train", "--config", str(config)]) == 0
    assert "set aside" not in capsys.readouterr().out
    assert main(["train", "--config", str(config), "--skip-bad"]) == 0
    assert capsys.readouterr().out.count("set aside 2 of 4 videos") == 1  # both sources are the same one
