"""util/checkpoint_files.py: a checkpoint is whole or absent, and their number is bounded."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from util import checkpoint_files
from util.checkpoint_files import (
    last_checkpoint,
    point,
    pointed_at,
    read_checkpoint,
    remove_unfinished,
    write_checkpoint,
)
from util.errors import InputError


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
    write_checkpoint(tmp_path, 0, {}, {}, keep=2, best=True)
    write_checkpoint(tmp_path, 1, {}, {}, keep=2, best=True)
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

    monkeypatch.setattr(checkpoint_files, "save_file", refuse)
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
