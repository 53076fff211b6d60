"""Our checkpoints: `model.safetensors`, whose metadata holds the config, and the tokenizer beside it.

`load_segmenter` also takes what others wrote: a released ReferFormer or TF-RVOS file (models/released.py) or the id
of a repository on the Hugging Face hub that holds our two files. Loading is strict.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.fitting import empty_segmenter, fit, not_finite, shorten
from models.released import ConversionReport, Tracking, convert_released
from models.segmenter import Segmenter, SegmenterConfig
from models.text_encoder import (
    TOKENIZER_FILE,
    TextEncoderConfig,
    Tokenizer,
    build_tokenizer,
    embedded_config,
)
from util.config import from_dict, to_dict
from util.errors import InputError
from util.hub import local_folder

__all__ = [
    "CheckpointInfo",
    "ConversionReport",
    "Initialised",
    "convert_released",
    "initialise",
    "load_segmenter",
    "read_info",
    "save_segmenter",
    "write_checkpoint",
]

WEIGHTS_FILE = "model.safetensors"
FORMAT, VERSION = "refertrack", 1
# what our networks have beyond the released ones
ADDITIONS = (
    "motion.", "space_time.", "temporal.", "presence_head.", "grounding_head.", "matching.", "pointed.", "choice.",
)  # fmt: skip


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself. `extra` is what was given to `save_segmenter`."""

    path: Path
    config: SegmenterConfig
    extra: dict[str, Any]


def save_segmenter(
    segmenter: Segmenter, folder: Path, *, dtype: torch.dtype | None = None, extra: Mapping[str, Any] | None = None
) -> Path:
    """Write `folder`/model.safetensors and tokenizer.json; returns the former's path.

    `dtype` is how floating-point weights are stored (None: as they are); `extra` is any JSON: training facts,
    inference defaults. The file appears whole or not at all. Raises InputError when a weight is not finite or does
    not fit `dtype`, and when the disk is full or not writable.
    """
    text = embedded_config(_portable(segmenter.config.text), segmenter.text_encoder)
    config = replace(segmenter.config, text=text)
    return write_checkpoint(segmenter.state_dict(), config, folder, segmenter.tokenizer, dtype=dtype, extra=extra)


def write_checkpoint(
    weights: Mapping[str, Tensor],
    config: SegmenterConfig,
    folder: Path,
    tokenizer: Tokenizer | None,
    *,
    dtype: torch.dtype | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """As `save_segmenter`, of weights that are in no network."""
    distinct, aliases = _distinct(weights)
    stored = {key: _stored(key, value, dtype) for key, value in distinct.items()}
    broken = not_finite(stored)
    if broken:
        raise InputError(f"not saved: {len(broken)} weights are NaN or infinite: {shorten(broken)}; training diverged")
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "config": json.dumps(to_dict(config), allow_nan=False),
        "extra": json.dumps(dict(extra or {}), allow_nan=False),
        "aliases": json.dumps(aliases),
    }
    path = folder / WEIGHTS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if tokenizer is not None:
            text = tokenizer.to_json().encode()
            metadata["tokenizer_sha256"] = hashlib.sha256(text).hexdigest()
            _replace(folder / TOKENIZER_FILE, lambda unfinished: unfinished.write_bytes(text))
        _replace(path, lambda unfinished: save_file(stored, unfinished, metadata=metadata))
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write {path}: {error}; free space or choose another folder") from error
    return path


def load_segmenter(
    source: str | Path,
    *,
    text_encoder: str | None = None,
    tracking: Tracking = "none",
    device: str | torch.device = "cpu",
) -> Segmenter:
    """The network of a checkpoint in float32 and eval mode.

    source: our folder or .safetensors file, a hub id, or a released ReferFormer or TF-RVOS .pth. `text_encoder` is a
    folder or hub id whose tokenizer is used in place of the checkpoint's own (released files have none). `tracking`
    matters to .pth files alone: "rgb" for TF-RVOS, which has ReferFormer's keys. Raises InputError, listing the
    keys, when anything is missing, unexpected, of another shape or not finite, and when there is no tokenizer.
    """
    path = _locate(source)
    if path.suffix == ".safetensors":
        info, weights, tokenizer_hash = _read(path)
        config = info.config
    else:
        config, weights, _ = convert_released(path, tracking=tracking)
        tokenizer_hash = None
    search = None if text_encoder else path.parent
    if text_encoder:
        config = replace(config, text=replace(config.text, tokenizer=text_encoder))
    elif tokenizer_hash is not None:
        _check_tokenizer(path.parent / TOKENIZER_FILE, tokenizer_hash)
    tokenizer = build_tokenizer(config.text, search=search)
    segmenter = empty_segmenter(config, tokenizer=tokenizer)
    problems = fit(segmenter.state_dict(), weights).problems()
    if problems:
        raise _misfit(path, problems)
    segmenter.load_state_dict(weights)
    return segmenter.eval().to(device)


def read_info(source: str | Path) -> CheckpointInfo:
    """Config and extra facts of one of our checkpoints (folder, .safetensors or hub id); no weights are read.

    Raises InputError when it is no checkpoint of ours.
    """
    path = _locate(source)
    if path.suffix != ".safetensors":
        raise InputError(f"{path} is no checkpoint of ours; `python main.py convert` makes one of a released file")
    with _open(path) as file:
        return _info(path, file.metadata() or {})


@dataclass(frozen=True)
class Initialised:
    """What became of a network's entries: taken from the file, or left as they were."""

    loaded: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        parts = tuple(dict.fromkeys(key.split(".")[0] for key in self.kept))
        kept = f"; left as initialised: {len(self.kept)} of {shorten(parts)}" if self.kept else ""
        return f"{len(self.loaded)} entries loaded{kept}"


def initialise(
    segmenter: Segmenter, source: str | Path, *, only: Sequence[str] = (), reset_class_head: bool = False
) -> Initialised:
    """Start training `segmenter` from a checkpoint, ours or released, in place.

    Strict, but for what the file cannot have: motion, time, presence and grounding layers when it has none of them, and
    a class head of another size (`reset_class_head`: of any size, the release's habit, D13). `only`: prefixes of the
    keys that are taken, where not all are. Raises InputError.
    """
    path = _locate(source)
    weights = _read(path)[1] if path.suffix == ".safetensors" else convert_released(path)[1]
    ours = segmenter.state_dict()
    heads = [key for key in ours if key.startswith("class_embed.")]
    resized = any(key in weights and weights[key].shape != ours[key].shape for key in heads)
    kept = heads if reset_class_head or resized else []
    for prefix in ADDITIONS:
        if not any(key.startswith(prefix) for key in weights):
            kept += [key for key in ours if key.startswith(prefix)]
    if only:
        kept = [key for key in ours if key in kept or not key.startswith(tuple(only))]
        weights = {key: tensor for key, tensor in weights.items() if key.startswith(tuple(only))}
    given = {**weights, **{key: ours[key] for key in kept}}
    problems = fit(ours, given).problems()
    if problems:
        raise _misfit(path, problems)
    segmenter.load_state_dict(given)
    return Initialised(tuple(key for key in ours if key not in kept), tuple(kept))


def _locate(source: str | Path) -> Path:
    """The file of weights that `source` means."""
    path = Path(source).expanduser()
    if path.is_file():
        return path
    advice = f"give a folder with {WEIGHTS_FILE}, a .safetensors or released .pth file, or a hub id while online"
    folder = local_folder(str(source), [WEIGHTS_FILE, TOKENIZER_FILE], what="checkpoint", advice=advice)
    # The folder of a training run keeps its weights in model/.
    for place in (folder, folder / "model"):
        if (place / WEIGHTS_FILE).is_file():
            return place / WEIGHTS_FILE
    raise InputError(f"{source} holds no {WEIGHTS_FILE}; {advice}")


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a safetensors file or is cut short ({error}); fetch it again") from error


def _read(path: Path) -> tuple[CheckpointInfo, dict[str, Tensor], str | None]:
    with _open(path) as file:
        metadata = file.metadata() or {}
    info = _info(path, metadata)
    weights = load_file(path)
    for alias, key in json.loads(metadata.get("aliases", "{}")).items():
        weights[alias] = weights[key]
    return info, weights, metadata.get("tokenizer_sha256")


def _info(path: Path, metadata: Mapping[str, str]) -> CheckpointInfo:
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} has no ReferTrack config inside: it is another program's file; wrong weights?")
    if int(metadata["version"]) > VERSION:
        raise InputError(f"{path} is of format {metadata['version']}, newer than this program's {VERSION}; update it")
    try:
        config = from_dict(SegmenterConfig, json.loads(metadata["config"]))
        extra = json.loads(metadata["extra"])
    except (InputError, KeyError, ValueError) as error:
        raise InputError(f"{path}: its config cannot be read, or is a newer program's ({error})") from error
    return CheckpointInfo(path, config, extra)


def _misfit(path: Path, problems: list[str]) -> InputError:
    return InputError(
        f"the weights in {path} do not fit the network:\n  "
        + "\n  ".join(problems)
        + "\nthe file is incomplete, damaged or made for another network; fetch or convert it again"
    )


def _check_tokenizer(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise InputError(f"{path} is missing: fetch it with the weights, or pass --text-encoder")
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise InputError(f"{path} is not the tokenizer these weights were trained with; fetch both again")


def _portable(text: TextEncoderConfig) -> TextEncoderConfig:
    """Without paths of this machine: the architecture and the tokenizer travel with the weights."""
    tokenizer = text.tokenizer
    if tokenizer is not None and Path(tokenizer).expanduser().exists():
        tokenizer = None
    return replace(text, name=Path(text.name).name if Path(text.name).is_dir() else text.name, tokenizer=tokenizer)


def _stored(key: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    value = value.detach().cpu().contiguous()
    if dtype is None or not value.is_floating_point():
        return value
    stored = value.to(dtype)
    if torch.isfinite(value).all() and not torch.isfinite(stored).all():
        raise InputError(f"{key} has values up to {value.abs().max():.3g}, too large for {dtype}; store float32")
    return stored


def _distinct(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """One entry per tensor, and which key each further name of it stands for (a tied embedding)."""
    first: dict[tuple, str] = {}
    aliases = {}
    for key, value in weights.items():
        identity = (value.data_ptr(), value.shape, value.dtype) if value.numel() else (key,)
        original = first.setdefault(identity, key)
        if original != key:
            aliases[key] = original
    return {key: value for key, value in weights.items() if key not in aliases}, aliases


def _replace(path: Path, write: Any) -> None:
    """`write` a file beside `path`, flush it to the disk and put it in `path`'s place in one step."""
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        write(unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
