"""The text side: any Hugging Face text encoder with its tokenizer, by default RoBERTa with its pooler.

An encoder fits when its output has `last_hidden_state`; the sentence vector is its `pooler_output`, or else the
first token. A model built from `TextEncoderConfig.arch` and a tokenizer read from a file need no download.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tokenizers
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)

from util.errors import InputError
from util.hub import local_folder
from util.protocol import Protocol

TOKENIZER_FILE = "tokenizer.json"
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # ids 0..4, RoBERTa's order
_PAD_TOKENS = ("<pad>", "[PAD]", "<|endoftext|>")  # RoBERTa and T5, BERT, CLIP
_ADVICE = "pass --text-encoder with a folder that holds it, or with a hub id while online"
_POSITIONS_AFTER_PAD = ("roberta", "xlm-roberta", "camembert")  # position ids begin at pad_token_id + 1

# The released models' encoder, so that building one needs no download.
ROBERTA_BASE: dict[str, Any] = {
    "model_type": "roberta",
    "vocab_size": 50265,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class TextEncoderConfig:
    """Which encoder and tokenizer."""

    name: str = "roberta-base"  # hub id or folder: weights when pretrained, tokenizer when `tokenizer` is None
    arch: dict | None = None  # a transformers config with its model_type: build from it and download nothing
    tokenizer: str | None = None  # hub id, folder or tokenizer.json; None = name
    freeze: bool = False
    max_tokens: int = 510  # of one sentence, begin and end tokens not counted


def architecture(config: TextEncoderConfig) -> PretrainedConfig:
    """The encoder's transformers config: `arch`, the built-in roberta-base, or what `name` says.

    Raises InputError when `name` is neither a folder nor reachable on the hub.
    """
    arch = _known_arch(config)
    if arch is None:
        folder = local_folder(config.name, ["config.json"], what="text encoder", advice=_ADVICE)
        try:
            return AutoConfig.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise InputError(f"{config.name} holds no text encoder's config.json: {error}") from error
    if "model_type" not in arch:
        raise InputError("text.arch has no model_type; add the transformers name of the encoder, e.g. roberta")
    fields = {key: value for key, value in arch.items() if key != "model_type"}
    try:
        return AutoConfig.for_model(arch["model_type"], **fields)
    except ValueError as error:
        raise InputError(f"text.arch: transformers has no model_type {arch['model_type']!r}") from error


def build_text_encoder(config: TextEncoderConfig, *, pretrained: bool) -> PreTrainedModel:
    """The encoder in float32; with `pretrained` its weights come from the folder or hub id `config.name`.

    Raises InputError when the weights cannot be had, lack anything but the pooler, or lack the pooler while
    `config.freeze` is set: a frozen random pooler would give every sentence a meaningless vector (D12).
    """
    if pretrained:
        model = _load_pretrained(config)
    else:
        arch = architecture(config)
        model = _factory(arch).from_config(arch)
    if config.freeze:
        model.requires_grad_(False)
    return model


def text_width(model: PreTrainedModel) -> int:
    """Channels of the encoder's words and sentence vectors."""
    return int(getattr(model.config, "hidden_size", None) or model.config.d_model)


def encode(model: PreTrainedModel, input_ids_NL: Tensor, attention_mask_NL: Tensor) -> tuple[Tensor, Tensor]:
    """Word features [N, L, C] and sentence features [N, C]."""
    output = model(input_ids=input_ids_NL, attention_mask=attention_mask_NL)
    words = output.last_hidden_state
    pooled = getattr(output, "pooler_output", None)
    return words, words[:, 0] if pooled is None else pooled


def set_text_mode(model: PreTrainedModel, training: bool, *, freeze: bool, protocol: Protocol) -> None:
    """Train or eval mode of the encoder: a frozen one stays in eval mode unless `protocol` keeps its dropout (D11)."""
    model.train(training and (not freeze or protocol.frozen_text_dropout == "on"))


class Tokenizer:
    """Sentences to token ids, padded to the longest of the call.

    Text that spells a special token ("<pad>") is read as ordinary text. `limit` bounds the tokens of one sentence,
    begin and end tokens not counted.
    """

    def __init__(self, backend: tokenizers.Tokenizer, *, limit: int, pad_id: int | None = None) -> None:
        self.backend = backend
        self.limit = limit
        self.pad_id = _pad_id(backend) if pad_id is None else pad_id
        backend.no_truncation()
        backend.enable_padding(direction="right", pad_id=self.pad_id, pad_token=backend.id_to_token(self.pad_id))
        backend.encode_special_tokens = True

    def __call__(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """input_ids and attention_mask (1 = word), both int64 [N, L].

        Raises InputError for an empty, undecodable or too long sentence, naming it.
        """
        if isinstance(sentences, str) or not sentences:
            raise InputError("no sentence given; pass a list with at least one")
        for sentence in sentences:
            _check(sentence)
        encoded = self.backend.encode_batch(list(sentences))
        specials = self.backend.num_special_tokens_to_add(is_pair=False)
        for sentence, row in zip(sentences, encoded, strict=True):
            length = sum(row.attention_mask) - specials
            if length > self.limit:
                raise InputError(f"the sentence {_short(sentence)} has {length} tokens; shorten it to {self.limit}")
        return torch.tensor([row.ids for row in encoded]), torch.tensor([row.attention_mask for row in encoded])

    def __len__(self) -> int:
        return self.backend.get_vocab_size(with_added_tokens=True)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return self.backend.decode(list(ids), skip_special_tokens=True)

    def save(self, path: Path) -> None:
        """Write tokenizer.json."""
        path.write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """The content of tokenizer.json."""
        return self.backend.to_str()


def build_tokenizer(config: TextEncoderConfig, *, search: Path | None) -> Tokenizer:
    """The tokenizer that lies in `search` (a checkpoint's folder), else the one of `config.tokenizer` or `config.name`.

    Raises InputError when there is none (offline, a hub id is not enough) or when it has ids that the encoder lacks.
    """
    if search is not None and (search / TOKENIZER_FILE).is_file():
        path = search / TOKENIZER_FILE
    else:
        path = Path(config.tokenizer or config.name).expanduser()
        if not path.is_file():
            folder = local_folder(str(path), ["*.json", "*.txt", "*.model"], what="tokenizer", advice=_ADVICE)
            path = folder / TOKENIZER_FILE if (folder / TOKENIZER_FILE).is_file() else folder
    limit = min(config.max_tokens, _position_limit(config))
    tokenizer = _convert_tokenizer(path, limit) if path.is_dir() else _read_tokenizer(path, limit)
    words = (_known_arch(config) or {}).get("vocab_size")
    if words is not None and len(tokenizer) > words:
        raise InputError(
            f"the tokenizer {path} has {len(tokenizer)} tokens and the text encoder {words}: they do not belong "
            "together; name the tokenizer that the encoder was trained with"
        )
    return tokenizer


def train_byte_level_tokenizer(sentences: Iterable[str], path: Path, vocab_size: int) -> Path:
    """Learn a byte-level BPE vocabulary with RoBERTa's special ids and write it as tokenizer.json at `path`.

    All 256 bytes are tokens, so no text has an unknown word. `vocab_size` counts them and the 5 special tokens.
    Raises ValueError when it is smaller than that. The same sentences give the same file.
    """
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(alphabet) + len(SPECIAL_TOKENS):
        raise ValueError(f"vocab_size must be at least {len(alphabet) + len(SPECIAL_TOKENS)}, not {vocab_size}")
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(sentences, trainer)
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    Tokenizer(backend, limit=510).save(path)
    return path


def embedded_config(config: TextEncoderConfig, model: PreTrainedModel) -> TextEncoderConfig:
    """`config` with the built model's architecture inside, for a checkpoint that must load without a download."""
    arch = {key: value for key, value in model.config.to_diff_dict().items() if key != "transformers_version"}
    return replace(config, arch=arch | {"model_type": model.config.model_type})


def _load_pretrained(config: TextEncoderConfig) -> PreTrainedModel:
    arch = architecture(config)
    folder = local_folder(config.name, ["*.json", "*.safetensors"], what="text encoder", advice=_ADVICE)
    if not any(folder.glob("*.safetensors")):
        folder = local_folder(config.name, ["*.json", "pytorch_model*.bin"], what="text encoder", advice=_ADVICE)
    try:
        model, info = _factory(arch).from_pretrained(
            folder, config=arch, dtype=torch.float32, output_loading_info=True, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{config.name} holds no weights that fit a {arch.model_type}: {error}") from error
    missing = sorted(info["missing_keys"])
    other = [key for key in missing if not key.startswith("pooler.")]
    if other:
        raise InputError(f"{config.name} lacks {len(other)} weights of a {arch.model_type}, e.g. {other[:5]}")
    if missing and config.freeze:
        raise InputError(
            f"{config.name} has no pooler weights, and a frozen encoder would keep a random pooler; "
            "set text.freeze false, or start from a checkpoint that trained it"
        )
    if missing:
        warnings.warn(f"{config.name} has no pooler weights: the pooler starts random and is trained", stacklevel=3)
    return model


def _factory(arch: PretrainedConfig) -> Any:
    # An encoder-decoder (T5) is asked for its encoder alone; the encoder's own config no longer says what it was.
    return AutoModelForTextEncoding if hasattr(arch, "num_decoder_layers") else AutoModel


def _read_tokenizer(path: Path, limit: int) -> Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises bare Exception
        raise InputError(f"{path} is no tokenizer.json: {error}") from error
    return Tokenizer(backend, limit=limit)


def _convert_tokenizer(folder: Path, limit: int) -> Tokenizer:
    """From vocab.json and merges.txt, vocab.txt or a sentencepiece model."""
    try:
        fast = AutoTokenizer.from_pretrained(folder, use_fast=True, local_files_only=True)
    except Exception as error:  # a folder that is something else raises half a dozen unrelated types
        reason = " ".join(str(error).split())[:80]
        raise InputError(f"{folder} holds no tokenizer ({reason}); {_ADVICE}") from error
    if not hasattr(fast, "backend_tokenizer") or fast.pad_token_id is None:
        raise InputError(f"the tokenizer in {folder} is not a fast one with a padding token; name another")
    return Tokenizer(fast.backend_tokenizer, limit=limit, pad_id=fast.pad_token_id)


def _known_arch(config: TextEncoderConfig) -> dict[str, Any] | None:
    return config.arch or (ROBERTA_BASE if config.name == "roberta-base" else None)


def _position_limit(config: TextEncoderConfig) -> int:
    """Tokens for which the encoder has positions, begin and end tokens taken off."""
    arch = _known_arch(config) or {}
    positions = arch.get("max_position_embeddings")
    if positions is None:
        return config.max_tokens
    offset = arch.get("pad_token_id", 1) + 1 if arch.get("model_type") in _POSITIONS_AFTER_PAD else 0
    return positions - offset - 2


def _pad_id(backend: tokenizers.Tokenizer) -> int:
    if backend.padding is not None:
        return backend.padding["pad_id"]
    for token in _PAD_TOKENS:
        found = backend.token_to_id(token)
        if found is not None:
            return found
    raise InputError(f"the tokenizer has no padding token; it needs one of {_PAD_TOKENS}")


def _check(sentence: str) -> None:
    if not sentence.strip():
        raise InputError("a sentence is empty; say what to segment")
    try:
        sentence.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"the sentence {_short(sentence)} is not valid Unicode text") from error


def _short(sentence: str) -> str:
    return ascii(sentence if len(sentence) <= 40 else sentence[:40] + "...")
