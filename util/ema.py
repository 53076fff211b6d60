"""An exponential moving average of a module's trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from util.errors import InputError


class Ema:
    """Running average of every parameter that is trained; frozen ones and buffers are the module's own.

    After step n the weight of the past is min(decay, (1 + n) / (10 + n)), so that the random start is forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"the EMA's decay must be in [0, 1), not {decay}; null switches it off")
        self.decay = decay
        self._live = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights after optimizer step `step` (counted from 1)."""
        past = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self._live.values()], 1 - past)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module carries the average inside this context and its own weights, bit for bit, after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take a saved average. Raises InputError where its names are not those of the trained weights."""
        if tensors.keys() != self.average.keys():
            names = sorted(tensors.keys() ^ self.average.keys())
            raise InputError(f"the checkpoint's EMA and this config's trained weights differ in {names}")
        for name, tensor in tensors.items():
            self.average[name].copy_(tensor)

    def _swap(self) -> None:
        # exchanging storages keeps the parameter objects that the optimizer and DDP hold
        for name, parameter in self._live.items():
            parameter.data, self.average[name] = self.average[name], parameter.data
