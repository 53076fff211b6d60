"""Do these weights fit this network? A segmenter built without random numbers, and the list of what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models.segmenter import Segmenter, SegmenterConfig

LISTED = 20  # keys named in a message; the count tells the rest


@dataclass(frozen=True)
class Fit:
    """What is wrong with a set of weights, by kind; all empty: they fit."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]  # "key [2, 3] instead of [2, 4]"
    not_finite: tuple[str, ...]
    altered: tuple[str, ...]  # fixed index tables that are not the network's

    def problems(self) -> list[str]:
        """One line for each kind that occurs: count, and the first keys."""
        named = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self.misshapen,
            "with NaN or infinite values": self.not_finite,
            "index tables that differ from the network's": self.altered,
        }
        return [f"{len(keys)} {what}: {shorten(keys)}" for what, keys in named.items() if keys]


def fit(ours: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Fit:
    """Compare `given` weights with a network's own state."""
    both = [key for key in ours if key in given]
    same = [key for key in both if given[key].shape == ours[key].shape]
    return Fit(
        missing=tuple(key for key in ours if key not in given),
        unexpected=tuple(key for key in given if key not in ours),
        misshapen=tuple(
            f"{key} {list(given[key].shape)} instead of {list(ours[key].shape)}"
            for key in both
            if given[key].shape != ours[key].shape
        ),
        not_finite=not_finite(given),
        altered=tuple(
            key for key in same if not ours[key].is_floating_point() and not torch.equal(given[key], ours[key])
        ),
    )


def not_finite(weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Keys of the tensors that hold a NaN or an infinity."""
    return tuple(key for key, value in weights.items() if not torch.isfinite(value).all())


def shorten(keys: tuple[str, ...]) -> str:
    """The first keys, and how many more there are."""
    more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(keys[:LISTED]) + more


def empty_segmenter(config: SegmenterConfig, **arguments: Any) -> Segmenter:
    """A network whose weights are to be overwritten: index tables are right, drawn weights are not.

    Drawing 176 million normal numbers takes seconds, and every one of them would be replaced.
    """
    with _WithoutDraws():
        return Segmenter(config, **arguments)


class _WithoutDraws(TorchDispatchMode):
    """Every draw gives its mean, so that rejection sampling (trunc_normal_) ends too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.normal_.default:
            return args[0].fill_(args[1] if len(args) > 1 else 0.0)
        if func is torch.ops.aten.uniform_.default:
            low, high = args[1:3] if len(args) > 2 else (0.0, 1.0)
            return args[0].fill_((low + high) / 2)
        return func(*args, **(kwargs or {}))
