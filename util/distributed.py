"""The processes of one run: who am I, sum numbers over all ranks, wait for each other.

Started by `torchrun` (which sets RANK, WORLD_SIZE and LOCAL_RANK) or as a plain process, a world of one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from util.errors import InputError


@dataclass(frozen=True)
class World:
    """One process among `size`; every collective below must be called by all ranks and is free in a world of one."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True on the rank that writes files and prints."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Element-wise sum over the ranks, in float64."""
        if self.size == 1:
            return [float(value) for value in values]
        # gloo and nccl both reduce on the run's own device; MPS has no float64 but no process group either
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def any(self, value: bool) -> bool:
        """Whether `value` is true on any rank."""
        return self.sum([value])[0] > 0

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, in rank order, on every rank. CPU tensors and plain data only."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.size > 1:
            dist.barrier()


def join_world(device: str = "auto") -> World:
    """This process's `World`; joins the process group where `torchrun` started several.

    `device` is "auto" (CUDA where there is one), "cpu", "cuda" or a torch device. Under torchrun each local rank takes
    its own GPU. Raises InputError where the device does not exist.
    """
    rank, size, local = (int(os.environ.get(name, default)) for name, default in _TORCHRUN)
    chosen = _device(device, local if size > 1 else None)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size > 1 and not dist.is_initialized():
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=timedelta(minutes=30))
    return World(rank, size, chosen)


def leave_world() -> None:
    """Close the process group, if this process joined one."""
    if dist.is_initialized():
        dist.destroy_process_group()


_TORCHRUN = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


def _device(name: str, local_rank: int | None) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type != "cuda":
        return device
    index = device.index if local_rank is None else local_rank
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (index or 0) >= count:
        raise InputError(f"device {name!r} (GPU {index or 0}) asked for, but torch sees {count} GPUs; use device=cpu")
    return torch.device("cuda", index or 0)
