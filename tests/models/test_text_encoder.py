"""Text encoder and tokenizer: ids, round trips, refusals, frozen encoders, other encoder families."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, PreTrainedTokenizerFast

from models.text_encoder import (
    ROBERTA_BASE,
    SPECIAL_TOKENS,
    TOKENIZER_FILE,
    TextEncoderConfig,
    Tokenizer,
    architecture,
    build_text_encoder,
    build_tokenizer,
    embedded_config,
    encode,
    set_text_mode,
    text_width,
    train_byte_level_tokenizer,
)
from util.config import from_dict, to_dict
from util.errors import InputError
from util.protocol import CORRECTED, PUBLISHED

CORPUS = ["the red ball on the left", "a red ball that moves to the left", "the blue cube behind the ball"] * 4
SMALL = {
    **ROBERTA_BASE,
    "vocab_size": 320,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 130,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    train_byte_level_tokenizer(CORPUS, path / TOKENIZER_FILE, 320)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return build_tokenizer(TextEncoderConfig(arch=SMALL), search=folder)


def test_special_ids_are_robertas(tokenizer: Tokenizer) -> None:
    assert [tokenizer.backend.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    ids, mask = tokenizer(["the red ball", "a red ball that moves to the left"])
    assert ids.dtype == mask.dtype == torch.int64 and ids.shape == mask.shape
    assert (ids[:, 0] == 0).all() and (ids[mask == 0] == 1).all() and mask[0].sum() < mask[1].sum() == ids.shape[1]
    last = ids.gather(1, mask.sum(1, keepdim=True) - 1)
    assert (last == 2).all()


@pytest.mark.parametrize(
    "text", ["the red ball", "红色的球在左边", "🏀 rolls ‍👩‍🚀 é ñ ß", "<pad> <s> </s> <mask>", "\x00\t tab"]
)
def test_no_text_is_unknown(tokenizer: Tokenizer, text: str) -> None:
    ids, mask = tokenizer([text])
    assert 3 not in ids and mask.all() and (ids[0, 1:-1] > 4).all()
    assert tokenizer.decode(ids[0].tolist()).removeprefix(" ") == text.removeprefix(" ")


def test_training_is_reproducible_and_learns_words(folder: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    again = train_byte_level_tokenizer(CORPUS, tmp_path / "deeper" / "t.json", 320)
    assert again.read_bytes() == (folder / TOKENIZER_FILE).read_bytes()
    assert tokenizer(["the red ball"])[0].shape == (1, 5)
    with pytest.raises(ValueError, match="at least 261"):
        train_byte_level_tokenizer(CORPUS, tmp_path / "t.json", 200)


def test_ids_are_those_of_a_transformers_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folder / TOKENIZER_FILE), pad_token="<pad>")
    sentences = ["a cube", "the blue cube behind the ball", "ball"]
    expected = theirs(sentences, padding="longest", return_tensors="pt")
    ids, mask = tokenizer(sentences)
    assert torch.equal(ids, expected["input_ids"]) and torch.equal(mask, expected["attention_mask"])


def test_each_sentence_reads_alone_as_in_a_batch(tokenizer: Tokenizer) -> None:
    sentences = ["a cube", "the blue cube behind the ball"]
    ids, mask = tokenizer(sentences)
    for n, sentence in enumerate(sentences):
        alone, _ = tokenizer([sentence])
        assert torch.equal(alone[0], ids[n][mask[n] == 1])


def test_bad_sentences_are_named(tokenizer: Tokenizer) -> None:
    limit = SMALL["max_position_embeddings"] - 4
    assert tokenizer.limit == limit
    with pytest.raises(InputError, match="empty"):
        tokenizer(["a ball", " \n"])
    with pytest.raises(InputError, match=r"'ball ball .*10000 tokens; shorten it to 126"):
        tokenizer(["a ball", "ball " * 9999 + "ball"])
    with pytest.raises(InputError, match="not valid Unicode"):
        tokenizer(["\udcff ball"])
    with pytest.raises(InputError, match="no sentence"):
        tokenizer([])
    assert tokenizer([" ".join(["ball"] * limit)])[0].shape == (1, limit + 2)


def test_the_longest_sentence_has_positions(tokenizer: Tokenizer) -> None:
    model = build_text_encoder(TextEncoderConfig(arch=SMALL), pretrained=False).eval()
    words, _ = encode(model, *tokenizer([" ".join(["ball"] * tokenizer.limit)]))
    assert words.shape == (1, tokenizer.limit + 2, 64) and torch.isfinite(words).all()


def test_tokenizer_file_survives_saving(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / TOKENIZER_FILE)
    again = build_tokenizer(TextEncoderConfig(arch=SMALL, tokenizer=str(tmp_path)), search=None)
    assert again.to_json() == tokenizer.to_json() and again.pad_id == 1
    assert torch.equal(again(["the red ball", "cube"])[0], tokenizer(["the red ball", "cube"])[0])


def test_wrong_tokenizers_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not belong together"):
        build_tokenizer(TextEncoderConfig(arch={**SMALL, "vocab_size": 270}), search=folder)
    with pytest.raises(InputError, match=r"holds no tokenizer .*--text-encoder"):
        build_tokenizer(TextEncoderConfig(tokenizer=str(tmp_path)), search=None)
    with pytest.raises(InputError, match=r"no folder here.*--text-encoder"):
        build_tokenizer(TextEncoderConfig(tokenizer="./absent"), search=None)
    (tmp_path / TOKENIZER_FILE).write_text("{}")
    with pytest.raises(InputError, match=r"is no tokenizer\.json"):
        build_tokenizer(TextEncoderConfig(), search=tmp_path)


def test_offline_hub_id_fails_at_once_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"cannot be reached.*--text-encoder"):
        build_tokenizer(TextEncoderConfig(name="someone/absent-encoder"), search=None)
    with pytest.raises(InputError, match=r"cannot be reached.*--text-encoder"):
        build_text_encoder(TextEncoderConfig(name="someone/absent-encoder"), pretrained=True)


def test_roberta_base_is_built_in() -> None:
    """Parameter count of roberta-base with pooler (spec 13.1), and the 199 entries of a released checkpoint."""
    with torch.device("meta"):
        model = build_text_encoder(TextEncoderConfig(), pretrained=False)
    assert sum(p.numel() for p in model.parameters()) == 124_645_632
    assert len(model.state_dict()) == 199 and text_width(model) == 768
    assert architecture(TextEncoderConfig()).layer_norm_eps == 1e-5


def test_pretrained_weights_load_and_a_missing_pooler_is_noticed(tmp_path: Path) -> None:
    """D12: a pooler that would stay random must not be frozen."""
    saved = build_text_encoder(TextEncoderConfig(arch=SMALL), pretrained=False).eval()
    saved.save_pretrained(tmp_path / "whole")
    config = TextEncoderConfig(name=str(tmp_path / "whole"), freeze=True)
    loaded = build_text_encoder(config, pretrained=True)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in saved.state_dict().items())
    assert not any(p.requires_grad for p in loaded.parameters()) and loaded.dtype == torch.float32

    without = AutoModel.from_config(architecture(TextEncoderConfig(arch=SMALL)), add_pooling_layer=False)
    without.save_pretrained(tmp_path / "without")
    config = TextEncoderConfig(name=str(tmp_path / "without"), arch=SMALL)
    with pytest.warns(UserWarning, match="pooler starts random"):
        build_text_encoder(config, pretrained=True)
    with pytest.raises(InputError, match="no pooler weights"):
        build_text_encoder(replace(config, freeze=True), pretrained=True)
    with pytest.raises(InputError, match="lacks"):
        build_text_encoder(replace(config, arch={**SMALL, "num_hidden_layers": 3}), pretrained=True)


def test_a_frozen_encoder_drops_out_only_as_published() -> None:
    """D11."""
    model = build_text_encoder(TextEncoderConfig(arch=SMALL, freeze=True), pretrained=False)
    for freeze, protocol, training in ((True, CORRECTED, False), (True, PUBLISHED, True), (False, CORRECTED, True)):
        set_text_mode(model, True, freeze=freeze, protocol=protocol)
        assert model.training is training
        set_text_mode(model, False, freeze=freeze, protocol=protocol)
        assert not model.training


BERT = {"model_type": "bert", "vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
T5 = {"model_type": "t5", "vocab_size": 320, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 1, "num_heads": 4}
CLIP = {"model_type": "clip_text_model", "vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 96, "eos_token_id": 2}  # fmt: skip


@pytest.mark.parametrize("arch", [BERT, T5, CLIP, SMALL], ids=lambda arch: arch["model_type"])
def test_other_encoders_are_one_config_away(arch: dict, tokenizer: Tokenizer) -> None:
    model = build_text_encoder(TextEncoderConfig(arch=arch), pretrained=False).eval()
    ids, mask = tokenizer(["the red ball", "a red ball that moves"])
    words, sentence = encode(model, ids, mask)
    assert words.shape == (*ids.shape, text_width(model)) and sentence.shape == (2, text_width(model))
    if arch is T5:
        assert torch.equal(sentence, words[:, 0])
    again = from_dict(TextEncoderConfig, to_dict(embedded_config(TextEncoderConfig(name="x"), model)))
    rebuilt = build_text_encoder(again, pretrained=False)
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_an_arch_must_name_its_type() -> None:
    with pytest.raises(InputError, match="model_type"):
        build_text_encoder(TextEncoderConfig(arch={"vocab_size": 3}), pretrained=False)
    with pytest.raises(InputError, match="no model_type 'robert'"):
        build_text_encoder(TextEncoderConfig(arch={"model_type": "robert"}), pretrained=False)
