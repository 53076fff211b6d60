"""Released ReferFormer and TF-RVOS files (.pth) as our config and weights. The keys are the same; what a file has
beyond them is dropped by name, and sizes are read from the shapes, so that nothing is assumed but the architecture.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from models.backbone import BackboneConfig
from models.fitting import Fit, empty_segmenter, fit, shorten
from models.levels import LEVELS
from models.mask_head import parameter_count
from models.segmenter import SegmenterConfig
from models.text_encoder import ROBERTA_BASE, TextEncoderConfig
from util.errors import InputError
from util.protocol import PUBLISHED

Tracking = Literal["none", "rgb"]

_ALIAS = "transformer.decoder.bbox_embed."  # box refinement stores the box heads a second time
_BACKBONE = "backbone.0.body."
_COUNTERS = ("total_params", "total_ops")  # left behind by a FLOP counter
_ARGUMENTS = {  # name in the file's arguments -> value read from the shapes
    "num_queries": "queries",
    "enc_layers": "encoder_layers",
    "dec_layers": "decoder_layers",
    "hidden_dim": "hidden_dim",
    "dim_feedforward": "feedforward",
    "rel_coord": "rel_coord",
}


@dataclass(frozen=True)
class ConversionReport:
    """What became of every key of a released file.

    loaded: under its own name; renamed: file's key -> ours; dropped: file's key -> why. `facts` are worth keeping in
    the new checkpoint (clip length, epoch), `notes` are for the reader.
    """

    loaded: tuple[str, ...]
    renamed: dict[str, str]
    dropped: dict[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    facts: dict[str, Any]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"loaded     {len(self.loaded):4d}  {_by_part(self.loaded)}",
            f"renamed    {len(self.renamed):4d}  {shorten(tuple(f'{a} -> {b}' for a, b in self.renamed.items()))}",
        ]
        reasons = Counter(self.dropped.values())
        lines.append(f"dropped    {len(self.dropped):4d}  {', '.join(f'{n} {why}' for why, n in reasons.items())}")
        lines.append(f"missing    {len(self.missing):4d}  {shorten(self.missing)}")
        lines.append(f"unexpected {len(self.unexpected):4d}  {shorten(self.unexpected)}")
        return "\n".join([line.rstrip() for line in lines] + [f"note: {note}" for note in self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Every key, JSON-ready."""
        return asdict(self)


def convert_released(
    path: str | Path, *, text_encoder: str | None = None, tracking: Tracking = "none"
) -> tuple[SegmenterConfig, dict[str, Tensor], ConversionReport]:
    """Config (protocol `published`), float32 weights under our keys, and the report.

    `tracking="rgb"` makes it the TF-RVOS network, whose keys are ReferFormer's. `text_encoder` names where the
    tokenizer comes from (None: roberta-base). Only tensors and plain values are read; nothing in the file is run.
    Raises InputError when the file cannot be read, is no such checkpoint, or does not fit key for key.
    """
    content = read_torch_file(Path(path))
    model = content.get("model", content)
    arguments = _arguments(content)
    if not isinstance(model, Mapping) or not all(isinstance(value, Tensor) for value in model.values()):
        raise InputError(f"{path} has no weights under 'model'; is it a released ReferFormer or TF-RVOS checkpoint?")
    weights, renamed, dropped = _clean(model, path)
    config, notes = deduce(weights, arguments, path, tracking, text_encoder)
    result = fit(empty_segmenter(config).state_dict(), weights)
    facts = {
        "converted_from": Path(path).name,
        "clip_frames": arguments.get("num_frames"),
        "epoch": content.get("epoch") if isinstance(content.get("epoch"), int) else None,
    }
    same = set(renamed.values()) | set(result.missing) | set(result.unexpected)
    loaded = tuple(key for key in weights if key not in same)
    report = ConversionReport(loaded, renamed, dropped, result.missing, result.unexpected, facts, tuple(notes))
    if result != Fit((), (), (), (), ()):
        problems = "\n  ".join(result.problems())
        raise InputError(f"{path} was not converted; it does not fit {config.backbone.name}:\n  {problems}\n{report}")
    return config, weights, report


def read_torch_file(path: Path) -> Mapping[str, Any]:
    """What a .pt or .pth file holds: tensors, plain values and an argparse.Namespace; nothing in it is run.

    Raises InputError when it is missing, cut short, asks for code to be run, or holds no mapping.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the storage classes of old files
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"no file {path}; give a released .pth") from None
    except Exception as error:  # a cut or foreign file makes the reader fail in a dozen ways
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            raise InputError(f"{path} asks for code to be run ({foreign[1]}), which is refused: wrong file?") from error
        raise InputError(
            f"cannot read {path} as a torch file: it is cut short or something else; fetch it again"
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content


def _arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    given = content.get("args")
    return dict(vars(given)) if isinstance(given, argparse.Namespace) else {}


def _clean(model: Mapping[str, Tensor], path: str | Path) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
    """Weights under our keys, what was renamed, and what was dropped and why."""
    weights: dict[str, Tensor] = {}
    renamed: dict[str, str] = {}
    dropped: dict[str, str] = {}
    for name, value in model.items():
        key = name.removeprefix("module.")
        if key.startswith(_ALIAS):
            dropped[name] = "aliases of bbox_embed"
            original = model.get(name.replace(_ALIAS, "bbox_embed."))
            if original is None or not torch.equal(original, value):
                raise InputError(f"{path}: {name} is not equal to the box head it stands for; the file is damaged")
        elif key == "text_encoder.embeddings.position_ids":
            dropped[name] = "position ids (a constant)"
        elif key.rsplit(".", 1)[-1] in _COUNTERS:
            dropped[name] = "FLOP counters"
        else:
            weights[key] = value.float() if value.is_floating_point() else value
            if key != name:
                renamed[name] = key
    return weights, renamed, dropped


def deduce(
    weights: Mapping[str, Tensor],
    arguments: dict[str, Any],
    path: str | Path,
    tracking: Tracking,
    text_encoder: str | None,
) -> tuple[SegmenterConfig, list[str]]:
    """The config of a file's weights and training arguments, and notes for the reader.

    Sizes by shape; what shapes cannot tell (heads, dropout, mask channels) from the arguments, else the published
    values. Raises InputError when the weights are of another architecture.
    """
    needed = ("query_embed.weight", "class_embed.0.weight", "transformer.level_embed", "controller.layers.2.weight")
    absent = [key for key in needed if key not in weights]
    if absent:
        raise InputError(f"{path} is no ReferFormer or TF-RVOS checkpoint: it has no {', '.join(absent)}")
    for name, only in (("with_box_refine", True), ("two_stage", False), ("dilation", False)):
        if arguments.get(name, only) is not only:
            raise InputError(f"{path} was trained with {name}={arguments[name]}; this network has {only} built in")
    queries, dim = weights["query_embed.weight"].shape
    heads, channels = arguments.get("nheads", 8), arguments.get("dynamic_mask_channels", 8)
    offsets = weights["transformer.encoder.layers.0.self_attn.sampling_offsets.bias"].shape[0]
    config = SegmenterConfig(
        backbone=BackboneConfig(name=_backbone(weights, path)),
        text=_text(weights, path, text_encoder, bool(arguments.get("freeze_text_encoder", False))),
        hidden_dim=dim,
        heads=heads,
        encoder_layers=_count(weights, r"transformer\.encoder\.layers\.(\d+)\."),
        decoder_layers=_count(weights, r"transformer\.decoder\.layers\.(\d+)\."),
        feedforward=weights["transformer.encoder.layers.0.linear1.weight"].shape[0],
        points=offsets // (heads * LEVELS * 2),
        queries=queries,
        classes=weights["class_embed.0.weight"].shape[0],
        dropout=arguments.get("dropout", 0.1),
        dynamic_channels=channels,
        rel_coord=_rel_coord(weights["controller.layers.2.weight"].shape[0], dim, channels, path),
        tracking=tracking,
        protocol=PUBLISHED,
    )
    return config, _notes(config, arguments)


def _notes(config: SegmenterConfig, arguments: dict[str, Any]) -> list[str]:
    if not arguments:
        return ["the file has no training arguments; heads, dropout and mask channels are the published ones"]
    notes = [
        f"the arguments say {name}={arguments[name]}, the weights {getattr(config, ours)}; the weights are right"
        for name, ours in _ARGUMENTS.items()
        if name in arguments and arguments[name] != getattr(config, ours)
    ]
    named = str(arguments.get("backbone", config.backbone.name)).removesuffix("_p4w7")
    if named != config.backbone.name:
        notes.append(f"the arguments say backbone={named}, the weights {config.backbone.name}; the weights are right")
    return notes


def _backbone(weights: Mapping[str, Tensor], path: str | Path) -> str:
    """Name by the shape of the first layer and the depth of the third stage."""
    patches = weights.get(f"{_BACKBONE}patch_embed.proj.weight")
    if patches is None:
        depth = _count(weights, rf"{re.escape(_BACKBONE)}layer3\.(\d+)\.")
        name = {6: "resnet50", 23: "resnet101"}.get(depth)
    else:
        depth = _count(weights, rf"{re.escape(_BACKBONE)}layers\.2\.blocks\.(\d+)\.")
        size = {(96, 6): "t", (96, 18): "s", (128, 18): "b", (192, 18): "l"}.get((patches.shape[0], depth))
        family = "video_swin" if patches.ndim == 5 else "swin"
        name = None if size is None or (family, size) == ("video_swin", "l") else f"{family}_{size}"
    if name is None:
        raise InputError(f"{path}: its backbone is none of the released ones (third stage of {depth} blocks)")
    return name


def _text(weights: Mapping[str, Tensor], path: str | Path, tokenizer: str | None, freeze: bool) -> TextEncoderConfig:
    """RoBERTa by the shapes of its embeddings and first layer; 64 channels per head, as in every RoBERTa."""
    prefix = "text_encoder.embeddings."
    try:
        words, width = weights[f"{prefix}word_embeddings.weight"].shape
        positions = weights[f"{prefix}position_embeddings.weight"].shape[0]
        types = weights[f"{prefix}token_type_embeddings.weight"].shape[0]
        inner = weights["text_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0]
    except KeyError as error:
        raise InputError(f"{path} has no RoBERTa in it: {error.args[0]} is missing") from None
    if types != 1:
        raise InputError(f"{path}: its text encoder has {types} token types and is no RoBERTa; it cannot be converted")
    arch = {
        **ROBERTA_BASE,
        "vocab_size": words,
        "hidden_size": width,
        "num_hidden_layers": _count(weights, r"text_encoder\.encoder\.layer\.(\d+)\."),
        "num_attention_heads": width // 64,
        "intermediate_size": inner,
        "max_position_embeddings": positions,
    }
    return TextEncoderConfig(arch=arch, tokenizer=tokenizer, freeze=freeze)


def _rel_coord(written: int, dim: int, channels: int, path: str | Path) -> bool:
    for rel_coord in (True, False):
        if written == parameter_count(dim, channels, rel_coord):
            return rel_coord
    raise InputError(f"{path}: a controller that writes {written} numbers fits no mask head of {channels} channels")


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    found = [int(match[1]) for key in weights if (match := re.match(pattern, key))]
    return max(found, default=-1) + 1


def _by_part(keys: tuple[str, ...]) -> str:
    return ", ".join(f"{part} {n}" for part, n in Counter(key.split(".")[0] for key in keys).items())
