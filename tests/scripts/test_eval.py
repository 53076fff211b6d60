"""`main.py eval`: the truth scores 100, controls ask for what they say, ranks share the videos."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import main
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from models.backbone import BackboneConfig
from models.checkpoint import save_segmenter
from models.inference import InferenceConfig
from models.segmenter import Segmenter, SegmenterConfig
from models.text_encoder import ROBERTA_BASE, TextEncoderConfig, build_tokenizer, train_byte_level_tokenizer
from scripts.answers import BaselineAnswers
from util import rle
from util.distributed import World
from util.scoring import score_videos, summarise, true_masks
from util.types import FrameSource, ReferringVideo

WORLD = ["--data", "synthetic", "--videos", "2", "--seed", "5", "--size", "48x64", "--frames", "4", "--device", "cpu"]


def videos(count: int = 2) -> SyntheticVideos:
    return SyntheticVideos(SyntheticConfig(seed=5, videos=count, frames=4, height=48, width=64))


def truth(video: ReferringVideo) -> list[list[rle.RLE]]:
    frames = [true_masks(video, t)[0] for t in range(len(video.frames))]
    return [[rle.encode(frame[e]) for frame in frames] for e in range(len(video.expressions))]


@dataclass
class Network:
    """Stands for the network: answers with the truth of what it is asked, and remembers the asking."""

    asked: list[tuple[list[str], Any, Any]]

    def segment(
        self, _: Any, frames: FrameSource, sentences: Sequence[str], config: Any, *, keys: Mapping[int, Any] | None
    ) -> Any:
        self.asked.append((list(sentences), config, keys))
        pixels = frames[0]
        video = next(video for video in videos() if (video.frames[0] == pixels).all())
        by_text = dict(zip((e.text for e in video.expressions), truth(video), strict=True))
        return SimpleNamespace(masks=[by_text[text] for text in sentences])


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    stand_in = Network([])
    loaded = SimpleNamespace(config=SimpleNamespace(protocol=SimpleNamespace(name="corrected")))
    monkeypatch.setattr("models.checkpoint.load_segmenter", lambda *a, **k: loaded)
    monkeypatch.setattr("scripts.segment.stored_settings", lambda weights: InferenceConfig(short_side=48, max_side=64))
    monkeypatch.setattr("models.key_frame.segment_video", stand_in.segment)
    return stand_in


def summary_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def test_the_truth_scores_100_and_results_say_where_they_come_from(
    network: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["eval", "--weights", "x", *WORLD, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "100.0" in shown
    assert "protocol of the network: corrected" in shown
    results = summary_in(tmp_path)
    assert results["summary"]["J&F"] == 1
    assert {"command", "commit", "hardware", "torch", "protocol", "weights"} <= set(results)
    with (tmp_path / "expressions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(video.expressions) for video in videos())
    assert {row["J&F"] for row in rows} == {"1.0"}


def test_options_reach_the_engine(network: Network) -> None:
    main.main(["eval", "--weights", "x", *WORLD, "--mode", "clip", "--short-side", "96", "--limit", "1"])
    ((_, config, keys),) = network.asked
    assert (config.mode, config.short_side, config.max_side, keys) == ("clip", 96, 128, None)


def test_true_key_gives_the_largest_true_mask(network: Network) -> None:
    main.main(["eval", "--weights", "x", *WORLD, "--key", "true"])
    for (_, _, keys), video in zip(network.asked, videos(), strict=True):
        targets = {e for e, expression in enumerate(video.expressions) if expression.object_ids}
        assert set(keys) == targets
        for e, (frame, mask) in keys.items():
            areas = [true_masks(video, t)[0][e].sum() for t in range(len(video.frames))]
            assert mask.sum() == areas[frame] == max(areas)


def test_other_sentence_is_scored_against_the_original_referent(network: Network, tmp_path: Path) -> None:
    main.main(["eval", "--weights", "x", *WORLD, "--sentence", "other", "--out", str(tmp_path)])
    answers = {e.text: set(e.object_ids or ()) for video in videos() for e in video.expressions}
    with (tmp_path / "expressions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [text for sentences, _, _ in network.asked for text in sentences]
    assert all(answers[row["text"]] for row in rows)
    assert summary_in(tmp_path)["summary"]["J"] < 0.2  # what was asked for is another object, rightly found


@pytest.mark.parametrize("extra", [[], ["--key", "true"], ["--mode", "clip"]])
def test_a_checkpoint_is_evaluated(extra: list[str], tmp_path: Path) -> None:
    """From a folder of weights to numbers, with nothing replaced; the weights are random, so any score will do."""
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = TextEncoderConfig(arch=ROBERTA_BASE | size | {"vocab_size": 300})
    train_byte_level_tokenizer((e.text for e in videos()[0].expressions), tmp_path / "t" / "tokenizer.json", 300)
    config = SegmenterConfig(
        backbone=BackboneConfig("tiny"), text=text, hidden_dim=32, heads=2, encoder_layers=1, decoder_layers=1,
        feedforward=32, points=2, tracking="feature", presence=True,
    )  # fmt: skip
    segmenter = Segmenter(config, tokenizer=build_tokenizer(text, search=tmp_path / "t"))
    save_segmenter(segmenter, tmp_path / "model", extra={"inference": {"short_side": 48, "max_side": 64}})
    words = ["--weights", str(tmp_path / "model"), *WORLD, "--limit", "1", "--out", str(tmp_path / "out"), *extra]
    assert main.main(["eval", *words]) == 0
    results = summary_in(tmp_path / "out")
    assert results["protocol"] == "corrected"
    assert results["inference"]["short_side"] == 48
    assert 0 <= results["summary"]["J&F"] <= 1


def test_largest_object_needs_no_network(tmp_path: Path) -> None:
    assert main.main(["eval", "--baseline", "largest", *WORLD, "--out", str(tmp_path)]) == 0
    results = summary_in(tmp_path)
    assert 0 < results["summary"]["J&F"] < 1
    assert "protocol" not in results


def test_ranks_give_the_single_process_answer() -> None:
    asked = videos(3)
    answer = BaselineAnswers("random").masks
    parts: list[Any] = []

    class Rank(World):
        def gather(self, value: Any) -> list[Any]:
            parts.append(value)
            return [value]

    for rank in range(2):
        score_videos(answer, asked, Rank(rank, 2, torch.device("cpu")))
    shared = sorted((item for part in parts for item in part), key=lambda item: item[0])
    alone = score_videos(answer, asked, World(0, 1, torch.device("cpu")))
    assert [score for _, scores in shared for score in scores] == alone
    assert [len(part) for part in parts] == [2, 1]
    assert np.isfinite(summarise(alone)["J&F"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "mevis"], "needs --root"),
        (["--size", "96"], "HEIGHTxWIDTH"),
        (["--limit", "0"], "at least 1"),
        (["--mode", "track"], "asks no network"),
        (["--data", "ref_youtube_vos", "--root", "nowhere", "--split", "valid"], "nowhere"),
    ],
)
def test_bad_options_say_what_to_do(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["eval", "--baseline", "largest", *words]) == 2
    assert said in capsys.readouterr().err
