"""util/training_state.py: checkpoints are whole or absent, strict, bounded in number, and carry every random state."""

from __future__ import annotations

import errno
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from util import training_state
from util.errors import InputError
from util.training_state import (
    last_checkpoint,
    load_named_tensors,
    load_optimizer_tensors,
    named_tensors,
    optimizer_tensors,
    point,
    pointed_at,
    random_tensors,
    read_checkpoint,
    remove_unfinished,
    restore_random,
    write_checkpoint,
)

CPU = torch.device("cpu")


def write(root: Path, step: int, keep: int = 2) -> Path:
    return write_checkpoint(root, step, {"model": {"w": torch.full((3,), float(step))}}, {"best": 0.5}, keep=keep)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    folder = write(tmp_path, 7)
    tensors, state = read_checkpoint(folder)
    assert state == {"step": 7, "best": 0.5}
    assert torch.equal(tensors["model"]["w"], torch.full((3,), 7.0))
    assert last_checkpoint(tmp_path) == folder


def test_no_pickle_is_written(tmp_path: Path) -> None:
    names = {path.suffix for path in write(tmp_path, 1).iterdir()}
    assert names == {".safetensors", ".json"}


def test_the_newest_stay_and_so_does_the_best(tmp_path: Path) -> None:
    point(tmp_path, "best", write(tmp_path, 1))
    for step in (2, 3, 4):
        write(tmp_path, step)
    assert sorted(p.name for p in tmp_path.glob("step_*")) == ["step_0000001", "step_0000003", "step_0000004"]
    assert pointed_at(tmp_path, "best") == tmp_path / "step_0000001"


def test_a_half_written_folder_is_ignored_and_removed(tmp_path: Path) -> None:
    whole = write(tmp_path, 5)
    half = tmp_path / "step_0000006.tmp"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"\x10\x00")
    assert last_checkpoint(tmp_path) == whole
    remove_unfinished(tmp_path)
    assert not half.exists() and whole.exists()


def test_a_pointer_to_nothing_falls_back_to_the_highest_step(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    write(tmp_path, 3)
    newest = write(tmp_path, 12)
    (tmp_path / "last").write_text(json.dumps({"folder": "step_0000099"}))
    assert last_checkpoint(tmp_path) == newest


def test_the_pointer_decides_after_a_rollback(tmp_path: Path) -> None:
    early = write(tmp_path, 3, keep=5)
    write(tmp_path, 12, keep=5)
    point(tmp_path, "last", early)
    assert last_checkpoint(tmp_path) == early
    rewritten = write_checkpoint(tmp_path, 12, {"model": {"w": torch.zeros(1)}}, {}, keep=5)
    assert torch.equal(read_checkpoint(rewritten)[0]["model"]["w"], torch.zeros(1))
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left (os error 28)")],
)
def test_a_full_disk_says_what_to_do_and_spares_earlier_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    first = write(tmp_path, 1, keep=1)

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(training_state, "save_file", refuse)
    with pytest.raises(InputError, match=r"no space left.*earlier checkpoints are intact.*same command again"):
        write(tmp_path, 2, keep=1)
    assert last_checkpoint(tmp_path) == first
    assert read_checkpoint(first)[1]["step"] == 1
    assert not list(tmp_path.glob("*.tmp"))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, 1)
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        read_checkpoint(folder)


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


def test_the_optimizer_goes_on_as_if_never_stopped() -> None:
    def step(module: nn.Module, optimizer: torch.optim.Optimizer, n: int) -> None:
        optimizer.zero_grad()
        module.a(torch.full((1, 2), float(n))).square().sum().backward()
        optimizer.step()

    straight = Shared()
    start = {name: t.clone() for name, t in named_tensors(straight).items()}
    optimizer = torch.optim.AdamW(straight.parameters(), 0.1)
    for n in range(6):
        step(straight, optimizer, n)
    module = Shared()
    load_named_tensors(module, start, "")
    first = torch.optim.AdamW(module.parameters(), 0.1)
    for n in range(3):
        step(module, first, n)
    kept = {k: v.clone() for k, v in optimizer_tensors(first, {p: n for n, p in module.named_parameters()}).items()}
    resumed = Shared()
    load_named_tensors(resumed, named_tensors(module), "")
    second = torch.optim.AdamW(resumed.parameters(), 0.1)
    load_optimizer_tensors(second, {p: n for n, p in resumed.named_parameters()}, kept)
    for n in range(3, 6):
        step(resumed, second, n)
    assert torch.equal(resumed.a.weight, straight.a.weight)
    with pytest.raises(InputError, match="zzz"):
        load_optimizer_tensors(second, {}, {"zzz/step": torch.zeros(())})


def test_every_generator_is_put_back() -> None:
    def draw() -> tuple:
        return random.random(), random.gauss(0, 1), np.random.normal(), np.random.rand(), torch.rand(3).tolist()

    draw()  # leaves half-used gaussian pairs behind
    states = random_tensors(CPU)
    expected = draw()
    draw()
    restore_random(states, CPU)
    assert draw() == expected
