"""Two gloo processes are one: losses, weights, log and validation agree with the single process's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from micro_run import WORLD, micro_config, micro_dict, one_thread  # noqa: F401
from safetensors.torch import load_file

from engine import TrainConfig, train
from util.config import from_dict
from util.distributed import World, join_world
from util.errors import InputError

ROOT = Path(__file__).resolve().parent.parent

RANK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from util.config import from_dict
import engine
engine.train(from_dict(engine.TrainConfig, json.loads(sys.argv[2])))
"""


def lines(folder: Path) -> list[dict]:
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in found if line["event"] != "start"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def in_two_processes(config: dict) -> None:
    port = str(free_port())
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(ROOT), json.dumps(config)],
            env=os.environ
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    """A batch of 4 as 2 ranks x 2 micro-batches of 1, with clips of one and of two frames, against 1 x 4."""
    held_out = {"kind": "synthetic", "synthetic": {"seed": 9, "videos": 3, **WORLD, "frames": 3}}
    inference = {"short_side": 32, "max_side": 64, "window": 2}
    shared = {
        "steps": 4,
        "batch": 4,
        "optim": {"lr": 1e-4},  # AdamW's first steps follow the sign of gradients, rounding included
        "validation": {"source": held_out, "every": 4, "inference": inference},
    }
    one, two = (micro_dict(tmp_path / name, micro_batch=size, **shared) for name, size in (("one", 4), ("two", 1)))
    for config in (one, two):
        config["model"]["matching"] = True
    train(from_dict(TrainConfig, one))
    in_two_processes(two)
    first, second = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert len(first) == len(second) == 5
    assert first[0]["gradient_norm"] == pytest.approx(second[0]["gradient_norm"], rel=1e-4)
    for mine, theirs in zip(first, second, strict=True):
        assert mine.pop("event") == theirs.pop("event")
        if "J&F" in mine:  # a pixel of a mask may lie at its threshold
            assert mine == pytest.approx(theirs, abs=0.02)
        else:
            assert mine.pop("gradient_norm") == pytest.approx(theirs.pop("gradient_norm"), rel=0.03)
            assert mine == pytest.approx(theirs, rel=5e-4, abs=2e-5)
    weights, others = (
        load_file(folder / "step_0000004" / "model.safetensors") for folder in (tmp_path / "one", tmp_path / "two")
    )
    apart = torch.cat([(weights[key] - others[key]).abs().flatten() for key in weights]).mean()
    assert apart < 2e-6  # four steps move a weight by up to 4e-4
    # a run may go on with another number of processes
    longer = from_dict(TrainConfig, two | {"micro_batch": 4, "steps": 5})
    assert train(longer).step == 5


def test_two_processes_share_the_grounding_stage(tmp_path: Path) -> None:
    """Its losses are those of one process, though most of the network takes no part; then the run goes on from it."""
    changed = {"steps": 1, "batch": 2, "optim": {"lr": 1e-4}}
    stage = {"steps": 3, "batch": 4, "lr": 1e-4, "warmup_steps": 1}
    configs = []
    for name, micro_batch in (("one", 4), ("two", 1)):
        config = micro_dict(tmp_path / name, micro_batch=2, **changed)
        stage |= {"micro_batch": micro_batch, "clip": config["data"]["clip"] | {"frames": 1}}
        config["model"]["grounding"] = True
        configs.append(config | {"grounding": dict(stage)})
    train(from_dict(TrainConfig, configs[0]))
    in_two_processes(configs[1])
    first, second = (lines(tmp_path / name / "grounding") for name in ("one", "two"))
    assert [line["step"] for line in first] == [line["step"] for line in second] == [1, 2, 3]
    for mine, theirs in zip(first, second, strict=True):
        assert mine["loss_grounding"] == pytest.approx(theirs["loss_grounding"], rel=1e-4)
        assert mine["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-2)
    assert [line["step"] for line in lines(tmp_path / "two")] == [1]


def test_a_world_of_one_needs_no_group() -> None:
    world = join_world("cpu")
    assert world == World(0, 1, torch.device("cpu")) and world.is_main
    assert world.sum([1, 2.5]) == [1.0, 2.5]
    assert world.gather("x") == ["x"] and world.any(True) and not world.any(False)
    world.barrier()


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match="unknown device"):
        join_world("cpuu")
    with pytest.raises(InputError, match=r"torch sees \d+ GPUs"):
        join_world("cuda:99")
