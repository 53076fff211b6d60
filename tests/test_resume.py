"""A run that was killed, interrupted or stopped goes on bit for bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from micro_run import micro_config, micro_dict, one_thread  # noqa: F401
from safetensors.torch import load_file

import engine
from engine import train
from util.types import ClipBatch

ROOT = Path(__file__).resolve().parent.parent

# Killed while the third checkpoint is half-written: its model is on the disk, its optimizer cut off in the middle.
KILLED = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from util import checkpoint_files
from util.config import from_dict
import engine

whole = checkpoint_files._write_tensors

def cut_short(path, named):
    whole(path, named)
    if path.parent.name == "step_0000015.tmp" and path.stem == "optimizer":
        path.write_bytes(path.read_bytes()[:1000])
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint_files._write_tensors = cut_short
engine.train(from_dict(engine.TrainConfig, json.loads(sys.argv[2])))
"""


def assert_same(one: Path, other: Path) -> None:
    for name in ("model", "ema", "optimizer", "random"):
        first, second = (load_file(folder / f"{name}.safetensors") for folder in (one, other))
        assert first.keys() == second.keys()
        different = [key for key in first if not torch.equal(first[key], second[key])]
        assert not different, f"{name}: {len(different)} of {len(first)}, first {different[0]}"


def test_killed_while_writing_a_checkpoint(tmp_path: Path) -> None:
    """20 steps = 10 steps, SIGKILL in the middle of a later checkpoint, resume, 10 steps: with dropout, EMA, Adam."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    train(micro_config(straight, dropout=0.1, checkpoint_every=5))
    config = micro_dict(killed, dropout=0.1, checkpoint_every=5)
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(ROOT), json.dumps(config)], capture_output=True, text=True, timeout=300
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert (killed / "step_0000015.tmp" / "optimizer.safetensors").stat().st_size == 1000
    assert json.loads((killed / "last").read_text())["step"] == 10
    outcome = train(micro_config(killed, dropout=0.1, checkpoint_every=5))
    assert outcome.step == 20
    assert_same(straight / "step_0000020", killed / "step_0000020")
    assert not list(killed.glob("*.tmp"))
    lines = [json.loads(line) for line in (killed / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "train"] == list(range(1, 21))
    assert [line["step"] for line in lines if line["event"] == "start"] == [0, 10]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_first_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    train(micro_config(tmp_path / "straight", dropout=0.1, steps=6))
    batches = engine.train_batches

    def interrupted(*arguments: object, **named: object) -> Iterator[ClipBatch]:
        for step, batch in enumerate(batches(*arguments, **named)):
            if step == 2:
                signal.raise_signal(number)
            yield batch

    monkeypatch.setattr(engine, "train_batches", interrupted)
    before = signal.getsignal(number)
    stopped = train(micro_config(tmp_path / "stopped", dropout=0.1, steps=6))
    assert signal.getsignal(number) is before
    assert (stopped.step, stopped.stopped) == (3, number)
    said = capsys.readouterr().err
    assert f"{number.name}: saved step 3" in said and "the same command goes on" in said
    monkeypatch.undo()
    assert train(micro_config(tmp_path / "stopped", dropout=0.1, steps=6)).step == 6
    assert_same(tmp_path / "straight" / "step_0000006", tmp_path / "stopped" / "step_0000006")


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    train(micro_config(tmp_path, steps=2))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("step_*/*")}
    assert train(micro_config(tmp_path, steps=2)).step == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("step_*/*")} == before


def test_an_older_checkpoint_can_be_named(tmp_path: Path) -> None:
    train(micro_config(tmp_path, steps=4, checkpoint_every=2))
    first = load_file(tmp_path / "step_0000004" / "model.safetensors")
    train(micro_config(tmp_path, steps=4, resume=str(tmp_path / "step_0000002")))
    again = load_file(tmp_path / "step_0000004" / "model.safetensors")
    assert all(torch.equal(first[key], again[key]) for key in first)
