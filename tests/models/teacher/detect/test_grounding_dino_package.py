"""The package `groundingdino` behind the protocol: the same boxes as transformers from the same file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertTokenizer, GroundingDinoConfig

from models.teacher.convert.grounding_dino import convert_grounding_dino
from models.teacher.detect.grounding_dino import GroundingDino
from models.teacher.detect.grounding_dino_package import GroundingDinoPackage, build_network
from tests.models.teacher.tiny_models import VOCABULARY, bert_vocabulary, shake
from util.errors import InputError

INSTALLED = importlib.util.find_spec("groundingdino") is not None
needs_package = pytest.mark.skipif(not INSTALLED, reason="the package groundingdino is not installed")
IMAGE = np.random.RandomState(0).randint(0, 255, (96, 128, 3), dtype=np.uint8)


def small_config(width: int = 96) -> GroundingDinoConfig:
    """The package's Swin-T at its full size, which cannot be changed, and the rest small."""
    text = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    swin = {"model_type": "swin", "embed_dim": width, "out_features": ["stage2", "stage3", "stage4"]}
    return GroundingDinoConfig(
        backbone_config=swin, text_config=text, num_queries=8, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32
    )


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    BertTokenizer(vocab=bert_vocabulary()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def original(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = build_network(small_config(), tokenizer)
    shake(network, 0, 0.02)
    path = tmp_path_factory.mktemp("original") / "original.pth"
    extra = {"bert.embeddings.position_ids": torch.arange(64)[None], "label_enc.weight": torch.zeros(3, 256)}
    weights = {f"module.{name}": value for name, value in {**network.state_dict(), **extra}.items()}
    torch.save({"model": weights}, path)
    return path


@needs_package
def test_its_answers_are_those_of_the_converted_folder(original: Path, tokenizer: Path, tmp_path: Path) -> None:
    package = GroundingDinoPackage(original, tokenizer=tokenizer, short=96, long=128, threshold=0.0)
    convert_grounding_dino(original, tmp_path / "folder", tokenizer=tokenizer)
    ours = GroundingDino(tmp_path / "folder", threshold=0.0)
    ours.processor.image_processor.size = {"shortest_edge": 96, "longest_edge": 128}
    nouns = ["red car", "man in a blue coat"]
    for one, other in zip(package.ground(IMAGE, nouns), ours.ground(IMAGE, nouns), strict=True):
        assert (one.words, one.head) == (other.words, other.head)
        np.testing.assert_allclose(one.boxes_Q4, other.boxes_Q4, atol=1e-3)
        np.testing.assert_allclose(one.scores_QW, other.scores_QW, atol=1e-5)
    found, expected = package.detect(IMAGE, nouns), ours.detect(IMAGE, nouns)
    assert [(box.noun, box.phrase) for box in found] == [(box.noun, box.phrase) for box in expected] and found
    assert package.info.backend == "grounding_dino_package" and package.info.revision != ours.info.revision


@needs_package
def test_a_file_that_does_not_fit_is_refused(original: Path, tokenizer: Path, tmp_path: Path) -> None:
    content = torch.load(original, weights_only=True)
    del content["model"]["module.transformer.enc_output.bias"]
    torch.save(content, tmp_path / "cut.pth")
    with pytest.raises(InputError, match="1 missing"):
        GroundingDinoPackage(tmp_path / "cut.pth", tokenizer=tokenizer)
    with pytest.raises(InputError, match="no network with a Swin of width 8"):
        build_network(small_config(width=8), tokenizer)


@pytest.mark.skipif(INSTALLED, reason="the package groundingdino is installed")
def test_without_the_package_there_is_advice(tokenizer: Path) -> None:
    with pytest.raises(InputError, match=r"pip install groundingdino-py.*--detector grounding_dino"):
        build_network(small_config(), tokenizer)
