"""Pre-trained classification weights for a backbone: torchvision ResNet, official Swin, official Video-Swin files, and
the tiny backbone's own (`scripts/looks.py`).

Strict: what a classification file has beyond the backbone, and the backbone beyond the file, is known by name;
any other difference is an error that lists the keys.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.resnet import ResNet, TinyResNet
from models.swin import Swin
from models.video_swin import VideoSwin
from util.errors import InputError


@dataclass(frozen=True)
class LoadReport:
    """What became of every key: of the backbone (`loaded`, `kept` = initial value) and of the file (`dropped`)."""

    loaded: tuple[str, ...]
    dropped: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} entries loaded"]
        lines += [f"not in the backbone: {key}" for key in self.dropped]
        lines += [f"not in the file, initial value kept: {key}" for key in self.kept]
        return "\n".join(lines)


def load_imagenet(backbone: nn.Sequential, path: str | Path) -> LoadReport:
    """Load a classification file into what `build_backbone` made, in place.

    Reads torchvision's ResNet files, the official Swin files ('model') and Video-Swin files ('state_dict'), as
    tensors only, and for the tiny backbone a safetensors file of its own keys. Raises InputError when the file cannot
    be read or does not fit; the backbone is then unchanged.
    """
    body = backbone.get_submodule("0.body")
    if isinstance(body, ResNet):
        adapt: Callable[[Mapping[str, Any]], Adapted] = from_torchvision
    elif isinstance(body, Swin):
        adapt = from_swin
    elif isinstance(body, VideoSwin):
        adapt = from_video_swin
    else:
        assert isinstance(body, TinyResNet)
        adapt = from_tiny
    adapted = adapt(read_tensors(path))
    ours = body.state_dict()
    problems = differences(ours, adapted)
    if problems:
        raise InputError(
            f"{path} is not the classification file of this backbone; take the one its name stands for\n  "
            + "\n  ".join(problems)
        )
    body.load_state_dict({**ours, **adapted.weights})
    kept = tuple(key for key in ours if key not in adapted.weights)
    return LoadReport(tuple(adapted.weights), tuple(adapted.dropped), kept)


@dataclass(frozen=True)
class Adapted:
    """A file under the backbone's names: its `weights`, the file's keys left out, and ours it cannot have."""

    weights: dict[str, Tensor]
    dropped: list[str]
    absent: frozenset[str] = frozenset()


def read_tensors(path: str | Path) -> Mapping[str, Any]:
    """A torch or safetensors file read without running anything in it. Raises InputError."""
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"no file {path}; download the backbone's weights or leave the path out") from None
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise InputError(f"cannot read {path} as a file of weights: {str(error).splitlines()[0]}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not named weights")
    return content


def from_torchvision(content: Mapping[str, Any]) -> Adapted:
    """torchvision's own names; without the classifier and the counters that frozen norms have no use for."""
    dropped = [key for key in content if key.startswith("fc.") or key.endswith(".num_batches_tracked")]
    return Adapted({key: content[key] for key in content if key not in dropped}, dropped)


def from_swin(content: Mapping[str, Any]) -> Adapted:
    """Official names; a classifier has one final norm where the backbone has four output norms of its own."""
    model = section(content, "model", "an official Swin file")
    dropped = [key for key in model if key.startswith(("norm.", "head.")) or key.endswith(".attn_mask")]
    weights = {key: model[key] for key in model if key not in dropped}
    return Adapted(weights, dropped, frozenset(f"norm{i}.{kind}" for i in range(4) for kind in ("weight", "bias")))


def from_video_swin(content: Mapping[str, Any]) -> Adapted:
    """Official names below `backbone.`; merging moves out of the stages, and the two frames a patch spans there
    become one here by adding their weights up."""
    model = section(content, "state_dict", "an official Video-Swin file")
    weights, dropped = {}, []
    for key, value in model.items():
        if not key.startswith("backbone.") or key.startswith("backbone.norm."):
            dropped.append(key)
            continue
        parts = key.removeprefix("backbone.").split(".")
        if parts[0] == "layers" and parts[2] == "downsample":
            parts = ["downsamples", parts[1], *parts[3:]]
        name = ".".join(parts)
        weights[name] = value.sum(2, keepdim=True) if name == "patch_embed.proj.weight" else value
    return Adapted(weights, dropped)


def from_tiny(content: Mapping[str, Any]) -> Adapted:
    """Our own names."""
    return Adapted(dict(content), [])


def section(content: Mapping[str, Any], name: str, kind: str) -> Mapping[str, Any]:
    """The part of a file that holds the weights."""
    if not isinstance(content.get(name), Mapping):
        raise InputError(f"{kind} keeps its weights under {name!r}; this one has only: {', '.join(list(content)[:8])}")
    return content[name]


def differences(ours: Mapping[str, Tensor], adapted: Adapted) -> list[str]:
    """One line per key that is missing, unexpected, or not of our shape or value (position indices are fixed)."""
    lines = [f"missing: {key}" for key in ours if key not in adapted.weights and key not in adapted.absent]
    for key, value in adapted.weights.items():
        if key not in ours:
            lines.append(f"unexpected: {key}")
        elif value.shape != ours[key].shape:
            lines.append(f"{key} is {list(value.shape)}, the backbone needs {list(ours[key].shape)}")
        elif not ours[key].is_floating_point() and not torch.equal(value.cpu(), ours[key].cpu()):
            lines.append(f"{key} differs from the backbone's own")
        elif not torch.isfinite(value).all():
            lines.append(f"{key} is not finite")
    return lines
