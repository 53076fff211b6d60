"""The benchmark scripts: what they count adds up, and a cell can be measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.backbone import BackboneConfig
from models.segmenter import Segmenter, SegmenterConfig
from models.text_encoder import ROBERTA_BASE, TextEncoderConfig, build_tokenizer, train_byte_level_tokenizer
from scripts.bench import inference, ops
from scripts.bench.cost import PARTS, multiply_adds, parameters
from scripts.bench.network import sentences
from scripts.bench.ops_cases import TINY, draw

SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    text = TextEncoderConfig(arch=ROBERTA_BASE | SMALL)
    folder = tmp_path_factory.mktemp("tokenizer")
    train_byte_level_tokenizer(sentences(), folder / "tokenizer.json", 300)
    config = SegmenterConfig(
        backbone=BackboneConfig("tiny"), text=text, hidden_dim=32, heads=2, encoder_layers=1, decoder_layers=1,
        feedforward=32, points=2, tracking="feature", time=True, presence=True,
    )  # fmt: skip
    return Segmenter(config, tokenizer=build_tokenizer(text, search=folder)).eval()


def test_parameters_of_the_parts_are_all_there_are(network: Segmenter) -> None:
    counts = parameters(network)
    assert sum(counts.values()) == sum(p.numel() for p in network.parameters())
    assert set(counts) == set(PARTS)


def test_multiply_adds_grow_with_what_they_depend_on(network: Segmenter) -> None:
    pytest.importorskip("fvcore")
    small, longer, longest = (multiply_adds(network, frames, (32, 64), 6) for frames in (2, 4, 6))
    assert small is not None
    assert longer is not None
    assert longest is not None
    assert min(small.values()) > 0
    assert longer["backbone"] == pytest.approx(2 * small["backbone"])
    assert longer["text"] == small["text"]
    # attention of the pixel decoder is over all frames of the window, so its work grows with their square
    assert longest["pixel decoder"] - longer["pixel decoder"] > longer["pixel decoder"] - small["pixel decoder"]


def test_saving_of_encoding_once() -> None:
    saved = inference.encode_once({"backbone": 20.0, "encoder": 80.0})
    assert saved["free of text"] == 0.2
    assert saved["saved at 4 sentences"] == pytest.approx(1 - (20 + 4 * 80) / (4 * 100))


def test_repeated_frames_keep_few() -> None:
    video = inference.RepeatedFrames(60, (32, 48))
    assert len(video) == 60
    assert (video[59] == video[59 - inference.RING]).all()
    assert (video[0] != video[1]).any()


@pytest.mark.parametrize("mode", ["track", "clip"])
def test_a_cell_is_measured(network: Segmenter, mode: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inference.Subject, "network", lambda subject: network)
    cell = inference.measure(inference.Subject(None, "tiny", mode, (32, 48), 3, "cpu"), asked=2, frames=5)
    assert (cell["sentences"], cell["frames"]) == (2, 5)
    assert cell["masks/s"] == pytest.approx(2 * cell["frames/s"])
    assert np.isfinite(list(cell.values())).all()


@pytest.mark.parametrize("direction", ops.DIRECTIONS)
def test_candidates_for_deformable_attention_compute_the_same(direction: str) -> None:
    """And one turn of each gives a row, with the baseline's as one."""
    runs = ops.candidates(["native", "pytorch", "grid_sample", "transformers"])
    x = draw(TINY, torch.float32, torch.device("cpu"))
    outs = [run(x) for run in runs.values()]
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0], atol=1e-4, rtol=1e-4)
    setting = ops.Setting(TINY, torch.float32, "encoder", torch.get_num_threads(), direction)
    rows = ops.rows(setting, ops.measure(setting, runs, 1), bandwidth=1e10)
    assert [row["candidate"] for row in rows] == list(runs)
    assert {row["candidate"]: row["times grid_sample"] for row in rows}[ops.BASELINE] == 1.0
