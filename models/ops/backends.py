"""Which kernel runs: native, then Triton, then PyTorch, the first that can; and which one was chosen, and why.

REFERTRACK_OPS or `use_backend` forces one, and then it is an error when it cannot run. A backend is a module with
`name`, `unavailable(device, value_dtype)`, `forward` and `backward`.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from util.errors import InputError

LOG = logging.getLogger(__name__)
MODULES = {"native": "models.ops.native", "triton": "models.ops.triton_msda", "pytorch": "models.ops.paths"}
ORDER = {"cuda": ("native", "triton", "pytorch"), "cpu": ("native", "pytorch")}  # other devices: pytorch
VARIABLE = "REFERTRACK_OPS"


class Backend(Protocol):
    """What a kernel's module offers. Inputs are checked; a backend makes contiguous what it needs."""

    name: str

    def unavailable(self, device: torch.device, value_dtype: torch.dtype) -> str | None:
        """None when it can run, else why not: one clear line, which the compiler's output may follow."""

    def describe(self, device: torch.device) -> str:
        """What runs there, in a few words; asked where it can run."""

    def forward(self, value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor) -> Tensor:
        """[N,Q,H,D] in value's dtype."""

    def backward(
        self, grad_out: Tensor, value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of value, loc and attn, each of its own dtype."""


@dataclass(frozen=True)
class KernelStatus:
    """One kernel on one device: whether it can run, whether it does, and why not or with what."""

    device: str
    name: str
    available: bool
    chosen: bool
    note: str


_forced: str | None = None  # for the whole process: a GPU's backward runs in a thread of its own
_chosen: dict[tuple[torch.device, torch.dtype, bool, str], Backend] = {}
_said: set[str] = set()


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within the context every call of the process runs on "native", "triton" or "pytorch", or raises InputError."""
    global _forced
    _known(name, "use_backend")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def asked() -> str:
    """The backend that `use_backend` or REFERTRACK_OPS asks for; "auto" where the choice is ours."""
    return _forced or _known(os.environ.get(VARIABLE) or "auto", VARIABLE)


def chosen(device: torch.device, value_dtype: torch.dtype) -> Backend:
    """The backend of calls on this device with values of this type. Raises InputError where a forced one cannot run."""
    key = (device, value_dtype, torch.are_deterministic_algorithms_enabled(), asked())
    found = _chosen.get(key)
    if found is None:
        found = _chosen[key] = _choose(device, value_dtype, key[3])
    return found


def status(device: torch.device | str) -> list[KernelStatus]:
    """Every kernel on `device` in order of preference. Builds the native library where that is still to be done."""
    device = torch.device(device)
    lines = []
    running = asked()
    for name in ORDER.get(device.type, ("pytorch",)):
        module = _module(name)
        reason = module.unavailable(device, torch.float32)
        if running == "auto" and reason is None:
            running = name
        note = module.describe(device) if reason is None else _first_line(reason)
        lines.append(KernelStatus(device.type, name, reason is None, running == name, note))
    return lines


def require(device: torch.device) -> str:
    """Name of the kernel that runs on `device`, for what runs for long.

    Raises InputError where a GPU would run on PyTorch's own operators and nobody asked for that.
    """
    if asked() != "auto":
        return chosen(device, torch.float32).name
    lines = status(device)
    name = next(line.name for line in lines if line.chosen)
    if device.type == "cuda" and name == "pytorch":
        others = "; ".join(f"{line.name}: {line.note}" for line in lines if line.name != name)
        raise InputError(
            f"deformable attention would run on PyTorch's own operators, several times slower than a kernel of ours "
            f"({others}); mend one of these, or accept it with {VARIABLE}=pytorch"
        )
    return name


def forget() -> None:
    """Choose anew at the next call: for tests, and after something was installed."""
    _chosen.clear()


def _choose(device: torch.device, value_dtype: torch.dtype, wanted: str) -> Backend:
    if wanted != "auto":
        module = _module(wanted)
        reason = module.unavailable(device, value_dtype)
        if reason is not None:
            raise InputError(
                f"deformable attention was told to run on {wanted!r} ({VARIABLE} or use_backend), which cannot run on "
                f"{device} with {value_dtype}: {reason}"
            )
        return module
    passed = []
    for name in ORDER.get(device.type, ("pytorch",)):
        module = _module(name)
        reason = module.unavailable(device, value_dtype)
        if reason is None:
            break
        passed.append(f"{name}: {_first_line(reason)}")
    if passed:
        _say(f"deformable attention on {device.type}: {module.name} ({'; '.join(passed)})")
    return module


def _say(line: str) -> None:
    """Each line once."""
    if line not in _said:
        _said.add(line)
        LOG.warning(line)


def _module(name: str) -> Backend:
    return cast(Backend, importlib.import_module(MODULES[name]))


def _known(name: str, source: str) -> str:
    if name not in (*MODULES, "auto"):
        raise InputError(f"{source}: no kernel is called {name!r}; choose auto, {', '.join(MODULES)}")
    return name


def _first_line(reason: str) -> str:
    return reason.splitlines()[0]
