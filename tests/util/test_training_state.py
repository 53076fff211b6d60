"""util/training_state.py: strict loading, an optimizer that goes on, and every random generator."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from util.ema import Ema
from util.errors import InputError
from util.training_state import (
    load_named_tensors,
    named_tensors,
    pack_training,
    random_tensors,
    restore_random,
    unpack_training,
)

CPU = torch.device("cpu")


class Shared(nn.Module):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.a = nn.Linear(width, width)
        self.b = self.a


def test_aliases_are_stored_once_and_loading_is_strict() -> None:
    module = Shared()
    tensors = named_tensors(module)
    assert sorted(tensors) == ["a.bias", "a.weight"]
    other = Shared()
    load_named_tensors(other, tensors, "here")
    assert torch.equal(other.b.weight, module.a.weight)
    with pytest.raises(InputError, match=r"missing \['a.bias'\], unexpected \['c'\]"):
        load_named_tensors(other, {"a.weight": tensors["a.weight"], "c": torch.zeros(1)}, "here")
    with pytest.raises(InputError, match=r"other shapes \['a.bias', 'a.weight'\]"):
        load_named_tensors(Shared(3), tensors, "here")


def step(module: Shared, optimizer: torch.optim.Optimizer, ema: Ema, n: int) -> None:
    optimizer.zero_grad()
    module.a(torch.full((1, 2), float(n))).square().sum().backward()
    optimizer.step()
    ema.update(n + 1)


def test_training_goes_on_as_if_never_stopped() -> None:
    straight, first, second = Shared(), Shared(), Shared()
    first.load_state_dict(straight.state_dict())

    def parts(module: Shared) -> tuple:
        return module, torch.optim.AdamW(module.parameters(), 0.1), Ema(module, 0.5)

    all_of_it, stopped, resumed = parts(straight), parts(first), parts(second)
    for n in range(6):
        step(*all_of_it, n)
    for n in range(3):
        step(*stopped, n)
    packed = pack_training(*stopped, [random_tensors(CPU)])
    unpack_training({k: {n: t.clone() for n, t in v.items()} for k, v in packed.items()}, *resumed, "here")
    for n in range(3, 6):
        step(*resumed, n)
    assert torch.equal(second.a.weight, straight.a.weight)
    assert torch.equal(resumed[2].average["a.weight"], all_of_it[2].average["a.weight"])


def test_what_does_not_belong_is_refused() -> None:
    module = Shared()
    optimizer = torch.optim.AdamW(module.parameters(), 0.1)
    packed = pack_training(module, optimizer, None, [])
    with pytest.raises(InputError, match="zzz"):
        unpack_training({**packed, "optimizer": {"zzz/step": torch.zeros(())}}, module, optimizer, None, "here")
    with pytest.raises(InputError, match=r"no average.*ema_decay"):
        unpack_training(packed, module, optimizer, Ema(module, 0.9), "here")


def test_every_generator_is_put_back() -> None:
    def draw() -> tuple:
        return random.random(), random.gauss(0, 1), np.random.normal(), np.random.rand(), torch.rand(3).tolist()

    draw()  # leaves half-used gaussian pairs behind
    packed = pack_training(Shared(), torch.optim.SGD([torch.zeros(1)]), None, [random_tensors(CPU)])["random"]
    expected = draw()
    draw()
    assert restore_random(packed, 0, CPU)
    assert draw() == expected
    assert not restore_random(packed, 1, CPU)
