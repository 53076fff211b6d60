"""Original Grounding DINO files: every key accounted for, and the numbers that the official code gives.

`grounding_dino_golden.json` was made with groundingdino-py 0.4.0 (a tiny Swin and BERT, two layers each of encoder and
decoder): the names and shapes of its weights, and its answer for `IMAGE` and "the red car." when every weight is drawn
from its name as `drawn` does.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertTokenizer

from models.teacher.convert.grounding_dino import convert_grounding_dino
from models.teacher.detect.grounding_dino import GroundingDino
from tests.models.teacher.tiny_models import bert_vocabulary
from util.errors import InputError

GOLDEN = json.loads((Path(__file__).parent / "grounding_dino_golden.json").read_text())
IMAGE = torch.from_numpy(np.random.RandomState(0).standard_normal((1, 3, 96, 128)).astype(np.float32))
PROMPT = torch.tensor([[101, 201, 202, 204, 1012, 102]])  # [CLS] the red car . [SEP]


def drawn(name: str, shape: list[int]) -> Tensor:
    """The weights of a key; the box heads of all decoder layers are one."""
    name = name.replace("transformer.decoder.bbox_embed.", "bbox_embed.")
    name = re.sub(r"^bbox_embed\.\d+\.", "bbox_embed.0.", name)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    spread = 0.2 if len(shape) < 2 else shape[-1] ** -0.5
    values = np.random.RandomState(seed).standard_normal(shape).astype(np.float32) * spread
    return torch.from_numpy(values + ("norm" in name.lower() and name.endswith("weight")))


@pytest.fixture(scope="module")
def original() -> dict[str, Tensor]:
    weights = {name: drawn(name, shape) for name, shape in GOLDEN["keys"].items()}
    weights["backbone.0.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
    # in the released files, and unexpected to the official code too (IDEA-Research/GroundingDINO#271)
    weights["bert.embeddings.position_ids"] = torch.arange(64)[None]
    weights["label_enc.weight"] = torch.zeros(3, 256)
    return {f"module.{name}": value for name, value in weights.items()}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    BertTokenizer(vocab=bert_vocabulary()).save_pretrained(folder)
    return folder


def saved(weights: dict[str, Tensor], folder: Path) -> Path:
    torch.save({"model": weights}, folder / "original.pth")
    return folder / "original.pth"


def test_a_converted_file_answers_as_the_official_code(
    original: dict[str, Tensor], tokenizer: Path, tmp_path: Path
) -> None:
    name = convert_grounding_dino(saved(original, tmp_path), tmp_path / "out", tokenizer=tokenizer)
    assert name == "Grounding DINO Swin of width 8"
    detector = GroundingDino(tmp_path / "out")
    assert detector.info.licence == "apache-2.0"
    with torch.inference_mode():
        output = detector.model(pixel_values=IMAGE, input_ids=PROMPT)
    logits_QL = output.logits[0].numpy()
    np.testing.assert_allclose(logits_QL[:, :6], GOLDEN["logits_QL"], rtol=0, atol=1e-4)
    assert (logits_QL[:, 6:] == -np.inf).all()
    np.testing.assert_allclose(output.pred_boxes[0].numpy(), GOLDEN["boxes_Q4"], rtol=0, atol=2e-6)
    assert detector.processor.tokenizer("the red car.", return_tensors="pt").input_ids.equal(PROMPT)
    assert dict(detector.processor.image_processor.size) == {"shortest_edge": 800, "longest_edge": 1333}


def test_missing_left_over_and_damaged_keys_are_refused(
    original: dict[str, Tensor], tokenizer: Path, tmp_path: Path
) -> None:
    norm = "module.transformer.decoder.layers.1.norm3.weight"
    shared = "module.transformer.decoder.bbox_embed.1.layers.0.bias"
    for change, message in (
        ({norm: None}, "decoder.layers.1.final_layer_norm.weight"),
        ({"module.surplus": torch.zeros(1)}, "surplus"),
        ({norm: original[norm] * float("nan")}, "not finite"),
        ({shared: original[shared] + 1}, "shares"),
        ({"module.transformer.tgt_embed.weight": None}, "is no Grounding DINO checkpoint"),
    ):
        weights = {name: value for name, value in {**original, **change}.items() if value is not None}
        with pytest.raises(InputError, match=message):
            convert_grounding_dino(saved(weights, tmp_path), tmp_path / "out", tokenizer=tokenizer)
        assert not (tmp_path / "out").exists()


def test_another_tokenizer_is_refused(original: dict[str, Tensor], tmp_path: Path) -> None:
    words = [word for word in bert_vocabulary() if word != "[unused5]"]
    BertTokenizer(vocab={word: place for place, word in enumerate(words)}).save_pretrained(tmp_path / "shifted")
    with pytest.raises(InputError, match="is not the tokenizer"):
        convert_grounding_dino(saved(original, tmp_path), tmp_path / "out", tokenizer=tmp_path / "shifted")
